"""Claims of what a batch size does to the test result."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.analysis.budgets import untrained_levels
from bench.analysis.measures import LOSS_MARGIN
from bench.analysis.rows import Rows, split
from bench.analysis.statistics.differences import binomial_error, paired_estimator
from bench.analysis.study import CONDITION, condition_of
from bench.claims.claim import Claim
from bench.claims.evidence import Data, Evidence


def large_batches_generalise_worse(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C5: how much worse the test result is at the largest batch than at the smallest, within seeds.

    Accuracies in fractions, small minus large; losses as the log of the ratio large to small. Rules outside the grid
    give no evidence; pairs with a diverged trial are left out, and counted in the note.
    """
    for key, rows in data.outcomes.items():
        condition, ends = condition_of(key), rows.ends()
        if not claim.speaks_of(condition["task"]) or ends is None:
            continue
        pairs = rows.pairs("test", ends)
        usable = pairs[np.isfinite(pairs).all(axis=1)]
        small, large = usable.T
        by_loss, sampling = rows.first("measure") == "loss", 0.0
        examples = float(rows.first("test_examples"))
        if by_loss:
            if not usable.size or usable.min() <= 0:
                continue
            small, large = np.log(small), np.log(large)
        elif math.isfinite(examples) and len(usable):
            sampling = binomial_error(float(small.mean()), float(large.mean()), int(examples))
        lost = len(pairs) - len(usable)
        yield Evidence(
            condition,
            paired_estimator(-rows.first("sign") * (large - small), sampling),
            budget=str(key[-2]),
            rule=str(key[-1]),
            source="largest-against-smallest.csv",
            margin=float(np.log1p(LOSS_MARGIN)) if by_loss else None,
            unit="log ratio" if by_loss else None,
            note=f"{lost} of {len(pairs)} pairs have a diverged trial" if lost else "",
        )


def large_batches_stop_in_worse_optima(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C6: training loss at the largest batch minus that at the smallest, within seeds, in units of the untrained loss.

    A share and no ratio of losses: of two losses near zero neither is a worse optimum, however many times the other.
    Where barriers were measured, also by how much the one between seeds of the largest batch size is higher than that
    between seeds of the smallest, each at its re-tuned rate and end: 0 at both is one basin. Pairs with a diverged
    trial are left out, and counted.
    """
    study = data.results.study
    levels = untrained_levels(study.evaluations, study.cells)["train_loss"]
    untrained = {str(task): float(level) for task, level in levels.items()}
    for key, rows in data.outcomes.items():
        yield from _larger_at_the_largest(claim, key, rows, "train_loss", untrained, "training loss")
    for key, rows in split(_barriers(data), [*CONDITION, "budget", "rule", "metric"]):
        measure = f"barrier, {str(key[-1]).removeprefix('barrier_')} loss"
        yield from _larger_at_the_largest(claim, key[:-1], rows, "value", untrained, measure)


def _barriers(data: Data) -> pd.DataFrame:
    """Return the measured barriers at re-tuned rates: `CONDITION`, batch_size, budget, rule, metric, seed, value."""
    columns = [*CONDITION, "batch_size", "budget", "rule", "lr"]
    if data.measures.empty:
        return pd.DataFrame(columns=[*columns, "metric", "seed", "value"])
    rates = data.results.rates
    chosen = rates.loc[(rates["rule"] == "re-tuned") & (rates["budget"] == "end") & ~rates["all_diverged"], columns]
    taken = data.measures[data.measures["metric"].isin(["barrier_train", "barrier_test"])]
    return taken.drop_duplicates([*CONDITION, "batch_size", "lr", "seed", "metric"], keep="last").merge(
        chosen, on=[*CONDITION, "batch_size", "lr"]
    )


def _larger_at_the_largest(
    claim: Claim, key: tuple[str, ...], rows: Rows, name: str, untrained: dict[str, float], measure: str
) -> Iterator[Evidence]:
    """Yield the difference of a column between the largest and the smallest batch size; nothing without a pair."""
    condition, ends = condition_of(key), rows.ends()
    unit = untrained.get(condition["task"], math.nan)
    if not claim.speaks_of(condition["task"]) or ends is None or math.isnan(unit):
        return
    # An untrained loss of 0 is no unit for another.
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = rows.pairs(name, ends) / unit
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    usable = pairs[np.isfinite(pairs).all(axis=1)]
    lost = len(pairs) - len(usable)
    if len(usable):
        yield Evidence(
            condition,
            paired_estimator(usable[:, 1] - usable[:, 0]),
            budget=str(key[-2]),
            rule=str(key[-1]),
            measure=measure,
            source="curves.csv",
            note=f"{lost} of {len(pairs)} pairs have a diverged trial" if lost else "",
        )
