"""The best learning rate at each batch size, how it follows the batch size, and how many others do nearly as well."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bench.analysis.intervals import CONFIDENCE, mean_interval
from bench.analysis.statistics.estimates import Estimate, StudentT, two_way_estimator
from bench.errors import UsageError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BestRates:
    """The best learning rate at each batch size, and how it follows the batch size.

    Attributes:
        batch_sizes: Ascending.
        rates: η* on the grid, by the mean score over seeds.
        refined: η* between grid points, by the parabola through the best and its neighbours in log2 η; nan at an edge.
        edge: Whether the best one is an end of the grid: the true one may lie outside.
        slope: Of log2 η* on log2 B over batch sizes away from the edge: 1 is the linear rule, ½ the square root's; n is
            the number of these batch sizes. No interval with fewer than 2 seeds or 3 of them.
        estimator: The slope, waiting for a confidence.
        rules: Of "linear" (1), "sqrt" (½) and "constant" (0), those that the interval holds.
    """

    batch_sizes: tuple[float, ...]
    rates: tuple[float, ...]
    refined: tuple[float, ...]
    edge: tuple[bool, ...]
    slope: Estimate
    estimator: StudentT
    rules: tuple[str, ...]


RULE_SLOPES = {"linear": 1.0, "sqrt": 0.5, "constant": 0.0}


def best_learning_rates(
    batch_sizes: npt.ArrayLike, rates: npt.ArrayLike, scores: npt.ArrayLike, confidence: float = CONFIDENCE
) -> BestRates:
    """Find the best learning rate of every batch size and the slope of log2 η* on log2 B.

    The slope is the mean of the seeds' own. Its variance has two parts: seeds, and departures from the line that all
    seeds share (bends, the steps of the grid); what both contain is counted once, as in a two-way layout, and t takes
    Satterthwaite's degrees of freedom. A bootstrap over seeds alone does not know the second part.

    Args:
        batch_sizes: Shape (batches,), different, ascending.
        rates: Shape (rates,), ascending, > 0: one grid for all batch sizes.
        scores: Shape (seeds, batches, rates), higher is better (a loss is given negative); nan or −inf for a
            diverged trial, which makes its rate lose to all that have fewer of them.
        confidence: Coverage, 0 … 1.

    Raises:
        UsageError: Shapes do not fit, or an axis is not ascending and positive.

    Source: re-tuning per batch size, arXiv 1811.03600; the linear rule 1706.02677, the square root's 1705.08741.
    """
    batch, grid, table = _score_table(batch_sizes, rates, scores)
    mean = np.where(np.isfinite(table), table, -np.inf).mean(axis=0)
    mean = _fewest_diverged(mean, table)
    best, refined = _optima(np.log2(grid), mean)
    edge = (best == 0) | (best == grid.size - 1)
    # A seed of which every rate diverged has no best one.
    inner = ~edge & np.isfinite(table).any(axis=2).all(axis=0)
    per_seed = np.stack([_optima(np.log2(grid), np.where(np.isfinite(one), one, -np.inf))[1] for one in table])
    # A seed whose own best lies at the edge says no more than that; the grid's end is the nearest it can come.
    ends = np.where(np.isnan(per_seed), np.log2(grid)[_arg_max(table)], per_seed)
    estimator = _slope(np.log2(batch[inner]), ends[:, inner])
    slope = estimator(confidence)
    rules = tuple(name for name, value in RULE_SLOPES.items() if slope.lo <= value <= slope.hi)
    return BestRates(
        tuple(batch.tolist()),
        tuple(grid[best].tolist()),
        tuple((2.0**refined).tolist()),
        tuple(edge.tolist()),
        slope,
        estimator,
        rules,
    )


def _slope(x: Array, y: Array) -> StudentT:
    """Return the mean slope of the rows of y on x, for seeds × batch sizes; nan with fewer than two batch sizes."""
    seeds, k = y.shape
    if k < 2:
        return StudentT(math.nan, math.nan, 0.0, k)
    centred = x - x.mean()
    spread = float(centred @ centred)
    slopes = y @ centred / spread
    mean = float(slopes.mean())
    if seeds < 2 or k < 3:
        return StudentT(mean, math.nan, 0.0, k)
    residuals = y - y.mean(axis=1, keepdims=True) - slopes[:, None] * centred
    shared = residuals.mean(axis=0)
    by_seed = float(slopes.var(ddof=1)) / seeds
    by_batch = float(shared @ shared) / (k - 2) / spread
    both = float(((residuals - shared) ** 2).sum()) / ((seeds - 1) * (k - 2)) / seeds / spread
    return replace(two_way_estimator(mean, (by_seed, by_batch, both), (seeds - 1, k - 2)), n=k)


def _score_table(batch_sizes: npt.ArrayLike, rates: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Array, Array, Array]:
    batch, grid = np.asarray(batch_sizes, dtype=float), np.asarray(rates, dtype=float)
    table = np.asarray(scores, dtype=float)
    if table.ndim != 3 or table.shape[1:] != (batch.size, grid.size) or not table.shape[0]:
        raise UsageError(
            f"scores of shape {table.shape} at {batch.size} batch sizes and {grid.size} learning rates: "
            "needs seeds × batch sizes × learning rates"
        )
    for name, axis in (("batch sizes", batch), ("learning rates", grid)):
        if not (axis > 0).all() or not (np.diff(axis) > 0).all():
            raise UsageError(f"{name} {axis.tolist()}: need to ascend from above 0")
    return batch, grid, table


def _fewest_diverged(mean: Array, table: Array) -> Array:
    """Where every rate of a batch size has diverged trials, let those with the fewest be compared by the others."""
    diverged = (~np.isfinite(table)).sum(axis=0)
    finite = np.where(np.isfinite(table), table, 0.0).sum(axis=0)
    alive = len(table) - diverged
    survivors = np.divide(finite, alive, out=np.full_like(finite, -np.inf), where=alive > 0)
    lost = np.asarray(~np.isfinite(mean).any(axis=1))
    fewest = diverged == diverged.min(axis=1, keepdims=True)
    return np.where(lost[:, None], np.where(fewest, survivors, -np.inf), mean)


def _arg_max(table: Array) -> npt.NDArray[np.intp]:
    return np.asarray(np.where(np.isfinite(table), table, -np.inf).argmax(axis=-1))


def _optima(log_rates: Array, scores: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """Return, for scores of shape (batches, rates), the index of the best rate and log2 of the refined one."""
    best = scores.argmax(axis=1)
    refined = np.full(best.size, np.nan)
    for row, index in enumerate(best):
        if not 0 < index < log_rates.size - 1:
            continue
        x, y = log_rates[index - 1 : index + 2], scores[row, index - 1 : index + 2]
        # A diverged neighbour has no height: the parabola would be a cliff.
        refined[row] = x[1] if not np.isfinite(y).all() else _vertex(x, y)
    return best, refined


def _vertex(x: Array, y: Array) -> float:
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    if left == right:
        return float(x[1])
    # Where the slope, known at the two midpoints, is zero.
    a, b = (x[0] + x[1]) / 2, (x[1] + x[2]) / 2
    return float(a + left / (left - right) * (b - a))


@dataclass(frozen=True)
class Tolerance:
    """How wide a range of learning rates does nearly as well as the best.

    Attributes:
        octaves: Width in doublings of η, mean over seeds, with its interval.
        truncated: Seeds whose range reaches an end of the grid: theirs is a lower bound.
        diverged: Seeds of which every learning rate diverged; they count with a width of 0.
    """

    octaves: Estimate
    truncated: int
    diverged: int


def tolerated_octaves(
    rates: npt.ArrayLike, scores: npt.ArrayLike, margin: float, confidence: float = CONFIDENCE
) -> Tolerance:
    """Measure how many octaves of learning rates around the best one come within a margin of it.

    The score is taken as linear in log2 η between grid points; a diverged neighbour ends the range at the last rate
    that did not. Noise makes the best of a seed too good and its range too narrow, alike at all batch sizes: compare
    them by differences within seeds (`bench.analysis.statistics.differences.paired_difference` of `octaves_per_seed`).

    Args:
        rates: Shape (rates,), ascending, > 0.
        scores: Shape (seeds, rates), higher is better; nan or −inf where diverged.
        margin: > 0, in the unit of the scores: .005 is half a point of accuracy.
        confidence: Coverage, 0 … 1.

    Raises:
        UsageError: Shapes do not fit, or the margin is not positive.

    Source: Masters & Luschi, arXiv 1804.07612, section 4, the width of the range of usable learning rates.
    """
    widths, truncated, diverged = octaves_per_seed(rates, scores, margin)
    found = mean_interval(widths, confidence)
    return Tolerance(
        Estimate(found.mean, found.lo, found.hi, found.n, confidence), int(truncated.sum()), int(diverged.sum())
    )


def octaves_per_seed(
    rates: npt.ArrayLike, scores: npt.ArrayLike, margin: float
) -> tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return each seed's range of learning rates within a margin of its best, as `tolerated_octaves` describes.

    Returns:
        Widths in octaves, whether the range reaches an end of the grid, and whether every rate diverged, each of
        shape (seeds,).
    """
    if not margin > 0:
        raise UsageError(f"margin {margin}: needs a number above 0")
    table = np.atleast_2d(np.asarray(scores, dtype=float))
    _, grid, _ = _score_table([1.0], rates, table[:, None, :])
    x = np.log2(grid)
    table = np.where(np.isfinite(table), table, -np.inf)
    diverged = ~np.isfinite(table).any(axis=1)
    widths, truncated = np.zeros(len(table)), np.zeros(len(table), dtype=bool)
    for row in np.flatnonzero(~diverged):
        y = table[row]
        level, best = y.max() - margin, int(y.argmax())
        right, at_right = _last_within(x[best:], y[best:], level)
        left, at_left = _last_within(-x[best::-1], y[best::-1], level)
        widths[row], truncated[row] = right + left, at_left or at_right
    return widths, truncated, diverged


def _last_within(x: Array, y: Array, level: float) -> tuple[float, bool]:
    """Return x where y first falls below a level, walking away from the best; and whether it never does."""
    below = np.flatnonzero(y < level)
    if not below.size:
        return float(x[-1]), True
    index = int(below[0])
    if not np.isfinite(y[index]):
        return float(x[index - 1]), False
    share = (y[index - 1] - level) / (y[index - 1] - y[index])
    return float(x[index - 1] + share * (x[index] - x[index - 1])), False
