"""Differences between two conditions run with the same seeds: intervals and tests that use the pairing."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.analysis.intervals import CONFIDENCE
from bench.analysis.statistics.estimates import Estimate, StudentT, two_way_estimate
from bench.errors import UsageError

Array = npt.NDArray[np.float64]

#: All 2^n flips of signs up to so many pairs, random ones beyond.
EXACT_PAIRS = 14
FLIPS = 2**EXACT_PAIRS


def _differences(values: npt.ArrayLike) -> Array:
    differences = np.asarray(values, dtype=float).ravel()
    if not np.isfinite(differences).all():
        raise UsageError("a paired difference is not a finite number: pairs with a diverged run are counted apart")
    return differences


def paired_difference(differences: npt.ArrayLike, confidence: float = CONFIDENCE, sampling: float = 0.0) -> Estimate:
    """Return the mean of within-seed differences with its t interval, and the error of a finite test split added.

    This is what a paired bootstrap over seeds aims at: the bootstrap variance of a mean is known, so nothing is drawn,
    and the two corrections that it needs with few seeds are those of Student's t. A standard error that is known (of
    the test split) joins the one estimated from seeds with Satterthwaite's degrees of freedom.

    Args:
        differences: One per seed, finite.
        confidence: Coverage, 0 … 1.
        sampling: Standard error from the finite test split, such as `binomial_error` returns; same unit, ≥ 0.

    Returns:
        The estimate, with the sampling error as its floor; no interval with fewer than two seeds.

    Raises:
        UsageError: A difference that is not finite.

    Source: Student (1908); Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    return paired_estimator(differences, sampling)(confidence)


def paired_estimator(differences: npt.ArrayLike, sampling: float = 0.0) -> StudentT:
    """Return `paired_difference` waiting for its confidence.

    Args:
        differences: One per seed, finite.
        sampling: Standard error from the finite test split.

    Raises:
        UsageError: A difference that is not finite.
    """
    values = _differences(differences)
    n = values.size
    if n < 2:
        return StudentT(float(values.mean()) if n else math.nan, math.nan, 0.0, n, sampling)
    seeds = float(values.var(ddof=1)) / n
    total = seeds + sampling**2
    degrees = (n - 1) * (total / seeds) ** 2 if seeds > 0 else (math.inf if sampling > 0 else n - 1.0)
    return StudentT(float(values.mean()), math.sqrt(total), degrees, n, sampling)


def binomial_error(first: float, second: float, examples: int) -> float:
    """Return the largest standard error that a finite test split can give the difference of two accuracies on it.

    √((e₁ + e₂ − d²)/n) with error rates e₁, e₂ and difference d, reached when the two never err on the same example.
    Models that share most errors have a far smaller one: with correctness per example use
    `difference_over_seeds_and_examples`.

    Args:
        first: An accuracy, 0 … 1.
        second: The other.
        examples: Test examples, ≥ 1.

    Source: McNemar (1947), the variance of a difference of correlated proportions.
    """
    for accuracy in (first, second):
        if not 0 <= accuracy <= 1:
            raise UsageError(f"accuracy {accuracy}: needs 0 … 1")
    variance = (1 - first) + (1 - second) - (first - second) ** 2
    return math.sqrt(max(variance, 0.0) / examples)


