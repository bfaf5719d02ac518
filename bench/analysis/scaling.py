"""How steps to target follow the batch size: three regimes, and the critical batch size."""

import functools
import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bench.analysis.intervals import CONFIDENCE, t_quantile
from bench.analysis.statistics.estimates import Estimate, StudentT, mean_estimator
from bench.errors import UsageError

Array = npt.NDArray[np.float64]

#: Steps within a factor of perfect scaling, and of the least steps, that still count as them.
PERFECT_TOLERANCE = 1.2
MAXIMAL_TOLERANCE = 1.1
#: A critical batch further outside the measured batch sizes than this factor is not told from none.
CRITICAL_REACH = 64.0


def _grid(batch_sizes: npt.ArrayLike, values: npt.ArrayLike, name: str) -> tuple[Array, Array]:
    """Check a table of seeds × batch sizes; values that are not finite and positive become nan. Sorts by batch size."""
    batch = np.asarray(batch_sizes, dtype=float)
    table = np.atleast_2d(np.asarray(values, dtype=float))
    if batch.ndim != 1 or table.ndim != 2 or table.shape[1] != batch.size or np.unique(batch).size != batch.size:
        raise UsageError(
            f"{name} of shape {table.shape} at {batch.size} batch sizes: needs seeds × different batch sizes"
        )
    if not (batch > 0).all():
        raise UsageError(f"batch sizes {batch.tolist()}: each needs to be above 0")
    order = np.argsort(batch)
    table = table[:, order]
    return batch[order], np.where(np.isfinite(table) & (table > 0), table, np.nan)


@dataclass(frozen=True)
class Regimes:
    """The three regimes of steps to target against batch size.

    Attributes:
        b_perfect: Largest B with S(B) ≤ 1.2 · S(B0) · B0/B; nan with fewer than two batch sizes.
        b_max: Smallest B with S(B) ≤ 1.1 · min S.
        perfect: Slope of log2 S on log2 B up to b_perfect; −1 is perfect scaling. nan where it has one batch size.
        between: The same from b_perfect to b_max.
        maximal: The same from b_max on; 0 is maximal data parallelism.
        whole: The same over all batch sizes.
        censored: Batch sizes at which some seed never reached the target: in none of the numbers above.
        slopes: The four slopes by name, waiting for a confidence.
    """

    b_perfect: float
    b_max: float
    perfect: Estimate
    between: Estimate
    maximal: Estimate
    whole: Estimate
    censored: tuple[float, ...]
    slopes: dict[str, StudentT] = field(default_factory=dict, compare=False)


def regimes(batch_sizes: npt.ArrayLike, steps: npt.ArrayLike, confidence: float = CONFIDENCE) -> Regimes:
    """Find the three regimes of steps to target, and the slope in each with an interval over seeds.

    S(B) is the geometric mean over seeds. As a slope is linear in log2 S, resampling seeds (as clusters, with all their
    batch sizes) gives the variance of the mean of the seeds' own slopes, so that is taken, with Student's t. The ends
    of the regimes are taken as found: the intervals say what other seeds would change at these same batch sizes.

    Args:
        batch_sizes: Shape (batches,), different.
        steps: Shape (seeds, batches), at the best learning rate of each batch size; nan or inf where the target was
            not reached.
        confidence: Coverage, 0 … 1.

    Raises:
        UsageError: Shapes do not fit, or a batch size is not positive.

    Source: Shallue et al., arXiv 1811.03600, section 5.1.
    """
    batch, table = _grid(batch_sizes, steps, "steps")
    whole = np.isfinite(table).all(axis=0)
    censored = tuple(float(size) for size in batch[~whole])
    known, logs = batch[whole], np.log2(table[:, whole])
    b_perfect, b_max = _ends(known, logs)

    def slope(lo: float, hi: float) -> StudentT:
        inside = (known >= lo) & (known <= hi)
        return slope_estimator(known[inside], logs[:, inside])

    found = {
        "perfect": slope(known.min(initial=math.inf), b_perfect),
        "between": slope(min(b_perfect, b_max), max(b_perfect, b_max)),
        "maximal": slope(b_max, known.max(initial=-math.inf)),
        "whole": slope(-math.inf, math.inf),
    }
    return Regimes(
        b_perfect, b_max, **{name: one(confidence) for name, one in found.items()}, censored=censored, slopes=found
    )


def regime_ends(batch_sizes: npt.ArrayLike, steps: npt.ArrayLike) -> tuple[float, float]:
    """Return `b_perfect` and `b_max` of `regimes`, which takes the same, without any slope."""
    batch, table = _grid(batch_sizes, steps, "steps")
    whole = np.isfinite(table).all(axis=0)
    return _ends(batch[whole], np.log2(table[:, whole]))


def _ends(known: Array, logs: Array) -> tuple[float, float]:
    if known.size < 2:
        return math.nan, math.nan
    mean = 2.0 ** logs.mean(axis=0)
    b_perfect = float(known[mean <= PERFECT_TOLERANCE * mean[0] * known[0] / known].max())
    return b_perfect, float(known[mean <= MAXIMAL_TOLERANCE * mean.min()].min())


def slope_estimator(batch_sizes: Array, log2_values: Array) -> StudentT:
    """Return the mean over seeds of the slope of log2 values on log2 batch size, with its t interval.

    Args:
        batch_sizes: Shape (batches,).
        log2_values: Shape (seeds, batches), finite.

    Returns:
        Doublings per doubling, waiting for a confidence; nan with fewer than two batch sizes.
    """
    seeds = int(log2_values.shape[0])
    if batch_sizes.size < 2:
        return StudentT(math.nan, math.nan, 0.0, seeds)
    centred = np.log2(batch_sizes) - np.log2(batch_sizes).mean()
    return replace(mean_estimator(log2_values @ centred / (centred @ centred)), n=seeds)


