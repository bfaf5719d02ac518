"""Claims of what a step costs: memory, and time per example."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from bench.analysis.curves import Line, fit_line, knee
from bench.analysis.intervals import CONFIDENCE, t_quantile
from bench.analysis.rows import Rows, split
from bench.analysis.speed import MIB
from bench.analysis.statistics.differences import paired_estimator
from bench.analysis.statistics.estimates import Estimate, StudentT
from bench.analysis.study import CONDITION, POINT, condition_of
from bench.analysis.throughput import LEAST_POWER
from bench.claims.claim import Claim
from bench.claims.contrasts import notes
from bench.claims.evidence import Data, Evidence

Array = npt.NDArray[np.float64]

#: Fewer windows have no interval of 95 % (`bench.measure.intervals.median_interval`).
LEAST_WINDOWS = 6
#: log2 of examples per second, its standard error, and the number of windows.
Log = tuple[float, float, int]


def bigger_batches_need_more_memory(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C16: memory that a line a + b·B adds from the smallest to the largest batch size, over what it is at the first.

    Measured at peak (allocated on a CUDA device; else resident, of a process of its own where there was one), and
    counted (parameters, gradients, optimizer state, activations). The interval is that of the line over batch sizes,
    at least three: a cell is measured once. The note holds the measured slope against the counted one.
    """
    cells = data.results.study.cells
    held = data.results.memory.sort_values([*CONDITION, "batch_size"])
    fresh = cells["peak_process_mib"].astype(float) if "peak_process_mib" in cells else np.nan
    held = held.merge(cells[POINT].assign(alone=fresh), on=POINT, how="left")
    for key, rows in split(held, CONDITION):
        condition = condition_of(key)
        if not claim.speaks_of(condition["task"]):
            continue
        sizes, peak, kind = (
            rows["batch_size"].astype(float),
            rows["peak_mib"].astype(float),
            str(rows.first("peak_kind")),
        )
        if kind == "resident" and np.isfinite(rows["alone"]).all():
            peak, kind = rows["alone"], "resident, own process"
        counted = rows["step_mib"].astype(float)
        for measure, values in ((f"peak ({kind.partition(',')[0]})", peak), ("counted", counted)):
            known = np.isfinite(values) & (values > 0)
            if np.unique(sizes[known]).size < 3:
                continue
            line = fit_line(sizes[known], values[known])
            yield Evidence(
                condition,
                partial(_growth, line, sizes[known], values[known]),
                measure=measure,
                source="memory.csv",
                note="" if measure == "counted" else notes(kind, _against(line, sizes, values, counted)),
            )


def _growth(line: Line, sizes: Array, mib: Array, confidence: float) -> Estimate:
    """Return b·(largest − smallest) ÷ (a + b·smallest), the share by which a line rises; n is the batch sizes."""
    start, span = line.intercept.estimate + line.slope.estimate * sizes.min(), sizes.max() - sizes.min()
    start = start if start > 0 else float(mib[sizes.argmin()])
    slope = line.slope_estimator(confidence)
    return Estimate(slope.estimate * span / start, slope.lo * span / start, slope.hi * span / start, line.n, confidence)


def _against(line: Line, sizes: Array, peak: Array, counted: Array) -> str:
    """Hold the measured slope against the counted one, in words; empty where either is not known."""
    known = np.isfinite(peak) & np.isfinite(counted) & (peak > 0) & (counted > 0)
    if np.unique(sizes[known]).size < 3:
        return ""
    measured = line.slope if known.sum() == line.n else fit_line(sizes[known], peak[known]).slope
    predicted = fit_line(sizes[known], counted[known]).slope.estimate
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
    fast = data.results.throughput.sort_values([*CONDITION, "batch_size"], kind="stable")
    for key, rows in split(fast, CONDITION):
        condition = condition_of(key)
        if not claim.speaks_of(condition["task"]) or len(rows) < 2:
            continue
        said = [_knee(rows)]
        others = {"largest against smallest": 0}
        if len(rows) > 2:
            others["largest against fastest between"] = 1 + int(rows["examples_per_second"][1:-1].argmax())
        sizes = rows["batch_size"]
        for measure, other in others.items():
            yield Evidence(
                condition,
                _log_ratio(_log_error(rows, -1), _log_error(rows, other)),
                measure=measure,
                source="throughput.csv",
                note=notes(f"batch {sizes[-1]:g} against {sizes[other]:g}", *said),
            )


