"""Round numbers to label axes with."""

import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

#: Leading digits of round numbers in a decade, the most first.
SERIES_OF_RATIOS: tuple[Sequence[float], ...] = ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
#: Ratios of the ends of an axis up to which it is labelled in equal steps, and so many labels fit.
LINEAR, MOST = 3.0, 5


def round_values(low: float, high: float, most: int = MOST) -> list[float]:
    """Return round numbers in equal steps between two values, at most so many and two at least.

    Args:
        low: Lower end.
        high: Upper end, above it.
        most: How many fit.
    """
    found: list[float] = []
    # Quarters are less round, and better than two labels alone.
    for steps in ([1, 2, 5, 10], [1, 2, 2.5, 5, 10]):
        for bins in range(most - 1, 2 * most):
            ticks = MaxNLocator(bins, steps=steps).tick_values(low, high)
            inside = [float(tick) for tick in ticks if low <= tick <= high]
            if len(found) < len(inside) <= most:
                found = inside
        if len(found) > 2:
            break
    return found


def round_ratios(low: float, high: float, most: int = MOST) -> list[float]:
    """Return round ratios between two positive ones: 0.5, 1, 2, 5, 10, …; close to one another 0.9, 1, 1.1.

    Args:
        low: Lower end, above 0.
        high: Upper end, above it.
        most: How many fit.
    """
    if high <= LINEAR * low:
        return round_values(low, high, most)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for series in SERIES_OF_RATIOS:
        found = [
            digit * 10.0**exponent
            for exponent in range(first, last + 1)
            for digit in series
            if low <= digit * 10.0**exponent <= high
        ]
        if len(found) <= most:
            return found if len(found) > 2 else round_values(low, high, most)
    # Whole decades, evenly spaced; 1 is among them where it is between the ends.
    exponents = [exponent for exponent in range(first, last + 1) if low <= 10.0**exponent <= high]
    stride = -(-len(exponents) // most)
    return [10.0**exponent for exponent in exponents if exponent % stride == 0]
