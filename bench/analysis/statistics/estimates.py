"""An estimate with its interval, and what can be done with any of them whatever method made it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy.typing as npt
from scipy import special

from bench.analysis.intervals import CONFIDENCE, mean_interval, t_quantile


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


@dataclass(frozen=True)
class StudentT:
    """An estimator with the interval ± t · standard error: what is found in the data, once for all confidences.

    Attributes:
        estimate: The value.
        error: Its standard error; nan gives no interval, inf an unbounded one.
        degrees: Degrees of freedom of the standard error; below 1 there is no interval, inf is the normal one.
        n: Independent units behind it.
        floor: As in `Estimate`.
        root: What the error is still to be divided by: of a mean `error` may be a deviation and this the root of the
            number, which rounds as `bench.analysis.intervals.mean_interval` does.
    """

    estimate: float
    error: float
    degrees: float
    n: int
    floor: float = 0.0
    root: float = 1.0

    def __call__(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the estimate with its interval."""
        if not self.is_bounded:
            return Estimate(self.estimate, math.nan, math.nan, self.n, confidence, self.floor)
        half = t_quantile((1 + confidence) / 2, self._degrees) * self.error / self.root
        return Estimate(self.estimate, self.estimate - half, self.estimate + half, self.n, confidence, self.floor)

    @property
    def is_bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.estimate) and self.degrees >= 1 and not math.isnan(self.error)

    @property
    def _degrees(self) -> float:
        # Student's t is the normal distribution to five digits there, and has no quantile at infinity.
        return min(self.degrees, 1e6)

    def p(self, null: float = 0.0) -> float:
        """Return the two-sided p value of a value: 0 … 1, nan where there is no interval."""
        if not self.is_bounded:
            return math.nan
        distance = abs(self.estimate - null)
        if self.error == 0:
            return 0.0 if distance else 1.0
        return 2 * float(special.stdtr(self._degrees, -distance * self.root / self.error))


def mean_estimator(values: npt.ArrayLike) -> StudentT:
    """Return `bench.analysis.intervals.mean_interval` as an estimator.

    Args:
        values: One per unit; those that are not finite are left out.
    """
    found = mean_interval(values)
    return StudentT(found.mean, found.sd, found.n - 1, found.n, root=math.sqrt(found.n))


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
    return StudentT(estimate, error, degrees, n, floor)(confidence)


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
    return two_way_estimator(mean, variances, sizes, floor)(confidence)


def two_way_estimator(
    mean: float, variances: tuple[float, float, float], sizes: tuple[int, int], floor: float = 0.0
) -> StudentT:
    """Return `two_way_estimate` waiting for its confidence."""
    rows, columns, both = variances
    variance = max(rows - both, 0.0) + max(columns - both, 0.0) + both
    freedom = (sizes[0], sizes[1], sizes[0] * sizes[1])
    degrees = float(freedom[2])
    if rows > both and columns > both:
        parts = sum(part**2 / size for part, size in zip(variances, freedom, strict=True))
        degrees = max(variance**2 / parts, float(min(sizes)))
    elif rows > both or columns > both:
        degrees = float(sizes[0] if rows > both else sizes[1])
    return StudentT(mean, math.sqrt(variance), degrees, sizes[0] + 1, floor)


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
    known = math.nan
    # Of a distance of a few roundings the interval's own rounding decides.
    if isinstance(estimator, StudentT) and abs(estimator.estimate - null) > 1e-9 * abs(null):
        known = estimator.p(null)

    def excluded(level: float) -> bool:
        # Student's t says at once at which confidence the value is excluded. It is looked at near that alone, so that
        # the p value is digit for digit that of the interval.
        if not math.isnan(known) and abs(level - known) > 1e-4 * known:
            return level > known
        return estimator(1 - level).excludes(null)

    low, high = math.log(1e-9), 0.0
    if excluded(1e-9):
        return 1e-9
    while high - low > 1e-3:
        middle = (low + high) / 2
        if excluded(math.exp(middle)):
            high = middle
        else:
            low = middle
    return math.exp(high) if high < 0 else 1.0