def difference_over_seeds_and_examples(
    first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the difference of two accuracies with an interval over other seeds and other test examples.

    The two-way bootstrap (seeds × test examples) of a mean has a variance in closed form; resampling both ways counts
    the interaction of seeds and examples three times, which the variance components of a two-way layout take out. t
    with Satterthwaite's degrees of freedom.

    Args:
        first: Correctness (0 or 1), shape (seeds, examples), each at least 2; row i and column j of both are the
            same seed and example.
        second: The other condition's, same shape.
        confidence: Coverage, 0 … 1.

    Returns:
        mean(first) − mean(second), as a fraction; n is the number of seeds, the floor what their number cannot remove.

    Raises:
        UsageError: Shapes differ, or fewer than 2 seeds or examples.

    Source: Owen, The pigeonhole bootstrap, arXiv 0712.1111; Searle et al., Variance Components (1992), 4.4.
    """
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != other.shape or one.ndim != 2 or min(one.shape) < 2:
        raise UsageError(f"correctness of shapes {one.shape} and {other.shape}: both seeds × examples, at least 2 × 2")
    difference = one - other
    seeds, examples = difference.shape
    mean = float(difference.mean())
    rows, columns = difference.mean(axis=1), difference.mean(axis=0)
    by_seed = float(rows.var(ddof=1)) / seeds
    by_example = float(columns.var(ddof=1)) / examples
    rest = difference - rows[:, None] - columns + mean
    both = float((rest**2).sum()) / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    floor = math.sqrt(max(by_example - both, 0.0))
    return two_way_estimate(mean, (by_seed, by_example, both), (seeds - 1, examples - 1), confidence, floor)


def _subset_means(values: Array, seed: int) -> Array:
    """Return the sorted means of all non-empty subsets, or of random ones beyond `EXACT_PAIRS`."""
    n = values.size
    if n <= EXACT_PAIRS:
        chosen = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
    else:
        chosen = np.random.default_rng(seed).integers(2, size=(FLIPS - 1, n))
        # An empty subset is the identity, which every test counts already.
        chosen = chosen[chosen.any(axis=1)]
    return np.sort(chosen @ values / chosen.sum(axis=1))


def sign_flip_test(differences: npt.ArrayLike, null: float = 0.0, seed: int = 0) -> float:
    """Return the two-sided p value of the sign-flip permutation test of paired differences.

    Under the null hypothesis each difference is symmetric about `null`, so its sign could as well be the other. Exact
    over all 2^n flips up to 14 pairs; beyond, over random flips with the identity counted, which is valid too. With n
    pairs no p is below 2^(1 − n): five pairs cannot reach .05.

    Args:
        differences: One per seed, finite, at least one.
        null: Centre of symmetry tested.
        seed: Of the random flips.

    Raises:
        UsageError: No difference, or one that is not finite.

    Source: Fisher, The Design of Experiments (1935), 21; Phipson & Smyth (2010) for counting the identity.
    """
    values = _differences(differences)
    if not values.size:
        raise UsageError("no paired difference: a sign-flip test needs at least one")
    means = _subset_means(values, seed)
    # Flipping a subset leaves the sum at least as large just where the subset's mean is at most the null.
    tolerance = 1e-12 * float(np.abs(values).max(initial=0.0))
    below = 1 + int(np.searchsorted(means, null + tolerance, side="right"))
    above = 1 + means.size - int(np.searchsorted(means, null - tolerance, side="left"))
    return min(1.0, 2 * min(below, above) / (means.size + 1))


def sign_flip_interval(differences: npt.ArrayLike, confidence: float = CONFIDENCE, seed: int = 0) -> Estimate:
    """Return the mean paired difference with the interval of all centres that `sign_flip_test` does not reject.

    Its ends are order statistics of the means of all subsets; it covers a centre of symmetry with at least the
    confidence whatever the distribution. Below six pairs nothing is rejected at 95 % and it is unbounded.

    Args:
        differences: One per seed, finite, at least one.
        confidence: Coverage, 0 … 1.
        seed: Of the random flips.

    Raises:
        UsageError: No difference, or one that is not finite.

    Source: Hartigan, Using subsample values as typical values, JASA 64 (1969).
    """
    values = _differences(differences)
    if not values.size:
        raise UsageError("no paired difference: a sign-flip interval needs at least one")
    means = _subset_means(values, seed)
    # Rounding must not lose the tie 2^n · α/2 = k.
    rank = math.floor((1 - confidence) / 2 * (means.size + 1) * (1 + 1e-12))
    lo, hi = (-math.inf, math.inf) if rank < 1 else (float(means[rank - 1]), float(means[-rank]))
    return Estimate(float(values.mean()), lo, hi, values.size, confidence)


@dataclass(frozen=True)
class Equivalence:
    """What two one-sided tests say.

    Attributes:
        p: The larger of the two p values; nan with fewer than two pairs.
        lo: Lower end of the interval of confidence 1 − 2α.
        hi: Upper end.
        equivalent: Whether the interval lies inside ± margin, which is p < α.
    """

    p: float
    lo: float
    hi: float
    equivalent: bool


def equivalence_test(differences: npt.ArrayLike, margin: float, alpha: float = 0.05) -> Equivalence:
    """Test whether a mean paired difference lies inside ± margin, by two one-sided t tests (TOST).

    The verdicts hold the interval of confidence 1 − α against the margin, not that of 1 − 2α: stricter, and one
    interval serves all verdicts.

    Args:
        differences: One per seed, finite.
        margin: > 0, in their unit.
        alpha: Level, 0 … ½.

    Raises:
        UsageError: The margin is not positive, or a difference is not finite.

    Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987).
    """
    if not margin > 0:
        raise UsageError(f"margin {margin}: an equivalence margin is above 0")
    values = _differences(differences)
    n = values.size
    found = paired_difference(values, 1 - 2 * alpha)
    if n < 2:
        return Equivalence(math.nan, math.nan, math.nan, False)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    room = margin - abs(found.estimate)
    if error == 0:
        return Equivalence(0.0 if room > 0 else 1.0, found.lo, found.hi, room > 0)
    p = float(special.stdtr(n - 1, -room / error))
    return Equivalence(p, found.lo, found.hi, p < alpha)
