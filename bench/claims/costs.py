"""Claims of what a step costs: memory, and time per example."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.curves import fit_line, knee
from bench.analysis.intervals import CONFIDENCE, t_quantile
from bench.analysis.speed import MIB
from bench.analysis.statistics.differences import paired_difference
from bench.analysis.statistics.estimates import Estimate, t_estimate
from bench.analysis.study import CONDITION, records
from bench.analysis.throughput import LEAST_POWER
from bench.claims.claim import Claim
from bench.claims.contrasts import notes
from bench.claims.evidence import Data, Evidence

Array = npt.NDArray[np.float64]

#: Fewer windows have no interval of 95 % (`bench.measure.intervals.median_interval`).
LEAST_WINDOWS = 6


def bigger_batches_need_more_memory(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C16: memory that a line a + b·B adds from the smallest to the largest batch size, over what it is at the first.

    Measured at peak (allocated on a CUDA device; else resident, of a process of its own where there was one), and
    counted (parameters, gradients, optimizer state, activations). The interval is that of the line over batch sizes,
    at least three: a cell is measured once. The note holds the measured slope against the counted one.
    """
    cells = data.results.study.cells
    held = data.results.memory
    fresh = cells.set_index([*CONDITION, "batch_size"]).get("peak_process_mib")
    for key, group in held.groupby(CONDITION, sort=True):
        condition = dict(zip(CONDITION, map(str, key), strict=True))
        if not claim.speaks_of(condition["task"]):
            continue
        group = group.sort_values("batch_size")
        sizes = group["batch_size"].to_numpy(dtype=float)
        peak, kind = group["peak_mib"].to_numpy(dtype=float), str(group["peak_kind"].iloc[0])
        if kind == "resident" and fresh is not None:
            alone = fresh.loc[[(*key, size) for size in group["batch_size"]]].to_numpy(dtype=float)
            peak, kind = (alone, "resident, own process") if np.isfinite(alone).all() else (peak, kind)
        counted = group["step_mib"].to_numpy(dtype=float)
        for measure, values in ((f"peak ({kind.partition(',')[0]})", peak), ("counted", counted)):
            known = np.isfinite(values) & (values > 0)
            if np.unique(sizes[known]).size < 3:
                continue
            yield Evidence(
                condition,
                partial(_growth, sizes[known], values[known]),
                measure=measure,
                source="memory.csv",
                note="" if measure == "counted" else notes(kind, _against(sizes, values, counted)),
            )


def _growth(sizes: Array, mib: Array, confidence: float) -> Estimate:
    """Return b·(largest − smallest) ÷ (a + b·smallest), the share by which a line rises; n is the batch sizes."""
    line = fit_line(sizes, mib, confidence)
    start, span = line.intercept.estimate + line.slope.estimate * sizes.min(), sizes.max() - sizes.min()
    start = start if start > 0 else float(mib[sizes.argmin()])
    slope = line.slope
    return Estimate(slope.estimate * span / start, slope.lo * span / start, slope.hi * span / start, line.n, confidence)


def _against(sizes: Array, peak: Array, counted: Array) -> str:
    """Hold the measured slope against the counted one, in words; empty where either is not known."""
    known = np.isfinite(peak) & np.isfinite(counted) & (peak > 0) & (counted > 0)
    if np.unique(sizes[known]).size < 3:
        return ""
    measured, predicted = (
        fit_line(sizes[known], peak[known]).slope,
        fit_line(sizes[known], counted[known]).slope.estimate,
    )
    if predicted <= 0:
        return ""
    ends = f"{measured.lo / predicted:.2f} … {measured.hi / predicted:.2f}"
    said = f"{measured.estimate * MIB:.0f} bytes an example, {predicted * MIB:.0f} counted"
    return f"{said}: a ratio of {measured.estimate / predicted:.2f} ({ends})"


