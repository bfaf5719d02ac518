"""What rounds of windows say: throughput and its interval, drift, the step-time model, powers of two.

Every function takes the samples of `bench.measure.throughput` as a table: columns round, place, optimizer,
batch_size, control, steps, examples, seconds.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.intervals import CONFIDENCE, verdict
from bench.analysis.speed import step_time_model
from bench.measure.intervals import median_interval

#: Drift of the control that is flagged, and how far two times per example may be apart and yet the same.
MARGIN = 0.02
#: Bootstrap samples of the rounds.
RESAMPLES = 2000
#: Smallest power of two that is held against its neighbours: below it a step is hardly anything but fixed costs.
LEAST_POWER = 8

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """How the machine's speed moved, as the control saw it.

    Attributes:
        rounds: The control's examples per second in each round, the median of its windows there.
        drift: Fraction by which it was slower in the later half of the rounds than in the earlier.
        spread: Fraction by which its fastest round was faster than its slowest.
        flagged: Whether the drift is beyond 2 % in either direction: then trust ratios within a round, not single
            times.
    """

    rounds: tuple[float, ...]
    drift: float
    spread: float
    flagged: bool


def drift(samples: pd.DataFrame) -> Drift:
    """Return how the control moved over the rounds.

    Args:
        samples: At least two rounds.
    """
    rates = _control(samples)
    half = len(rates) // 2
    moved = float(rates.iloc[:half].median() / rates.iloc[-half:].median() - 1)
    spread = float(rates.max() / rates.min() - 1)
    return Drift(tuple(float(rate) for rate in rates), moved, spread, abs(moved) > MARGIN)


def summarise(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the throughput of each cell.

    Returns:
        Columns optimizer, batch_size, and each with `_lo`, `_hi`, `_n` (median over the rounds, distribution-free
        interval of at least 95 % from six rounds on, rounds): examples_per_second; step_ms; example_us, microseconds
        an example, a round's taken at the control's median speed; over_control, its examples per second over those of
        the control in the same round.
    """
    rows = []
    for (optimizer, size), group in _windows(samples).groupby(["optimizer", "batch_size"]):
        row: dict[str, Any] = {"optimizer": optimizer, "batch_size": size}
        for name in ("examples_per_second", "step_ms", "example_us", "over_control"):
            found = median_interval(group[name].tolist())
            row |= {name: found.median, f"{name}_lo": found.lo, f"{name}_hi": found.hi, f"{name}_n": found.n}
        rows.append(row)
    return pd.DataFrame(rows)


def step_time_fits(samples: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Fit the step time t = t0 + t1·B of each optimizer, with percentile bootstrap intervals over the rounds.

    Step times are taken at the control's median speed, batch sizes as the mean batch that was seen. A round is drawn
    whole, so that what its cells share stays together. With ten rounds such intervals are a little too narrow.

    Args:
        samples: The windows.
        resamples: Bootstrap samples.
        seed: Of their drawing.

    Returns:
        Columns optimizer, t0_ms, t1_us (microseconds an example), knee (t0/t1: the batch size with half of the highest
        throughput; nan where the fit has none), each with `_lo`, `_hi`; worst, the largest |fit/time − 1| of its batch
        sizes; sizes, their number. No row of an optimizer with fewer than three.
    """
    draw, rows = np.random.default_rng(seed), []
    for optimizer, group in _windows(samples).groupby("optimizer"):
        times, batches = (
            group.pivot_table(index="round", columns="batch_size", values=name).to_numpy(dtype=float)
            for name in ("steady_step_ms", "mean_batch")
        )
        fitted = _fit(times, batches)
        if fitted is None:
            continue
        chosen = draw.integers(len(times), size=(resamples, len(times)))
        drawn = np.array([_fit(times[rows_], batches[rows_]) for rows_ in chosen])
        # A resample without a knee (a flat line) has one beyond every number.
        ends = np.nanpercentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)], axis=0, method="nearest")
        predicted = fitted[0] + fitted[1] / 1e3 * np.median(batches, axis=0)
        row: dict[str, Any] = {"optimizer": optimizer}
        for place, name in enumerate(("t0_ms", "t1_us", "knee")):
            row |= {name: _finite(fitted[place])}
            row |= {f"{name}_lo": _finite(ends[0, place]), f"{name}_hi": _finite(ends[1, place])}
        row["worst"] = float(np.abs(predicted / np.median(times, axis=0) - 1).max())
        rows.append(row | {"sizes": times.shape[1]})
    names = [f"{name}{end}" for name in ("t0_ms", "t1_us", "knee") for end in ("", "_lo", "_hi")]
    return pd.DataFrame(rows, columns=["optimizer", *names, "worst", "sizes"])


def powers_of_two(samples: pd.DataFrame) -> pd.DataFrame:
    """Hold the time per example at each 2^k from `LEAST_POWER` on against that at its measured neighbours 2^k ± 1.

    With both neighbours the time is held against their mean, in which what is fixed about a step weighs as it does at
    2^k; with one, the ratio holds some of that too: up to t0/(t0 + t1·B)/2^k.

    Returns:
        Columns optimizer, batch_size (2^k), beside (the neighbours, as words), ratio with `_lo`, `_hi`, `_n` (time per
        example at 2^k over that beside it, within a round: below 1 the power of two is faster), verdict on "a power of
        two takes less time per example" with a margin of 2 % (`bench.analysis.intervals.verdict`).
    """
    rows = []
    for optimizer, group in _windows(samples).groupby("optimizer"):
        wide = group.pivot_table(index="round", columns="batch_size", values="example_us")
        for size in (int(size) for size in wide.columns):
            beside = [near for near in (size - 1, size + 1) if near in wide.columns]
            if size < LEAST_POWER or size & (size - 1) or not beside:
                continue
            found = median_interval((wide[size] / wide[beside].mean(axis=1)).tolist())
            row: dict[str, Any] = {"optimizer": optimizer, "batch_size": size, "beside": ", ".join(map(str, beside))}
            row |= {"ratio": found.median, "ratio_lo": found.lo, "ratio_hi": found.hi, "ratio_n": found.n}
            rows.append(row | {"verdict": verdict(1 - found.median, 1 - found.hi, 1 - found.lo, MARGIN, 1)})
    columns = ["optimizer", "batch_size", "beside", "ratio", "ratio_lo", "ratio_hi", "ratio_n", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _control(samples: pd.DataFrame) -> "pd.Series[float]":
    """Return the control's examples per second by round."""
    control = samples[samples["control"].astype(bool)]
    return (control["examples"] / control["seconds"]).groupby(control["round"]).median()


def _windows(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the windows of the cells, with times, rates and what the control was in their round."""
    control = _control(samples)
    cells = samples[~samples["control"].astype(bool)].reset_index(drop=True)
    rate = cells["examples"] / cells["seconds"]
    over = rate / cells["round"].map(control)
    steady = over * control.median()
    return cells.assign(
        examples_per_second=rate,
        step_ms=1e3 * cells["seconds"] / cells["steps"],
        over_control=over,
        example_us=1e6 / steady,
        mean_batch=cells["examples"] / cells["steps"],
        steady_step_ms=1e3 * cells["examples"] / cells["steps"] / steady,
    )


def _fit(times: Array, batches: Array) -> tuple[float, float, float] | None:
    """Return t0 in ms, t1 in µs and the knee of rounds × batch sizes; an infinite knee where t1 is 0."""
    model = step_time_model(np.median(batches, axis=0), np.median(times, axis=0))
    if model is None:
        return None
    fixed, slope = model
    return fixed, 1e3 * slope, fixed / slope if slope > 0 else math.inf


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan
