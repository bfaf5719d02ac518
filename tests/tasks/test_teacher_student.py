"""Teacher and student: the teacher is right, up to the noise."""

import math
from typing import Any

import pytest
import torch
from torch import Generator

from bench.errors import UsageError
from bench.tasks.teacher_student import TeacherStudentKnobs, as_student, network, teacher_parameters
from tests.tasks.problems import fresh, load, mean_loss, minimise


@pytest.mark.parametrize("student_hidden", [4, 16])
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_a_student_with_the_teachers_parameters_has_the_loss_of_the_noise(student_hidden: int, noise: float) -> None:
    """½σ² on every split, within four standard errors, σ²/√(2n) each."""
    knobs = TeacherStudentKnobs(student_hidden=student_hidden, noise=noise)
    problem = load("teacher_student", student_hidden=student_hidden, noise=noise)
    student = as_student(teacher_parameters(knobs, Generator().manual_seed(0)), student_hidden)
    for split in (problem.splits.train, problem.splits.val, problem.splits.test):
        tolerance = 4 * noise**2 / math.sqrt(2 * len(split))
        assert mean_loss(problem, student, split).item() == pytest.approx(noise**2 / 2, abs=tolerance)


def test_without_noise_the_teacher_is_exactly_right_and_a_student_finds_as_good_a_function() -> None:
    """Loss of the teacher below 1e-28; L-BFGS on as large a student ends below 1e-4 (seen: 1e-8 or less)."""
    problem = load("teacher_student", noise=0.0, inputs=3, teacher_hidden=2, student_hidden=4, examples=400)
    knobs = TeacherStudentKnobs(noise=0.0, inputs=3, teacher_hidden=2, student_hidden=4, examples=400)
    student = as_student(teacher_parameters(knobs, Generator().manual_seed(0)), 4)
    assert mean_loss(problem, student, problem.splits.train).item() < 1e-28
    parameters = fresh(problem)
    before = mean_loss(problem, parameters, problem.splits.val).item()
    assert minimise(problem, parameters, problem.splits.train) < 1e-4
    assert mean_loss(problem, parameters, problem.splits.val).item() < problem.target < before


def test_a_trained_student_gets_past_the_target() -> None:
    """500 steps of momentum at B = 32; the target is twice the noise floor."""
    problem = load("teacher_student")
    assert problem.target == pytest.approx(0.01)
    parameters = fresh(problem, dtype=torch.float32)
    optimizer = torch.optim.SGD(parameters, 0.1, momentum=0.9)
    train = problem.splits.train.to(torch.device("cpu"), torch.float32)
    generator = Generator().manual_seed(0)
    for _ in range(500):
        chosen = torch.randint(0, len(train), (32,), generator=generator)
        loss = problem.objective.losses(problem.model.forward(parameters, train.inputs[chosen]), train.labels[chosen])
        for parameter, slope in zip(parameters, torch.autograd.grad(loss.mean(), parameters), strict=True):
            parameter.grad = slope
        optimizer.step()
    assert mean_loss(problem, parameters, problem.splits.val).item() < problem.target


def test_the_teachers_output_varies_by_about_one() -> None:
    """Standard deviation between .5 and 1.5 for every one of ten teachers, .8 to 1.2 in the mean."""
    inputs = torch.randn(4000, 10, generator=Generator().manual_seed(99), dtype=torch.float64)
    deviations = []
    for seed in range(10):
        teacher = teacher_parameters(TeacherStudentKnobs(), Generator().manual_seed(seed))
        deviations.append(network(10, 4).forward(teacher, inputs).std().item())
    assert min(deviations) > 0.5
    assert max(deviations) < 1.5
    assert sum(deviations) / 10 == pytest.approx(1, abs=0.2)


def test_a_smaller_student_cannot_be_the_teacher() -> None:
    teacher = teacher_parameters(TeacherStudentKnobs(), Generator().manual_seed(0))
    with pytest.raises(ValueError, match="a student of 3 hidden units is smaller than its teacher of 4"):
        as_student(teacher, 3)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"inputs": 0}, "inputs=0: must be at least 1"),
        ({"student_hidden": 0}, "student_hidden=0: must be at least 1"),
        ({"examples": 2}, "examples=2: must be at least 4"),
        ({"noise": -0.1}, "noise=-0.1: must be at least 0"),
    ],
)
def test_knobs_out_of_range_are_one_line(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^task.knobs.{message}$"):
        load("teacher_student", **knobs)
