"""Curves and lines that claims are about: growth in training, memory and time by batch size, distance travelled."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.analysis.intervals import CONFIDENCE, mean_interval, t_quantile
from bench.analysis.statistics.estimates import Estimate, StudentT, t_estimate
from bench.errors import UsageError

Array = npt.NDArray[np.float64]

#: Shares of the training steps that are early and late, when noise scales are compared.
EARLY, LATE = 0.2, 0.2


def late_over_early(
    steps: npt.ArrayLike,
    values: npt.ArrayLike,
    early: float = EARLY,
    late: float = LATE,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return how many times larger a quantity is late in training than early, such as the noise scale.

    Each seed's mean over the first `early` and the last `late` share of the steps; the geometric mean over seeds of
    their ratios, with the t interval of its logarithm.

    Args:
        steps: Shape (points,), ascending.
        values: Shape (seeds, points), > 0; nan where not measured.
        early: Share of the last step, 0 … 1.
        late: Share, 0 … 1.
        confidence: Coverage, 0 … 1.

    Returns:
        The ratio; 1 is no growth, n the number of seeds. Seeds whose mean is not positive in either window have no
        ratio: nan throughout, as leaving them out would choose among seeds.

    Raises:
        UsageError: Shapes do not fit, or a window has no point.

    Source: arXiv 1812.06162, section 3.3: noise scale and critical batch size grow in training.
    """
    at, table = np.asarray(steps, dtype=float), np.atleast_2d(np.asarray(values, dtype=float))
    if at.ndim != 1 or table.shape[1:] != at.shape:
        raise UsageError(f"values of shape {table.shape} at {at.size} steps: needs seeds × steps")
    windows = [at <= at[0] + early * (at[-1] - at[0]), at >= at[-1] - late * (at[-1] - at[0])]
    means = []
    for name, window in zip(("early", "late"), windows, strict=True):
        inside = table[:, window]
        if not np.isfinite(inside).any(axis=1).all():
            raise UsageError(f"a seed has no value in the {name} window of steps")
        means.append(np.nanmean(inside, axis=1))
    if not all((mean > 0).all() for mean in means):
        return Estimate(math.nan, math.nan, math.nan, len(table), confidence)
    return geometric_mean(means[1] / means[0], confidence)