@dataclass(frozen=True)
class CriticalBatch:
    """The fit S = S_min (1 + B_crit/B).

    Attributes:
        b_crit: Examples, with its interval; 0 … inf where the batch sizes do not bound it.
        s_min: Steps at infinite batch size.
        residuals: log(S / fit), one per batch size.
        rms: Their root mean square: .08 is 8 %.
        identified: Whether the batch sizes tell B_crit from 0 and from infinity.
        reason: Why not, in a sentence; empty where it is.
    """

    b_crit: Estimate
    s_min: float
    residuals: tuple[float, ...]
    rms: float
    identified: bool
    reason: str = ""


def critical_batch(batch_sizes: npt.ArrayLike, steps: npt.ArrayLike, confidence: float = CONFIDENCE) -> CriticalBatch:
    """Fit the critical batch size to steps to target by least squares of log S, with a profile interval.

    Departures from the hyperbola are taken as the noise, batch size by batch size, as a bootstrap over batch sizes
    does. With five to ten of them that bootstrap draws sets that do not bound B_crit, or repeats one point into a
    perfect fit, and covers too rarely; the interval here is all B_crit whose sum of squares is below (1 + F/(k − 2))
    times the least one, and is unbounded where the data bound nothing.

    Args:
        batch_sizes: Shape (batches,), different.
        steps: Shape (batches,) or (seeds, batches): geometric means over seeds are fitted. Batch sizes at which a
            seed never reached the target (nan or inf) are left out.
        confidence: Coverage, 0 … 1.

    Returns:
        The fit; not identified (with the reason, and nan where nothing could be fitted) rather than raised.

    Raises:
        UsageError: Shapes do not fit, or a batch size is not positive.

    Source: McCandlish et al., arXiv 1812.06162, equation 5.1 and appendix B; Bates & Watts, Nonlinear Regression
        Analysis
    (1988), 6.1 for the profile interval.
    """
    batch, table = _grid(batch_sizes, steps, "steps")
    known = np.isfinite(table).all(axis=0)
    batch, logs = batch[known], np.log(table[:, known]).mean(axis=0)
    k = int(batch.size)
    if k < 3:
        nothing = Estimate(math.nan, math.nan, math.nan, k, confidence)
        reason = f"{k} batch sizes at which every seed reached the target: at least 3 are needed"
        return CriticalBatch(nothing, math.nan, (), math.nan, False, reason)
    u, curves = _grid_curves(tuple(batch.tolist()))
    squares = _hyperbola_squares(curves, logs)
    least = int(squares.argmin())
    best, lowest = _refine(u, least, batch, logs)
    limit = lowest * (1 + t_quantile((1 + confidence) / 2, k - 2) ** 2 / (k - 2))
    inside = np.flatnonzero(squares <= limit)
    inside = inside if inside.size else np.array([least])
    lo = 0.0 if inside[0] == 0 else math.exp(_crossing(u, squares, inside[0] - 1, limit))
    hi = math.inf if inside[-1] == u.size - 1 else math.exp(_crossing(u, squares, int(inside[-1]), limit))
    critical = math.exp(best)
    offsets = logs - np.log1p(critical / batch)
    residuals = offsets - offsets.mean()
    rms = float(np.sqrt(np.mean(residuals**2)))
    shape = "S falls as 1/B over the whole range: B_crit lies beyond it" if hi == math.inf else "S does not fall with B"
    reason = "" if lo > 0 and hi < math.inf else shape
    if lo == 0.0 and hi == math.inf:
        reason = "departures from the hyperbola are as large as what it explains"
    found = Estimate(critical, min(lo, critical), max(hi, critical), k, confidence)
    values = tuple(float(value) for value in residuals)
    return CriticalBatch(found, math.exp(float(offsets.mean())), values, rms, not reason, reason)


@functools.lru_cache(maxsize=64)
def _grid_curves(batch_sizes: tuple[float, ...]) -> tuple[Array, Array]:
    """Return a grid of log B_crit, shape (points,), and log(1 + B_crit/B) there, shape (points, batches)."""
    batch = np.array(batch_sizes)
    u = np.linspace(math.log(batch[0] / CRITICAL_REACH), math.log(batch[-1] * CRITICAL_REACH), 4001)
    curves = np.log1p(np.exp(u)[:, None] / batch)
    for array in (u, curves):
        array.setflags(write=False)
    return u, curves


def _hyperbola_squares(curves: Array, logs: Array) -> Array:
    """Return the sum of squares at each log B_crit, with the best S_min for it."""
    return np.asarray((logs - curves).var(axis=1) * logs.size)


def _refine(u: Array, least: int, batch: Array, logs: Array) -> tuple[float, float]:
    """Return the minimum near a grid point, by a finer grid between its neighbours, and the sum of squares there."""
    fine = np.linspace(u[max(least - 1, 0)], u[min(least + 1, u.size - 1)], 201)
    squares = _hyperbola_squares(np.log1p(np.exp(fine)[:, None] / batch), logs)
    place = int(squares.argmin())
    return float(fine[place]), float(squares[place])


def _crossing(u: Array, squares: Array, left: int, limit: float) -> float:
    """Return where the sum of squares crosses the limit between a grid point and the next."""
    rise = squares[left + 1] - squares[left]
    share = (limit - squares[left]) / rise if rise else 0.5
    return float(u[left] + min(max(share, 0.0), 1.0) * (u[left + 1] - u[left]))
