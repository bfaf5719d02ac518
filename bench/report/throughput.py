"""Tables, figure and Markdown of `bench throughput`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.analysis import words
from bench.analysis.study import records
from bench.analysis.throughput import Drift
from bench.report.axes import batch_axis, legend
from bench.report.messages import messages
from bench.report.style import DASHES, INK, MARKERS, SERIES, Drawing, canvas, figure_style, svg

#: Title, names of the columns, rows in words.
Table = tuple[str, Sequence[str], list[Sequence[str]]]

TITLE = "Time per example against batch size"


def tables(cells: pd.DataFrame, fits: pd.DataFrame, powers: pd.DataFrame) -> list[Table]:
    """Return the results in words: throughput, step-time fits, powers of two; those that have no row are left out.

    Args:
        cells: As `bench.analysis.throughput.summarise` returns them.
        fits: Likewise `step_time_fits`.
        powers: Likewise `powers_of_two`.
    """
    found: list[Table] = [
        (
            "throughput",
            ("optimizer", "batch", "examples/s", "ms a step", "µs an example", "over the control"),
            [
                (
                    str(row["optimizer"]),
                    words.count(row["batch_size"]),
                    *(_interval(row, name) for name in ("examples_per_second", "step_ms", "example_us")),
                    _interval(row, "over_control"),
                )
                for row in records(cells)
            ],
        ),
        (
            "step time t0 + t1·batch",
            ("optimizer", "t0, ms a step", "t1, µs an example", "knee t0/t1, examples", "worst residual"),
            [
                (
                    str(row["optimizer"]),
                    *(_interval(row, name) for name in ("t0_ms", "t1_us", "knee")),
                    words.percent(row["worst"]),
                )
                for row in records(fits)
            ],
        ),
        (
            "does a power of two take less time per example than its neighbours?",
            ("optimizer", "batch", "beside", "time per example, ratio", "verdict"),
            [
                (
                    str(row["optimizer"]),
                    words.count(row["batch_size"]),
                    str(row["beside"]),
                    _exact(row, "ratio"),
                    str(row["verdict"]),
                )
                for row in records(powers)
            ],
        ),
    ]
    return [table for table in found if table[2]]


def figure(cells: pd.DataFrame, fits: pd.DataFrame, subject: str) -> Drawing:
    """Draw time per example against batch size, with intervals and the fits.

    Args:
        cells: As `bench.analysis.throughput.summarise` returns them.
        fits: Likewise `step_time_fits`.
        subject: What was measured, in words.
    """
    optimizers, sizes = list(dict.fromkeys(cells["optimizer"])), sorted({int(size) for size in cells["batch_size"]})
    ends = {
        name: cells[cells["optimizer"] == name].sort_values("batch_size").iloc[[0, -1]].to_dict("records")
        for name in optimizers
    }
    alt = f"{subject}, microseconds an example: " + "; ".join(
        f"{name} {words.number(first['example_us'])} at batch {first['batch_size']}, "
        f"{words.number(last['example_us'])} at {last['batch_size']}"
        for name, (first, last) in ends.items()
    )
    with figure_style():
        drawn = canvas(5.6, 4.0)
        axes = drawn.add_subplot()
        for index, name in enumerate(optimizers):
            colour = SERIES[index % len(SERIES)]
            line = cells[cells["optimizer"] == name].sort_values("batch_size")
            # Not set side by side as elsewhere: beside its fit a mark would seem to miss it.
            x = line["batch_size"].to_numpy(dtype=float)
            axes.vlines(x, line["example_us_lo"], line["example_us_hi"], color=colour, linewidth=1.3, zorder=2)
            sns.scatterplot(
                x=x,
                y=line["example_us"].to_numpy(dtype=float),
                ax=axes,
                color=colour,
                marker=MARKERS[index % len(MARKERS)],
                s=26,
                linewidth=0,
                legend=False,
                zorder=3,
            )
            for fit in records(fits[fits["optimizer"] == name]):
                along = np.geomspace(sizes[0], sizes[-1], 200)
                dash = DASHES[index % len(DASHES)]
                axes.plot(
                    along,
                    1e3 * fit["t0_ms"] / along + fit["t1_us"],
                    color=colour,
                    linewidth=1.2,
                    linestyle=(0, dash) if dash else "-",
                    zorder=1,
                )
                if math.isfinite(fit["knee"]) and sizes[0] <= fit["knee"] <= sizes[-1]:
                    axes.plot(fit["knee"], 2 * fit["t1_us"], marker="|", markersize=13, color=INK, zorder=4)
        powers = [size for size in sizes if size & (size - 1) == 0 or size in (sizes[0], sizes[-1])]
        batch_axis(axes, powers, set(), messages("en"))
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_locator(LogLocator(base=2))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value, 4)))
        axes.set_ylabel("microseconds an example")
        axes.set_title(TITLE)
        legend(drawn, optimizers, columns=3)
        return svg(drawn, "throughput", TITLE, alt)


def in_words(drift: Drift, control: str) -> str:
    """Say how the control moved, and what follows."""
    moved = f"control ({control}): {words.percent(abs(drift.drift))} "
    moved += f"{'slower' if drift.drift > 0 else 'faster'} in the later half of the rounds, "
    moved += f"{words.percent(drift.spread)} between its fastest and slowest round"
    if drift.flagged:
        return f"{moved}. Drift beyond 2 %: trust the ratios within a round, not single times"
    return f"{moved}. No drift beyond 2 %"


def markdown(result: Mapping[str, Any], found: Sequence[Table], alt: str) -> str:
    """Return the report that stands beside the figure.

    Args:
        result: What is written to throughput.json.
        found: As `tables` returns them.
        alt: What the figure shows.
    """
    environment, protocol, machine = result["environment"], result["protocol"], result["machine"]
    suite = f"suite {environment['suite']}" + (f" at {environment['commit']}" if environment["commit"] else "")
    lines = [
        f"# Throughput of {result['subject']}",
        "",
        f"`{result['command']}`",
        "",
        f"{protocol['rounds']} rounds of windows of about {protocol['window_seconds']:g} s of whole training steps "
        "(batch, forward, backward, update) of a single trial. Each round visits every cell once, in an order drawn "
        "anew, and the control at both ends and after every fourth cell. Medians over rounds with a distribution-free "
        "interval of at least 95 % (from six rounds on). Microseconds an example are taken at the control's median "
        "speed; ratios are taken within a round.",
        "",
        f"{environment['hardware']}, {words.plural(environment['threads'], 'thread')} of {environment['cores']} cores, "
        f"torch {environment['packages']['torch']}, Python {environment['python']}, {suite}.",
        _meanwhile(machine),
        "",
        f"{words.capital(result['drift']['words'])}.",
        "",
        f"![{alt}](throughput.svg)",
        "",
        "Bars are intervals of the median, lines the fits t0/batch + t1; the upright mark is the knee t0/t1, where "
        "half of the highest throughput of the fit is reached. The knee's interval is a bootstrap over rounds.",
    ]
    for title, header, rows in found:
        lines += ["", f"## {words.capital(title)}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += [
        "",
        "A power of two is *equivalent* where the whole interval of the ratio lies within ±2 %. `throughput.csv` "
        "has the numbers, `throughput.json` every window and the environment.",
    ]
    return "\n".join(lines) + "\n"


def _meanwhile(machine: Mapping[str, float]) -> str:
    """Say what else the machine did."""
    said = []
    if "others" in machine:
        said.append(f"other processes kept {machine['others']:.2f} cores busy on average")
    if "pressure" in machine:
        said.append(f"some task waited for a processor in {words.percent(machine['pressure'])} of the time")
    if "steal" in machine:
        said.append(f"the host took {words.percent(machine['steal'])} of the processors' time")
    return f"Meanwhile {words.listing(said)}; the intervals contain what that did." if said else ""


def _interval(row: Mapping[str, Any], name: str) -> str:
    low, high = (words.number(row[f"{name}_{end}"]) for end in ("lo", "hi"))
    return f"{words.number(row[name])} ({low} … {high})"


def _exact(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_lo']:.3f} … {row[f'{name}_hi']:.3f})"
