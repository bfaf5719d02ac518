"""Budgets are cuts through the curves: what each trial had reached after equal epochs, steps or seconds."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.rows import codes
from bench.analysis.study import CONDITION, METRICS, POINT, TRIAL, Study

#: Budget → its column in the trials table and in the evaluations. `end` is whatever the run's own budget
#: gave.
AXES = {
    "epochs": ("epochs", "epoch"),
    "steps": ("steps", "step"),
    "examples": ("examples", "examples"),
    "seconds": ("train_seconds", "train_seconds"),
}
BUDGETS = (*AXES, "end")

#: What tells trials apart.
_KEYS = ["cell", "lr", "seed"]

#: A budget given as a decimal number of epochs is reached by an evaluation that differs only in rounding.
ROUNDING = 1 + 1e-9


def common_budgets(trials: pd.DataFrame) -> pd.DataFrame:
    """Find the largest budgets that every batch size of a condition reached.

    A batch size has reached what its shortest complete trial reached; batch sizes without a complete trial
    are left out of the minimum (their diverged trials count as failed at any budget).

    Args:
        trials: Columns `POINT`, `status`, `steps`, `epochs`, `examples`, `train_seconds`.

    Returns:
        Columns `CONDITION`, `epochs`, `steps`, `examples`, `seconds`: one row per condition.
    """
    complete = trials[trials["status"] == "complete"]
    columns = {budget: column for budget, (column, _) in AXES.items()}
    least = complete.groupby(CONDITION, as_index=False)[list(columns.values())].min()
    return least.rename(columns={column: budget for budget, column in columns.items()})


def untrained_levels(evaluations: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of every metric before the first step, per task.

    Args:
        evaluations: As in `Study`.
        cells: Columns `cell`, `task`.

    Returns:
        Index `task`, columns `METRICS`; nan where nothing was evaluated at step 0.
    """
    start = evaluations[evaluations["step"] == 0].merge(cells[["cell", "task"]], on="cell")
    tasks = sorted(set(cells["task"]))
    return start.groupby("task")[METRICS].mean().reindex(tasks)


def cuts(data: Study) -> pd.DataFrame:
    """Cut every trial of a complete cell at every budget: its last evaluation at or before it.

    Cells that are not complete are left out: a grid of which a part is missing has no best learning rate.
    A trial that diverged before the cut is kept and marked: its accuracies are those of the untrained model
    (0 where that was not evaluated; none where the task has no accuracy), its losses infinite. One that was
    interrupted before the cut is marked missing.

    Returns:
        Columns `TRIAL`, `budget`, `budget_value` (nan for `end`), `diverged`, `missing`, `step`, `epoch`,
        `examples`, `train_seconds`, `METRICS`, `measure`, `test_examples` (both as in `Study.cells`): one row per
        trial and budget.
    """
    trials = data.complete_trials()
    limits = common_budgets(trials)
    base = trials[["cell", *TRIAL, "status"]]
    runs = _Runs(data.evaluations, base)
    frames = []
    for budget in BUDGETS:
        frame = base.copy()
        frame["budget"] = budget
        if budget == "end":
            frame["budget_value"] = np.nan
            limit = pd.Series(np.inf, index=frame.index)
        else:
            merged = frame[CONDITION].merge(limits[[*CONDITION, budget]], on=CONDITION, how="left")
            frame["budget_value"] = merged[budget].to_numpy(dtype=float)
            limit = frame["budget_value"]
        of_trial: npt.NDArray[np.float64] = np.asarray(limit, dtype=np.float64)
        frames.append(_cut(runs, frame, of_trial, budget))
    table = pd.concat(frames, ignore_index=True)
    levels = untrained_levels(data.evaluations, data.cells)
    table = table.merge(data.cells[["cell", "measure", "test_examples"]], on="cell", how="left")
    for metric in METRICS:
        untrained = table["task"].map(levels[metric])
        untrained = untrained.mask(untrained.isna() & (table["measure"] == "accuracy"), 0.0)
        table[metric] = table[metric].mask(table["diverged"], untrained if metric.endswith("accuracy") else np.inf)
    return table.drop(columns=["cell", "status"]).sort_values(["budget", *TRIAL], ignore_index=True)


class _Runs:
    """Where each trial's evaluations stand among all: from `starts` on, so many as `lengths`.

    Args:
        evaluations: As in `Study`.
        trials: Columns `cell`, `lr`, `seed`.
    """

    def __init__(self, evaluations: pd.DataFrame, trials: pd.DataFrame) -> None:
        self.evaluations = evaluations.reset_index(drop=True)
        key = codes(self.evaluations, _KEYS)
        self.starts = np.flatnonzero(np.diff(key, prepend=-1))
        self.lengths = np.diff(self.starts, append=len(key))
        known = self.evaluations.loc[self.starts, _KEYS].assign(run_=np.arange(self.starts.size))
        #: Of each trial, the number of its run; −1 where nothing was evaluated.
        self.of_trial = trials[_KEYS].merge(known, on=_KEYS, how="left")["run_"].fillna(-1).to_numpy(dtype=int)

    def last(self, axis: str, limits: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return the place of each trial's last evaluation at or before its limit on an axis; −1 where it has none."""
        if not self.starts.size:
            return np.full(len(limits), -1)
        known = self.of_trial >= 0
        of_run = np.full(self.starts.size, np.nan)
        of_run[self.of_trial[known]] = limits[known]
        before = self.evaluations[axis].to_numpy(dtype=float) <= np.repeat(of_run, self.lengths)
        last = np.maximum.reduceat(np.where(before, np.arange(before.size), -1), self.starts)
        return np.where(known, last[self.of_trial], -1)

    def ends(self) -> npt.NDArray[np.int64]:
        """Return the place of each trial's last evaluation; −1 where it has none."""
        ends: npt.NDArray[np.int64] = np.append(self.starts + self.lengths - 1, -1)[self.of_trial]
        return ends


def _cut(runs: _Runs, trials: pd.DataFrame, limit: npt.NDArray[np.float64], budget: str) -> pd.DataFrame:
    axis = AXES[budget][1] if budget in AXES else "step"
    limit = limit * ROUNDING
    kept = ~np.isnan(limit)
    trials, limit, at_cut, at_end = trials[kept], limit[kept], runs.last(axis, limit)[kept], runs.ends()[kept]
    found = runs.evaluations.drop(columns=_KEYS).reindex(at_cut)
    reached = runs.evaluations[axis].reindex(at_end).to_numpy(dtype=float)
    table = pd.concat([trials, found.set_index(trials.index)], axis=1)
    # What ended beyond the cut had, at the cut, not yet diverged or been interrupted.
    ended_early = ~(reached > limit)
    lost = table[METRICS].isna().all(axis=1)
    table["diverged"] = (table["status"] == "diverged") & (ended_early | lost)
    table["missing"] = (table["status"] == "interrupted") & ended_early | lost & ~table["diverged"]
    return table


def reached(table: pd.DataFrame) -> pd.DataFrame:
    """Return the budgets at which a condition was cut: columns `CONDITION`, `budget`, `budget_value`."""
    return table[[*CONDITION, "budget", "budget_value"]].drop_duplicates(ignore_index=True)


def points(table: pd.DataFrame) -> pd.DataFrame:
    """Return the different grid points of a table, columns `POINT`, in order."""
    return table[POINT].drop_duplicates().sort_values(POINT, ignore_index=True)
