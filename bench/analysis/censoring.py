"""Steps to target where some trials never got there, and the best of several trials: nothing is dropped."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.analysis.intervals import CONFIDENCE
from bench.analysis.statistics.estimates import Estimate, t_estimate
from bench.errors import UsageError

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def right_censored(
    steps_to_target: npt.ArrayLike, steps: npt.ArrayLike, interrupted: npt.ArrayLike, budget: float
) -> tuple[Array, Flags]:
    """Return until when each trial was watched, and whether it reached the target then.

    A trial that diverged will never reach the target, however long: it is watched until the end of the budget, not
    until it diverged, or the rates at which trials die early would look fast.

    Args:
        steps_to_target: Shape (trials,); nan or inf where not reached.
        steps: Steps done, shape (trials,).
        interrupted: Whether something from outside ended the trial before its budget, shape (trials,).
        budget: Steps that every trial was given.

    Returns:
        Times and whether they are of the target, each of shape (trials,).

    Source: arXiv 1811.03600 keeps such trials as infinite; administrative censoring, Klein & Moeschberger, Survival
    Analysis (2003), 3.2.
    """
    reached_at = np.asarray(steps_to_target, dtype=float)
    reached = np.isfinite(reached_at)
    watched = np.where(np.asarray(interrupted, dtype=bool), np.asarray(steps, dtype=float), float(budget))
    return np.where(reached, reached_at, watched), reached


#: Fewer trials have no interval of a restricted mean.
LEAST_TRIALS = 5


@dataclass(frozen=True)
class Survival:
    """The share of trials that have not reached the target yet.

    Attributes:
        times: Steps at which some trial reached it, ascending, shape (events,).
        share: Share of trials still on their way right after each, shape (events,), 1 … 0.
        error: Greenwood's standard error of the share, shape (events,).
        n: Trials.
        reached: Of them, those that reached the target.
        end: The last time that any trial was watched.
    """

    times: Array
    share: Array
    error: Array
    n: int
    reached: int
    end: float

    def median(self) -> float:
        """Return the first time at which at most half of the trials are on their way; inf where there is none."""
        half = np.flatnonzero(self.share <= 0.5 * (1 + 1e-12))
        return float(self.times[half[0]]) if half.size else math.inf


def _trials(times: npt.ArrayLike, reached: npt.ArrayLike) -> tuple[Array, Flags]:
    at, event = np.asarray(times, dtype=float).ravel(), np.asarray(reached, dtype=bool).ravel()
    if at.size != event.size or not at.size:
        raise UsageError(f"{at.size} times and {event.size} flags: needs as many of each, at least 1")
    if not np.isfinite(at).all() or (at < 0).any():
        raise UsageError(
            "a time is not finite or below 0: a trial that never reached the target has the time it was given"
        )
    return at, event


def survival(times: npt.ArrayLike, reached: npt.ArrayLike) -> Survival:
    """Return the Kaplan–Meier estimate of the share of trials still on their way to the target.

    Args:
        times: When each trial reached the target or was last watched, shape (trials,), finite, ≥ 0.
        reached: Whether it reached it, shape (trials,).

    Raises:
        UsageError: Shapes differ, there is no trial, or a time is not finite.

    Source: Kaplan & Meier, JASA 53 (1958); Greenwood (1926) for the error.
    """
    at, event = _trials(times, reached)
    moments = np.unique(at[event])
    at_risk = (at[None] >= moments[:, None]).sum(axis=1).astype(float)
    events = ((at[None] == moments[:, None]) & event).sum(axis=1).astype(float)
    share = np.cumprod(1 - events / at_risk)
    left = at_risk - events
    # With nobody left the share is 0, and its error with it.
    terms = np.divide(events, at_risk * left, out=np.zeros_like(left), where=left > 0)
    error = share * np.sqrt(np.cumsum(terms))
    return Survival(moments, share, error, at.size, int(event.sum()), float(at.max()))


def restricted_mean(
    times: npt.ArrayLike, reached: npt.ArrayLike, horizon: float, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the mean of the steps to target, or the horizon where that comes first, with an interval.

    The area under the survival curve up to the horizon. Where nothing is censored before the horizon, this is the mean
    of min(steps, horizon) with its t interval. Compare batch sizes at the same horizon.

    Args:
        times: As for `survival`.
        reached: As for `survival`.
        horizon: Steps, > 0; at most the last time that a trial was watched.
        confidence: Coverage, 0 … 1.

    Returns:
        Steps; n is the number of trials. No interval with fewer than five of them: with three it covers 90 %. Where no
        trial reached the target it is the horizon itself with an interval of no width: nothing varied.

    Raises:
        UsageError: As `survival`, or the horizon is beyond what was watched.

    Source: Klein & Moeschberger, Survival Analysis (2003), 4.5, with their m/(m − 1).
    """
    at, event = _trials(times, reached)
    # The share that is known beyond the last trial is 0 only if that one reached the target.
    watched = math.inf if event[at == at.max()].all() else float(at.max())
    if not 0 < horizon <= watched:
        raise UsageError(f"horizon {horizon:g}: trials were watched until {watched:g}")
    found = survival(np.minimum(at, horizon), event & (at <= horizon))
    edges = np.concatenate([[0.0], found.times, [horizon]])
    heights = np.concatenate([[1.0], found.share])
    areas = heights * np.diff(edges)
    mean = float(areas.sum())
    n = at.size
    if n < LEAST_TRIALS:
        return Estimate(mean, math.nan, math.nan, n, confidence)
    remaining = mean - np.cumsum(areas)[:-1]
    at_risk = (np.minimum(at, horizon)[None] >= found.times[:, None]).sum(axis=1).astype(float)
    events = ((at[None] == found.times[:, None]) & event).sum(axis=1).astype(float)
    left = at_risk - events
    # The last to arrive leaves nobody and no area: its term is 0.
    terms = np.divide(remaining**2 * events, at_risk * left, out=np.zeros_like(left), where=left > 0)
    complete = int((event | (at >= horizon)).sum())
    inflation = complete / (complete - 1) if complete > 1 else math.inf
    error = math.sqrt(float(terms.sum()) * inflation) if terms.sum() > 0 else 0.0
    return t_estimate(mean, error, max(complete - 1, 1), n, confidence)


