"""teacher_student: a network learns what another of its family says of normal inputs, with noise on top.

One student is right, the teacher itself, so the least loss in expectation is known: half the variance of the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.tasks.knobs import check_at_least
from bench.tasks.layers import Layers, layered
from bench.tasks.models import linear
from bench.tasks.problem import HALF_SQUARED_ERROR, Model, Problem, Split, Splits


@dataclass(frozen=True)
class TeacherStudentKnobs:
    """What can be turned at the teacher and its student.

    Attributes:
        inputs: Inputs, ≥ 1.
        teacher_hidden: Hidden units of the teacher, ≥ 1.
        student_hidden: Hidden units of the student, ≥ 1; with fewer than the teacher it cannot be right.
        examples: Training examples, ≥ 4; validation and test have a quarter of it each.
        noise: Standard deviation of the noise on the labels, ≥ 0; the teacher's own output has about 1.
    """

    inputs: int = 10
    teacher_hidden: int = 4
    student_hidden: int = 16
    examples: int = 2048
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_at_least(self, {"inputs": 1, "teacher_hidden": 1, "student_hidden": 1, "examples": 4, "noise": 0})


def network(inputs: int, hidden: int) -> Model:
    """One hidden layer of tanh, one linear output. Parameters: hidden × inputs, hidden, 1 × hidden, 1."""

    def initialise(generator: Generator) -> list[Tensor]:
        return [*linear(inputs, hidden, generator), *linear(hidden, 1, generator)]

    def run(layers: Layers, weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        weight1, bias1, weight2, bias2 = weights
        return layers.linear(layers.linear(inputs, weight1, bias1).tanh(), weight2, bias2)

    return layered("tanh network", initialise, run)


def teacher_parameters(knobs: TeacherStudentKnobs, generator: Generator) -> list[Tensor]:
    """Draw the teacher, float64: normal weights, no biases, scaled so that hidden units and outputs vary by about 1."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    first = normal(knobs.teacher_hidden, knobs.inputs) * (2 / knobs.inputs**0.5)
    second = normal(1, knobs.teacher_hidden)
    # tanh of a normal variable of standard deviation 2 has a mean square of .64.
    second = second / (second.norm() * 0.8)
    return [first, first.new_zeros(knobs.teacher_hidden), second, second.new_zeros(1)]


def as_student(teacher: Sequence[Tensor], hidden: int) -> list[Tensor]:
    """Return a student that says what the teacher says: the hidden units that it has more of count nothing.

    Args:
        teacher: Parameters of the teacher.
        hidden: Hidden units of the student, no fewer than the teacher's.
    """
    more = hidden - len(teacher[1])
    if more < 0:
        raise ValueError(f"a student of {hidden} hidden units is smaller than its teacher of {len(teacher[1])}")
    return [F.pad(teacher[0], (0, 0, 0, more)), F.pad(teacher[1], (0, more)), F.pad(teacher[2], (0, more)), teacher[3]]


def teacher_student(knobs: TeacherStudentKnobs, seed: int) -> Problem:
    """Half squared error against the teacher's output plus noise. The student starts as layers of torch.nn do.

    The target is twice the noise floor ½σ², and at least .005, a hundredth of the variance of the teacher's output.

    Args:
        knobs: Sizes and noise.
        seed: Data seed of teacher, inputs and noise.
    """
    generator = Generator().manual_seed(seed)
    teacher = teacher_parameters(knobs, generator)
    says = network(knobs.inputs, knobs.teacher_hidden).forward

    def split(examples: int) -> Split:
        inputs = torch.randn(examples, knobs.inputs, generator=generator, dtype=torch.float64)
        noise = knobs.noise * torch.randn(examples, 1, generator=generator, dtype=torch.float64)
        return Split(inputs, says(teacher, inputs) + noise)

    part = max(1, knobs.examples // 4)
    splits = Splits(split(knobs.examples), split(part), split(part))
    model = network(knobs.inputs, knobs.student_hidden)
    return Problem(splits, model, HALF_SQUARED_ERROR, "val_loss", max(knobs.noise**2, 0.005))
