"""Claims of what a batch size does to the test result."""

from collections.abc import Iterator
from functools import partial

import numpy as np

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
