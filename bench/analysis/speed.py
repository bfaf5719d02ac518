"""Throughput and memory against batch size."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.rows import split
from bench.analysis.study import CONDITION, POINT, condition_of

MIB = 2.0**20

#: Parts of a step in the order in which they come, and the column of the exported cells that holds each.
PARTS = {"data": "data_ms", "forward": "forward_ms", "backward": "backward_ms", "update": "optimizer_step_ms"}
#: A control that moved by more than this fraction while a cell was measured says that the machine did, either way.
STEADY = 0.02


def throughput(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the measured speed of every cell that has one.

    Args:
        cells: Columns of the exported cells table.

    Returns:
        Columns `POINT`, `full_batch`, and `examples_per_second`, `step_ms`, `optimizer_step_ms`, each with
        `_lo`, `_hi`, `_n`; `drift`, the fraction by which a control that never changes got slower meanwhile (nan where
        none was measured), and `unsteady`, whether that is more than `STEADY` in either direction.
    """
    columns = [*POINT, "full_batch"]
    for name in ("examples_per_second", "step_ms", "optimizer_step_ms"):
        columns += [name, f"{name}_lo", f"{name}_hi", f"{name}_n"]
    columns += ["drift"]
    table = cells.loc[cells["examples_per_second"].notna(), columns].reset_index(drop=True)
    numeric = columns[len(POINT) + 1 :]
    table = table.astype(dict.fromkeys(numeric, float))
    return table.assign(unsteady=table["drift"].abs() > STEADY)


def step_parts(cells: pd.DataFrame) -> pd.DataFrame:
    """Return what a step is made of, for every cell whose parts were all measured.

    The parts are measured each by itself, so that together they need not be a whole step to the last microsecond.

    Args:
        cells: Columns of the exported cells table.

    Returns:
        One row per cell and part, in the order of `PARTS`: columns `POINT`, `full_batch`, `part`, `ms` with `ms_lo` and
        `ms_hi`, `n` (windows), `share` (of the sum of the parts), `step_ms` (the whole, measured as one) and
        `parts_over_step` (the sum of the parts over it).
    """
    columns = [f"{column}{end}" for column in PARTS.values() for end in ("", "_lo", "_hi", "_n")]
    known = cells[cells[list(PARTS.values())].notna().all(axis=1)]
    known = known.astype(dict.fromkeys(columns, float)).reset_index(drop=True)
    total = known[list(PARTS.values())].sum(axis=1)
    frames = [
        known[[*POINT, "full_batch"]].assign(
            part=part,
            ms=known[column],
            ms_lo=known[f"{column}_lo"],
            ms_hi=known[f"{column}_hi"],
            n=known[f"{column}_n"],
            share=known[column] / total,
            step_ms=known["step_ms"].astype(float),
            parts_over_step=total / known["step_ms"].astype(float),
        )
        for part, column in PARTS.items()
    ]
    return pd.concat(frames, ignore_index=True).sort_values(POINT, kind="stable", ignore_index=True)


