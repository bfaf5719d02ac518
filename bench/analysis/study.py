"""The three exported tables, arranged for analysis: one cell per grid point, one row per evaluation."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.measures import measure_names
from bench.analysis.rows import codes

#: What is held fixed while the batch size varies.
CONDITION = ["task", "model", "optimizer", "device", "precision"]
#: A condition without the optimizer: what a reader compares optimizers within.
SETTING = ["task", "model", "device", "precision"]
#: One point of the grid.
POINT = [*CONDITION, "batch_size"]
#: One trial of a point.
TRIAL = [*POINT, "lr", "seed"]

METRICS = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy"]


@dataclass(frozen=True)
class Study:
    """What the analysis works on.

    Attributes:
        cells: The exported cells table, one row per `POINT`, with `measure`: "accuracy" or "loss", what the task is
            judged by (`bench.analysis.measures`).
        trials: The exported trials of these cells.
        evaluations: One row per trial and evaluation: `cell`, `lr`, `seed`, `step`, `epoch`, `examples`,
            `train_seconds`, `METRICS`; sorted by the first four.
        repeated: Rows of cells left out because another cell has the same `POINT`.
    """

    cells: pd.DataFrame
    trials: pd.DataFrame
    evaluations: pd.DataFrame
    repeated: pd.DataFrame

    def complete_trials(self) -> pd.DataFrame:
        """Return the trials of complete cells: those that can be compared."""
        complete = self.cells.loc[self.cells["status"] == "complete", "cell"]
        return self.trials[self.trials["cell"].isin(complete)].reset_index(drop=True)


def study(cells: pd.DataFrame, trials: pd.DataFrame, curves: pd.DataFrame) -> Study:
    """Arrange the exported tables.

    A task with turned knobs and an optimizer with another method than the plain step are conditions of their own, named
    after both. Where several cells share a `POINT` all the same (they differ in something else, such as the grid of
    learning rates), the complete one with the most trials stands for it, and of equals the one with the smallest id.

    Args:
        cells: Columns `bench.results.tables.CELL_COLUMNS`; exports of earlier versions have fewer.
        trials: Columns `bench.results.tables.TRIAL_COLUMNS`.
        curves: Columns `bench.results.tables.CURVE_COLUMNS`.
    """
    if "test_examples" not in cells:
        cells = cells.assign(test_examples=np.nan)
    # One example is no sample: where a trial's place is the result, there is nothing else to draw.
    cells = cells.assign(test_examples=cells["test_examples"].where(cells["test_examples"] > 1))
    cells, trials = _named(*(_typed(table) for table in (cells, trials)))
    cells["measure"] = cells["task"].map(measure_names(cells, curves)).astype(object)
    ranked = cells.assign(
        complete_=(cells["status"] == "complete").astype(int),
        trials_=cells["cell"].map(trials.groupby("cell").size()).fillna(0),
    ).sort_values([*POINT, "complete_", "trials_", "cell"], ascending=[True] * 6 + [False, False, True])
    first = ~ranked.duplicated(POINT)
    order = [*CONDITION, "batch_size"]
    chosen = ranked[first].drop(columns=["complete_", "trials_"]).sort_values(order, ignore_index=True)
    repeated = ranked[~first].drop(columns=["complete_", "trials_"]).sort_values(order, ignore_index=True)
    return Study(
        cells=chosen,
        trials=trials[trials["cell"].isin(chosen["cell"])].reset_index(drop=True),
        evaluations=evaluations(curves if repeated.empty else curves[curves["cell"].isin(chosen["cell"])]),
        repeated=repeated,
    )


def _named(cells: pd.DataFrame, trials: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Name tasks after their turned knobs, and optimizers after their method."""
    for name, beside in (("task", "knobs"), ("optimizer", "method")):
        if beside not in cells or not (told := cells[beside].fillna("").astype(str)).any():
            continue
        names = cells[name].where(told == "", cells[name] + " (" + told + ")").astype(object)
        cells = cells.assign(**{name: names})
        of_cell = dict(zip(cells["cell"], names, strict=True))
        trials = trials.assign(**{name: trials["cell"].map(of_cell).fillna(trials[name])})
    return cells, trials


#: Columns of the exported tables that are whole, true or false, or text; the others are numbers.
_WHOLE = ["batch_size", "seed"]
_TRUTHS = ["full_batch"]
_TEXTS = [
    "sweep",
    "cell",
    *CONDITION,
    "status",
    "hardware",
    "implementation",
    "target_metric",
    "reason",
    "digest",
    "measure",
    "stacking",
    "knobs",
    "method",
    "engine_reason",
    "parameters",
]


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Give every column its type, which a table without rows or without values does not know."""
    types: dict[Hashable, Any] = {}
    for name in table.columns:
        if name in _WHOLE:
            types[name] = "int64"
        elif name in _TRUTHS:
            types[name] = "bool"
        else:
            types[name] = "object" if name in _TEXTS else "float64"
    return table.astype(types)


def evaluations(curves: pd.DataFrame) -> pd.DataFrame:
    """Put the metrics of an evaluation side by side.

    Args:
        curves: Columns `cell`, `lr`, `seed`, `step`, `epoch`, `examples`, `train_seconds`, `split`, `metric`,
            `value`: one row per metric.

    Returns:
        Columns `cell`, `lr`, `seed`, `step`, `epoch`, `examples`, `train_seconds`, `METRICS`: one row per
        evaluation, sorted by the first four; a metric that was not taken is nan.
    """
    keys = ["cell", "lr", "seed", "step"]
    columns = [*keys, "epoch", "examples", "train_seconds", *METRICS]
    if curves.empty:
        return pd.DataFrame({name: pd.Series(dtype=object if name == "cell" else float) for name in columns})
    group = codes(curves, keys)
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    wide = curves[[*keys, "epoch", "examples", "train_seconds"]].iloc[first].reset_index(drop=True)
    wide["cell"] = wide["cell"].astype(object)
    # Texts are compared once, as numbers: there are six rows to every evaluation.
    split_codes, splits = pd.factorize(curves["split"])
    metric_codes, metrics = pd.factorize(curves["metric"])
    value = curves["value"].to_numpy(dtype=float)
    for name in METRICS:
        split, metric = name.split("_")
        if split not in splits or metric not in metrics:
            wide[name] = np.nan
            continue
        rows = (split_codes == splits.get_loc(split)) & (metric_codes == metrics.get_loc(metric))
        column = np.full(len(wide), np.nan)
        column[inverse[rows]] = value[rows]
        wide[name] = column
    return wide


def conditions(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the different conditions, columns `CONDITION`, in order."""
    return cells[CONDITION].drop_duplicates().sort_values(CONDITION, ignore_index=True)


def select(frame: pd.DataFrame, **keys: object) -> pd.DataFrame:
    """Return the rows whose columns equal the given values."""
    keep = np.ones(len(frame), dtype=bool)
    for name, value in keys.items():
        keep &= (frame[name] == value).to_numpy(dtype=bool)
    return frame[keep]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries, column → value."""
    # Not to_dict, which takes a millisecond for a row or two, and is asked for thousands of them.
    names = [str(name) for name in frame.columns]
    columns = (frame.iloc[:, place].tolist() for place in range(len(names)))
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def condition_of(key: Sequence[Any]) -> dict[str, str]:
    """Return the values of `CONDITION` that a key begins with, by name."""
    return dict(zip(CONDITION, map(str, key[: len(CONDITION)]), strict=True))


def data_set(task: str) -> str:
    """Return the data set of a task's name: what stands before the slash."""
    return task.split("/")[0]
