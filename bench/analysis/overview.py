"""Every cell of a sweep in one row, ranked within its task: what a sweep of many tasks and optimizers shows first."""

import numpy as np
import pandas as pd

from bench.analysis.measures import direction, values
from bench.analysis.study import POINT, SETTING, Study
from bench.analysis.targets import price


def overview(data: Study, means: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """Say what became of every optimizer at every batch size of every setting.

    The optimizers are all of the sweep: one that was not run in a setting has its row there too. Ranks are within
    setting and batch size, by the median price of the target (`bench.analysis.targets.price`) of those that reached it.
    Where nobody did, or there is no target, they are by the mean test result at the end of the runs, and whoever lost a
    seed to divergence has none if that result is a loss.

    Args:
        data: The study.
        means: As `bench.analysis.rules.rule_outcomes` returns; the re-tuned rule at the runs' own end is shown.
        targets: As `bench.analysis.targets.to_target` returns.

    Returns:
        Columns `POINT`, `full_batch`, `measure`, `outcome` ("reached", "never", "diverged" (in every seed, at the best
        learning rate), "no target", "not run", or the status of a cell that is not complete), `price` ("gradients" or
        "steps"), `to_target` (its median; nan where not reached), `reached`, `n` (seeds), `test` (mean of the measure
        on test data, over the trials that have one), `n_diverged`, `ranked_by` ("target" or "test"), `rank` (1 is best,
        equals share the better rank; nan where not ranked), `ranked` (how many are): one row per setting, optimizer and
        batch size.
    """
    cells = data.cells
    grid = cells[[*SETTING, "batch_size", "full_batch", "measure"]].drop_duplicates([*SETTING, "batch_size"])
    everyone = pd.DataFrame({"optimizer": sorted({str(name) for name in cells["optimizer"]})}, dtype=object)
    table = grid.merge(everyone, how="cross").merge(cells[[*POINT, "status", "target"]], on=POINT, how="left")
    priced = targets.loc[targets["measure"] == price(targets), [*POINT, "median", "reached", "n"]]
    table = table.merge(priced.rename(columns={"median": "to_target"}), on=POINT, how="left")
    table["price"] = price(targets)
    ends = means[(means["rule"] == "re-tuned") & (means["budget"] == "end")]
    ends = ends[[*POINT, "n_diverged", "n", "test_accuracy", "test_loss"]].rename(columns={"n": "n_end"})
    table = table.merge(ends, on=POINT, how="left")
    table["test"] = values(table, "test")
    lost = table["n_diverged"].notna() & (table["n_diverged"] == table["n_end"])
    table["outcome"] = np.select(
        [
            table["status"].isna(),
            table["status"] != "complete",
            table["to_target"].notna(),
            lost,
            table["target"].isna(),
        ],
        ["not run", table["status"].fillna(""), "reached", "diverged", "no target"],
        "never",
    )
    return _ranked(table)


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    group = [*SETTING, "batch_size"]
    keys = [table[name] for name in group]
    reached = (table["outcome"] == "reached").groupby(keys).transform("any")
    table["ranked_by"] = np.where(reached, "target", "test")
    finished = table["outcome"].isin(["never", "no target"])
    flattered = (table["measure"] == "loss") & (table["n_diverged"] > 0)
    goodness = (direction(table) * table["test"]).where(finished & ~flattered)
    score = (-table["to_target"]).where(reached, goodness)
    table["rank"] = score.groupby(keys).rank(ascending=False, method="min")
    table["ranked"] = score.groupby(keys).transform("count")
    columns = [*POINT, "full_batch", "measure", "outcome", "price", "to_target", "reached", "n", "test", "n_diverged"]
    return table[[*columns, "ranked_by", "rank", "ranked"]].sort_values(POINT, ignore_index=True)
