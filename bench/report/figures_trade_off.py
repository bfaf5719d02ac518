"""The trade-off: test result against training time, with a view for every budget and learning-rate rule.

All views share the axes, which are drawn once; what changes with them, paths and marks, lies over the axes in a layer
for each view. A page without a script, a printed page and the file of the drawing show the first view.
"""

import html
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.analysis import words
from bench.analysis.budgets import AXES
from bench.analysis.rules import RULES
from bench.analysis.study import POINT, records
from bench.report import descriptions
from bench.report.axes import legend
from bench.report.fonts import FONT_STACKS, half_ems
from bench.report.plot import Panel, Plot, Scene, tidy
from bench.report.style import DASHES, MARKERS, SERIES, canvas, svg

#: What is shown first: the largest budget that all batch sizes share, each at its own best rate.
FIRST = ("epochs", "re-tuned")
#: Radius of a mark that holds no memory, and of the one that holds most, in points.
LEAST_RADIUS, MOST_RADIUS = 2.6, 6.5
#: Rows of the data behind the figure that the page prints.
MOST_ROWS = 200

#: Marker of matplotlib → outline around 0 at radius 1, of about the area of the circle.
_OUTLINES = {
    "s": ((-0.89, -0.89), (0.89, -0.89), (0.89, 0.89), (-0.89, 0.89)),
    "^": ((0, -1.3), (1.25, 0.85), (-1.25, 0.85)),
    "v": ((0, 1.3), (1.25, -0.85), (-1.25, -0.85)),
    "D": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "P": tuple(
        (across * x, down * y)
        for across, down, points in (
            (1, -1, ((0.45, 1.2), (0.45, 0.45), (1.2, 0.45))),
            (1, 1, ((1.2, 0.45), (0.45, 0.45), (0.45, 1.2))),
            (-1, 1, ((0.45, 1.2), (0.45, 0.45), (1.2, 0.45))),
            (-1, -1, ((1.2, 0.45), (0.45, 0.45), (0.45, 1.2))),
        )
        for x, y in points
    ),
}


@dataclass(frozen=True)
class Switched(Plot):
    """A figure with a switch: every panel holds a layer for each view, of which one is shown.

    Attributes:
        switches: What can be chosen: name, label, and values with their words; the first value of each is shown first.
        notes: View (one value of each switch, joined by a space) → what it leaves out.
        most_rows: How many rows of its data the page prints.
    """

    switches: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    most_rows: int = MOST_ROWS

    def noted(self) -> dict[str, str]:
        """Return the notes by view."""
        return dict(self.notes)


def trade_off(scene: Scene) -> Switched | None:
    """Draw the test result against training seconds, the batch size along the path and memory as the size of marks."""
    measure, say = scene.measure, scene.say
    column = measure.column("test")
    rows = scene.rows(scene.results.rule_outcomes)
    # The end of a run is no budget that batch sizes share.
    rows = rows[rows["budget"].isin(list(AXES))].merge(
        scene.results.memory[[*POINT, "step_mib"]].drop_duplicates(POINT), on=POINT, how="left"
    )
    # Where every trial diverged, seconds are those to the crash.
    lost = (rows["n_diverged"] > 0) & (rows["n_diverged"] == rows["n"])
    rows = rows.assign(lost=lost, drawn=rows[column].notna() & (rows["train_seconds"] > 0) & ~lost)
    shown = rows[rows["drawn"]]
    if not (shown["budget"].eq(FIRST[0]) & shown["rule"].eq(FIRST[1])).any():
        return None
    budgets = [budget for budget in AXES if (shown["budget"] == budget).any()]
    rules = [rule for rule in RULES if (shown["rule"] == rule).any()]
    views = list(itertools.product(budgets, rules))
    order = {view: number for number, view in enumerate(views)}
    rows = rows[[view in order for view in zip(rows["budget"], rows["rule"], strict=True)]]
    rows["order_"] = [order[view] for view in zip(rows["budget"], rows["rule"], strict=True)]
    rows = rows.sort_values(["order_", "optimizer", "batch_size"], ignore_index=True)
    panels = [
        _panel(scene, rows[rows["optimizer"].isin(group)], views, group, number)
        for number, group in enumerate(scene.groups())
        if rows.loc[rows["drawn"], "optimizer"].isin(group).any()
    ]
    columns = ["budget", "budget_value", "rule", "optimizer", "batch_size", "lr", "outside", "n", "n_diverged"]
    columns += ["train_seconds", "step_mib", column, f"{column}_lo", f"{column}_hi"]
    words_of = {"budget": budgets, "rule": rules}
    return Switched(
        scene.name("trade-off"),
        _title(scene),
        _caption(scene, rows),
        tuple(panels),
        tidy(rows, columns),
        switches=tuple(
            (name, say(f"filter.{name}"), tuple((value, say.word(name, value)) for value in values))
            for name, values in words_of.items()
        ),
        notes=tuple((" ".join(view), _note(scene, _view(rows, view))) for view in views),
    )