def memory(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the measured memory of every cell that has one, in MiB.

    Args:
        cells: Columns of the exported cells table.

    Returns:
        Columns `POINT`, `full_batch`, `peak_mib` (device memory allocated at peak on CUDA; elsewhere the
        process's resident peak), `peak_kind` ("allocated" or "resident"), `base_rss_mib`, `step_mib` (what a
        step holds by
        count: parameters, gradients, optimizer state, activations), `activation_mib`, `state_mib`.
    """
    known = cells[cells["activation_bytes"].notna()].reset_index(drop=True)
    numbers = {
        name: known[name].astype(float)
        for name in (
            "peak_allocated_mib",
            "peak_rss_mib",
            "base_rss_mib",
            "activation_bytes",
            "parameter_bytes",
            "gradient_bytes",
            "state_bytes",
        )
    }
    allocated = numbers["peak_allocated_mib"]
    counted = ["activation_bytes", "parameter_bytes", "gradient_bytes", "state_bytes"]
    return known[[*POINT, "full_batch"]].assign(
        peak_mib=allocated.fillna(numbers["peak_rss_mib"]),
        peak_kind=np.where(allocated.notna(), "allocated", "resident"),
        base_rss_mib=numbers["base_rss_mib"],
        step_mib=sum((numbers[name] for name in counted), start=pd.Series(0.0, index=known.index)) / MIB,
        activation_mib=numbers["activation_bytes"] / MIB,
        state_mib=numbers["state_bytes"] / MIB,
    )


def step_time_model(batch_sizes: npt.ArrayLike, step_ms: npt.ArrayLike) -> tuple[float, float] | None:
    """Fit the step time t = t0 + t1·B by least squares of relative residuals.

    Args:
        batch_sizes: Batch sizes, examples.
        step_ms: Milliseconds per step.

    Returns:
        t0 in milliseconds and t1 in milliseconds per example, neither negative; None with fewer than three
        batch sizes. t0/t1 is the knee: the batch size at which half of the highest throughput is reached.
    """
    batch, time = np.asarray(batch_sizes, dtype=float), np.asarray(step_ms, dtype=float)
    if np.unique(batch).size < 3:
        return None
    design = np.column_stack([1 / time, batch / time])
    ones = np.ones_like(time)
    (fixed, slope), *_ = np.linalg.lstsq(design, ones)
    if fixed < 0 or slope < 0:
        # Two coefficients, one constraint active: the least-squares fit with the other alone.
        column = 1 if fixed < 0 else 0
        only = float(design[:, column] @ ones / (design[:, column] @ design[:, column]))
        return (0.0, only) if fixed < 0 else (only, 0.0)
    return float(fixed), float(slope)


def speed_summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Summarise throughput and memory per condition, from the smallest to the largest measured batch size.

    Args:
        cells: Columns of the exported cells table.

    Returns:
        Columns `CONDITION`, `batch_small`, `batch_large`, `eps_small`, `eps_large` (examples per second),
        `eps_ratio` with `eps_ratio_lo`, `eps_ratio_hi` (from the ends of the two intervals), `batch_fastest`,
        `knee` (examples; nan where the fit has none), `peak_small`, `peak_large` (MiB), `peak_kind`,
        `activation_small`, `activation_large` (MiB), `step_small`, `step_large` (MiB held by count).
    """
    fast, held = throughput(cells), memory(cells)
    rows: list[dict[str, Any]] = []
    for key, group in split(fast.sort_values([*CONDITION, "batch_size"]), CONDITION):
        sizes, speeds = group["batch_size"].tolist(), group["examples_per_second"].tolist()
        least, most = (group[f"examples_per_second_{end}"].tolist() for end in ("lo", "hi"))
        model = step_time_model(group["batch_size"], group["step_ms"])
        rows.append(
            condition_of(key)
            | {
                "batch_small": sizes[0],
                "batch_large": sizes[-1],
                "eps_small": speeds[0],
                "eps_large": speeds[-1],
                "eps_ratio": speeds[-1] / speeds[0],
                "eps_ratio_lo": least[-1] / most[0],
                "eps_ratio_hi": most[-1] / least[0],
                "batch_fastest": sizes[int(np.argmax(speeds))],
                "knee": model[0] / model[1] if model and model[1] > 0 else math.nan,
            }
        )
    columns = [
        *CONDITION,
        "batch_small",
        "batch_large",
        "eps_small",
        "eps_large",
        "eps_ratio",
        "eps_ratio_lo",
    ]
    columns += ["eps_ratio_hi", "batch_fastest", "knee"]
    table = pd.DataFrame(rows, columns=columns)
    return table.merge(_memory_ends(held), on=CONDITION, how="outer")


def _memory_ends(held: pd.DataFrame) -> pd.DataFrame:
    ordered = held.sort_values([*CONDITION, "batch_size"])
    return ordered.groupby(CONDITION, as_index=False).agg(
        memory_batch_small=("batch_size", "first"),
        memory_batch_large=("batch_size", "last"),
        peak_small=("peak_mib", "first"),
        peak_large=("peak_mib", "last"),
        peak_kind=("peak_kind", "first"),
        activation_small=("activation_mib", "first"),
        activation_large=("activation_mib", "last"),
        step_small=("step_mib", "first"),
        step_large=("step_mib", "last"),
    )
