"""two_well: does gradient noise carry a trial out of a narrow local optimum into a wide one?

Two wells of chosen depth and width, each exactly quadratic, so that everything is known: minima, curvature, the edge
of stability, and the stationary spread ησ²/(Bh(2 − ηh)) of stochastic gradient descent in a well of curvature h.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bench.errors import UsageError
from bench.tasks.landscape import check_noise, landscape, noisy_splits, position_picture
from bench.tasks.problem import Model, Objective, Picture, Problem, Untrained

NARROW, WIDE = 0, 1

#: Where training starts, as a part of the narrow well's width from its minimum.
START = 0.1

#: Outputs: loss, and 1 in the wide well, 0 in the narrow one. Labels: the lowest loss.
ESCAPE = Objective(
    name="excess over the deeper minimum; right in the wide well",
    losses=lambda outputs, labels: outputs[:, 0] - labels,
    correct=lambda outputs, _: outputs[:, 1] > 0.5,
)


@dataclass(frozen=True)
class TwoWellKnobs:
    """What can be turned at the two wells.

    Attributes:
        dimension: 1 or 2.
        narrow_depth: Height of the pass between the wells over the narrow well's minimum, > 0.
        narrow_width: Distance from the narrow well's minimum to the pass, > 0.
        wide_depth: As `narrow_depth`, of the wide well.
        wide_width: As `narrow_width`, of the wide well; larger.
        start: Where training starts, one number per dimension; null for a tenth of the narrow well's width from its
            minimum, on the side of the pass.
        noise: Standard deviation of one example's gradient in each coordinate, ≥ 0.
        examples: Training examples, that is noise vectors, even and ≥ 2.
    """

    dimension: int = 1
    narrow_depth: float = 0.5
    narrow_width: float = 0.25
    wide_depth: float = 1.0
    wide_width: float = 1.0
    start: tuple[float, ...] | None = None
    noise: float = 4.0
    examples: int = 256

    def __post_init__(self) -> None:
        check_noise(self.noise, self.examples)
        if self.dimension not in (1, 2):
            raise UsageError(f"task.knobs.dimension={self.dimension}: must be 1 or 2")
        for name in ("narrow_depth", "narrow_width", "wide_depth", "wide_width"):
            if getattr(self, name) <= 0:
                raise UsageError(f"task.knobs.{name}={getattr(self, name):g}: must be greater than 0")
        if self.wide_width <= self.narrow_width:
            raise UsageError(
                f"task.knobs.wide_width={self.wide_width:g}: must be greater than narrow_width={self.narrow_width:g}"
            )
        if self.start is not None and len(self.start) != self.dimension:
            raise UsageError(f"task.knobs.start={list(self.start)}: must have {self.dimension} numbers, or be null")


@dataclass(frozen=True)
class Well:
    """One well: depth · (|x − centre|²/width² − 1), so the pass at the origin has height 0.

    Attributes:
        centre: First coordinate of the minimum; the second, where there is one, is 0.
        depth: Height of the origin over the minimum.
        width: Distance of the origin from the minimum.
    """

    centre: float
    depth: float
    width: float

    @property
    def curvature(self) -> float:
        """Second derivative, the same in every direction."""
        return 2 * self.depth / self.width**2

    def height(self, position: Tensor) -> Tensor:
        """Return the height at positions. Shape: dimension × … → …."""
        first = position[:1] - self.centre
        squares = torch.cat([first, position[1:]]).square().sum(0)
        return self.curvature / 2 * squares - self.depth


def wells(knobs: TwoWellKnobs) -> tuple[Well, Well]:
    """Return the narrow well, left of the origin, and the wide one, right of it."""
    return (
        Well(-knobs.narrow_width, knobs.narrow_depth, knobs.narrow_width),
        Well(knobs.wide_width, knobs.wide_depth, knobs.wide_width),
    )


def well_of(position: Tensor, knobs: TwoWellKnobs) -> Tensor:
    """Return which well is the lower at positions: `NARROW` (0) or `WIDE` (1). Shape: dimension × … → …."""
    narrow, wide = wells(knobs)
    return (wide.height(position) < narrow.height(position)).long()


def two_well(knobs: TwoWellKnobs, seed: int) -> Problem:
    """The loss is the lower of the two wells, less the deeper minimum. Parameters: the position, shape dimension.

    Between the wells the loss has a ridge with a kink. Accuracy is 1 in the wide well and 0 in the narrow one, so its
    mean over seeds is the chance of having escaped; the target is an accuracy above ½, that is the escape.

    Args:
        knobs: Wells, start and noise.
        seed: Data seed of the noise.
    """
    narrow, wide = wells(knobs)
    minimum = -max(narrow.depth, wide.depth)
    # Beside the minimum: at it, a step without noise would not move.
    start = torch.tensor(knobs.start or (narrow.centre + START * narrow.width, 0.0)[: knobs.dimension])

    def height(position: Tensor) -> Tensor:
        return torch.minimum(narrow.height(position), wide.height(position))

    def forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        (position,) = weights
        loss = height(position) + inputs @ position
        return torch.stack([loss, well_of(position, knobs).to(loss.dtype).expand_as(loss)], 1)

    def initialise(_: Generator) -> list[Tensor]:
        return [start.clone()]

    loss = height(start.double()).item() - minimum
    return Problem(
        splits=noisy_splits(knobs.examples, knobs.dimension, knobs.noise, minimum, seed),
        model=Model("two_well", initialise, forward),
        objective=ESCAPE,
        target_metric="val_accuracy",
        target=0.5,
        untrained=Untrained("val", loss, 1e-5 * (1 + loss), "height of the start"),
        picture=_picture(knobs),
    )


def _picture(knobs: TwoWellKnobs) -> Picture:
    """A map in two dimensions; in one, a trial is the point (x, loss), on a map that is the same at every y."""
    narrow, wide = wells(knobs)
    minimum = -max(narrow.depth, wide.depth)

    def loss(position: Tensor) -> Tensor:
        return torch.minimum(narrow.height(position), wide.height(position)) - minimum

    left, right = narrow.centre - wide.width, wide.centre + 1.5 * wide.width
    if knobs.dimension == 2:
        extent = (left, right, -1.5 * wide.width, 1.5 * wide.width)
        cell: dict[str, Sequence[float]] = {
            "landscape": landscape(lambda x, y: loss(torch.stack([x, y])), extent),
            "minimisers": [narrow.centre, 0.0, wide.centre, 0.0],
        }
        return Picture("position", extent, cell, position_picture)
    highest = loss(torch.tensor([[left, right]])).max().item()
    extent = (left, right, 0.0, highest)
    cell = {
        "landscape": landscape(lambda x, _: loss(x[None]), extent),
        "minimisers": [narrow.centre, -narrow.depth - minimum, wide.centre, -wide.depth - minimum],
    }
    return Picture("position", extent, cell, lambda weights: torch.cat([weights[0], loss(weights[0])[None]]))
