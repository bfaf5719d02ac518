"""Figures of what it took: steps, examples and seconds to target, throughput and memory."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from bench.analysis import words
from bench.analysis.speed import STEADY
from bench.report import descriptions
from bench.report.axes import (
    dodge,
    guide,
    hollow_rings,
    legend,
    never_band,
    number_axis,
)
from bench.report.messages import Messages
from bench.report.plot import Panel, Plot, Scene, tidy
from bench.report.style import DASHES, MARKERS, SERIES, canvas

#: Measures of the way to the target that are drawn.
TO_TARGET = ("steps", "examples", "seconds")


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
        for measure in TO_TARGET
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
    label = scene.say(f"axis.to_target.{measure}")
    with scene.style():
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
            number_axis(axes, label)
        else:
            axes.set_yticks([])
            axes.set_ylabel(label)
        for x, index in missed:
            never_band(axes, x, SERIES[index], MARKERS[index])
        scene.batch_axis(axes)
        axes.set_title(words.capital(label), pad=9)
        legend(figure, group, columns=3, guides=[scene.say("guide.perfect")] if measure == "steps" else ())
        named = rows[rows["optimizer"].isin(group)].sort_values(["optimizer", "batch_size"])
        alt = descriptions.to_target(named, measure, scene.batch, scene.say)
        return scene.panel(figure, scene.name("to-target", measure, number or ""), label, alt)


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
        _cost_panel(scene, rows, "throughput", short, column, form, group, number)
        for number, group in enumerate(scene.groups())
        for short, column, form in (
            ("examples", "examples_per_second", partial(_per_second, scene.say)),
            ("step", "step_ms", _milliseconds),
            ("update", "optimizer_step_ms", _milliseconds),
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
    peaks = scene.say.listing([scene.say(f"figure.memory.{kind}") for kind in kinds])
    panels = [
        _cost_panel(scene, rows, "memory", short, column, words.mebibytes, group, number, peaks)
        for number, group in enumerate(scene.groups())
        for short, column in (("held", "step_mib"), ("peak", "peak_mib"))
        if rows[column].notna().any()
    ]
    caption = scene.say("figure.memory.caption", peaks=peaks)
    columns = ["optimizer", "batch_size", "full_batch", "peak_mib", "peak_kind", "base_rss_mib", "step_mib"]
    columns += ["activation_mib", "state_mib"]
    return Plot(scene.name("memory"), scene.say("figure.memory.title"), caption, tuple(panels), tidy(rows, columns))


def _per_second(say: Messages, value: float) -> str:
    return say("panel.per_second", value=words.number(value))


def _milliseconds(value: float) -> str:
    return f"{words.number(value)} ms"


def _cost_panel(
    scene: Scene,
    rows: pd.DataFrame,
    kind: str,
    short: str,
    column: str,
    form: Callable[[float], str],
    group: list[str],
    number: int,
    peaks: str = "",
) -> Panel:
    say = scene.say
    part = rows[rows["optimizer"].isin(group) & rows[column].notna()]
    title = words.capital(say(f"panel.{kind}.{short}", peaks=peaks))
    with scene.style():
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
        number_axis(axes, say(f"axis.{kind}.{short}"))
        scene.batch_axis(axes)
        axes.set_title(title)
        legend(figure, group, columns=3)
        alt = descriptions.by_optimizer(part, column, title, form, scene.batch, say)
        return scene.panel(figure, scene.name(kind, short, number or ""), title, alt)
