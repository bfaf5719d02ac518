"""The six data sets of the TensorFlow Playground (Smilkov & Carter 2016, playground.tensorflow.org).

All draws come from one generator, and as many of them at any noise: with the same seed only what the noise moves
differs. Noise moves the points themselves of spiral and gauss; of the other four it moves only the place at which
the label is looked up, so that their stored points stay clean.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

#: Half the width of the square from which xor, and the two regressions, draw.
XOR_REACH, PLANE_REACH = 5.0, 6.0
CIRCLE_RADIUS = 5.0
#: Points of xor are pushed so far away from both axes.
XOR_PADDING = 0.3
#: x, y, sign of the bumps of reg-gauss.
BUMPS = ((-4.0, 2.5, 1.0), (0.0, 2.5, -1.0), (4.0, 2.5, 1.0), (-4.0, -2.5, -1.0), (0.0, -2.5, 1.0), (4.0, -2.5, -1.0))

#: Number of points (even), noise as a fraction 0 … 0.5, generator → points (n × 2) and labels (n), float64, ordered.
Draw = Callable[[int, float, Generator], tuple[Tensor, Tensor]]


def spiral(points: int, noise: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two arms of 1¾ turns; both begin at the origin, so without noise it stands there twice, with both labels."""
    half = points // 2
    along = torch.arange(half, dtype=torch.float64) / half
    arms = []
    for start in (0.0, math.pi):
        angle = 1.75 * 2 * math.pi * along + start
        arms.append(torch.stack([5 * along * angle.sin(), 5 * along * angle.cos()], 1))
    return torch.cat(arms) + _uniform(points, 1.0, generator) * noise, _halves(points)


def circle(points: int, noise: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """A disc of radius 2.5 (+1) and the ring from 3.5 to 5 around it (−1)."""
    half = points // 2
    share = torch.rand(points, generator=generator, dtype=torch.float64)
    radius = torch.cat([share[:half] * CIRCLE_RADIUS * 0.5, CIRCLE_RADIUS * (0.7 + 0.3 * share[half:])])
    angle = torch.rand(points, generator=generator, dtype=torch.float64) * 2 * math.pi
    stored = torch.stack([radius * angle.sin(), radius * angle.cos()], 1)
    seen = stored + _uniform(points, CIRCLE_RADIUS, generator) * noise
    return stored, _signs(seen.norm(dim=1) < CIRCLE_RADIUS * 0.5)


def xor(points: int, noise: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Four quadrants, +1 where both coordinates have one sign."""
    drawn = _uniform(points, XOR_REACH, generator)
    stored = drawn + torch.where(drawn > 0, XOR_PADDING, -XOR_PADDING)
    seen = stored + _uniform(points, XOR_REACH, generator) * noise
    return stored, _signs(seen.prod(1) >= 0)


def gauss(points: int, noise: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two round clouds around (2, 2) (+1) and (−2, −2) (−1); the noise 0 … 0.5 sets their variance 0.5 … 4."""
    labels = _halves(points)
    variance = 0.5 + 7 * noise
    drawn = torch.randn(points, 2, generator=generator, dtype=torch.float64)
    return 2 * labels.unsqueeze(1) + math.sqrt(variance) * drawn, labels


def reg_plane(points: int, noise: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """A plane: (x + y)/10."""
    stored = _uniform(points, PLANE_REACH, generator)
    seen = stored + _uniform(points, PLANE_REACH, generator) * noise
    return stored, seen.sum(1) / 10


def reg_gauss(points: int, noise: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Six cones of height ±1 and radius 2, signs alternating; where two overlap, the higher one counts."""
    stored = _uniform(points, PLANE_REACH, generator)
    seen = stored + _uniform(points, PLANE_REACH, generator) * noise
    bumps = torch.tensor(BUMPS, dtype=torch.float64)
    heights = (1 - torch.cdist(seen, bumps[:, :2]) / 2).clamp(0, 1)
    highest = heights.max(1)
    return stored, bumps[highest.indices, 2] * highest.values


def _uniform(points: int, reach: float, generator: Generator) -> Tensor:
    return (2 * torch.rand(points, 2, generator=generator, dtype=torch.float64) - 1) * reach


def _halves(points: int) -> Tensor:
    return _signs(torch.arange(points) < points // 2)


def _signs(positive: Tensor) -> Tensor:
    return positive.double() * 2 - 1


#: Every data set with whether its labels are classes.
DRAWS: dict[str, tuple[Draw, bool]] = {
    "spiral": (spiral, True),
    "circle": (circle, True),
    "xor": (xor, True),
    "gauss": (gauss, True),
    "reg_plane": (reg_plane, False),
    "reg_gauss": (reg_gauss, False),
}