def bigger_batches_are_faster(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C17: log2 of examples per second at the largest batch size over those at another.

    At the smallest, which is the claim as people make it, and at the fastest of those in between, which is chosen by
    being so: there the claim can be refuted by a batch that is faster than the largest. Intervals are from windows.
    """
    for key, group in data.results.throughput.groupby(CONDITION, sort=True):
        condition = dict(zip(CONDITION, map(str, key), strict=True))
        rows = records(group.sort_values("batch_size"))
        if not claim.speaks_of(condition["task"]) or len(rows) < 2:
            continue
        said = [_knee(group)]
        others = {"largest against smallest": rows[0]}
        if len(rows) > 2:
            others["largest against fastest between"] = max(rows[1:-1], key=lambda row: row["examples_per_second"])
        for measure, other in others.items():
            yield Evidence(
                condition,
                partial(_log_ratio, _log_error(rows[-1]), _log_error(other)),
                measure=measure,
                source="throughput.csv",
                note=notes(f"batch {rows[-1]['batch_size']:g} against {other['batch_size']:g}", *said),
            )


def _knee(group: pd.DataFrame) -> str:
    """Say at which batch size half of the highest throughput is reached; empty with fewer than three."""
    if group["batch_size"].nunique() < 3:
        return ""
    found = knee(group["batch_size"], group["step_ms"])
    if not math.isfinite(found.estimate):
        return "a step takes no longer with more examples"
    return f"half of the highest throughput at batch {found.estimate:.3g} ({found.lo:.3g} … {found.hi:.3g})"


def _log_error(row: dict[str, object]) -> tuple[float, float, int]:
    """Return log2 of examples per second, its standard error and the number of windows.

    The tables have the interval of a median at 95 %, not the windows: half of its width in the logarithm is taken as
    t standard errors, so that other confidences have an interval too. Distribution-free intervals are at least as wide
    as they say, and so is what comes of them.
    """
    value, lo, hi, n = (row[f"examples_per_second{end}"] for end in ("", "_lo", "_hi", "_n"))
    windows = int(float(str(n))) if math.isfinite(float(str(n))) else 0
    rate, low, high = float(str(value)), float(str(lo)), float(str(hi))
    if windows < LEAST_WINDOWS or not (low > 0 and math.isfinite(high)):
        return math.log2(rate), math.nan, windows
    half = (math.log2(high) - math.log2(low)) / 2
    return math.log2(rate), half / t_quantile((1 + CONFIDENCE) / 2, windows - 1), windows


def _log_ratio(one: tuple[float, float, int], other: tuple[float, float, int], confidence: float) -> Estimate:
    """Return the difference of two independent logarithms, with Welch's degrees of freedom.

    Source: Welch, Biometrika 34 (1947).
    """
    (a, error_a, n_a), (b, error_b, n_b) = one, other
    error, n = math.hypot(error_a, error_b), min(n_a, n_b)
    degrees = float(n - 1)
    if error > 0:
        degrees = error**4 / (error_a**4 / (n_a - 1) + error_b**4 / (n_b - 1))
    return t_estimate(a - b, error, degrees, n, confidence)


def powers_of_two_are_faster(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C18: log2 of the time per example at 2^k over that at its measured neighbours 2^k ± 1.

    One place for all powers, with an interval over them, and one for each that has intervals of windows. With one
    neighbour the ratio holds some of what is fixed about a step, too: up to 1/2^k. Cells are measured one after the
    other, so where both have a control each time is taken in units of its own cell's: the same matrix product,
    measured in between.
    """
    cells = data.results.study.cells
    for key, group in data.results.throughput.groupby(CONDITION, sort=True):
        condition = dict(zip(CONDITION, map(str, key), strict=True))
        if not claim.speaks_of(condition["task"]):
            continue
        control = _controls(cells, group)
        rows = {int(row["batch_size"]): row for row in records(group)}
        ratios = {size: _beside(rows, control, size) for size in sorted(rows)}
        found = {size: ratio for size, ratio in ratios.items() if ratio}
        for size, (logs, beside) in found.items():
            yield Evidence(
                condition,
                partial(_time_ratio, logs),
                measure=f"batch {size}",
                source="throughput.csv",
                note=f"against {' and '.join(map(str, beside))}",
            )
        if len(found) > 1:
            means = [_time_ratio(logs, CONFIDENCE).estimate for logs, _ in found.values()]
            yield Evidence(
                condition,
                partial(paired_difference, np.array(means)),
                measure="all powers",
                source="throughput.csv",
                note=f"{len(found)} powers of two, {min(found)} to {max(found)}",
            )


Logs = tuple[tuple[float, float, int], Sequence[tuple[float, float, int]]]


def _controls(cells: pd.DataFrame, group: pd.DataFrame) -> dict[int, float]:
    """Return the control's milliseconds by batch size; 1 for all where one of them has none."""
    sizes = [int(size) for size in group["batch_size"]]
    if "control_ms" in cells:
        rows = cells.merge(group[[*CONDITION, "batch_size"]], on=[*CONDITION, "batch_size"])
        times = rows["control_ms"].astype(float)
        if len(rows) == len(sizes) and (times > 0).all():
            return dict(zip(rows["batch_size"].astype(int), times, strict=True))
    return dict.fromkeys(sizes, 1.0)


def _beside(rows: dict[int, dict[str, object]], control: dict[int, float], size: int) -> tuple[Logs, list[int]] | None:
    """Return log2 of examples in a control's time at a power of two and at its neighbours, and these; None for none."""
    beside = [near for near in (size - 1, size + 1) if near in rows]
    if size < LEAST_POWER or size & (size - 1) or not beside:
        return None

    def steady(at: int) -> tuple[float, float, int]:
        value, error, windows = _log_error(rows[at])
        return value + math.log2(control[at]), error, windows

    return (steady(size), [steady(near) for near in beside]), beside


def _time_ratio(logs: Logs, confidence: float) -> Estimate:
    """Return log2 time per example at a batch size minus the mean of that at its neighbours."""
    own, beside = logs
    count = len(beside)
    mean = sum(value for value, _, _ in beside) / count
    error = math.hypot(*(error for _, error, _ in beside)) / count
    windows = min(windows for _, _, windows in beside)
    return _log_ratio((mean, error, windows), own, confidence)