def _title(scene: Scene) -> str:
    return scene.say("trade-off.title", Measure=words.capital(scene.say.word("measure", scene.measure.name)))


def _caption(scene: Scene, rows: pd.DataFrame) -> str:
    say, measure = scene.say, scene.measure
    better = say("trade-off.up" if measure.direction > 0 else "trade-off.down")
    caption = say("trade-off.caption", result=say.result(measure, "test"), better=better)
    held = rows.loc[rows["drawn"] & rows["step_mib"].notna(), "step_mib"].astype(float)
    if len(held):
        ends = {"least": words.mebibytes(float(held.min())), "most": words.mebibytes(float(held.max()))}
        caption += say("trade-off.memory", **ends)
    return caption


def _note(scene: Scene, rows: pd.DataFrame) -> str:
    outside = int(rows["outside"].astype(bool).sum())
    lost, drawn = int(rows["lost"].sum()), int(rows["drawn"].sum())
    counts = {"outside": outside, "lost": lost, "missing": len(rows) - drawn - outside - lost}
    told = [scene.say("trade-off.drawn", drawn=drawn, all=len(rows))]
    told += [scene.say(f"trade-off.{name}", count=count) for name, count in counts.items() if count]
    return "".join(told)


def _view(rows: pd.DataFrame, view: tuple[str, str]) -> pd.DataFrame:
    return rows[(rows["budget"] == view[0]) & (rows["rule"] == view[1])]


@dataclass(frozen=True)
class _Sheet:
    """Where data lie on the drawing, in its own units: points from the upper left corner.

    Attributes:
        at: Data → place.
        left, top, right, bottom: The frame of the axes.
        most_mib: Memory of the largest mark; 0 where none is known.
    """

    at: Callable[[float, float], tuple[float, float]]
    left: float
    top: float
    right: float
    bottom: float
    most_mib: float

    def radius(self, mebibytes: float) -> float:
        """Return the radius of a mark, whose area grows with memory."""
        if not (math.isfinite(mebibytes) and self.most_mib):
            return LEAST_RADIUS + 1
        share = mebibytes / self.most_mib
        return math.sqrt(LEAST_RADIUS**2 + share * (MOST_RADIUS**2 - LEAST_RADIUS**2))

    def inside(self, y: float) -> float:
        """Cut a height off at the frame."""
        return min(max(y, self.top), self.bottom)


