"""Intervals and verdicts: means over few seeds, slopes over few batch sizes."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# Not scipy.stats: it takes three times as long to import.
from scipy import special

CONFIDENCE = 0.95


@lru_cache(maxsize=4096)
def t_quantile(probability: float, degrees: float) -> float:
    """Return the quantile of Student's t distribution.

    Args:
        probability: Between 0 and 1, both excluded.
        degrees: Degrees of freedom, ≥ 1; need not be whole.

    Raises:
        ValueError: An argument is out of range.
    """
    if not 0 < probability < 1 or not degrees >= 1:
        raise ValueError(f"t_quantile({probability}, {degrees}): needs 0 < probability < 1 and degrees ≥ 1")
    return float(special.stdtrit(degrees, probability))


@dataclass(frozen=True)
class Mean:
    """A mean with its interval.

    Attributes:
        mean: Arithmetic mean; nan where n is 0.
        lo: Lower end of the interval; nan where n is below 2.
        hi: Upper end.
        sd: Sample standard deviation; nan where n is below 2.
        n: Number of values.
    """

    mean: float
    lo: float
    hi: float
    sd: float
    n: int


def mean_interval(values: npt.ArrayLike, confidence: float = CONFIDENCE) -> Mean:
    """Return the mean of independent values with Student's t interval.

    With three seeds the factor is 4.30, not 1.96: the interval is as wide as so few seeds deserve. A
    bootstrap of three values would be narrower and wrong (it covers about 75 % instead of 95 %).

    Args:
        values: One value per seed; those that are not finite are left out.
        confidence: Coverage if the values are normal, 0 … 1.
    """
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    n = int(finite.size)
    if n == 0:
        return Mean(math.nan, math.nan, math.nan, math.nan, 0)
    mean = float(finite.mean())
    if n == 1:
        return Mean(mean, math.nan, math.nan, math.nan, 1)
    sd = float(finite.std(ddof=1))
    half = t_quantile((1 + confidence) / 2, n - 1) * sd / math.sqrt(n)
    return Mean(mean, mean - half, mean + half, sd, n)


def t_factors(counts: npt.ArrayLike, confidence: float = CONFIDENCE) -> npt.NDArray[np.float64]:
    """Return, for each number of values, the factor on sd/√n of the t interval; nan below two values."""
    return np.array(
        [
            t_quantile((1 + confidence) / 2, int(count) - 1) if count >= 2 else math.nan
            for count in np.asarray(counts).ravel()
        ]
    )


@dataclass(frozen=True)
class Slope:
    """A straight line through points in doublings: log2 y = intercept + slope · log2 x.

    Attributes:
        slope: Doublings of y per doubling of x.
        lo: Lower end of the 95 % interval; nan with fewer than three points.
        hi: Upper end.
        intercept: log2 y at x = 1.
        residual: Root mean square residual, doublings.
        n: Number of points.
    """

    slope: float
    lo: float
    hi: float
    intercept: float
    residual: float
    n: int


def log2_slope(x: npt.ArrayLike, y: npt.ArrayLike, confidence: float = CONFIDENCE) -> Slope | None:
    """Fit log2 y on log2 x by least squares, with the t interval of the slope.

    The interval treats departures from the line as noise, so a bend widens it.

    Args:
        x: Positive values, such as batch sizes.
        y: Positive values; points where x or y is not finite and positive are left out.
        confidence: Coverage, 0 … 1.

    Returns:
        The fit, or None where fewer than two different x remain.
    """
    x_values, y_values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    keep = np.isfinite(x_values) & np.isfinite(y_values) & (x_values > 0) & (y_values > 0)
    u, v = np.log2(x_values[keep]), np.log2(y_values[keep])
    n = int(u.size)
    if n < 2 or np.ptp(u) == 0:
        return None
    centred = u - u.mean()
    spread = float(centred @ centred)
    slope = float(centred @ v) / spread
    intercept = float(v.mean() - slope * u.mean())
    residuals = v - intercept - slope * u
    rms = float(np.sqrt(np.mean(residuals**2)))
    if n < 3:
        return Slope(slope, math.nan, math.nan, intercept, rms, n)
    error = math.sqrt(float(residuals @ residuals) / (n - 2) / spread)
    half = t_quantile((1 + confidence) / 2, n - 2) * error
    return Slope(slope, slope - half, slope + half, intercept, rms, n)


def verdict(estimate: float, lo: float, hi: float, margin: float, direction: int) -> str:
    """Hold an estimate with its interval against a claim of a direction.

    Args:
        estimate: The measured effect.
        lo: Lower end of its interval.
        hi: Upper end.
        margin: Effects smaller than this do not matter; declared before looking, > 0, in the effect's unit.
        direction: +1 where the claim says the effect is positive, −1 where negative.

    Returns:
        "supported" (the interval excludes 0 in the claimed direction and the estimate is at least the
        margin), "refuted" (it excludes 0 the other way and the estimate is at least the margin), "equivalent"
        (the interval lies inside ±margin), or "inconclusive" (the rest, also without an interval).
    """
    if not all(math.isfinite(value) for value in (estimate, lo, hi)):
        return "inconclusive"
    if -margin < lo and hi < margin:
        return "equivalent"
    toward_lo, toward_hi = (lo, hi) if direction > 0 else (-hi, -lo)
    if abs(estimate) >= margin and toward_lo > 0:
        return "supported"
    if abs(estimate) >= margin and toward_hi < 0:
        return "refuted"
    return "inconclusive"


def seeds_needed(sd: float, margin: float, confidence: float = CONFIDENCE) -> float:
    """Return about how many seeds make the interval's half-width equal the margin (normal approximation).

    Args:
        sd: Standard deviation of the effect over seeds.
        margin: Half-width aimed at, the same unit.
        confidence: Coverage, 0 … 1.
    """
    if not math.isfinite(sd) or margin <= 0:
        return math.nan
    z = t_quantile((1 + confidence) / 2, 10_000)
    return float(max(2, math.ceil((z * sd / margin) ** 2)))
