"""chebyshev: a tanh network fits a Chebyshev polynomial, the small task on which gradient descent meets its edge.

Full-batch gradient descent with learning rate η drives the largest eigenvalue of the Hessian up to 2/η and keeps it
there: the edge of stability (Cohen et al. 2021, arXiv 2103.00065, who use this task too). `precision=float64`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.tasks.knobs import check_at_least
from bench.tasks.models import linear
from bench.tasks.problem import HALF_SQUARED_ERROR, Model, Problem, Split, Splits


@dataclass(frozen=True)
class ChebyshevKnobs:
    """What can be turned at the Chebyshev task.

    Attributes:
        degree: Degree of the polynomial, ≥ 0.
        points: Training points, evenly spaced over −1 … 1, both ends included, ≥ 2.
        hidden: Units of each of the two hidden layers, ≥ 1.
    """

    degree: int = 4
    points: int = 20
    hidden: int = 32

    def __post_init__(self) -> None:
        check_at_least(self, {"degree": 0, "points": 2, "hidden": 1})


def chebyshev(knobs: ChebyshevKnobs, seed: int) -> Problem:
    """Half squared error of a network 1-hidden-hidden-1 with tanh, initialised as layers of torch.nn are.

    Validation points lie half way between training points, test points a quarter of the way from either side. The
    target is a loss that full-batch gradient descent at η = .1 meets on its way to the edge.

    Args:
        knobs: Degree, points and width.
        seed: Not used: the points are fixed.
    """
    train = torch.linspace(-1, 1, knobs.points, dtype=torch.float64)
    gaps = train[1:] - train[:-1]

    def split(points: Tensor) -> Split:
        column = points[:, None]
        return Split(column, torch.special.chebyshev_polynomial_t(column, knobs.degree))

    def initialise(generator: Generator) -> list[Tensor]:
        return [
            *linear(1, knobs.hidden, generator),
            *linear(knobs.hidden, knobs.hidden, generator),
            *linear(knobs.hidden, 1, generator),
        ]

    def forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        w1, b1, w2, b2, w3, b3 = weights
        return F.linear(F.linear(F.linear(inputs, w1, b1).tanh(), w2, b2).tanh(), w3, b3)

    between = torch.cat([train[:-1] + gaps / 4, train[1:] - gaps / 4])
    splits = Splits(split(train), split(train[:-1] + gaps / 2), split(between))
    return Problem(splits, Model("tanh network", initialise, forward), HALF_SQUARED_ERROR, "val_loss", 0.01)