def _panel(scene: Scene, rows: pd.DataFrame, views: Sequence[tuple[str, str]], group: list[str], number: int) -> Panel:
    shown = rows[rows["drawn"]]
    name = scene.name("trade-off", number or "")
    with scene.style():
        figure = canvas(height=3.9)
        axes = figure.add_subplot()
        _axes(axes, scene, shown)
        legend(figure, group, columns=3)
        figure.draw_without_rendering()
        # What is laid over the axes needs them where they now are.
        figure.set_layout_engine("none")
        sheet = _sheet(axes, float(shown["step_mib"].max()) if shown["step_mib"].notna().any() else 0.0)
        alts = {view: _alt(scene, _view(shown, view), view) for view in views}
        layers = {
            view: _layer(scene, _view(shown, view), group, sheet, f"{name}-halo-{'-'.join(view)}") for view in views
        }
        title = _title(scene)
        over = "".join(
            f'<g class="view{" first shown" if view == views[0] else ""}" data-view="{" ".join(view)}" '
            f'data-alt="{html.escape(alts[view])}">{layer}</g>\n'
            for view, layer in layers.items()
        )
        alt = alts[views[0]]
        drawn = svg(figure, name, title, alt, over, layers[views[0]], scene.say.language)
        return Panel(name, title, alt, drawn)


def _axes(axes: Axes, scene: Scene, shown: pd.DataFrame) -> None:
    seconds = shown["train_seconds"].astype(float)
    pad = max(float(seconds.max() / seconds.min()) ** 0.09, 1.2)
    axes.set_xscale("log")
    axes.set_xlim(float(seconds.min()) / pad, float(seconds.max()) * pad)
    wide = math.log10(axes.get_xlim()[1] / axes.get_xlim()[0]) > 3
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(scene.say("axis.curve.train_seconds"))
    # Framed by the means of all views, so that they compare: with few seeds a single interval can be as long as the
    # whole scale, and is cut.
    values = shown[scene.measure.column("test")].to_numpy(dtype=float)
    scene.measure_axis(axes, "test", float(values.min()), float(values.max()))


def _sheet(axes: Axes, most_mib: float) -> _Sheet:
    figure = axes.figure
    scale = 72 / figure.dpi
    height = 72 * float(figure.get_figheight())  # type: ignore[union-attr]
    transform = axes.transData

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = transform.transform((x, y))
        return float(across) * scale, height - float(up) * scale

    frame = axes.get_window_extent()
    return _Sheet(
        at, frame.x0 * scale, height - frame.y1 * scale, frame.x1 * scale, height - frame.y0 * scale, most_mib
    )


def _layer(scene: Scene, rows: pd.DataFrame, group: list[str], sheet: _Sheet, halo: str) -> str:
    """Draw one view: intervals, paths, marks with their values, and names of batch sizes."""
    column = scene.measure.column("test")
    drawn, labels = [], []
    for index, optimizer in enumerate(group):
        line = records(rows[rows["optimizer"] == optimizer])
        if not line:
            continue
        places = [sheet.at(float(row["train_seconds"]), float(row[column])) for row in line]
        bars = "".join(
            f"M{_n(x)} {_n(sheet.inside(ends[0]))}V{_n(sheet.inside(ends[1]))}"
            for (x, _), row in zip(places, line, strict=True)
            if (ends := _interval(sheet, row, column))
        )
        path = "L".join(f"{_n(x)} {_n(y)}" for x, y in places)
        dashes = " ".join(f"{1.8 * float(dash):g}" for dash in DASHES[index])
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        drawn.append(
            f'<g fill="none" stroke="{SERIES[index]}"><path d="{bars}" stroke-opacity=".6"/>'
            f'<path d="M{path}" stroke-width="1.8"{dashed}/></g><g fill="{SERIES[index]}">'
        )
        for (x, y), row in zip(places, line, strict=True):
            radius = sheet.radius(float(row["step_mib"]))
            told = html.escape(_told(scene, row))
            drawn.append(f'<path d="{_outline(MARKERS[index], x, y, radius)}"><title>{told}</title></path>')
            labels.append(_Label(x, y, radius, scene.short_batch(row["batch_size"]), index))
        drawn.append("</g>")
    texts = "".join(
        f'<text x="{_n(x)}" y="{_n(y + 3)}" fill="{SERIES[index]}">{text}</text>'
        for x, y, text, index in _place_labels(labels, sheet)
    )
    fonts = html.escape(FONT_STACKS[scene.say.language])
    style = f'font-family="{fonts}" font-size="8.5" text-anchor="middle"'
    return f'{"".join(drawn)}<g id="{halo}" {style}>{texts}</g>'


