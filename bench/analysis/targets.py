"""Steps, examples, seconds and gradients to the target, against batch size; trials that never got there are kept."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.intervals import log2_slope
from bench.analysis.rows import Groups, Rows, split
from bench.analysis.study import CONDITION, POINT, condition_of

MEASURES = {
    "steps": "steps_to_target",
    "examples": "examples_to_target",
    "seconds": "seconds_to_target",
    "gradients": "gradient_evaluations_to_target",
}


def measured(trials: pd.DataFrame) -> dict[str, str]:
    """Return the measures that the trials have, and their columns; records of old versions do not count gradients."""
    old = "gradients" if not trials.get("gradient_evaluations_to_target", pd.Series(dtype=float)).notna().any() else ""
    return {measure: column for measure, column in MEASURES.items() if measure != old}


def price(targets: pd.DataFrame) -> str:
    """Return what optimizers are compared by: gradients to the target, where the records count them, else steps.

    A step is one update. Some optimizers compute many gradients for it, so that steps flatter them.

    Args:
        targets: As `to_target` returns.
    """
    return "gradients" if (targets["measure"] == "gradients").any() else "steps"


def to_target(trials: pd.DataFrame) -> pd.DataFrame:
    """Find, per grid point and measure, the learning rate that reaches the target soonest.

    Per learning rate the median over seeds is taken with trials that never reached the target as infinite, so
    a median is finite only where more than half of the seeds got there (half, for an even number, is not
    enough). The smallest median wins; ties go to the rate that more seeds reached the target with, then to
    the smaller. Choosing the best of several medians is optimistic, alike for all batch sizes with the same
    grid.

    Args:
        trials: Columns `POINT`, `lr`, `seed`, `status`, `steps_to_target`, `examples_to_target`,
            `seconds_to_target`; trials of complete cells. Of these, an interrupted trial that had not reached
            the target is left out. `gradient_evaluations_to_target` too, where the records have it.

    Returns:
        Columns `POINT`, `measure` (of `measured`), `lr`, `edge`, `median` (nan where never
        reached), `least`, `most` (range over the seeds that reached it), `reached`, `n` (seeds): one row per
        point and measure.

    Source: protocol of Shallue et al., arXiv 1811.03600, section 4.
    """
    frames = []
    for measure, column in measured(trials).items():
        known = trials[(trials["status"] != "interrupted") | trials[column].notna()]
        value = known[column].astype(float)
        table = known[[*POINT, "lr"]].assign(value_=value.fillna(np.inf), finite_=value)
        per_rate = table.groupby([*POINT, "lr"], as_index=False).agg(
            median=("value_", "median"),
            least=("finite_", "min"),
            most=("finite_", "max"),
            reached=("finite_", "count"),
            n=("value_", "size"),
        )
        ranked = per_rate.sort_values([*POINT, "median", "reached", "lr"], ascending=[True] * 7 + [False, True])
        best = ranked.drop_duplicates(POINT)
        grid = per_rate.groupby(POINT, as_index=False).agg(lr_lo=("lr", "min"), lr_hi=("lr", "max"))
        best = best.merge(grid, on=POINT)
        at_end = (best["lr"] == best["lr_lo"]) | (best["lr"] == best["lr_hi"])
        best["edge"] = at_end & (best["lr_lo"] < best["lr_hi"]) & np.isfinite(best["median"])
        frames.append(best.assign(measure=measure, median=best["median"].replace(np.inf, np.nan)))
    columns = [*POINT, "measure", "lr", "edge", "median", "least", "most", "reached", "n"]
    table = pd.concat([frame[columns] for frame in frames], ignore_index=True)
    return table.sort_values([*CONDITION, "measure", "batch_size"], ignore_index=True)


def seeds_to_target(trials: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """Return each seed's way to the target at the learning rate chosen by `to_target`.

    Args:
        trials: As for `to_target`.
        best: As `to_target` returns.

    Returns:
        Columns `POINT`, `measure`, `lr`, `seed`, `status`, `value` (nan where never reached).
    """
    frames = []
    for measure, column in measured(trials).items():
        chosen = best.loc[best["measure"] == measure, [*POINT, "measure", "lr"]]
        rows = chosen.merge(trials[[*POINT, "lr", "seed", "status", column]], on=[*POINT, "lr"])
        frames.append(rows.rename(columns={column: "value"}).astype({"value": float}))
    table = pd.concat(frames, ignore_index=True)
    return table.sort_values([*CONDITION, "measure", "batch_size", "seed"], ignore_index=True)


def scaling(best: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """Describe how steps to target and the best learning rate move with the batch size.

    Args:
        best: As `to_target` returns.
        choices: As `bench.analysis.rules.retuned` returns.

    Returns:
        Columns `CONDITION`, `quantity` ("steps to target" or "best learning rate"), `slope`, `lo`, `hi` (of
        log2 of the quantity on log2 batch size, 95 % t interval), `n` (batch sizes), `n_edge` (best learning
        rates at the edge of their grid among them), `b_perfect` (largest B with S(B) ≤ 1.2 S(B0) B0/B),
        `b_max` (smallest B with S(B) ≤ 1.1 min S), both for steps alone.

    Source: the three regimes of arXiv 1811.03600; slope −1 is perfect scaling, 0 maximal data parallelism.
    """
    rows: list[dict[str, Any]] = []
    tuned = Groups(choices[(choices["budget"] == "end") & ~choices["all_diverged"]], CONDITION)
    for key, group in split(best[best["measure"] == "steps"], CONDITION):
        keys = condition_of(key)
        reached = group.where(~np.isnan(group["median"]))
        rows.append(
            keys | _slope_row("steps to target", reached, "median") | regimes(reached["batch_size"], reached["median"])
        )
        rows.append(keys | _slope_row("best learning rate", tuned[key], "lr") | {"b_perfect": None, "b_max": None})
    columns = [*CONDITION, "quantity", "slope", "lo", "hi", "n", "n_edge", "b_perfect", "b_max"]
    return pd.DataFrame(rows, columns=columns)


def _slope_row(quantity: str, group: Rows, column: str) -> dict[str, Any]:
    fit = log2_slope(group["batch_size"], group[column])
    row: dict[str, Any] = {"quantity": quantity, "n": len(group), "n_edge": int(group["edge"].sum())}
    if fit is None:
        return row | {"slope": math.nan, "lo": math.nan, "hi": math.nan}
    return row | {"slope": fit.slope, "lo": fit.lo, "hi": fit.hi}


def regimes(batch_sizes: npt.ArrayLike, medians: npt.ArrayLike) -> dict[str, int | None]:
    """Return where perfect scaling ends and where more batch stops helping.

    Args:
        batch_sizes: Those that reached the target, shape (batches,).
        medians: Steps to target, shape (batches,).

    Returns:
        `b_perfect` and `b_max` as in `scaling`; None with fewer than two batch sizes.
    """
    sizes = np.asarray(batch_sizes, dtype=float)
    if sizes.size < 2:
        return {"b_perfect": None, "b_max": None}
    order = np.argsort(sizes)
    batch, needed = sizes[order], np.asarray(medians, dtype=float)[order]
    perfect = batch[needed <= 1.2 * needed[0] * batch[0] / batch]
    flat = batch[needed <= 1.1 * needed.min()]
    return {"b_perfect": int(perfect.max()), "b_max": int(flat.min())}
