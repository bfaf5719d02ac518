"""Rank correlation, alone and inside strata."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.analysis.intervals import CONFIDENCE
from bench.analysis.statistics.estimates import Estimate
from bench.errors import UsageError

Array = npt.NDArray[np.float64]

#: Pairs of values below which a stratum says next to nothing, and its interval less than it claims.
LEAST_PAIRS = 6


def _ranks(values: Array) -> Array:
    """Return ranks from 1 on, the mean of them for ties."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def _rank_correlation(x: Array, y: Array) -> float:
    """Return Spearman's correlation; nan where a side is constant."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return Spearman's rank correlation with an interval.

    Fisher's z with the variance (1 + r²/2)/(n − 3), which draws nothing and so repeats without a seed.

    Args:
        x: Shape (pairs,), at least 6, without nan; infinite values rank outermost.
        y: Shape (pairs,).
        confidence: Coverage, 0 … 1.

    Returns:
        −1 … 1; nan where x or y is constant.

    Raises:
        UsageError: Shapes differ, fewer than 6 pairs, or a nan.

    Source: Bonett & Wright, Psychometrika 65 (2000).
    """
    return stratified_spearman([(x, y)], confidence)


def stratified_spearman(
    strata: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], confidence: float = CONFIDENCE
) -> Estimate:
    """Return the rank correlation inside strata, such as learning rates: what remains at an equal one.

    Fisher's z of each stratum, weighted by its pairs − 3. In few pairs Spearman's correlation is too small on average
    and Fisher's z of it too large; the two about cancel, so many small strata may be put together.

    Args:
        strata: One (x, y) per stratum, each of at least 6 pairs.
        confidence: Coverage, 0 … 1.

    Returns:
        −1 … 1; its n is the number of pairs. Strata where a side is constant have no correlation and are left out; nan
        where all are.

    Raises:
        UsageError: No stratum, shapes differ, fewer than 6 pairs in one, or a nan.

    Source: Hedges & Olkin, Statistical Methods for Meta-Analysis (1985), 11; Bonett & Wright (2000) for the variance.
    """
    if not strata:
        raise UsageError("no stratum: a rank correlation needs at least one")
    scores, weights, variances, pairs = [], [], [], 0
    for first, second in strata:
        x, y = np.asarray(first, dtype=float).ravel(), np.asarray(second, dtype=float).ravel()
        n = x.size
        if x.shape != y.shape or n < LEAST_PAIRS or np.isnan(x).any() or np.isnan(y).any():
            raise UsageError(f"{n} and {y.size} values in a stratum: needs pairs without nan, at least {LEAST_PAIRS}")
        found = _rank_correlation(x, y)
        if math.isnan(found):
            continue
        # Perfect order in few pairs is not a correlation of 1: the largest with an interval at all.
        limit = 1 - 1 / n**2
        rho = min(max(found, -limit), limit)
        scores.append(math.atanh(rho))
        variances.append((1 + rho**2 / 2) / (n - 3))
        weights.append(n - 3.0)
        pairs += n
    if not scores:
        return Estimate(math.nan, math.nan, math.nan, 0, confidence)
    shares = np.array(weights) / sum(weights)
    mean = float(shares @ scores)
    half = float(special.ndtri((1 + confidence) / 2)) * math.sqrt(float(shares**2 @ variances))
    return Estimate(math.tanh(mean), math.tanh(mean - half), math.tanh(mean + half), pairs, confidence)