def _interval(sheet: _Sheet, row: dict[str, Any], column: str) -> tuple[float, float] | None:
    lo, hi = float(row[f"{column}_lo"]), float(row[f"{column}_hi"])
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return None
    at = float(row["train_seconds"])
    # An end that the scale has no place for, such as a loss below 0 on a logarithmic one, lies beyond the frame.
    low, high = (sheet.at(at, end)[1] for end in (lo, hi))
    return (low if math.isfinite(low) else sheet.bottom), (high if math.isfinite(high) else sheet.top)


def _told(scene: Scene, row: dict[str, Any]) -> str:
    """Say what a mark stands for: what the page shows where a pointer rests on it."""
    say, measure = scene.say, scene.measure
    column = measure.column("test")
    ends = [float(row[f"{column}_{end}"]) for end in ("lo", "hi")]
    known = all(math.isfinite(end) for end in ends)
    interval = f" [{', '.join(measure.value(end) for end in ends)}]" if known else ""
    told = say(
        "trade-off.mark",
        optimizer=row["optimizer"],
        batch=scene.batch(row["batch_size"]),
        result=measure.value(float(row[column])) + interval,
        seconds=words.seconds(float(row["train_seconds"])),
        lr=words.learning_rate(float(row["lr"])),
        seeds=say.count("seed", row["n"]),
    )
    if math.isfinite(row["step_mib"]):
        told += say("trade-off.mark_memory", memory=words.mebibytes(float(row["step_mib"])))
    return told + (say("trade-off.mark_diverged", count=round(row["n_diverged"])) if row["n_diverged"] else "")


def _alt(scene: Scene, rows: pd.DataFrame, view: tuple[str, str]) -> str:
    if rows.empty:
        return scene.say(
            "trade-off.empty", budget=scene.say.word("budget", view[0]), rule=scene.say.word("rule", view[1])
        )
    return descriptions.trade_off(rows, scene.batch, scene.measure, *view, scene.say)


def _n(value: float) -> str:
    """Write a coordinate: a tenth of a point is finer than a screen shows."""
    return f"{value:.1f}".removesuffix(".0")


def _outline(marker: str, x: float, y: float, radius: float) -> str:
    """Return the path of a mark."""
    if marker == "o":
        r, d = _n(radius), _n(2 * radius)
        return f"M{_n(x - radius)} {_n(y)}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z"
    return f"M{'L'.join(f'{_n(x + radius * across)} {_n(y + radius * down)}' for across, down in _OUTLINES[marker])}z"


@dataclass(frozen=True)
class _Label:
    """A mark that wants its name beside it."""

    x: float
    y: float
    radius: float
    text: str
    series: int


def _place_labels(labels: Sequence[_Label], sheet: _Sheet) -> list[tuple[float, float, str, int]]:
    """Find places for the names of marks that overlap nothing; the ends of a path come first, some have none."""
    taken = [(m.x - m.radius, m.y - m.radius, m.x + m.radius, m.y + m.radius) for m in labels]
    last = len(labels) - 1
    ends = {
        place
        for place, label in enumerate(labels)
        if place in (0, last)
        or labels[place - 1].series != label.series
        or labels[min(place + 1, last)].series != label.series
    }
    placed = []
    for place in sorted(range(len(labels)), key=lambda i: (i not in ends, i)):
        label = labels[place]
        # Generously the width of a digit of this size.
        width, height, away = 6.0 * half_ems(label.text), 10.0, label.radius + 1.5
        for across, up in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            x, y = label.x + across * (width / 2 + away), label.y - up * (height / 2 + away)
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            inside = sheet.left <= box[0] and box[2] <= sheet.right and sheet.top <= box[1] and box[3] <= sheet.bottom
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                placed.append((x, y, label.text, label.series))
                break
    return placed


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
