"""Figures of what it took: steps, examples and seconds to target, throughput, memory, and the trade-off."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.analysis import descriptions, words
from bench.analysis.measures import Measure
from bench.analysis.study import records
from bench.report.axes import (
    batch_axis,
    dodge,
    guide,
    hollow_rings,
    legend,
    measure_axis,
    never_band,
    number_axis,
)
from bench.report.plot import Panel, Plot, Scene, tidy
from bench.report.style import DASHES, MARKERS, SERIES, canvas, figure_style

TARGET_LABELS = {
    "steps": "steps to target",
    "examples": "examples to target",
    "seconds": "training seconds to target",
}


def _line(axes: Axes, x: list[float], y: pd.Series, index: int) -> None:
    sns.lineplot(
        x=x,
        y=y.to_numpy(dtype=float),
        ax=axes,
        color=SERIES[index],
        marker=MARKERS[index],
        markeredgewidth=0,
        linestyle=(0, DASHES[index]) if DASHES[index] else "-",
        estimator=None,
        errorbar=None,
        legend=False,
        sort=False,
        zorder=3,
    )


def to_target(scene: Scene) -> Plot | None:
    """Draw steps, examples and seconds to target against batch size."""
    rows, seeds = scene.rows(scene.results.targets), scene.rows(scene.results.seeds_to_target)
    if rows.empty:
        return None
    panels = [
        _target_panel(
            scene,
            rows[rows["measure"] == measure],
            seeds[seeds["measure"] == measure],
            measure,
            group,
            number,
        )
        for number, group in enumerate(scene.groups())
        for measure in TARGET_LABELS
        if rows["optimizer"].isin(group).any()
    ]
    counts = words.listing([str(count) for count in sorted({int(count) for count in rows["n"]})])
    caption = (
        f"Lines join medians over seeds (n = {counts}), each at the learning rate with the smallest "
        "median; bars span the "
        "seeds that got there, small dots are seeds. Hollow marks on the upper rim: the median seed "
        "never reached the "
        "target within its budget. Rings: that learning rate is at the edge of its grid. The target "
        "counts as reached "
        "at the first evaluation strictly past it. The grey guide falls as perfect scaling would: "
        "twice the batch, half "
        "the steps."
    )
    columns = ["optimizer", "batch_size", "measure", "lr", "edge", "median", "least", "most", "reached", "n"]
    return Plot(
        scene.name("to-target"),
        "Steps, examples and seconds to target",
        caption,
        tuple(panels),
        tidy(rows, columns),
        3,
    )


def _target_panel(
    scene: Scene, rows: pd.DataFrame, seeds: pd.DataFrame, measure: str, group: list[str], number: int
) -> Panel:
    with figure_style():
        figure = canvas(height=3.7)
        axes = figure.add_subplot()
        missed: list[tuple[list[float], int]] = []
        for index, optimizer in enumerate(group):
            line = rows[rows["optimizer"] == optimizer].sort_values("batch_size")
            reached = line[line["median"].notna()]
            dots = seeds[(seeds["optimizer"] == optimizer) & seeds["value"].notna()]
            x = dodge(list(reached["batch_size"]), index, len(group))
            axes.scatter(
                dodge(list(dots["batch_size"]), index, len(group)),
                dots["value"],
                s=9,
                color=SERIES[index],
                alpha=0.5,
                linewidths=0,
                zorder=2,
            )
            axes.vlines(x, reached["least"], reached["most"], color=SERIES[index], linewidth=1.1, alpha=0.8, zorder=2)
            if len(reached):
                _line(axes, x, reached["median"], index)
            edge = reached["edge"].to_numpy(dtype=bool)
            hollow_rings(axes, list(np.asarray(x)[edge]), list(reached["median"].to_numpy(dtype=float)[edge]))
            never = line.loc[line["median"].isna(), "batch_size"]
            missed.append((dodge(list(never), index, len(group)), index))
        if rows["median"].notna().any():
            axes.set_yscale("log")
            if measure == "steps":
                _perfect_scaling(axes, rows)
            number_axis(axes, TARGET_LABELS[measure])
        else:
            axes.set_yticks([])
            axes.set_ylabel(TARGET_LABELS[measure])
        for x, index in missed:
            never_band(axes, x, SERIES[index], MARKERS[index])
        batch_axis(axes, scene.sizes, scene.full)
        axes.set_title(TARGET_LABELS[measure].capitalize(), pad=9)
        legend(figure, group, columns=3, guides=["perfect scaling"] if measure == "steps" else ())
        named = rows[rows["optimizer"].isin(group)].sort_values(["optimizer", "batch_size"])
        alt = descriptions.to_target(named, measure, scene.batch)
        return scene.panel(figure, scene.name("to-target", measure, number or ""), TARGET_LABELS[measure], alt)


def _perfect_scaling(axes: Axes, rows: pd.DataFrame) -> None:
    known = rows[rows["median"].notna()]
    first, last = float(known["batch_size"].min()), float(known["batch_size"].max())
    start = float(known.loc[known["batch_size"] == first, "median"].max())
    guide(axes, [first, last], [start, start * first / last])


def throughput(scene: Scene) -> Plot | None:
    """Draw examples per second and step time against batch size."""
    rows = scene.rows(scene.results.throughput).sort_values(["optimizer", "batch_size"])
    if rows.empty:
        return None
    panels = [
        _cost_panel(scene, rows, f"throughput-{short}", column, title, label, form, group, number)
        for number, group in enumerate(scene.groups())
        for short, column, title, label, form in (
            ("examples", "examples_per_second", "Examples per second", "examples per second", _per_second),
            ("step", "step_ms", "Time of one step", "milliseconds per step", _milliseconds),
            (
                "update",
                "optimizer_step_ms",
                "Time of the update alone",
                "milliseconds per optimizer step",
                _milliseconds,
            ),
        )
    ]
    windows = words.listing([str(n) for n in sorted({int(n) for n in rows["examples_per_second_n"]})])
    caption = (
        f"Medians of {windows} timing windows of single-trial training steps, measured apart from "
        "convergence; bars are "
        "distribution-free intervals of the median. A step is fetching the batch, forward, backward "
        "and update."
    )
    columns = ["optimizer", "batch_size", "full_batch"]
    for name in ("examples_per_second", "step_ms", "optimizer_step_ms"):
        columns += [name, f"{name}_lo", f"{name}_hi", f"{name}_n"]
    return Plot(scene.name("throughput"), "Throughput", caption, tuple(panels), tidy(rows, columns), 3)


def memory(scene: Scene) -> Plot | None:
    """Draw memory against batch size: what a step holds by count, and the measured peak."""
    rows = scene.rows(scene.results.memory).sort_values(["optimizer", "batch_size"])
    if rows.empty:
        return None
    kinds = sorted(set(rows["peak_kind"]))
    peak = {
        "allocated": "peak allocated device memory",
        "resident": "resident peak of the process",
    }
    title = words.listing([peak[str(kind)] for kind in kinds])
    panels = [
        _cost_panel(scene, rows, f"memory-{short}", column, heading, label, words.mebibytes, group, number)
        for number, group in enumerate(scene.groups())
        for short, column, heading, label in (
            ("held", "step_mib", "Held by a step, counted", "MiB held by a step"),
            ("peak", "peak_mib", title[0].upper() + title[1:], "MiB at peak"),
        )
        if rows[column].notna().any()
    ]
    caption = (
        "Left: parameters, gradients, optimizer state and what autograd keeps for the backward pass, "
        "counted exactly. "
        f"Right: {title}, measured while stepping; it includes the interpreter, the libraries and the "
        "data where it is "
        "the process's. Lines of optimizers with equal state coincide."
    )
    columns = ["optimizer", "batch_size", "full_batch", "peak_mib", "peak_kind", "base_rss_mib", "step_mib"]
    columns += ["activation_mib", "state_mib"]
    return Plot(scene.name("memory"), "Memory", caption, tuple(panels), tidy(rows, columns))


def _per_second(value: float) -> str:
    return f"{words.number(value)} examples/s"


def _milliseconds(value: float) -> str:
    return f"{words.number(value)} ms"


def _cost_panel(
    scene: Scene,
    rows: pd.DataFrame,
    name: str,
    column: str,
    title: str,
    label: str,
    form: Callable[[float], str],
    group: list[str],
    number: int,
) -> Panel:
    part = rows[rows["optimizer"].isin(group) & rows[column].notna()]
    with figure_style():
        figure = canvas(height=3.7)
        axes = figure.add_subplot()
        for index, optimizer in enumerate(group):
            line = part[part["optimizer"] == optimizer]
            if line.empty:
                continue
            x = dodge(list(line["batch_size"]), index, len(group))
            if f"{column}_lo" in line:
                axes.vlines(
                    x,
                    line[f"{column}_lo"],
                    line[f"{column}_hi"],
                    color=SERIES[index],
                    linewidth=1.2,
                    alpha=0.85,
                    zorder=2,
                )
            _line(axes, x, line[column], index)
        axes.set_yscale("log")
        number_axis(axes, label)
        batch_axis(axes, scene.sizes, scene.full)
        axes.set_title(title)
        legend(figure, group, columns=3)
        alt = descriptions.by_optimizer(part, column, title, form, scene.batch)
        return scene.panel(figure, scene.name(name, number or ""), title, alt)


def trade_off(scene: Scene) -> Plot | None:
    """Draw the test result against training seconds at equal epochs, the batch size along the path."""
    measure = scene.measure
    column = measure.column("test")
    rows = scene.rows(scene.results.rule_outcomes, rule="re-tuned", budget="epochs")
    rows = rows[rows[column].notna() & (rows["train_seconds"] > 0)].sort_values(["optimizer", "batch_size"])
    if rows.empty:
        return None
    panels = [
        _trade_off_panel(scene, rows[rows["optimizer"].isin(group)], group, number)
        for number, group in enumerate(scene.groups())
        if rows["optimizer"].isin(group).any()
    ]
    caption = (
        "Each mark is a batch size at its re-tuned learning rate after equal epochs: mean over seeds of training "
        f"seconds (no evaluation in it) and of {measure.of('test')}, bars the 95 % t interval of the mean, cut at the "
        f"frame. {'Up' if measure.direction > 0 else 'Down'} and left is better. Seconds compare within this report "
        "only."
    )
    columns = [
        "optimizer",
        "batch_size",
        "lr",
        "n",
        "train_seconds",
        *([] if measure.name == "accuracy" else ["n_diverged"]),
        column,
        f"{column}_lo",
        f"{column}_hi",
    ]
    return Plot(scene.name("trade-off"), _trade_off_title(measure), caption, tuple(panels), tidy(rows, columns))


def _trade_off_title(measure: Measure) -> str:
    return f"{words.capital(measure.name)} against time"


def _trade_off_panel(scene: Scene, rows: pd.DataFrame, group: list[str], number: int) -> Panel:
    measure = scene.measure
    column = measure.column("test")
    with figure_style():
        figure = canvas(height=3.9)
        axes = figure.add_subplot()
        labels: list[tuple[float, float, str, int]] = []
        for index, optimizer in enumerate(group):
            line = rows[rows["optimizer"] == optimizer]
            if line.empty:
                continue
            x = list(line["train_seconds"].astype(float))
            axes.vlines(
                x,
                line[f"{column}_lo"],
                line[f"{column}_hi"],
                color=SERIES[index],
                linewidth=1,
                alpha=0.6,
            )
            _line(axes, x, line[column], index)
            for row in records(line):
                size = int(row["batch_size"])
                text = words.short_batch(size, size in scene.full)
                labels.append((float(row["train_seconds"]), float(row[column]), text, index))
        axes.set_xscale("log")
        axes.margins(x=0.09)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("training seconds")
        # Framed by the means: with few seeds a single interval can be as long as the whole scale, and is cut.
        shown = rows[column].to_numpy(dtype=float)
        measure_axis(axes, measure, "test", float(shown.min()), float(shown.max()))
        legend(figure, group, columns=3)
        figure.draw_without_rendering()
        _place_labels(axes, labels)
        alt = descriptions.trade_off(rows, scene.batch, measure)
        return scene.panel(figure, scene.name("trade-off", number or ""), _trade_off_title(measure), alt)


def _place_labels(axes: Axes, labels: list[tuple[float, float, str, int]]) -> None:
    """Name the batch sizes beside their marks where that overlaps nothing; the ends of a path come first."""
    marks = [tuple(axes.transData.transform((x, y))) for x, y, _, _ in labels]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in marks]
    frame = axes.get_window_extent()
    ends = {0, len(labels) - 1} | {i for i in range(1, len(labels)) if labels[i][3] != labels[i - 1][3]}
    ends |= {i - 1 for i in ends if i}
    for place in sorted(range(len(labels)), key=lambda i: (i not in ends, i)):
        x, y = marks[place]
        # Half a figure's text size per character, generously, at the 72 dots per inch of an SVG canvas.
        width, height = 7.0 * len(labels[place][2]) * axes.figure.dpi / 72, 11.0 * axes.figure.dpi / 72
        for across, up in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            cx, cy = x + across * (width / 2 + 7), y + up * (height / 2 + 6)
            box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = axes.transData.inverted().transform((cx, cy))
                label = axes.text(
                    at[0],
                    at[1],
                    labels[place][2],
                    fontsize=8.5,
                    ha="center",
                    va="center",
                    color=SERIES[labels[place][3]],
                )
                label.set_gid(f"halo-{place}")
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
