"""Means and ratios of repeats, with intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtrit

#: Coverage of every interval here.
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """An estimate with an interval of 95 %.

    Attributes:
        value: The estimate.
        lo: Lower end; NaN where one repeat tells nothing of the spread.
        hi: Upper end, likewise.
    """

    value: float
    lo: float
    hi: float


def mean_interval(samples: Sequence[float]) -> Estimate:
    """Return the mean of independent repeats with Student's interval.

    Args:
        samples: At least one number.
    """
    mean = math.fsum(samples) / len(samples)
    return _around(mean, standard_error(samples), len(samples))


def standard_error(samples: Sequence[float]) -> float:
    """Return the standard error of the mean of independent repeats; NaN of fewer than two."""
    n = len(samples)
    if n < 2:
        return math.nan
    mean = math.fsum(samples) / n
    return math.sqrt(math.fsum((sample - mean) ** 2 for sample in samples) / (n - 1) / n)


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Return the ratio of two means with the jackknife's interval: each repeat is left out once.

    The ratio of the means, not the mean of the ratios: it is what the repeats' noise biases least.

    Args:
        above: Numerators, one a repeat.
        below: Denominators of the same repeats.

    Returns:
        The estimate; NaN where the mean denominator is not above 0, so that the repeats cannot tell it from 0.
    """
    n, top, bottom = len(above), math.fsum(above), math.fsum(below)
    if not bottom > 0:
        return Estimate(math.nan, math.nan, math.nan)
    ratio = top / bottom
    if n < 2:
        return Estimate(ratio, math.nan, math.nan)
    without = [(top - a) / (bottom - b) if bottom != b else math.inf for a, b in zip(above, below, strict=True)]
    middle = math.fsum(without) / n
    spread = math.sqrt((n - 1) / n * math.fsum((value - middle) ** 2 for value in without))
    return _around(ratio, spread, n)


def _around(value: float, error: float, n: int) -> Estimate:
    # The quantile of scipy.stats.t, whose import takes as long as a fifth of everything else that a worker imports.
    half = error * float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) if n > 1 else math.nan
    return Estimate(value, value - half, value + half)