def expected_best(values: npt.ArrayLike, k: int, direction: int = 1) -> float:
    """Return the expected best of k trials drawn without replacement from those that were run.

    What somebody with a budget of k trials would have got. An unbiased estimate from n ≥ k independent ones, averaged
    over all sets of k.

    Args:
        values: One per trial; nan stands for a trial that failed: diverged, or never reached the target. It counts as
            infinitely bad, so the result is infinite while a set of k can consist of failed trials alone.
        k: Trials drawn, 1 … number of values.
        direction: +1 where higher is better, −1 where lower is (steps to target).

    Raises:
        UsageError: k is out of range, or the direction is neither.

    Source: Dodge et al., arXiv 1909.03004, here without replacement: the mean of an order statistic of subsets, as the
    pass@k estimate of arXiv 2107.03374.
    """
    given = np.asarray(values, dtype=float).ravel()
    n = given.size
    if not 1 <= k <= n:
        raise UsageError(f"best of {k} out of {n} trials: needs 1 … {n}")
    if direction not in (1, -1):
        raise UsageError(f"direction {direction}: +1 where higher is better, −1 where lower is")
    ranked = np.sort(np.where(np.isnan(given), -np.inf, direction * given))
    # The i-th smallest is the best of a set where the other k − 1 are among the i − 1 below it.
    below = np.arange(n)
    log_weights = _log_choose(below, k - 1) - _log_choose(np.array([n]), k)
    possible = below >= k - 1
    best = float(np.sum(ranked[possible] * np.exp(log_weights[possible])))
    return direction * best


def _log_choose(n: npt.NDArray[np.int_], k: int) -> Array:
    rest = np.maximum(n - k, 0)
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(rest + 1), dtype=float)