def _knee(rows: Rows) -> str:
    """Say at which batch size half of the highest throughput is reached; empty with fewer than three."""
    if np.unique(rows["batch_size"]).size < 3:
        return ""
    found = knee(rows["batch_size"], rows["step_ms"])
    if not math.isfinite(found.estimate):
        return "a step takes no longer with more examples"
    return f"half of the highest throughput at batch {found.estimate:.3g} ({found.lo:.3g} … {found.hi:.3g})"


def _log_error(rows: Rows, place: int) -> Log:
    """Return log2 of examples per second in a row, its standard error and the number of windows.

    The tables have the interval of a median at 95 %, not the windows: half of its width in the logarithm is taken as
    t standard errors, so that other confidences have an interval too. Distribution-free intervals are at least as wide
    as they say, and so is what comes of them.
    """
    rate, low, high, n = (float(rows[f"examples_per_second{end}"][place]) for end in ("", "_lo", "_hi", "_n"))
    windows = int(n) if math.isfinite(n) else 0
    if windows < LEAST_WINDOWS or not (low > 0 and math.isfinite(high)):
        return math.log2(rate), math.nan, windows
    half = (math.log2(high) - math.log2(low)) / 2
    return math.log2(rate), half / t_quantile((1 + CONFIDENCE) / 2, windows - 1), windows


def _log_ratio(one: Log, other: Log) -> StudentT:
    """Return the difference of two independent logarithms, with Welch's degrees of freedom.

    Source: Welch, Biometrika 34 (1947).
    """
    (a, error_a, n_a), (b, error_b, n_b) = one, other
    error, n = math.hypot(error_a, error_b), min(n_a, n_b)
    degrees = float(n - 1)
    if error > 0:
        degrees = error**4 / (error_a**4 / (n_a - 1) + error_b**4 / (n_b - 1))
    return StudentT(a - b, error, degrees, n)


def powers_of_two_are_faster(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C18: log2 of the time per example at 2^k over that at its measured neighbours 2^k ± 1.

    One place for all powers, with an interval over them, and one for each that has intervals of windows. With one
    neighbour the ratio holds some of what is fixed about a step, too: up to 1/2^k. Cells are measured one after the
    other, so where both have a control each time is taken in units of its own cell's: the same matrix product,
    measured in between.
    """
    cells, fast = data.results.study.cells, data.results.throughput
    control = cells["control_ms"].astype(float) if "control_ms" in cells else np.nan
    fast = fast.merge(cells[POINT].assign(control=control), on=POINT, how="left")
    for key, rows in split(fast.sort_values([*CONDITION, "batch_size"], kind="stable"), CONDITION):
        condition = condition_of(key)
        if not claim.speaks_of(condition["task"]):
            continue
        found = _powers(rows)
        for size, (ratio, beside) in found.items():
            yield Evidence(
                condition,
                ratio,
                measure=f"batch {size}",
                source="throughput.csv",
                note=f"against {' and '.join(map(str, beside))}",
            )
        if len(found) > 1:
            yield Evidence(
                condition,
                paired_estimator([ratio.estimate for ratio, _ in found.values()]),
                measure="all powers",
                source="throughput.csv",
                note=f"{len(found)} powers of two, {min(found)} to {max(found)}",
            )


def _powers(rows: Rows) -> dict[int, tuple[StudentT, list[int]]]:
    """Return log2 time per example at powers of two minus the mean of that at their neighbours, and these."""
    control = rows["control"]
    # Of a condition that has no control everywhere none is taken.
    control = control if (control > 0).all() else np.ones(len(rows))
    places = {int(size): place for place, size in enumerate(rows["batch_size"])}

    def steady(size: int) -> Log:
        value, error, windows = _log_error(rows, places[size])
        return value + math.log2(control[places[size]]), error, windows

    found = {}
    for size in places:
        beside = [near for near in (size - 1, size + 1) if near in places]
        if size >= LEAST_POWER and not size & (size - 1) and beside:
            logs, count = [steady(near) for near in beside], len(beside)
            mean = sum(value for value, _, _ in logs) / count
            error = math.hypot(*(error for _, error, _ in logs)) / count
            found[size] = _log_ratio((mean, error, min(windows for _, _, windows in logs)), steady(size)), beside
    return found
