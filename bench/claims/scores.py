"""What every learning rate of every batch size reached: tables of scores that claims are judged on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.measures import direction, values
from bench.analysis.rows import Rows, split
from bench.analysis.study import CONDITION, condition_of

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What every learning rate of every batch size reached under a budget.

    Attributes:
        condition: Values of `CONDITION`.
        budget: Its name.
        measure: "accuracy" or "loss".
        batch_sizes: Shape (batches,), ascending.
        rates: Shape (rates,), ascending: those that all batch sizes have.
        seeds: Those that all of these have.
        table: Shape (seeds, batches, rates), higher is better: accuracies, or negative logs of losses; nan for a
            diverged trial.
    """

    condition: dict[str, str]
    budget: str
    measure: str
    batch_sizes: Array
    rates: Array
    seeds: tuple[int, ...]
    table: Array


def score_tables(cuts: pd.DataFrame, part: str) -> Iterator[Scores]:
    """Yield the scores on a split ("val" or "test") of every condition and budget; none without a common grid.

    Args:
        cuts: As `bench.analysis.budgets.cuts` returns.
        part: Name of the split.
    """
    rows = cuts[~cuts["missing"]]
    found = values(rows, part)
    by_loss = rows["measure"] == "loss"
    # A loss of 0 has no logarithm, and is as good as any.
    logs = np.log(found.where(by_loss & (found > 0), 1.0).clip(lower=np.finfo(float).tiny))
    score = (direction(rows) * found.mask(by_loss, logs)).mask(rows["diverged"])
    columns = [*CONDITION, "budget", "measure", "batch_size", "lr", "seed"]
    for key, group in split(rows[columns].assign(score=score.where(np.isfinite(score))), [*CONDITION, "budget"]):
        scores = _scores(key, group)
        if scores is not None:
            yield scores


def _scores(key: tuple[str, ...], group: Rows) -> Scores | None:
    (sizes, size), (rates, rate), (seeds, seed) = (
        np.unique(group[name], return_inverse=True) for name in ("batch_size", "lr", "seed")
    )
    table = np.full((seeds.size, sizes.size, rates.size), np.nan)
    there = np.zeros(table.shape, dtype=bool)
    table[seed, size, rate], there[seed, size, rate] = group["score"], True
    common = there.any(axis=0).all(axis=0)
    whole = there[:, :, common].all(axis=(1, 2))
    if not common.any() or not whole.any():
        return None
    return Scores(
        condition_of(key),
        str(key[-1]),
        str(group.first("measure")),
        sizes.astype(float),
        rates[common],
        tuple(seeds[whole].tolist()),
        np.ascontiguousarray(table[whole][:, :, common]),
    )
