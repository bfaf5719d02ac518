"""Many claims at once: Holm's adjustment of p values and of intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.analysis.intervals import CONFIDENCE
from bench.analysis.statistics.estimates import Estimate, Estimator, p_value
from bench.errors import UsageError


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return p values adjusted by Holm's step-down procedure.

    Rejecting those at most α keeps the probability of any false rejection at most α, whatever the dependence.

    Args:
        p_values: Shape (claims,), 0 … 1; nan where nothing could be tested: it stays nan and still counts as a claim,
            as it was declared.

    Returns:
        Shape (claims,), 0 … 1.

    Raises:
        UsageError: A value outside 0 … 1.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    given = np.asarray(p_values, dtype=float).ravel()
    if ((given < 0) | (given > 1)).any():
        raise UsageError(f"p values {given.tolist()}: each needs 0 … 1")
    order = np.argsort(given, kind="stable")
    factors = np.arange(given.size, 0, -1)
    adjusted = np.full(given.size, np.nan)
    known = int(np.isfinite(given).sum())
    stepped = np.maximum.accumulate(given[order][:known] * factors[:known])
    adjusted[order[:known]] = np.minimum(stepped, 1.0)
    return adjusted


def holm_confidences(p_values: npt.ArrayLike, confidence: float = CONFIDENCE) -> npt.NDArray[np.float64]:
    """Return the confidence at which each claim's interval says what Holm's procedure says.

    With m claims and α = 1 − confidence: 1 − α/(m − i + 1) for the i-th smallest p value where it is rejected; for
    all that are not, that of the first that was not. The interval excludes the null value just where Holm rejects.

    Args:
        p_values: As for `holm`; nan takes the place of the largest.
        confidence: Of the whole family, 0 … 1.

    Returns:
        Shape (claims,).
    """
    given = np.asarray(p_values, dtype=float).ravel()
    rejected = np.nan_to_num(holm(given), nan=1.0) <= 1 - confidence
    order = np.argsort(given, kind="stable")
    steps = np.empty(given.size, dtype=int)
    steps[order] = np.minimum(np.arange(given.size), int(rejected.sum()))
    steps = np.minimum(steps, given.size - 1)
    return np.asarray(1 - (1 - confidence) / (given.size - steps))


@dataclass(frozen=True)
class Adjusted:
    """A claim's estimate among many.

    Attributes:
        alone: The estimate with the interval it would have alone.
        holm: The same with the interval that agrees with Holm's procedure: no more than 5 % of families have any
            interval that wrongly excludes its null value. What verdicts take. Not all of a family's need cover.
        simultaneous: The same at confidence 1 − α/m (Bonferroni): at least 95 % of families have every true value
            inside its interval. What a picture of all claims should show.
        p: Two-sided p value, alone.
        p_adjusted: Adjusted by `holm`.
    """

    alone: Estimate
    holm: Estimate
    simultaneous: Estimate
    p: float
    p_adjusted: float


def adjusted(
    claims: Mapping[str, Estimator], nulls: Mapping[str, float] | None = None, confidence: float = CONFIDENCE
) -> dict[str, Adjusted]:
    """Adjust the intervals and p values of a family of claims for each other.

    Args:
        claims: Name → its method bound to its data, such as `functools.partial(paired_difference, differences)`.
        nulls: Name → the value that its claim is held against; 0 where not given.
        confidence: Of the whole family, 0 … 1.

    Returns:
        Name → what became of it.

    Source: Holm (1979) and, for a picture of all intervals, Dunn, JASA 56 (1961).
    """
    values = nulls or {}
    p_values = [p_value(estimator, values.get(name, 0.0)) for name, estimator in claims.items()]
    confidences = holm_confidences(p_values, confidence)
    widest = 1 - (1 - confidence) / max(len(claims), 1)
    return {
        name: Adjusted(estimator(confidence), estimator(float(level)), estimator(widest), p, float(p_adjusted))
        for (name, estimator), level, p, p_adjusted in zip(
            claims.items(), confidences, p_values, holm(p_values), strict=True
        )
    }
