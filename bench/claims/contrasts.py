"""Differences between trials of equal seeds, in the unit that their task is judged by."""

import math
from dataclasses import dataclass

import numpy as np

from bench.analysis.measures import LOSS_MARGIN
from bench.analysis.rows import Rows, shared_seeds
from bench.analysis.statistics.differences import binomial_error, paired_estimator
from bench.analysis.statistics.estimates import Estimator


@dataclass(frozen=True)
class Contrast:
    """A difference of results with its interval.

    Attributes:
        estimator: Waits for the confidence.
        margin: The effect that matters where it is not the claim's own: for log ratios of losses; None else.
        unit: Likewise.
        note: How many pairs were left out; empty for none.
    """

    estimator: Estimator
    margin: float | None
    unit: str | None
    note: str


def better_by(*pairs: tuple[Rows, Rows]) -> Contrast | None:
    """Return how much better the first of each pair is on test data than the second, summed over pairs, within seeds.

    Accuracies are subtracted, second from first; losses are the log of the ratio second to first. Seeds of which a
    trial diverged or has no result are left out, and counted. The error of the test split that a difference of
    accuracies has at most joins that of the seeds; those of several pairs as if independent.

    Args:
        pairs: Rows of one task as `bench.claims.evidence.Data.outcomes` has them, one row per seed.

    Returns:
        None where no seed is common to all, or a loss is not positive.
    """
    parts = [rows for pair in pairs for rows in pair]
    if not all(len(rows) for rows in parts):
        return None
    by_loss, examples = parts[0].first("measure") == "loss", float(parts[0].first("test_examples"))
    shared = shared_seeds(parts)
    table = np.array([rows.at_seeds("test", shared) for rows in parts]).T
    diverged = np.any([rows.at_seeds("diverged", shared) for rows in parts], axis=0)
    table = table[np.isfinite(table).all(axis=1) & ~diverged.astype(bool)]
    if not len(table) or (by_loss and table.min() <= 0):
        return None
    results = np.log(table) if by_loss else table
    signs = np.tile([1.0, -1.0], len(pairs)) * float(parts[0].first("sign"))
    sampling = 0.0
    if not by_loss and math.isfinite(examples):
        means = table.mean(axis=0)
        sampling = math.hypot(
            *(binomial_error(float(means[i]), float(means[i + 1]), int(examples)) for i in range(0, len(means), 2))
        )
    out = len(shared) - len(table)
    return Contrast(
        paired_estimator(results @ signs, sampling),
        float(np.log1p(LOSS_MARGIN)) if by_loss else None,
        "log ratio" if by_loss else None,
        f"{out} of {len(shared)} seeds have a diverged trial" if out else "",
    )


def notes(*said: str) -> str:
    """Join what a reader has to know; empty parts say nothing."""
    return "; ".join(part for part in said if part)
