"""nqm: the noisy quadratic model, whose expected loss after any number of steps is known exactly.

L = ½ Σ h θ² with curvatures h = 1/i, i = 1 … dimension, from θ ~ N(0, I); a batch of B has gradient noise of variance
h/B in each coordinate. Zhang et al. 2019, arXiv 1907.04164, section 3. `bench.tasks.nqm_recursion` solves it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bench.tasks.knobs import check_at_least
from bench.tasks.landscape import EXCESS_LOSS
from bench.tasks.problem import Model, Problem, Split, Splits, Stream, Untrained

#: What is called an epoch: a stream has none, but budgets and batch sizes are counted in it.
EPOCH = 2**16

#: Loss to get strictly below, as in the source's experiments on this model.
TARGET = 0.01


@dataclass(frozen=True)
class NqmKnobs:
    """What can be turned at the noisy quadratic model.

    Attributes:
        dimension: Coordinates, ≥ 1; the smallest curvature is 1/dimension.
    """

    dimension: int = 10_000

    def __post_init__(self) -> None:
        check_at_least(self, {"dimension": 1})


def curvatures(dimension: int) -> Tensor:
    """Return h = 1/i for i = 1 … dimension, float64."""
    return 1 / torch.arange(1, dimension + 1, dtype=torch.float64)


def nqm(knobs: NqmKnobs, seed: int) -> Problem:
    """The loss of a batch is L(θ) + n·θ, where n is the noise of the batch, one row of inputs; evaluated without n.

    Args:
        knobs: Dimension.
        seed: Not used: there are no data, and the noise is each trial's own.
    """
    h = curvatures(knobs.dimension)
    deviations = h.sqrt().float()
    silence, zero = torch.zeros(1, knobs.dimension), torch.zeros(1)

    def initialise(generator: Generator) -> list[Tensor]:
        return [torch.randn(knobs.dimension, generator=generator)]

    def forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        theta, curvature = weights
        return (curvature * theta).dot(theta) / 2 + inputs @ theta

    def draw(batch_size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(1, knobs.dimension, generator=generator)
        return noise.mul_(deviations).div_(math.sqrt(batch_size)), zero

    # The start is random: E L = ½ Σ h, Var L = ½ Σ h². Six standard deviations, for the one seed that is looked at.
    expected, deviation = h.sum().item() / 2, math.sqrt(h.square().sum().item() / 2)
    exact = Split(silence, zero)
    return Problem(
        splits=Splits(exact, exact, exact, distinct=False),
        model=Model("nqm", initialise, forward, buffers=lambda: [h.float()]),
        objective=EXCESS_LOSS,
        target_metric="val_loss",
        target=TARGET,
        untrained=Untrained("val", expected, 6 * deviation, "½ Σ h, the mean over starts"),
        stream=Stream(draw, lambda: (silence, zero), EPOCH),
    )
