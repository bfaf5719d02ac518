"""The first screen of a sweep of many tasks and optimizers: a matrix of both, no cell of it left out."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.analysis import words
from bench.analysis.measures import MEASURES
from bench.analysis.results import Results
from bench.analysis.study import SETTING, records
from bench.report.axes import legend
from bench.report.messages import Messages
from bench.report.plot import Panel, Plot, Scene, tidy
from bench.report.style import DASHES, INK, MARKERS, SERIES, canvas
from bench.report.view import Cell, Group, Table

#: From so many settings, or pairs of a setting and an optimizer, on, figures per pair would fill a book.
MANY_SETTINGS = 4
MANY_PAIRS = 16

#: Shades of rank.
SHADES = 5
#: So many optimizers are drawn in colour and named; the others are grey.
NAMED = 5
#: Outcomes whose word stands in their entry.
SHORT = ("diverged", "not run", "failed", "oom", "unavailable", "interrupted")


def is_many(cells: pd.DataFrame) -> bool:
    """Whether a sweep has too many settings or optimizers for a figure of each.

    Args:
        cells: Columns `CONDITION`.
    """
    pairs = cells[[*SETTING, "optimizer"]].drop_duplicates()
    return len(pairs[SETTING].drop_duplicates()) >= MANY_SETTINGS or len(pairs) > MANY_PAIRS


def matrices(results: Results, say: Messages) -> list[Table]:
    """Return tables of optimizers in rows.

    In columns stand the tasks, a table per batch size; two tables with the smallest and the largest batch of each task
    where the tasks have too many different ones; and every batch size in one table where there are few tasks.
    """
    table = results.overview.copy()
    table["label"] = [
        say("overview.full") if row["full_batch"] else say("overview.batch", batch=row["batch_size"])
        for row in records(table)
    ]
    if len(table[SETTING].drop_duplicates()) < MANY_SETTINGS:
        return [_matrix(table, say("overview.every"), say)]
    order = list(dict.fromkeys(table.sort_values(["full_batch", "batch_size"])["label"]))
    if len(order) <= 3:
        return [_matrix(table[table["label"] == label], label, say) for label in order]
    sizes = table.groupby(SETTING)["batch_size"]
    ends = (("smallest", sizes.transform("min")), ("largest", sizes.transform("max")))
    return [_matrix(table[table["batch_size"] == size], say(f"overview.{name}"), say) for name, size in ends]


def _matrix(rows: pd.DataFrame, label: str, say: Messages) -> Table:
    keys = [*SETTING, "batch_size"]
    absent = (rows["outcome"] == "not run").groupby(rows["optimizer"]).all()
    idle = [str(name) for name in absent[absent].index]
    rows = rows[~rows["optimizer"].isin(idle)]
    # Where all are equal nobody is the best.
    worst = rows.groupby(keys)["rank"].transform("max")
    rows = rows.assign(level=(worst == 1) & rows["rank"].notna() & (rows["ranked"] > 1))
    columns = records(rows.drop_duplicates(keys).sort_values(keys))
    settings = list(dict.fromkeys(tuple(column[name] for name in SETTING) for column in columns))
    names = dict(zip(settings, setting_labels(settings), strict=True))
    entries = {(*(row[name] for name in keys), row["optimizer"]): row for row in records(rows)}
    heads = []
    for column in columns:
        head = names[tuple(column[name] for name in SETTING)]
        if len(columns) > len(settings):
            head = f"{head}, {column['label']}" if len(settings) > 1 else str(column["label"])
        heads.append(say("overview.end", head=head) if column["ranked_by"] == "test" else head)
    lines = [
        (Cell(name), *[_entry(entries[*(column[key] for key in keys), name], say) for column in columns])
        for name in _by_rank(rows)
    ]
    counts = Counter(str(outcome) for outcome in rows["outcome"])
    told = say.listing(
        [
            say("counts.status", count=count, status=say.word("overview.outcome", outcome))
            for outcome, count in sorted(counts.items())
        ]
    )
    price = say.word("overview.price", str(rows["price"].iloc[0]))
    caption = say("overview.caption", where=label, price=price, count=len(rows), told=told)
    if idle:
        caption += say("overview.idle", names=say.listing(idle))
    return Table(caption, (say("column.optimizer"), *heads), (Group("", tuple(lines)),), "overview.csv", "matrix")


def _by_rank(rows: pd.DataFrame) -> list[str]:
    """Order optimizers by their mean rank; who is not ranked somewhere counts as last there."""
    last = rows["rank"].fillna(rows["ranked"] + 1)
    mean = last.groupby(rows["optimizer"]).mean()
    return [str(name) for name in mean.sort_index().sort_values(kind="stable").index]


def _entry(row: dict[str, Any], say: Messages) -> Cell:
    outcome, value = str(row["outcome"]), float(row["test"])
    if outcome in SHORT:
        return Cell(say(f"overview.entry.{outcome}"), "", "dim" if outcome == "not run" else "bad")
    written = MEASURES[row["measure"]]().short(value)
    ranked = row["rank"] == row["rank"]
    shade = f"q{math.ceil(SHADES * row['rank'] / max(row['ranked'], 1))}" if ranked else ""
    kind = f"{shade} best" if ranked and row["rank"] == 1 else shade
    if row["level"]:
        kind = f"q{SHADES}"
    if outcome == "reached":
        return Cell(words.number(row["to_target"], 3 if row["to_target"] >= 10 else 2), "", kind)
    if row["ranked_by"] == "test":
        lost = say("overview.lost", count=round(row["n_diverged"])) if row["n_diverged"] else ""
        return Cell(written, lost, kind)
    return Cell(say("entry.never"), written, "dim")


def setting_labels(settings: Sequence[tuple[str, ...]]) -> list[str]:
    """Name settings by their task, and by what else tells them apart."""
    varying = [index for index in range(1, len(SETTING)) if len({setting[index] for setting in settings}) > 1]
    # The model follows from the task unless one task has several.
    if len({setting[:1] for setting in settings}) == len({setting[:2] for setting in settings}):
        varying = [index for index in varying if SETTING[index] != "model"]
    return [", ".join([setting[0], *(setting[index] for index in varying)]) for setting in settings]


def best_curves(scene: Scene) -> Plot | None:
    """Draw the learning curves of all optimizers at the smallest and the largest batch, the best of them in colour."""
    measure = scene.measure
    column = measure.column("val")
    rows = scene.rows(scene.results.curves)
    rows = rows[rows[column].notna() & (rows["step"] > 0)]
    if rows.empty:
        return None
    sizes = sorted({int(size) for size in rows["batch_size"]})
    panels = [
        _curves_panel(scene, rows[rows["batch_size"] == size], size) for size in dict.fromkeys((sizes[0], sizes[-1]))
    ]
    caption = scene.say("figure.best_curves.caption", result=scene.say.result(measure, "val"), named=NAMED)
    columns = ["optimizer", "batch_size", "lr", "step", "epoch", "examples", "train_seconds", "seeds", column]
    return Plot(
        scene.name("best-curves"), scene.say("figure.curves.title"), caption, tuple(panels), tidy(rows, columns)
    )


def _curves_panel(scene: Scene, rows: pd.DataFrame, size: int) -> Panel:
    measure, say = scene.measure, scene.say
    column = measure.column("val")
    ends = rows.sort_values("step").groupby("optimizer")[column].last() * measure.direction
    places = scene.rows(scene.results.overview, batch_size=size).set_index("optimizer")["rank"].reindex(ends.index)
    order = pd.DataFrame({"rank": places, "end": -ends}).sort_values(["rank", "end"], kind="stable").index
    named = [str(name) for name in order[:NAMED]]
    with scene.style():
        figure = canvas(height=3.5)
        axes = figure.add_subplot()
        for optimizer, line in rows.groupby("optimizer"):
            x, y = line["step"].to_numpy(dtype=float), line[column].to_numpy(dtype=float)
            if optimizer in named:
                index = named.index(str(optimizer))
                dashes: Any = (0, DASHES[index]) if DASHES[index] else "-"
                axes.plot(x, y, color=SERIES[index], linestyle=dashes, linewidth=1.6, zorder=3)
                axes.plot(x[-1:], y[-1:], color=SERIES[index], marker=MARKERS[index], zorder=4)
            else:
                axes.plot(x, y, color=INK, alpha=0.25, linewidth=0.8, zorder=2)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(say("axis.curve.step"))
        shown = rows[column].to_numpy(dtype=float)
        scene.measure_axis(axes, "val", float(np.nanmin(shown)), float(np.nanmax(shown)))
        heading = words.capital(say("panel.batch", batch=scene.batch(size)))
        axes.set_title(heading)
        legend(figure, named, columns=3)
        best = [f"{name} {measure.value(measure.direction * float(ends[name]))}" for name in named]
        alt = say(
            "alt.best_curves",
            result=words.capital(say.result(measure, "val")),
            optimizers=say.count("optimizer", len(ends)),
            batch=scene.batch(size),
            best=say.listing(best),
        )
        return scene.panel(figure, scene.name("best-curves", size), heading, alt)
