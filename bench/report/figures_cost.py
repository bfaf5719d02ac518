"""Figures of what it took: steps, examples and seconds to target, throughput and memory."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from bench.analysis import descriptions, words
from bench.analysis.speed import STEADY
from bench.report.axes import (
    batch_axis,
    dodge,
    guide,
    hollow_rings,
    legend,
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
    counts = scene.say.listing([str(count) for count in sorted({int(count) for count in rows["n"]})])
    columns = ["optimizer", "batch_size", "measure", "lr", "edge", "median", "least", "most", "reached", "n"]
    return Plot(
        scene.name("to-target"),
        scene.say("figure.target.title"),
        scene.say("figure.target.caption", counts=counts),
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
    windows = scene.say.listing([str(n) for n in sorted({int(n) for n in rows["examples_per_second_n"]})])
    caption = scene.say("figure.throughput.caption", windows=windows) + _drift(scene, rows)
    columns = ["optimizer", "batch_size", "full_batch"]
    for name in ("examples_per_second", "step_ms", "optimizer_step_ms"):
        columns += [name, f"{name}_lo", f"{name}_hi", f"{name}_n"]
    columns += ["drift", "unsteady"]
    title = scene.say("figure.throughput.title")
    return Plot(scene.name("throughput"), title, caption, tuple(panels), tidy(rows, columns), 3)


def _drift(scene: Scene, rows: pd.DataFrame) -> str:
    """Say how far the control moved while the cells were measured; nothing where there was none."""
    known, say = rows[rows["drift"].notna()], scene.say
    if known.empty:
        return ""
    found = {
        "limit": words.percent(STEADY, 0),
        "unsteady": int(known["unsteady"].sum()),
        "cells": len(known),
        "worst": words.percent(float(known["drift"].abs().max()), 0),
    }
    return say("answer.between") + say(f"figure.throughput.{'unsteady' if found['unsteady'] else 'steady'}", **found)


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
    peaks = scene.say.listing([scene.say(f"figure.memory.{kind}") for kind in kinds])
    caption = scene.say("figure.memory.caption", peaks=peaks)
    columns = ["optimizer", "batch_size", "full_batch", "peak_mib", "peak_kind", "base_rss_mib", "step_mib"]
    columns += ["activation_mib", "state_mib"]
    return Plot(scene.name("memory"), scene.say("figure.memory.title"), caption, tuple(panels), tidy(rows, columns))


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
            if "unsteady" in line:
                moved = line["unsteady"].to_numpy(dtype=bool)
                hollow_rings(axes, list(np.asarray(x)[moved]), list(line[column].to_numpy(dtype=float)[moved]))
        axes.set_yscale("log")
        number_axis(axes, label)
        batch_axis(axes, scene.sizes, scene.full)
        axes.set_title(title)
        legend(figure, group, columns=3)
        alt = descriptions.by_optimizer(part, column, title, form, scene.batch)
        return scene.panel(figure, scene.name(name, number or ""), title, alt)
