"""Aggregates over tasks: the interquartile mean and the probability of improvement.

Source: Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, arXiv 2108.13264.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.analysis.intervals import CONFIDENCE
from bench.analysis.statistics.estimates import Estimate, t_estimate
from bench.analysis.statistics.resampling import RESAMPLES
from bench.errors import UsageError

Array = npt.NDArray[np.float64]

#: An improvement matters where A beats B in at least three of four pairs of runs.
IMPROVEMENT = 0.75


def interquartile_mean(scores: npt.ArrayLike) -> float:
    """Return the mean of the middle half of all scores: of runs and tasks together.

    Args:
        scores: Any shape, at least one; infinite ones are the outermost. ⌊size/4⌋ are cut on each side.

    Raises:
        UsageError: No score, or one that is nan.

    Source: arXiv 2108.13264, section 4.3.
    """
    return float(_middle_mean(_scores(scores).reshape(1, -1))[0])


def _scores(scores: npt.ArrayLike) -> Array:
    values = np.asarray(scores, dtype=float)
    if not values.size or np.isnan(values).any():
        raise UsageError("scores are missing: an interquartile mean needs numbers, −inf or inf for runs that failed")
    return values


def _middle_mean(flat: Array) -> Array:
    cut = flat.shape[1] // 4
    middle = np.partition(flat, (cut, flat.shape[1] - cut - 1), axis=1)[:, cut : flat.shape[1] - cut]
    return np.asarray(middle.mean(axis=1))


def interquartile_mean_interval(
    scores: npt.ArrayLike, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return the interquartile mean with an interval from resampling the runs of each task.

    The tasks are taken as they are; the interval says what other runs on them would change. Stratified bootstrap
    standard error × √(n/(n − 1)), with the t of Satterthwaite's degrees of freedom of the winsorised scores: with
    percentiles, as published, three runs a task cover too rarely.

    Args:
        scores: Shape (runs, tasks), at least 2 runs.
        confidence: Coverage, 0 … 1.
        resamples: How many.
        seed: Of the resampling.

    Returns:
        The estimate; its n is the number of runs per task. Unbounded where more than a quarter of the scores
        of some resamples are infinite.

    Raises:
        UsageError: A score that is nan, or fewer than two runs.

    Source: arXiv 2108.13264, section 4.3; Wilcox, Introduction to Robust Estimation (2012), 3.3 for winsorised
        variances.
    """
    values = _scores(scores)
    if values.ndim != 2 or values.shape[0] < 2:
        raise UsageError(f"scores of shape {values.shape}: runs × tasks with at least 2 runs are needed")
    runs = values.shape[0]
    drawn = np.random.default_rng(seed).integers(runs, size=(resamples, *values.shape))
    estimate = interquartile_mean(values)
    replicates = _middle_mean(np.take_along_axis(values[None], drawn, axis=1).reshape(resamples, -1))
    if not np.isfinite(replicates).all():
        return Estimate(estimate, -math.inf, math.inf, runs, confidence)
    error = float(np.std(replicates, ddof=1)) * math.sqrt(runs / (runs - 1))
    cut = values.size // 4
    ordered = np.sort(values, axis=None)
    winsorised = np.clip(values, ordered[cut], ordered[-cut - 1])
    variances = winsorised.var(axis=0, ddof=1)
    total = float((variances**2).sum())
    degrees = (runs - 1) * float(variances.sum()) ** 2 / total if total > 0 else runs - 1.0
    return t_estimate(estimate, error, degrees, runs, confidence)


def probability_of_improvement(
    better: Sequence[npt.ArrayLike], worse: Sequence[npt.ArrayLike], confidence: float = CONFIDENCE
) -> Estimate:
    """Return how likely a run of A has a higher score than a run of B: P(A > B) + ½ P(A = B), averaged over tasks.

    The interval is Newcombe's fifth: the probabilities θ whose distance to the estimate is z standard errors at θ, so
    it stays within 0 … 1 and has a width even where every run of A beats every one of B. Runs of A and B are taken as
    independent; where they share seeds the interval errs on the wide side. Averaged over tasks that differ
    widely it is wide as well.

    Args:
        better: One array of A's scores per task, each with at least one; −inf for a run that failed.
        worse: B's, of the same tasks; numbers of runs may differ.
        confidence: Coverage, 0 … 1.

    Returns:
        The estimate, 0 … 1; 0.5 is no difference. Its n is the smallest number of runs.

    Raises:
        UsageError: Different numbers of tasks, no task, a task without runs, or a score that is nan.

    Source: arXiv 2108.13264, section 4.3; Mann & Whitney (1947); Newcombe, Statistics in Medicine 25 (2006), method 5.
    """
    if len(better) != len(worse) or not better:
        raise UsageError(f"{len(better)} and {len(worse)} tasks: A and B need the same ones, at least 1")
    wins, sizes = [], []
    for one, other in zip(better, worse, strict=True):
        a, b = _scores(one).ravel(), _scores(other).ravel()
        wins.append(float(((a[:, None] > b).mean() + (a[:, None] >= b).mean()) / 2))
        sizes.append((a.size, b.size))
    estimate, n = float(np.mean(wins)), min(min(pair) for pair in sizes)
    z = float(special.ndtri((1 + confidence) / 2))
    return Estimate(
        estimate,
        _score_limit(estimate, sizes, z, 0.0),
        _score_limit(estimate, sizes, z, 1.0),
        n,
        confidence,
    )


def _score_limit(estimate: float, sizes: list[tuple[int, int]], z: float, end: float) -> float:
    inside, outside = estimate, end
    for _ in range(60):
        middle = (inside + outside) / 2
        if abs(middle - estimate) <= z * _mann_whitney_error(middle, sizes):
            inside = middle
        else:
            outside = middle
    return outside if abs(outside - end) < 1e-12 else inside


def _mann_whitney_error(theta: float, sizes: list[tuple[int, int]]) -> float:
    """Return the standard error of P(A > B) if it were θ and scores exponential (Hanley & McNeil, 1982)."""
    variance = 0.0
    for a, b in sizes:
        shared = ((a + b) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        variance += theta * (1 - theta) * (1 + shared) / (a * b)
    return math.sqrt(variance) / len(sizes)


def improvement(estimate: Estimate, threshold: float = IMPROVEMENT) -> str:
    """Say what a probability of improvement shows.

    Args:
        estimate: As `probability_of_improvement` returns.
        threshold: Probability from which on an improvement matters, ½ … 1.

    Returns:
        "no difference shown" (the interval reaches ½ or below), "too small" (it lies above ½ and below the threshold)
        or "improvement" (above ½, and the threshold is not excluded).

    Source: Bouthillier et al., arXiv 2103.03098, section 4.2; 29 runs find θ = ¾ with 95 % power
    (`bench.analysis.statistics.power.runs_for_improvement`).
    """
    if not estimate.lo > 0.5:
        return "no difference shown"
    return "improvement" if estimate.hi > threshold else "too small"
