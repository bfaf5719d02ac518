"""Measures at evaluation points, arranged for claims: at a trial's end, along the steps, seeds by batch sizes."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.study import CONDITION, POINT, TRIAL, condition_of
from bench.claims.claim import Claim
from bench.claims.evidence import Data

Array = npt.NDArray[np.float64]


def groups(
    frame: pd.DataFrame, claim: Claim, further: Sequence[str] = ()
) -> Iterator[tuple[dict[str, str], tuple[str, ...], pd.DataFrame]]:
    """Yield the conditions that a claim is about, the values of further columns, and the rows of each."""
    if frame.empty:
        return
    for key, group in frame.groupby([*CONDITION, *further], sort=True):
        condition = condition_of(key)
        if claim.speaks_of(condition["task"]):
            yield condition, tuple(map(str, key[len(CONDITION) :])), group


def of_metric(data: Data, *metrics: str) -> pd.DataFrame:
    """Return the rows of measures with these names; those that are not finite numbers are left out."""
    if data.measures.empty:
        kinds = {"batch_size": int, "lr": float, "seed": int, "step": float, "value": float}
        names = ["cell", *TRIAL, "step", "metric", "value"]
        return pd.DataFrame({name: pd.Series(dtype=kinds.get(name, object)) for name in names})
    wanted = data.measures["metric"].isin(metrics) & np.isfinite(data.measures["value"])
    rows: pd.DataFrame = data.measures[wanted]
    return rows


def at_end(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the last row of each trial and metric."""
    return rows.sort_values("step", kind="stable").drop_duplicates([*TRIAL, "metric"], keep="last")


def by_rule(data: Data, rows: pd.DataFrame) -> pd.DataFrame:
    """Place what was measured at the end of trials under the learning-rate rules that chose their rates.

    Args:
        data: The sweep.
        rows: Measures of one metric or several.

    Returns:
        Columns `POINT`, `rule`, `lr`, `seed`, `diverged`, `train_loss`, `metric`, `value` (nan for a diverged trial,
        which is not measured where it ended).
    """
    outcomes = data.results.seed_outcomes
    outcomes = outcomes.loc[outcomes["budget"] == "end", [*POINT, "rule", "lr", "seed", "diverged", "train_loss"]]
    table = outcomes.merge(at_end(rows)[[*TRIAL, "metric", "value"]], on=TRIAL)
    return table.assign(value=table["value"].mask(table["diverged"].astype(bool)))


def retuned_trials(data: Data) -> pd.DataFrame:
    """Return the complete trials at the best learning rate of each batch size: columns `TRIAL`.

    The best on validation data with the whole of the run's budget.
    """
    choices = data.results.choices
    chosen = choices.loc[choices["budget"] == "end", [*POINT, "lr"]]
    trials = data.results.study.complete_trials()
    return trials.loc[trials["status"] == "complete", TRIAL].merge(chosen, on=[*POINT, "lr"])


def along(rows: pd.DataFrame) -> tuple[Array, Array, int]:
    """Arrange one metric of one batch size and learning rate as seeds × steps.

    Returns:
        Steps, ascending, shape (points,); values, shape (seeds, points); how many seeds were left out, because they
        lack some of the points.
    """
    table = rows.pivot_table(index="seed", columns="step", values="value", aggfunc="first")
    whole = table.dropna()
    return table.columns.to_numpy(dtype=float), whole.to_numpy(dtype=float), len(table) - len(whole)


def mean_over_steps(rows: pd.DataFrame) -> float:
    """Return the mean of one trial's values with every step counting the same, by the trapezoid rule."""
    ordered = rows.sort_values("step")
    steps, values = ordered["step"].to_numpy(dtype=float), ordered["value"].to_numpy(dtype=float)
    if len(steps) < 2:
        return float(values[0]) if len(values) else float("nan")
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))


def left_out(lost: int, of: int, what: str, why: str = "diverged") -> str:
    """Say how many seeds, pairs or trials are not in a statistic; nothing where all are."""
    return f"{lost} of {of} {what} left out ({why})" if lost else ""


def slopes(table: pd.DataFrame, value: str) -> Array:
    """Return each seed's least-squares slope of a column on the column `x`; without two different x there is none.

    Args:
        table: Columns `seed`, `x` and the value's.
        value: Name of the column.
    """
    found = []
    for _, rows in table.groupby("seed", sort=True):
        centred = rows["x"].to_numpy(dtype=float) - rows["x"].mean()
        if centred @ centred > 0:
            found.append(float(centred @ rows[value].to_numpy(dtype=float) / (centred @ centred)))
    return np.array(found)
