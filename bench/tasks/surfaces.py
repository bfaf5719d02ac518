"""Surfaces: functions of the plane with known minimisers, as tasks.

The parameters are the position (x, y); the loss is the function's value above its known minimum. Where noise is asked
for, examples carry it (`bench.tasks.landscape`). Formulas and minimisers of the first six: Surjanovic and Bingham,
Virtual Library of Simulation Experiments.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from bench.errors import UsageError
from bench.tasks.knobs import check_at_least
from bench.tasks.landscape import EXCESS_LOSS, check_noise, landscape, noisy_splits, position_picture
from bench.tasks.problem import Model, Picture, Problem, Untrained

Point = tuple[float, float]


@dataclass(frozen=True)
class SurfaceKnobs:
    """What can be turned at a surface.

    Attributes:
        noise: Standard deviation of one example's gradient in each coordinate, ≥ 0.
        examples: Training examples, that is noise vectors, even and ≥ 2.
        start: Where training starts, [x, y]; null for the surface's own.
        spread: Standard deviation of a trial's start around it, drawn by the init seed, ≥ 0.
    """

    noise: float = 1.0
    examples: int = 256
    start: tuple[float, ...] | None = None
    spread: float = 0.0

    def __post_init__(self) -> None:
        check_noise(self.noise, self.examples)
        if self.start is not None and len(self.start) != 2:
            raise UsageError(f"task.knobs.start={list(self.start)}: must be two numbers [x, y], or null")
        check_at_least(self, {"spread": 0})


@dataclass(frozen=True)
class Surface:
    """A function of the plane and what is known of it.

    Attributes:
        name: Name in configs, after "surface/".
        value: x, y → value, elementwise.
        minimum: Least value.
        minimisers: Where it is taken: all of them within the extent.
        start: Where training starts.
        extent: x_lo, x_hi, y_lo, y_hi of pictures.
        target: Loss to get strictly below.
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    minimum: float
    minimisers: tuple[Point, ...]
    start: Point
    extent: tuple[float, float, float, float]
    target: float


def _rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    return (1 - x).square() + 100 * (y - x.square()).square()


def _beale(x: Tensor, y: Tensor) -> Tensor:
    return (1.5 - x + x * y).square() + (2.25 - x + x * y**2).square() + (2.625 - x + x * y**3).square()


def _branin(x: Tensor, y: Tensor) -> Tensor:
    parabola = y - 5.1 / (4 * math.pi**2) * x.square() + 5 / math.pi * x - 6
    return parabola.square() + 10 * (1 - 1 / (8 * math.pi)) * x.cos() + 10


def _himmelblau(x: Tensor, y: Tensor) -> Tensor:
    return (x.square() + y - 11).square() + (x + y.square() - 7).square()


def _rastrigin(x: Tensor, y: Tensor) -> Tensor:
    return 20 + x.square() + y.square() - 10 * ((2 * math.pi * x).cos() + (2 * math.pi * y).cos())


def _ackley(x: Tensor, y: Tensor) -> Tensor:
    # The norm as a function of its own: it has the subgradient 0 at the minimiser, a square root has none.
    norm: Tensor = torch.linalg.vector_norm(torch.stack([x, y]), dim=0)
    waves = ((2 * math.pi * x).cos() + (2 * math.pi * y).cos()) / 2
    return 20 - 20 * (-0.2 * math.sqrt(0.5) * norm).exp() + math.e - waves.exp()


def _saddle(x: Tensor, y: Tensor) -> Tensor:
    return x.square() / 2 - y.square() / 2 + y**4 / 4


def _valley(x: Tensor, y: Tensor) -> Tensor:
    # Turned by 45°, so that no rate per coordinate undoes the ill condition. Curvature .1 along x = y, 10 across it.
    return (0.1 * (x + y).square() + 10 * (x - y).square()) / 4


