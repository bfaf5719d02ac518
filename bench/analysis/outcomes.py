"""What became of every cell and trial: learning curves, the divergence map, and what failed."""

from typing import Literal

import numpy as np
import pandas as pd

from bench.analysis.measures import direction, values
from bench.analysis.study import CONDITION, POINT, Study


def unfinished_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Return every cell that is not complete.

    Args:
        cells: Columns of the exported cells table.

    Returns:
        Columns `POINT`, `cell`, `status`, `reason`.
    """
    rows = cells.loc[cells["status"] != "complete", [*POINT, "cell", "status", "reason"]]
    return rows.sort_values([*POINT, "cell"], ignore_index=True)


def divergence_map(data: Study, choices: pd.DataFrame) -> pd.DataFrame:
    """Count diverged trials for every learning rate and batch size.

    Args:
        data: The study.
        choices: As `bench.analysis.rules.retuned` returns; those at the runs' own end are marked.

    Returns:
        Columns `POINT`, `lr`, `trials`, `diverged`, `interrupted`, `val_accuracy`, `val_loss` (means of the trials
        that did not diverge, at the last evaluation; nan where all did), `best` (the re-tuned learning rate).
    """
    trials = data.trials
    survived = trials["status"] != "diverged"
    table = (
        trials.assign(
            diverged=~survived,
            interrupted=trials["status"] == "interrupted",
            val_accuracy=trials["val_accuracy"].astype(float).where(survived),
            val_loss=trials["val_loss"].astype(float).where(survived),
        )
        .groupby([*POINT, "lr"], as_index=False)
        .agg(
            trials=("seed", "size"),
            diverged=("diverged", "sum"),
            interrupted=("interrupted", "sum"),
            val_accuracy=("val_accuracy", "mean"),
            val_loss=("val_loss", "mean"),
        )
    )
    best = choices.loc[(choices["budget"] == "end") & ~choices["all_diverged"], [*POINT, "lr"]].assign(best=True)
    table = table.merge(best, on=[*POINT, "lr"], how="left")
    table["best"] = table["best"].eq(True)
    return table.sort_values([*POINT, "lr"], ignore_index=True)


def learning_curves(data: Study, choices: pd.DataFrame) -> pd.DataFrame:
    """Average the curves of the re-tuned learning rate over seeds.

    Args:
        data: The study.
        choices: As `bench.analysis.rules.retuned` returns; the rates chosen at the runs' own end are shown.

    Returns:
        Columns `POINT`, `lr`, `step`, `epoch`, `examples`, `train_seconds` (mean over seeds), `seeds`, and
        `train_loss`, `val_accuracy`, `test_accuracy`, `val_loss`, `test_loss`, each the mean over seeds with `_least`
        and `_most`. Only steps at which all seeds that started were still running are averaged.
    """
    chosen = choices.loc[(choices["budget"] == "end") & ~choices["all_diverged"], [*POINT, "lr"]]
    named = chosen.merge(data.cells[[*POINT, "cell"]], on=POINT)
    rows = data.evaluations.merge(named, on=["cell", "lr"])
    metrics = ["train_loss", "val_accuracy", "test_accuracy", "val_loss", "test_loss"]
    aggregated = {"epoch": ("epoch", "mean"), "examples": ("examples", "mean")}
    aggregated |= {"train_seconds": ("train_seconds", "mean"), "seeds": ("seed", "size")}
    for metric in metrics:
        rows[metric] = rows[metric].where(np.isfinite(rows[metric]))
        aggregated |= {
            metric: (metric, "mean"),
            f"{metric}_least": (metric, "min"),
            f"{metric}_most": (metric, "max"),
        }
    table = rows.groupby([*POINT, "lr", "step"], as_index=False).agg(**aggregated)
    full = table.groupby(POINT)["seeds"].transform("max")
    return table[table["seeds"] == full].sort_values([*POINT, "step"], ignore_index=True)


def batch_summary(
    data: Study,
    means: pd.DataFrame,
    targets: pd.DataFrame,
    speeds: pd.DataFrame,
    memories: pd.DataFrame,
) -> pd.DataFrame:
    """Put everything about a batch size in one row: the table at the top of the report.

    Args:
        data: The study.
        means: As `bench.analysis.rules.rule_outcomes` returns; the re-tuned rule at equal epochs is shown.
        targets: As `bench.analysis.targets.to_target` returns.
        speeds: As `bench.analysis.speed.throughput` returns.
        memories: As `bench.analysis.speed.memory` returns.

    Returns:
        Columns `POINT`, `full_batch`, `status`, `test_accuracy`, `test_accuracy_lo`, `test_accuracy_hi`,
        `gap`, `n`, `n_diverged`, `lr`, `edge`, `steps_to_target`, `examples_to_target`, `seconds_to_target`
        (medians; nan where never reached), `reached`, `seeds` (of the seconds), `examples_per_second`,
        `peak_mib`, `step_mib`, `activation_mib`, `most_accurate`, `fewest_steps`, `fewest_examples`, `fewest_seconds`,
        `highest_throughput` (the best of its condition, by the point estimate; `most_accurate` by the task's own
        measure, so the lowest loss where that is it), `test_loss`, `test_loss_lo`, `test_loss_hi` (of the trials that
        did not diverge): one row per cell, also for those that failed.
    """
    tuned = means[(means["rule"] == "re-tuned") & (means["budget"] == "epochs")]
    columns = [
        "test_accuracy",
        "test_accuracy_lo",
        "test_accuracy_hi",
        "gap",
        "n",
        "n_diverged",
        "lr",
        "edge",
    ]
    losses = ["test_loss", "test_loss_lo", "test_loss_hi"]
    table = data.cells[[*POINT, "full_batch", "status"]].merge(tuned[[*POINT, *columns]], on=POINT, how="left")
    for measure in ("steps", "examples", "seconds"):
        rows = targets[targets["measure"] == measure]
        table = table.merge(
            rows[[*POINT, "median"]].rename(columns={"median": f"{measure}_to_target"}), on=POINT, how="left"
        )
    counts = targets.loc[targets["measure"] == "seconds", [*POINT, "reached", "n"]].rename(columns={"n": "seeds"})
    table = table.merge(counts, on=POINT, how="left")
    table = table.merge(speeds[[*POINT, "examples_per_second"]], on=POINT, how="left")
    table = table.merge(memories[[*POINT, "peak_mib", "step_mib", "activation_mib"]], on=POINT, how="left")
    table = table.merge(tuned[[*POINT, *losses]], on=POINT, how="left")
    judged = table.merge(data.cells[[*POINT, "measure"]], on=POINT, how="left")
    # The mean loss of the trials that survived would flatter a batch size of which some diverged.
    flattered = (judged["measure"] == "loss") & (judged["n_diverged"] > 0)
    table["most_accurate"] = _is_best(
        table.assign(goodness_=(direction(judged) * values(judged, "test")).mask(flattered)), "goodness_", "max"
    )
    for name in ("steps_to_target", "examples_to_target", "seconds_to_target"):
        table[f"fewest_{name.split('_')[0]}"] = _is_best(table, name, "min")
    table["highest_throughput"] = _is_best(table, "examples_per_second", "max")
    return table.sort_values([*CONDITION, "batch_size"], ignore_index=True)


def _is_best(table: pd.DataFrame, column: str, end: Literal["min", "max"]) -> "pd.Series[bool]":
    grouped = table.groupby(CONDITION)[column]
    best = grouped.transform("min") if end == "min" else grouped.transform("max")
    return table[column].notna() & (table[column] == best)
