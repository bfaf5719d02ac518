"""What tasks share whose model is a position and whose loss is a function of it.

A mini-batch needs examples. Here an example is a noise vector ε, and its loss is L(θ) + ε·θ: the function with the
gradient noise of that example. The vectors sum to zero, so the full batch is the exact gradient, and a batch of B drawn
without replacement from N has gradient noise of variance σ²/B · (N − B)/(N − 1) in every coordinate. The noise of an
epoch sums to zero too: what takes longer than an epoch feels less of it than it would of independent draws.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from bench.errors import UsageError
from bench.tasks.problem import Objective, Split, Splits

#: Noise is rounded to this fraction of its scale, so that sums of it in float32 are exact and zero means zero.
ROUNDING = 2.0**-10

#: Points along each axis of a landscape.
GRID = 101

#: The model's outputs are losses already; labels hold the known minimum, so that the loss ends at 0.
EXCESS_LOSS = Objective("excess over the minimum", lambda outputs, labels: outputs - labels)


def zero_mean_noise(examples: int, dimension: int, sd: float, generator: Generator) -> Tensor:
    """Draw normal vectors in pairs of opposite sign, whose mean is exactly zero.

    Args:
        examples: Number of vectors, even.
        dimension: Length of each.
        sd: Root mean square of each coordinate over the set, within a thousandth.
        generator: Where they come from.

    Returns:
        Examples × dimension, float64; every value a multiple of a power of two.
    """
    if sd == 0:
        return torch.zeros(examples, dimension, dtype=torch.float64)
    half = torch.randn(examples // 2, dimension, generator=generator, dtype=torch.float64)
    half *= sd / half.square().mean(0).sqrt()
    unit = ROUNDING * 2.0 ** math.floor(math.log2(sd))
    half = (half / unit).round() * unit
    return torch.cat([half, -half])


def noisy_splits(examples: int, dimension: int, sd: float, minimum: float, seed: int) -> Splits:
    """Return noise to train on, and validation and test splits of one example without noise.

    Args:
        examples: Training examples, even.
        dimension: Number of parameters.
        sd: Standard deviation of one example's gradient in each coordinate.
        minimum: What the loss is measured from.
        seed: Data seed.
    """
    noise = zero_mean_noise(examples, dimension, sd, Generator().manual_seed(seed))
    exact = Split(noise.new_zeros(1, dimension), noise.new_full((1,), minimum))
    return Splits(Split(noise, noise.new_full((examples,), minimum)), exact, exact, distinct=False)


def landscape(
    value: Callable[[Tensor, Tensor], Tensor], extent: tuple[float, float, float, float], points: int = GRID
) -> list[float]:
    """Return a function of the plane on a grid.

    Args:
        value: x, y → loss, elementwise.
        extent: x_lo, x_hi, y_lo, y_hi.
        points: Points along each axis.

    Returns:
        points × points values, row-major: y ascends from row to row, x within a row. A loss that rounding made
        negative is 0.
    """
    x_lo, x_hi, y_lo, y_hi = extent
    y, x = torch.meshgrid(
        torch.linspace(y_lo, y_hi, points, dtype=torch.float64),
        torch.linspace(x_lo, x_hi, points, dtype=torch.float64),
        indexing="ij",
    )
    values: list[float] = value(x, y).clamp_min(0).flatten().tolist()
    return values


def check_noise(noise: float, examples: int) -> None:
    """Check the two knobs of gradient noise.

    Raises:
        UsageError: A negative standard deviation, or a number of examples that is not even and positive.
    """
    if noise < 0:
        raise UsageError(f"task.knobs.noise={noise:g}: must be at least 0")
    if examples < 2 or examples % 2:
        raise UsageError(f"task.knobs.examples={examples}: must be even and at least 2 (noise comes in pairs ±ε)")


def position_picture(weights: Sequence[Tensor]) -> Tensor:
    """Return where a trial is: its first parameter."""
    return weights[0]
