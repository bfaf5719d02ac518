"""The figure of a history: one panel a case, seconds against checks, changes of level marked with their commits."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator

from bench.analysis import words
from bench.report.axes import hollow_rings
from bench.report.style import INK, MARKERS, PAPER, SERIES, Drawing, canvas, figure_style, svg

#: Inches of a panel; so few panels stand in one column, which a phone shows at about its natural size.
WIDTH, HEIGHT, FEW = 4.7, 2.2, 4
#: Changes named in one panel; the tables name them all.
NAMED = 3
#: Share of a panel's width that the name of a change takes.
NAME = 0.31
#: An axis spans at least this much around its middle, so that noise looks like noise.
LEAST_SPAN = 0.16
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (0.0, "ns"))


def draw(series: pd.DataFrame, changes: pd.DataFrame, machines: dict[str, str]) -> Drawing:
    """Draw the history of every case.

    Args:
        series: As `bench.speed.trend.series` returns it, with at least one row.
        changes: As `bench.speed.trend.change_points` returns it.
        machines: Fingerprint id → what it is, in a few words.
    """
    cases = list(dict.fromkeys(series["case"]))
    names, styles = short_names(cases), _styles(series)
    dates = series.drop_duplicates("check").set_index("check")["time"].sort_index()
    columns = 1 if len(cases) < FEW else 2 if len(cases) <= 2 * FEW else 3
    rows = math.ceil(len(cases) / columns)
    with figure_style():
        figure = canvas(WIDTH * columns, HEIGHT * rows + 0.8 + 0.2 * min(len(styles), len(SERIES)))
        grid = figure.subplots(rows, columns, squeeze=False)
        for index, (axes, case) in enumerate(zip(grid.flat, cases, strict=False)):
            axes.set_xlim(dates.index[0] - 0.9, dates.index[-1] + 0.9)
            _panel(axes, series[series["case"] == case], styles)
            _changes(axes, changes[changes["case"] == case])
            axes.set_title("\n".join(textwrap.wrap(names[case], 48)), fontsize=9.5, pad=15)
            _check_axis(axes, dates, last=index + columns >= len(cases))
        for axes in grid.flat[len(cases) :]:
            axes.set_axis_off()
        _legend(figure, styles, machines, _marks(series, changes))
        return svg(figure, "speed-history", "Speed of each case, check by check", alt(series, changes))


def short_names(cases: Sequence[str]) -> dict[str, str]:
    """Return what tells each case apart: the test and its parameters, with the file where two are alike."""
    ends = {
        case: "::".join(case.partition("[")[0].split("::")[1:]) + "".join(case.partition("[")[1:]) for case in cases
    }
    ends = {case: end or case for case, end in ends.items()}
    return {case: end if list(ends.values()).count(end) == 1 else case for case, end in ends.items()}


def alt(series: pd.DataFrame, changes: pd.DataFrame) -> str:
    """Say in words what the figure shows."""
    cases = list(dict.fromkeys(series["case"]))
    machines, checks = series["fingerprint"].nunique(), series["check"].nunique()
    sentences = [
        f"Seconds of one call in {words.plural(checks, 'check')} of {words.plural(len(cases), 'case')} on "
        f"{words.plural(machines, 'machine')}."
    ]
    names = short_names(cases)
    for case in cases:
        rows, moved = series[series["case"] == case], changes[changes["case"] == case]
        last = rows.loc[rows["check"].idxmax()]
        steps = [f"{signed_percent(row['change'])} at {commit_name(row['commit'])}" for row in moved.to_dict("records")]
        sentences.append(f"{names[case]}: {duration(last['level'])}; {words.listing(steps) or 'no change of level'}.")
    return " ".join(sentences)


def duration(seconds: float) -> str:
    """Write the duration of a call with three digits: 412 µs, 1.24 ms."""
    size, unit = _unit(seconds)
    return f"{words.number(seconds / size)} {unit}" if math.isfinite(seconds) else "–"


def signed_percent(change: float) -> str:
    """Write a change, given as a fraction, in percent and always signed: −1.2 %."""
    if not math.isfinite(change):
        return "–"
    text = f"{100 * change:+.1f} %"
    return text.replace("-", "−") if text[1:] != "0.0 %" else "±0.0 %"


def commit_name(commit: object) -> str:
    """Write a commit; "unknown" for a missing one."""
    return commit if isinstance(commit, str) else "unknown"


def _unit(seconds: float) -> tuple[float, str]:
    size, unit = next(found for found in UNITS if seconds >= found[0] or found[0] == 0)
    return size or 1e-9, unit


def _styles(series: pd.DataFrame) -> dict[str, int]:
    """Give a colour and a marker to the fingerprints with most checks; the others share the last."""
    counts = series.groupby("fingerprint")["check"].nunique().sort_values(ascending=False, kind="stable")
    return {str(name): min(index, len(SERIES) - 1) for index, name in enumerate(counts.index)}


def _panel(axes: Axes, rows: pd.DataFrame, styles: dict[str, int]) -> None:
    size, unit = _unit(float(rows["level"].median()))
    values = rows["head_seconds"] / size
    for mark, group in rows.groupby("fingerprint", sort=False):
        index = styles[str(mark)]
        sns.scatterplot(
            x=group["check"],
            y=group["head_seconds"] / size,
            ax=axes,
            color=SERIES[index],
            marker=MARKERS[index],
            s=16,
            alpha=0.6,
            linewidth=0,
            legend=False,
            zorder=2,
        )
        for _, level in group.groupby("segment"):
            ends = [level["check"].iloc[0] - 0.4, level["check"].iloc[-1] + 0.4]
            axes.plot(ends, [level["level"].iloc[0] / size] * 2, color=SERIES[index], linewidth=2.2, zorder=3)
    flagged = rows[rows["verdict"] == "REGRESSION"]
    hollow_rings(axes, list(flagged["check"]), list(flagged["head_seconds"] / size))
    middle = (values.min() + values.max()) / 2
    half = max(values.max() - values.min(), LEAST_SPAN * middle) * 0.58
    axes.set_ylim(middle - half, middle + half)
    axes.set_xlabel("")
    axes.set_ylabel(unit, rotation=0, ha="right", va="center")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value)))


def _changes(axes: Axes, changes: pd.DataFrame) -> None:
    """Mark every change above the axes, and name the largest where their names have room."""
    low, high = axes.get_xlim()
    taken: list[tuple[float, float]] = []
    sizes = np.abs(np.log1p(changes["change"].to_numpy(dtype=float)))
    for place in np.argsort(-sizes, kind="stable"):
        row = changes.iloc[place]
        x = row["check"] - 0.5
        axes.axvline(x, color=INK, alpha=0.45, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.scatter(
            [x],
            [1.0],
            transform=axes.get_xaxis_transform(),
            marker="^" if row["change"] > 0 else "v",
            s=32,
            facecolors=PAPER if row["cause"] == "machine" else INK,
            edgecolors=INK,
            linewidths=0.9,
            clip_on=False,
            zorder=6,
        )
        part = (x - low) / (high - low)
        span = (part - 0.01, part + NAME) if part + NAME < 1.02 else (part - NAME, part + 0.01)
        if len(taken) < NAMED and all(span[1] <= other[0] or span[0] >= other[1] for other in taken):
            taken.append(span)
            right = span[0] < part - 0.02
            axes.annotate(
                f"{signed_percent(row['change'])} {commit_name(row['commit'])[:7]}",
                (x, 1.0),
                (-6 if right else 6, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right" if right else "left",
                va="bottom",
                fontsize=8.5,
                annotation_clip=False,
            )


def _check_axis(axes: Axes, dates: pd.Series, last: bool) -> None:
    """Label a few checks, in even steps, with their dates.

    Args:
        axes: Axes to set up.
        dates: Time of every check, by its number.
        last: Whether nothing stands below the axes.
    """
    shown = dates.iloc[np.unique(np.linspace(0, len(dates) - 1, min(4, len(dates))).round().astype(int))]
    axes.xaxis.set_major_locator(FixedLocator([float(check) for check in shown.index]))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{time.day} {time:%b}\n{time:%Y}" for time in shown]))
    axes.tick_params(labelbottom=last)
    axes.set_xlabel("check" if last else "")


def _legend(figure: Canvas, styles: dict[str, int], machines: dict[str, str], marks: Sequence[Line2D]) -> None:
    """Put the machines above the panels and what the marks mean below them."""
    rest, own = len(SERIES) - 1, {name: index for name, index in styles.items() if index < len(SERIES) - 1}
    texts = {index: f"{name}: {machines.get(name, 'unknown')}" for name, index in own.items()}
    if len(styles) > len(own):
        others = [name for name in styles if name not in own]
        texts[rest] = (
            f"{len(others)} others: {', '.join(others)}"
            if len(others) > 1
            else f"{others[0]}: {machines.get(others[0], 'unknown')}"
        )
    letters = int(figure.get_figwidth() * 12)
    handles = [
        Line2D(
            [],
            [],
            color=SERIES[index],
            marker=MARKERS[index],
            markersize=4.5,
            linewidth=2.2,
            label=textwrap.fill(text, letters),
        )
        for index, text in texts.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=1, handlelength=2, borderaxespad=0.2)
    if marks:
        ncols = 1 if figure.get_figwidth() < 2 * WIDTH else 4
        figure.legend(handles=list(marks), loc="outside lower left", ncols=ncols, handlelength=1.2, borderaxespad=0.2)


def _marks(series: pd.DataFrame, changes: pd.DataFrame) -> list[Line2D]:
    """Return the marks that occur."""
    slower, machine = changes["change"] > 0, changes["cause"] == "machine"
    found = [
        (slower & ~machine, "^", INK, 6, "slower from this commit on"),
        (~slower & ~machine, "v", INK, 6, "faster from this commit on"),
        (machine, "^", "none", 6, "hollow: pairs of processes saw no change of the code"),
        (series["verdict"] == "REGRESSION", "o", "none", 10, "the check called it a regression"),
    ]
    return [
        Line2D(
            [],
            [],
            color=INK,
            marker=m,
            markersize=s,
            markerfacecolor=face,
            markeredgewidth=0.9,
            linestyle="none",
            label=t,
        )
        for occurs, m, face, s, t in found
        if occurs.any()
    ]
