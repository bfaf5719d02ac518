"""quadratic/deep: a noisy quadratic in 100 dimensions whose spectrum is that of a deep network's Hessian.

Exactly the test problem of DeepOBS 1.1.2 (Schneider, Balles and Hennig 2019, arXiv 1903.05499): same draws, same data,
same start. Its random numbers are fixed properties of the problem and depend on no seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from bench.tasks.landscape import EXCESS_LOSS
from bench.tasks.layers import Layers, layered
from bench.tasks.problem import Problem, Split, Splits, Untrained

DIMENSION = 100
EXAMPLES = 1000
NOISE = 0.6
#: DeepOBS takes its test loss over whole batches of 128 alone: the first 896 of 1000 rows.
TEST_EXAMPLES = 896

#: Seeds of numpy's RandomState. DeepOBS has no validation split; ours are 1000 more rows, of the next seed.
HESSIAN_SEED, TRAIN_SEED, TEST_SEED, VAL_SEED = 42, 42, 43, 44

#: DeepOBS gives no target. The minimum over θ of the expected loss is ½ · 0.6² · tr Q = 85.97.
TARGET = 90.0


@dataclass(frozen=True)
class QuadraticKnobs:
    """quadratic/deep is as published: nothing can be turned."""


def rotation(dimension: int, random: np.random.RandomState) -> np.ndarray:
    """Draw a rotation, uniformly, by the subgroup algorithm.

    A rotation of d + 1 dimensions is one of d dimensions followed by the reflection that takes the first axis to a
    random point of the sphere. (Diaconis and Shahshahani 1987, Probability in the Engineering and Informational
    Sciences 1, 15-32.)

    Args:
        dimension: At least 2.
        random: Where the draws come from.

    Returns:
        dimension × dimension, orthogonal, determinant 1 for an even dimension.
    """
    angle = 2 * np.pi * random.uniform()
    result = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for d in range(2, dimension):
        point = random.normal(size=d + 1)
        normal = -point / np.linalg.norm(point)
        normal[0] += 1
        normal /= np.linalg.norm(normal)
        bordered = np.zeros((d + 1, d + 1))
        bordered[0, 0] = 1
        bordered[1:, 1:] = result
        result = bordered - 2 * np.outer(normal, normal @ bordered)
    return -result


def deep_hessian() -> Tensor:
    """Return Q, 100 × 100, float64: 90 eigenvalues from U(0, 1), 10 from U(30, 60), randomly rotated."""
    random = np.random.RandomState(HESSIAN_SEED)
    eigenvalues = np.concatenate([random.uniform(0, 1, 90), random.uniform(30, 60, 10)])
    turn = rotation(DIMENSION, random)
    return torch.from_numpy(turn.T @ (eigenvalues[:, None] * turn))


def deep(knobs: QuadraticKnobs, seed: int) -> Problem:
    """The loss of an example x is ½(θ − x)ᵀQ(θ − x); θ starts at ones(100).

    Args:
        knobs: None.
        seed: Not used: the data are fixed.
    """
    hessian = deep_hessian()
    # As published, in float32.
    published = hessian.float()

    def initialise(_: Generator) -> list[Tensor]:
        return [torch.ones(DIMENSION)]

    def run(layers: Layers, weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        theta, q = weights
        away = layers.each(theta) - inputs
        return (away @ q * away).sum(-1) / 2

    model = layered("quadratic", initialise, run, buffers=lambda: [published.clone()])
    splits = Splits(_rows(TRAIN_SEED, EXAMPLES), _rows(VAL_SEED, EXAMPLES), _rows(TEST_SEED, TEST_EXAMPLES))
    untrained = Untrained("test", 353.4468, 0.001, "DeepOBS 1.1.2")
    return Problem(splits, model, EXCESS_LOSS, "val_loss", TARGET, untrained=untrained)


def _rows(seed: int, examples: int) -> Split:
    drawn = np.random.RandomState(seed).normal(0.0, NOISE, (EXAMPLES, DIMENSION))
    return Split(torch.from_numpy(drawn[:examples]).float(), torch.zeros(examples))
