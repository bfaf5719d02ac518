"""Bootstrap over clusters, with the two corrections that few clusters need.

The percentile bootstrap of three to ten seeds is too narrow: it takes the variance around the sample's own mean and
normal tails (`reports/statistics/report.md` has how often it covers). Here the bootstrap gives the standard error
alone, which is put right by √(n/(n − 1)), and the interval takes Student's t.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bench.analysis.intervals import CONFIDENCE
from bench.analysis.statistics.estimates import Estimate, t_estimate
from bench.errors import UsageError

Array = npt.NDArray[np.float64]

#: The standard error of a standard error from so many resamples is 1.6 %.
RESAMPLES = 2000


def cluster_bootstrap(
    clusters: npt.ArrayLike,
    statistic: Callable[[Array], Array],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return a statistic with an interval from resampling whole clusters, such as seeds.

    For a statistic that is a mean of one number per cluster this is Student's t interval, up to the noise of the
    resampling. Others are the better served the nearer they are to one; a median of few seeds is not.

    Args:
        clusters: Shape (n, …), n ≥ 2; the first axis is resampled.
        statistic: Shape (resamples, n, …) → (resamples,).
        confidence: Coverage, 0 … 1.
        resamples: How many.
        seed: Of the resampling.

    Raises:
        UsageError: Fewer than two clusters.

    Source: Davison & Hinkley, Bootstrap Methods and their Application (1997), 2.2 and 5.2; Efron & Tibshirani (1993),
    12.2 for t in place of normal quantiles.
    """
    values = np.asarray(clusters, dtype=float)
    n = int(values.shape[0]) if values.ndim else 0
    if n < 2:
        raise UsageError(f"{n} cluster given to a bootstrap: at least 2 are needed")
    drawn = np.random.default_rng(seed).integers(n, size=(resamples, n))
    replicates = statistic(values[drawn])
    error = float(np.std(replicates, ddof=1)) if np.isfinite(replicates).all() else math.inf
    estimate = float(statistic(values[None])[0])
    return t_estimate(estimate, error * math.sqrt(n / (n - 1)), n - 1, n, confidence)