def geometric_mean(ratios: npt.ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return the geometric mean of positive ratios, one per seed, with the t interval of its logarithm."""
    found = mean_interval(np.log(np.asarray(ratios, dtype=float)), confidence)
    # At the confidence of a small p value few seeds bound a ratio by more than a float holds.
    with np.errstate(over="ignore"):
        mean, lo, hi = np.exp([found.mean, found.lo, found.hi]).tolist()
    return Estimate(mean, lo, hi, found.n, confidence)


@dataclass(frozen=True)
class Line:
    """A straight line y = intercept + slope·x.

    Attributes:
        intercept: With its interval.
        slope: With its interval.
        slope_estimator: The slope, waiting for a confidence.
        relative_rms: Root mean square of the residuals as shares of y.
        n: Points.
    """

    intercept: Estimate
    slope: Estimate
    slope_estimator: StudentT
    relative_rms: float
    n: int


def fit_line(x: npt.ArrayLike, y: npt.ArrayLike, confidence: float = CONFIDENCE) -> Line:
    """Fit a line by least squares of relative residuals, with t intervals.

    Args:
        x: Shape (points,), at least two different.
        y: Shape (points,), > 0, with errors that grow like y: memory or time against batch size.
        confidence: Coverage, 0 … 1.

    Returns:
        The line; without intervals where there are only two points.

    Raises:
        UsageError: Fewer than two different x, shapes differ, or a y is not positive.

    Source: weighted least squares, Draper & Smith, Applied Regression Analysis (1998), 9.
    """
    at, values = _points(x, y)
    coefficients, covariance, degrees = _relative_fit(at, values)
    errors = np.sqrt(np.diag(covariance)) if degrees > 0 else np.full(2, math.nan)
    residuals = 1 - (coefficients[0] + coefficients[1] * at) / values
    n = int(at.size)
    intercept = t_estimate(float(coefficients[0]), float(errors[0]), degrees, n, confidence)
    slope = StudentT(float(coefficients[1]), float(errors[1]), degrees, n)
    return Line(intercept, slope(confidence), slope, float(np.sqrt(np.mean(residuals**2))), n)


def _points(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Array, Array]:
    at, values = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    if at.shape != values.shape or np.unique(at).size < 2:
        raise UsageError(f"{at.size} x and {values.size} y: a line needs as many of each, at two different x or more")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise UsageError("a y of the line is not a positive number: its error would not be relative to it")
    return at, values


def _relative_fit(x: Array, y: Array) -> tuple[Array, Array, int]:
    """Return coefficients, their covariance and degrees of freedom; weights are 1/fit², found in two passes."""
    weights: Array = 1 / y
    coefficients: Array = np.zeros(2)
    for _ in range(3):
        design = np.column_stack([weights, x * weights])
        coefficients = np.asarray(np.linalg.lstsq(design, y * weights)[0], dtype=float)
        fitted = coefficients[0] + coefficients[1] * x
        # Weights by the measured y would favour those that came out low.
        weights = 1 / np.where(fitted > 0, fitted, y)
    degrees = x.size - 2
    design = np.column_stack([weights, x * weights])
    residuals = y * weights - design @ coefficients
    variance = float(residuals @ residuals) / degrees if degrees > 0 else math.nan
    covariance: Array = variance * np.linalg.inv(design.T @ design)
    return coefficients, covariance, degrees


@dataclass(frozen=True)
class AgainstPrediction:
    """A measured line beside a predicted one.

    Attributes:
        line: The line fitted to what was measured.
        slope_ratio: Fitted slope ÷ predicted slope, with its interval; 1 is the prediction.
        intercept_difference: Fitted minus predicted intercept, in the unit of y.
        worst: Largest |measured/predicted − 1| over the points: .01 is 1 %.
    """

    line: Line
    slope_ratio: Estimate
    intercept_difference: Estimate
    worst: float


def against_prediction(
    x: npt.ArrayLike, y: npt.ArrayLike, intercept: float, slope: float, confidence: float = CONFIDENCE
) -> AgainstPrediction:
    """Hold measured points against a line that was predicted, such as memory a + b·B.

    Args:
        x: Shape (points,).
        y: Shape (points,), > 0.
        intercept: Predicted, in the unit of y.
        slope: Predicted, not 0.
        confidence: Coverage, 0 … 1.

    Raises:
        UsageError: As `fit_line`, or the predicted slope is 0 or a prediction not positive.
    """
    at, values = _points(x, y)
    predicted = intercept + slope * at
    if slope == 0 or not (predicted > 0).all():
        raise UsageError(f"predicted line {intercept:g} + {slope:g}·x: needs a slope other than 0 and positive values")
    line = fit_line(at, values, confidence)
    ends = sorted((line.slope.lo / slope, line.slope.hi / slope))
    ratio = Estimate(line.slope.estimate / slope, ends[0], ends[1], line.n, confidence)
    worst = float(np.abs(values / predicted - 1).max())
    return AgainstPrediction(line, ratio, line.intercept.minus(intercept), worst)


def knee(batch_sizes: npt.ArrayLike, step_ms: npt.ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return the batch size t0/t1 at which half of the highest throughput is reached, where a step takes t0 + t1·B.

    Fieller's interval of a ratio: all knees K for which t0 − K·t1 is not told from 0. It stays right where t1 is hardly
    told from 0, and is then unbounded above; a bootstrap over five to ten batch sizes covers too rarely. Weights are
    those of the fitted times; `bench.analysis.speed.step_time_model`, which the reports draw, weighs by the measured
    ones and is the same line up to the noise.

    Args:
        batch_sizes: Shape (points,), at least three different; a batch size may come more than once.
        step_ms: Shape (points,), > 0.
        confidence: Coverage, 0 … 1.

    Returns:
        Examples, ≥ 0; inf where the step takes no longer with more examples.

    Raises:
        UsageError: As `fit_line`, or fewer than three different batch sizes.

    Source: Fieller, JRSS B 16 (1954).
    """
    at, values = _points(batch_sizes, step_ms)
    if np.unique(at).size < 3:
        raise UsageError(f"{np.unique(at).size} batch sizes: a knee needs at least 3")
    (t0, t1), covariance, degrees = _relative_fit(at, values)
    t = t_quantile((1 + confidence) / 2, degrees)
    # (t0 − K t1)² ≤ t² (v00 − 2 K v01 + K² v11) is a quadratic in K.
    a = t1**2 - t**2 * covariance[1, 1]
    b = -2 * (t0 * t1 - t**2 * covariance[0, 1])
    c = t0**2 - t**2 * covariance[0, 0]
    estimate = max(t0, 0.0) / t1 if t1 > 0 else math.inf
    root = b**2 - 4 * a * c
    if a > 0 and t1 > 0:
        # The estimate itself is inside, so a root below 0 is rounding.
        half = math.sqrt(max(root, 0.0)) / (2 * a)
        lo, hi = -b / (2 * a) - half, -b / (2 * a) + half
    elif root >= 0 and a < 0:
        # All but what lies between the roots; of that, the part at and above the estimate's side of 0.
        lo, hi = max((-b - math.sqrt(root)) / (2 * a), (-b + math.sqrt(root)) / (2 * a)), math.inf
        lo = lo if c > 0 else 0.0
    else:
        lo, hi = 0.0, math.inf
    lo, hi = max(lo, 0.0), max(hi, 0.0)
    return Estimate(estimate, min(lo, estimate), max(hi, estimate), int(at.size), confidence)


@dataclass(frozen=True)
class Growth:
    """Which law the distance from the start follows.

    Attributes:
        advantage: log of (rms residual of a + c·√t ÷ that of a + c·log t), mean over seeds with its interval: above 0
            the logarithm fits better.
        log_rms: Root mean square residual of a + c·log t as a share of the last distance, mean over seeds.
        sqrt_rms: The same of a + c·√t.
        exponent: Slope of log distance on log t, mean over seeds with its interval: ½ is a random walk.
    """

    advantage: Estimate
    log_rms: float
    sqrt_rms: float
    exponent: Estimate


def distance_growth(steps: npt.ArrayLike, distances: npt.ArrayLike, confidence: float = CONFIDENCE) -> Growth:
    """Ask whether the distance from the initial parameters grows like the logarithm or like the root of the steps.

    Points should be spaced evenly in log t: each counts the same in both fits.

    Args:
        steps: Shape (points,), > 0, at least 4.
        distances: Shape (seeds, points), > 0.
        confidence: Coverage over seeds, 0 … 1.

    Raises:
        UsageError: Shapes do not fit, or a value is not positive.

    Source: Hoffer et al., arXiv 1705.08741, section 3: ‖w_t − w_0‖ ~ log t.
    """
    at, table = np.asarray(steps, dtype=float), np.atleast_2d(np.asarray(distances, dtype=float))
    if at.ndim != 1 or table.shape[1:] != at.shape or at.size < 4:
        raise UsageError(f"distances of shape {table.shape} at {at.size} steps: needs seeds × steps, at least 4 steps")
    if not ((at > 0).all() and np.isfinite(table).all() and (table > 0).all()):
        raise UsageError("a step or a distance is not a positive number: the distance at step 0 has no logarithm")
    by_log, by_root = _residual_rms(np.log(at), table), _residual_rms(np.sqrt(at), table)
    tiny = np.finfo(float).eps * table[:, -1]
    advantage = mean_interval(np.log(np.maximum(by_root, tiny) / np.maximum(by_log, tiny)), confidence)
    centred = np.log(at) - np.log(at).mean()
    exponent = mean_interval(np.log(table) @ centred / (centred @ centred), confidence)
    return Growth(
        Estimate(advantage.mean, advantage.lo, advantage.hi, advantage.n, confidence),
        float((by_log / table[:, -1]).mean()),
        float((by_root / table[:, -1]).mean()),
        Estimate(exponent.mean, exponent.lo, exponent.hi, exponent.n, confidence),
    )


def _residual_rms(x: Array, table: Array) -> Array:
    """Return each seed's root mean square residual of a line in x."""
    design = np.column_stack([np.ones_like(x), x])
    coefficients, *_ = np.linalg.lstsq(design, table.T)
    return np.asarray(np.sqrt(np.mean((table.T - design @ coefficients) ** 2, axis=0)))
