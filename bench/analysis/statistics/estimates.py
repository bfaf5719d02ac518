"""An estimate with its interval, and what can be done with any of them whatever method made it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.analysis.intervals import CONFIDENCE, t_quantile


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval.

    Attributes:
        estimate: The value; nan where there is none.
        lo: Lower end of the interval, in the same unit; −inf where the data bound nothing, nan without an interval.
        hi: Upper end; inf where the data bound nothing.
        n: Independent units that the interval rests on, such as seeds; the thing that more of would narrow it.
        confidence: Nominal coverage, 0 … 1.
        floor: Standard error that more units do not remove, such as that of a finite test split; 0 where there is none.
    """

    estimate: float
    lo: float
    hi: float
    n: int
    confidence: float = CONFIDENCE
    floor: float = 0.0

    def minus(self, null: float) -> "Estimate":
        """Return the estimate of the distance to a value, such as a slope minus −1."""
        return replace(self, estimate=self.estimate - null, lo=self.lo - null, hi=self.hi - null)

    def excludes(self, null: float) -> bool:
        """Whether the interval lies on one side of a value."""
        return self.lo > null or self.hi < null


#: A method bound to its data, waiting for the confidence: what adjusting for many claims and testing need.
Estimator = Callable[[float], Estimate]


def t_estimate(
    estimate: float, error: float, degrees: float, n: int, confidence: float = CONFIDENCE, floor: float = 0.0
) -> Estimate:
    """Return an estimate with the interval ± t · standard error.

    Args:
        estimate: The value.
        error: Its standard error; nan gives no interval, inf an unbounded one.
        degrees: Degrees of freedom of the standard error; below 1 there is no interval, inf is the normal one.
        n: Independent units behind it.
        confidence: Coverage, 0 … 1.
        floor: As in `Estimate`.
    """
    if not (math.isfinite(estimate) and degrees >= 1) or math.isnan(error):
        return Estimate(estimate, math.nan, math.nan, n, confidence, floor)
    # Student's t is the normal distribution to five digits there, and has no quantile at infinity.
    half = t_quantile((1 + confidence) / 2, min(degrees, 1e6)) * error
    return Estimate(estimate, estimate - half, estimate + half, n, confidence, floor)


def two_way_estimate(
    mean: float,
    variances: tuple[float, float, float],
    sizes: tuple[int, int],
    confidence: float = CONFIDENCE,
    floor: float = 0.0,
) -> Estimate:
    """Return a mean over a two-way layout, such as seeds × test examples, with an interval over other rows and columns.

    Of the variance of the mean, that seen between rows and that seen between columns both contain the interaction,
    which is taken out of one. A part that is not above the interaction is none, and the degrees of freedom are those of
    what is left: Satterthwaite's where both are.

    Args:
        mean: The value.
        variances: Of the mean: from the spread of row means, of column means, and of the interaction; each ≥ 0.
        sizes: Degrees of freedom of rows and of columns, ≥ 1; the interaction has their product.
        confidence: Coverage, 0 … 1.
        floor: As in `Estimate`.

    Returns:
        The estimate; n is the number of rows.

    Source: Searle, Casella & McCulloch, Variance Components (1992), 4.4; Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    rows, columns, both = variances
    variance = max(rows - both, 0.0) + max(columns - both, 0.0) + both
    freedom = (sizes[0], sizes[1], sizes[0] * sizes[1])
    degrees = float(freedom[2])
    if rows > both and columns > both:
        parts = sum(part**2 / size for part, size in zip(variances, freedom, strict=True))
        degrees = max(variance**2 / parts, float(min(sizes)))
    elif rows > both or columns > both:
        degrees = float(sizes[0] if rows > both else sizes[1])
    return t_estimate(mean, math.sqrt(variance), degrees, sizes[0] + 1, confidence, floor)


def p_value(estimator: Estimator, null: float = 0.0) -> float:
    """Return the two-sided p value that belongs to an interval: 1 − the largest confidence that excludes a value.

    It agrees with the interval by construction, for every method, at every confidence.

    Args:
        estimator: Confidence → estimate, with intervals that grow with the confidence.
        null: The value tested.

    Returns:
        0 … 1, to 1e-3 of itself (1e-9 at the least); nan where there is no interval.

    Source: the duality of tests and intervals, Casella & Berger, Statistical Inference, theorem 9.2.2.
    """
    if math.isnan(estimator(CONFIDENCE).lo):
        return math.nan
    low, high = math.log(1e-9), 0.0
    if estimator(1 - 1e-9).excludes(null):
        return 1e-9
    while high - low > 1e-3:
        middle = (low + high) / 2
        if estimator(1 - math.exp(middle)).excludes(null):
            high = middle
        else:
            low = middle
    return math.exp(high) if high < 0 else 1.0