ROSENBROCK = Surface("rosenbrock", _rosenbrock, 0.0, ((1.0, 1.0),), (-1.2, 1.0), (-2.0, 2.0, -1.0, 3.0), 0.1)
BEALE = Surface("beale", _beale, 0.0, ((3.0, 0.5),), (1.0, 1.0), (-1.0, 4.5, -2.0, 2.0), 0.01)
BRANIN = Surface(
    "branin",
    _branin,
    10 / (8 * math.pi),
    ((-math.pi, 12.275), (math.pi, 2.275), (3 * math.pi, 2.475)),
    (6.0, 12.0),
    (-5.0, 10.0, 0.0, 15.0),
    0.01,
)
HIMMELBLAU = Surface(
    "himmelblau",
    _himmelblau,
    0.0,
    (
        (3.0, 2.0),
        (-2.805118086952745, 3.131312518250573),
        (-3.779310253377747, -3.283185991286170),
        (3.584428340330492, -1.848126526964404),
    ),
    (-0.5, -1.0),
    (-5.0, 5.0, -5.0, 5.0),
    0.01,
)
RASTRIGIN = Surface("rastrigin", _rastrigin, 0.0, ((0.0, 0.0),), (1.4, -0.6), (-2.5, 2.5, -2.5, 2.5), 2.5)
ACKLEY = Surface("ackley", _ackley, 0.0, ((0.0, 0.0),), (2.5, -1.7), (-3.0, 3.0, -3.0, 3.0), 0.5)
SADDLE = Surface("saddle", _saddle, -0.25, ((0.0, -1.0), (0.0, 1.0)), (1.0, 0.001), (-1.5, 1.5, -1.5, 1.5), 0.01)
VALLEY = Surface("valley", _valley, 0.0, ((0.0, 0.0),), (9.0, 7.0), (-10.0, 10.0, -10.0, 10.0), 0.01)

SURFACES = {s.name: s for s in (ROSENBROCK, BEALE, BRANIN, HIMMELBLAU, RASTRIGIN, ACKLEY, SADDLE, VALLEY)}


def surface_problem(surface: Surface, knobs: SurfaceKnobs, seed: int) -> Problem:
    """Make a task of a surface. Parameters: the position, shape 2.

    Args:
        surface: The function.
        knobs: Noise and start.
        seed: Data seed of the noise.
    """
    start = torch.tensor(knobs.start or surface.start)

    def initialise(generator: Generator) -> list[Tensor]:
        return [start + knobs.spread * torch.randn(2, generator=generator)]

    def forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        (position,) = weights
        return surface.value(position[0], position[1]) + inputs @ position

    def excess(x: Tensor, y: Tensor) -> Tensor:
        return surface.value(x, y) - surface.minimum

    untrained = None
    if knobs.spread == 0:
        loss = excess(*start.double()).item()
        untrained = Untrained("val", loss, 1e-5 * (1 + abs(loss)), "value at the start")
    return Problem(
        splits=noisy_splits(knobs.examples, 2, knobs.noise, surface.minimum, seed),
        model=Model(surface.name, initialise, forward),
        objective=EXCESS_LOSS,
        target_metric="val_loss",
        target=surface.target,
        untrained=untrained,
        picture=Picture(
            kind="position",
            extent=surface.extent,
            cell={
                "landscape": landscape(excess, surface.extent),
                "minimisers": [coordinate for point in surface.minimisers for coordinate in point],
            },
            trial=position_picture,
        ),
    )


rosenbrock = partial(surface_problem, ROSENBROCK)
beale = partial(surface_problem, BEALE)
branin = partial(surface_problem, BRANIN)
himmelblau = partial(surface_problem, HIMMELBLAU)
rastrigin = partial(surface_problem, RASTRIGIN)
ackley = partial(surface_problem, ACKLEY)
saddle = partial(surface_problem, SADDLE)
valley = partial(surface_problem, VALLEY)
