"""Differences between trials of equal seeds, in the unit that their task is judged by."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from bench.analysis.measures import LOSS_MARGIN, direction, values
from bench.analysis.statistics.differences import binomial_error, paired_difference
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


def better_by(*pairs: tuple[pd.DataFrame, pd.DataFrame]) -> Contrast | None:
    """Return how much better the first of each pair is on test data than the second, summed over pairs, within seeds.

    Accuracies are subtracted, second from first; losses are the log of the ratio second to first. Seeds of which a
    trial diverged or has no result are left out, and counted. The error of the test split that a difference of
    accuracies has at most joins that of the seeds; those of several pairs as if independent.

    Args:
        pairs: Rows of `bench.analysis.rules.seed_outcomes` of one task, one row per seed.

    Returns:
        None where no seed is common to all, or a loss is not positive.
    """
    tables = [frame for pair in pairs for frame in pair]
    if any(frame.empty for frame in tables):
        return None
    facts = tables[0].iloc[0]
    by_loss = bool(facts["measure"] == "loss")
    columns = [pd.Series(values(frame, "test").to_numpy(), index=frame["seed"]) for frame in tables]
    lost = [pd.Series(frame["diverged"].to_numpy(dtype=bool), index=frame["seed"]) for frame in tables]
    shared = pd.concat(columns, axis=1, join="inner")
    table = shared.to_numpy(dtype=float)
    diverged = pd.concat(lost, axis=1, join="inner").loc[shared.index].to_numpy(dtype=bool)
    table = table[np.isfinite(table).all(axis=1) & ~diverged.any(axis=1)]
    if not len(table) or (by_loss and table.min() <= 0):
        return None
    results = np.log(table) if by_loss else table
    signs = np.tile([1.0, -1.0], len(pairs)) * float(direction(tables[0].iloc[:1]).iloc[0])
    examples, sampling = facts["test_examples"], 0.0
    if not by_loss and np.isfinite(examples):
        means = table.mean(axis=0)
        sampling = math.hypot(
            *(binomial_error(float(means[i]), float(means[i + 1]), int(examples)) for i in range(0, len(means), 2))
        )
    out = len(shared) - len(table)
    return Contrast(
        partial(paired_difference, results @ signs, sampling=sampling),
        float(np.log1p(LOSS_MARGIN)) if by_loss else None,
        "log ratio" if by_loss else None,
        f"{out} of {len(shared)} seeds have a diverged trial" if out else "",
    )


def notes(*said: str) -> str:
    """Join what a reader has to know; empty parts say nothing."""
    return "; ".join(part for part in said if part)
