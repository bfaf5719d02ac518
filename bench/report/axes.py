"""Axes that several figures share: batch sizes in octaves, plain numbers, legends that cover nothing."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from bench.analysis import words
from bench.analysis.measures import Measure
from bench.report.messages import Messages
from bench.report.style import DASHES, INK, MARKERS, PAPER, SERIES

Array = npt.NDArray[np.float64]


def batch_axis(axes: Axes, sizes: Sequence[int], full: set[int], say: Messages, most: int = 8) -> None:
    """Label the horizontal axis with the batch sizes measured, the full batch by name.

    Args:
        axes: Axes to set up; its horizontal scale becomes logarithmic.
        sizes: Batch sizes of the figure, ascending.
        full: Those that are the whole training split.
        say: The language of the label.
        most: How many labels fit side by side.
    """
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    _label(axes, {size: size for size in spread(sizes, most)}, full, say)
    axes.xaxis.set_minor_locator(NullLocator())


def batch_places(
    axes: Axes, sizes: Sequence[int], full: set[int], say: Messages, most: int, first: float = 0.0
) -> list[int]:
    """Label a horizontal axis on which batch sizes stand side by side, one apart; return which of them are labelled.

    Args:
        axes: Axes to set up.
        sizes: Batch sizes, ascending.
        full: Those that are the whole training split.
        say: The language of the label.
        most: How many labels fit side by side.
        first: Where the first one stands.
    """
    shown = spread(sizes, most)
    _label(axes, {size: sizes.index(size) + first for size in shown}, full, say)
    return shown


def _label(axes: Axes, places: Mapping[int, float], full: set[int], say: Messages) -> None:
    """Write batch sizes where they stand on the horizontal axis."""
    axes.xaxis.set_major_locator(FixedLocator(list(places.values())))
    axes.xaxis.set_major_formatter(FixedFormatter([say.short_batch(size, size in full) for size in places]))
    axes.set_xlabel(say("axis.batch"))


def spread(sizes: Sequence[int], most: int) -> list[int]:
    """Choose which of ascending sizes to label: both ends, and no two closer than the labels are wide."""
    if len(sizes) < 2:
        return list(sizes)
    octaves = np.log2(np.asarray(sizes, dtype=float))
    least = max((octaves[-1] - octaves[0]) / most, 1e-9)
    shown = [0]
    for index in range(1, len(sizes) - 1):
        if octaves[index] - octaves[shown[-1]] >= least * 0.999 and octaves[-1] - octaves[index] >= least * 0.999:
            shown.append(index)
    return [sizes[index] for index in [*shown, len(sizes) - 1]]


def number_axis(axes: Axes, label: str, log: bool = True) -> None:
    """Label the vertical axis with plain numbers: 0.01, 1, 20k."""
    axes.set_ylabel(label)
    if log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        decades = np.log10(high / low)
        subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value)))


#: Accuracies to label on the error scale, where they fit.
_ACCURACIES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999, 1.0)
#: Below this error the scale is linear in the accuracy, so that an accuracy of 1 has its place: so many decades from
#: there.
_LEAST_ERROR, _LAST_DECADES = 5e-4, 0.3


def accuracy_axis(axes: Axes, label: str, low: float, high: float) -> None:
    """Make the vertical axis of accuracies (fractions) logarithmic in the error, labelled in percent.

    What matters near 95 % and what happens near 10 % are then both to be seen.

    Args:
        axes: Axes to set up.
        label: What the accuracies are.
        low: Smallest accuracy to be seen.
        high: Largest accuracy to be seen.
    """
    axes.set_yscale("function", functions=(_to_error_scale, _from_error_scale))
    ends = _to_error_scale(np.array([min(low, 0.999), high]))
    pad = max(0.06 * (ends[1] - ends[0]), 0.02)
    ends = np.array([ends[0] - pad, ends[1] + pad])
    axes.set_ylim(*_from_error_scale(ends))
    inside = [a for a in _ACCURACIES if ends[0] <= _to_error_scale(np.array(a)) <= ends[1]]
    if len(inside) < 3:
        step = 0.01 if high - low > 0.02 else 0.005
        inside = list(np.arange(np.ceil(low / step) * step, high + step / 2, step))
    gap = 0.075 * (ends[1] - ends[0])
    shown: list[float] = []
    for value in inside[::-1]:
        if not shown or abs(_to_error_scale(np.array(shown[-1])) - _to_error_scale(np.array(value))) > gap:
            shown.append(float(value))
    axes.yaxis.set_major_locator(FixedLocator(shown))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 2):g}"))
    axes.set_ylabel(label)


def measure_axis(axes: Axes, measure: Measure, label: str, low: float, high: float) -> None:
    """Set up the vertical axis for a task's own measure: `accuracy_axis` or `loss_axis`.

    Args:
        axes: Axes to set up, with everything drawn.
        measure: What the task is judged by.
        label: What the values are, as `Messages.axis` says it.
        low: Smallest value to be seen.
        high: Largest value to be seen.
    """
    if measure.name == "accuracy":
        accuracy_axis(axes, label, low, high)
    else:
        loss_axis(axes, label, low, high)


def loss_axis(axes: Axes, label: str, low: float, high: float) -> None:
    """Make the vertical axis of losses logarithmic where all are positive, else linear.

    Args:
        axes: Axes to set up.
        label: What the losses are.
        low: Smallest loss to be seen.
        high: Largest loss to be seen.
    """
    if low > 0:
        pad = max((high / low) ** 0.06, 1.02)
        axes.set_yscale("log")
        axes.set_ylim(low / pad, high * pad)
    else:
        pad = 0.06 * (high - low) or 1.0
        axes.set_ylim(low - pad, high + pad)
    number_axis(axes, label, log=low > 0)
    if low > 0 and high / low < 100:
        # Losses of one task lie close together; fewer than three labels would be left of a decade and a half.
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))


def shade(measure: Measure, values: pd.DataFrame) -> pd.DataFrame:
    """Return what a colour map is to show of values of a measure: greater is better, spread as on its axis."""
    if measure.name == "accuracy":
        goodness = -np.log10(np.maximum(1 - values.to_numpy(dtype=float), 1e-4))
    else:
        goodness = -values.to_numpy(dtype=float)
        if np.nanmax(goodness, initial=-np.inf) < 0:
            goodness = -np.log10(-goodness)
    return pd.DataFrame(goodness, index=values.index, columns=values.columns)


def _to_error_scale(accuracy: Array) -> Array:
    error = 1 - np.asarray(accuracy, dtype=float)
    scaled: Array = -np.log10(np.maximum(error, _LEAST_ERROR))
    return scaled + np.maximum(_LEAST_ERROR - error, 0) * (_LAST_DECADES / _LEAST_ERROR)


def _from_error_scale(scaled: Array) -> Array:
    beyond = np.maximum(np.asarray(scaled, dtype=float) + np.log10(_LEAST_ERROR), 0)
    error: Array = 10.0 ** -(np.asarray(scaled, dtype=float) - beyond)
    accuracy: Array = 1 - error + beyond * (_LEAST_ERROR / _LAST_DECADES)
    return accuracy


def percent_axis(axes: Axes, label: str) -> None:
    """Label the vertical axis, whose data are fractions, in percent."""
    axes.set_ylabel(label)
    low, high = axes.get_ylim()
    digits = 0 if high - low > 0.04 else 1 if high - low > 0.004 else 2
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.{digits}f}".replace("-", "−")))


def dodge(sizes: Sequence[float], index: int, of: int) -> list[float]:
    """Shift batch sizes a little, so that the marks of several series stand side by side."""
    step = 0.11 if of > 1 else 0.0
    return [size * 2 ** (step * (index - (of - 1) / 2)) for size in sizes]


#: Dashes of grey guide lines, which are no data.
GUIDES: tuple[tuple[float, ...], ...] = ((2, 2), (7, 3))


def guide(axes: Axes, x: Sequence[float], y: Sequence[float], index: int = 0) -> None:
    """Draw a grey line that shows a slope to compare with, without changing the limits of the axes."""
    limits = axes.get_ylim()
    axes.plot(x, y, color=INK, alpha=0.45, linewidth=1, linestyle=(0, GUIDES[index]), zorder=1)
    axes.set_ylim(*limits)


def legend(
    figure: Canvas,
    names: Sequence[str],
    colours: Sequence[str] = SERIES,
    columns: int = 4,
    guides: Sequence[str] = (),
    markers: bool = True,
) -> None:
    """Put a legend above the axes, where it covers no data; guide lines come last."""
    handles = [
        Line2D(
            [],
            [],
            color=colours[index],
            marker=MARKERS[index] if markers else None,
            linestyle=(0, DASHES[index]) if DASHES[index] else "-",  # type: ignore[arg-type]
            markersize=6,
            label=name,
        )
        for index, name in enumerate(names)
    ]
    handles += [
        Line2D([], [], color=INK, alpha=0.45, linewidth=1, linestyle=(0, GUIDES[index]), label=name)
        for index, name in enumerate(guides)
    ]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=min(columns, len(handles)),
        handlelength=2.6,
        columnspacing=1.3,
        borderaxespad=0.2,
    )


def hollow_rings(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Ring marks that stand at the edge of a grid: the true value may lie beyond."""
    axes.scatter(x, y, s=110, facecolors="none", edgecolors=INK, linewidths=1.1, zorder=5)


def never_band(axes: Axes, x: Sequence[float], colour: str, marker: str) -> None:
    """Mark at the upper rim what never reached the target: a hollow mark, where a number would be a guess."""
    axes.scatter(
        x,
        [1.0] * len(x),
        transform=axes.get_xaxis_transform(),
        marker=marker,
        s=42,
        facecolors=PAPER,
        edgecolors=colour,
        linewidths=1.5,
        clip_on=False,
        zorder=6,
    )
