"""Claims of what a batch size does to the test result."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from bench.analysis.budgets import untrained_levels
from bench.analysis.measures import LOSS_MARGIN, direction, values
from bench.analysis.statistics.differences import binomial_error, paired_difference
from bench.analysis.study import CONDITION, records
from bench.claims.claim import Claim
from bench.claims.evidence import Data, Evidence


def large_batches_generalise_worse(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C5: how much worse the test result is at the largest batch than at the smallest, within seeds.

    Accuracies in fractions, small minus large; losses as the log of the ratio large to small. Rules outside the grid
    give no evidence; pairs with a diverged trial are left out, and counted in the note.
    """
    outcomes = data.results.seed_outcomes
    outcomes = outcomes.assign(value=values(outcomes, "test"), sign=-direction(outcomes))
    for key, group in outcomes.groupby([*CONDITION, "budget", "rule"], sort=True):
        condition = dict(zip(CONDITION, map(str, key[: len(CONDITION)]), strict=True))
        sizes = group["batch_size"].unique()
        if not claim.speaks_of(condition["task"]) or len(sizes) < 2:
            continue
        pairs = group.pivot(index="seed", columns="batch_size", values="value")[[sizes.min(), sizes.max()]].dropna()
        usable = pairs[np.isfinite(pairs).all(axis=1)]
        small, large = usable.to_numpy(dtype=float).T
        facts = records(group)[0]
        by_loss, sampling = facts["measure"] == "loss", 0.0
        if by_loss:
            if usable.empty or usable.to_numpy().min() <= 0:
                continue
            small, large = np.log(small), np.log(large)
        elif facts["test_examples"] == facts["test_examples"] and len(usable):
            sampling = binomial_error(float(small.mean()), float(large.mean()), int(facts["test_examples"]))
        lost = len(pairs) - len(usable)
        yield Evidence(
            condition,
            partial(paired_difference, facts["sign"] * (large - small), sampling=sampling),
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
    results = data.results
    untrained = untrained_levels(results.study.evaluations, results.study.cells)["train_loss"]
    outcomes = results.seed_outcomes
    outcomes = outcomes.assign(value=outcomes["train_loss"] / outcomes["task"].map(untrained))
    for key, group in outcomes.groupby([*CONDITION, "budget", "rule"], sort=True):
        yield from _larger_at_the_largest(claim, key, group, "training loss", "curves.csv")
    barriers = _barriers(data)
    barriers["value"] = barriers["value"] / barriers["task"].map(untrained)
    for key, group in barriers.groupby([*CONDITION, "budget", "rule", "metric"], sort=True):
        split = str(key[-1]).removeprefix("barrier_")
        yield from _larger_at_the_largest(claim, key[:-1], group, f"barrier, {split} loss", "curves.csv")


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
    claim: Claim, key: tuple[object, ...], group: pd.DataFrame, measure: str, source: str
) -> Iterator[Evidence]:
    """Yield the difference of a value between the largest and the smallest batch size; nothing without a pair."""
    condition = dict(zip(CONDITION, map(str, key[: len(CONDITION)]), strict=True))
    sizes = group["batch_size"].unique()
    if not claim.speaks_of(condition["task"]) or len(sizes) < 2:
        return
    pairs = group.pivot(index="seed", columns="batch_size", values="value")[[sizes.min(), sizes.max()]].dropna()
    usable = pairs[np.isfinite(pairs.astype(float)).all(axis=1)].to_numpy(dtype=float)
    lost = len(pairs) - len(usable)
    if len(usable):
        yield Evidence(
            condition,
            partial(paired_difference, usable[:, 1] - usable[:, 0]),
            budget=str(key[-2]),
            rule=str(key[-1]),
            measure=measure,
            source=source,
            note=f"{lost} of {len(pairs)} pairs have a diverged trial" if lost else "",
        )
