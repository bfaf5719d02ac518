"""Figures of what was learned: accuracy and gap by rule, learning curves, learning rates, divergence."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator

from bench.analysis import words
from bench.analysis.measures import Measure
from bench.analysis.rules import RULES
from bench.analysis.study import records
from bench.report import descriptions
from bench.report.axes import (
    batch_places,
    dodge,
    guide,
    hollow_rings,
    legend,
    number_axis,
    percent_axis,
    shade,
)
from bench.report.plot import Panel, Plot, Scene, tidy
from bench.report.style import DASHES, INK, MARKERS, RAMP, SERIES, canvas

#: Budgets that get a panel; all five stand in the table.
SHOWN_BUDGETS = ("epochs", "steps")
#: Slopes to compare the best learning rate with: rule → power of the batch size.
GUIDE_POWERS = {"linear": 1.0, "sqrt": 0.5}
#: What learning curves are drawn over.
CURVE_AXES = ("epoch", "step", "train_seconds")


def accuracy(scene: Scene) -> Plot | None:
    """Draw the test result against batch size under each learning-rate rule."""
    measure = scene.measure
    title = words.capital(scene.say.result(measure, "test"))
    return _by_rule(scene, f"{measure.name}-by-rule", measure.column("test"), title)


def gap(scene: Scene) -> Plot | None:
    """Draw the generalisation gap (how far training results are ahead of test results) under each rule."""
    return _by_rule(scene, "gap-by-rule", "gap", scene.say("figure.rules.gap"))


def _by_rule(scene: Scene, name: str, column: str, title: str) -> Plot | None:
    means, seeds = scene.rows(scene.results.rule_outcomes), scene.rows(scene.results.seed_outcomes)
    shown = means[means["budget"].isin(SHOWN_BUDGETS) & means[column].notna()]
    if shown.empty:
        return None
    values = seeds.loc[seeds["budget"].isin(SHOWN_BUDGETS) & np.isfinite(seeds[column]), column]
    limits = (float(values.min()), float(values.max()))
    panels = [
        panel
        for optimizer in scene.optimizers
        for budget in SHOWN_BUDGETS
        if (panel := _rule_panel(scene, name, column, title, optimizer, budget, limits))
    ]
    columns = [
        "optimizer",
        "batch_size",
        "budget",
        "budget_value",
        "rule",
        "reference",
        "lr_wanted",
        "lr",
        "outside",
    ]
    columns += ["edge", "n", "n_diverged", column, f"{column}_lo", f"{column}_hi"]
    counts = sorted({int(count) for count in shown["n"]})
    say = scene.say
    caption = say(
        "figure.rules.caption",
        counts=say.listing([str(count) for count in counts]),
        references=say.listing([str(size) for size in sorted({int(size) for size in shown["reference"]})]),
        lost=say(f"figure.rules.{'no_gap' if column == 'gap' else 'lost'}.{scene.measure.name}"),
    )
    return Plot(scene.name(name), title, caption, tuple(panels), tidy(means, columns))


def _gap_axis(axes: Axes, scene: Scene, low: float, high: float) -> None:
    label = scene.say(f"axis.gap.{scene.measure.name}")
    if scene.measure.name == "accuracy":
        pad = max(0.06 * (high - low), 0.004)
        axes.set_ylim(low - pad, high + pad)
        percent_axis(axes, label)
    else:
        pad = 0.06 * (high - low) or 1.0
        axes.set_ylim(low - pad, high + pad)
        number_axis(axes, label, log=False)


def _rule_panel(
    scene: Scene,
    name: str,
    column: str,
    title: str,
    optimizer: str,
    budget: str,
    limits: tuple[float, float],
) -> Panel | None:
    means = scene.rows(scene.results.rule_outcomes, optimizer=optimizer, budget=budget)
    seeds = scene.rows(scene.results.seed_outcomes, optimizer=optimizer, budget=budget)
    if means[column].notna().sum() == 0:
        return None
    sizes = sorted({int(size) for size in means["batch_size"]})
    at = words.number(float(means["budget_value"].dropna().iloc[0]))
    measure, say = scene.measure, scene.say
    heading = say(f"panel.rules.{budget}", optimizer=optimizer, at=at)
    with scene.style():
        figure = canvas()
        axes = figure.add_subplot()
        for index, rule in reversed(list(enumerate(RULES))):
            line = means[(means["rule"] == rule) & means[column].notna()].sort_values("batch_size")
            dots = seeds[(seeds["rule"] == rule) & np.isfinite(seeds[column])]
            _series(axes, line, dots, column, index)
        if column == "gap":
            _gap_axis(axes, scene, *limits)
        else:
            scene.measure_axis(axes, "test", *limits)
        scene.batch_axis(axes, sizes)
        axes.set_title(heading)
        legend(figure, [say.word("rule", rule) for rule in RULES])
        alt = descriptions.by_rule(
            means.sort_values(["rule", "batch_size"]),
            column,
            say("alt.of", title=title, heading=heading),
            [scene.batch(s) for s in sizes],
            measure.gap if column == "gap" else measure.value,
            say,
        )
        return scene.panel(figure, scene.name(name, optimizer, budget), heading, alt)


def _series(axes: Axes, line: pd.DataFrame, dots: pd.DataFrame, column: str, index: int) -> None:
    """Draw one rule: means joined, intervals, seeds, rings at the edge of the grid."""
    colour = SERIES[index]
    x = dodge(list(line["batch_size"]), index, len(RULES))
    shifted = dodge(list(dots["batch_size"]), index, len(RULES))
    # Beside their interval, so that neither hides the other.
    axes.scatter(
        [value * 2**0.055 for value in shifted],
        dots[column],
        s=11,
        color=colour,
        alpha=0.75,
        linewidths=0,
        zorder=2,
    )
    middle = line[column].to_numpy(dtype=float)
    axes.vlines(x, line[f"{column}_lo"], line[f"{column}_hi"], color=colour, linewidth=1.1, alpha=0.8, zorder=2)
    sns.lineplot(
        x=x,
        y=middle,
        ax=axes,
        color=colour,
        marker=MARKERS[index],
        markeredgewidth=0,
        linestyle=(0, DASHES[index]) if DASHES[index] else "-",
        estimator=None,
        errorbar=None,
        legend=False,
        zorder=3,
    )
    edge = line["edge"].to_numpy(dtype=bool)
    hollow_rings(axes, [value for value, ring in zip(x, edge, strict=True) if ring], list(middle[edge]))


def best_rates(scene: Scene) -> Plot | None:
    """Draw the best learning rate against batch size, with the slopes of the linear and sqrt rules."""
    rows = scene.rows(scene.results.rates, rule="re-tuned", budget="epochs").sort_values(["optimizer", "batch_size"])
    rows = rows[~rows["all_diverged"]]
    if rows.empty:
        return None
    panels, title = [], scene.say("figure.rates.title")
    for number, group in enumerate(scene.groups()):
        part = rows[rows["optimizer"].isin(group)]
        if part.empty:
            continue
        with scene.style():
            figure = canvas(height=3.7)
            axes = figure.add_subplot()
            for index, optimizer in enumerate(group):
                line = part[part["optimizer"] == optimizer]
                x = dodge(list(line["batch_size"]), index, len(group))
                sns.lineplot(
                    x=x,
                    y=line["lr"].to_numpy(dtype=float),
                    ax=axes,
                    color=SERIES[index],
                    marker=MARKERS[index],
                    markeredgewidth=0,
                    linestyle=(0, DASHES[index]) if DASHES[index] else "-",
                    estimator=None,
                    errorbar=None,
                    legend=False,
                )
                edge = line["edge"].to_numpy(dtype=bool)
                hollow_rings(axes, list(np.asarray(x)[edge]), list(line["lr"].to_numpy(dtype=float)[edge]))
            axes.set_yscale("log", base=2)
            _guides(axes, part)
            scene.batch_axis(axes)
            _octave_axis(axes, scene.say("axis.best_lr"))
            legend(figure, group, columns=3, guides=[scene.say(f"guide.{rule}") for rule in GUIDE_POWERS])
            alt = descriptions.by_optimizer(
                part, "lr", scene.say("alt.rates"), words.learning_rate, scene.batch, scene.say
            )
            panels.append(scene.panel(figure, scene.name("best-learning-rate", number or ""), title, alt))
    caption = scene.say("figure.rates.caption", result=scene.say.result(scene.measure, "val"))
    columns = ["optimizer", "batch_size", "budget", "lr", "edge"]
    return Plot(scene.name("best-learning-rate"), title, caption, tuple(panels), tidy(rows, columns))


def _guides(axes: Axes, rows: pd.DataFrame) -> None:
    first, last = float(rows["batch_size"].min()), float(rows["batch_size"].max())
    lowest = float(rows.loc[rows["batch_size"] == first, "lr"].min())
    for index, power in enumerate(GUIDE_POWERS.values()):
        guide(axes, [first, last], [lowest, lowest * (last / first) ** power], index)


def _octave_axis(axes: Axes, label: str) -> None:
    low, high = (np.log2(limit) for limit in axes.get_ylim())
    exponents = np.arange(np.ceil(low), np.floor(high) + 1)
    axes.yaxis.set_major_locator(FixedLocator(list(2.0 ** exponents[:: max(1, len(exponents) // 7)])))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.learning_rate(float(value))))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(label)


def learning_curves(scene: Scene) -> Plot | None:
    """Draw the validation result over epochs, steps and training seconds at the re-tuned learning rate."""
    rows = scene.rows(scene.results.curves)
    rows = rows[rows[scene.measure.column("val")].notna()]
    if rows.empty:
        return None
    panels = []
    for optimizer in scene.optimizers:
        mine = rows[rows["optimizer"] == optimizer]
        if mine.empty:
            continue
        shown = _at_most(sorted({int(size) for size in mine["batch_size"]}), len(RAMP))
        mine = mine[mine["batch_size"].isin(shown)]
        panels += [_curve_panel(scene, mine, optimizer, axis, shown) for axis in CURVE_AXES]
    caption = scene.say("figure.curves.caption", result=scene.say.result(scene.measure, "val"))
    columns = ["optimizer", "batch_size", "lr", "step", "epoch", "examples", "train_seconds", "seeds"]
    for metric in ("train_loss", scene.measure.column("val"), scene.measure.column("test")):
        columns += [metric, f"{metric}_least", f"{metric}_most"]
    return Plot(scene.name("curves"), scene.say("figure.curves.title"), caption, tuple(panels), tidy(rows, columns), 3)


def _at_most(sizes: list[int], most: int) -> list[int]:
    places = np.unique(np.linspace(0, len(sizes) - 1, min(most, len(sizes))).round().astype(int))
    return [sizes[place] for place in places]


def _curve_panel(scene: Scene, rows: pd.DataFrame, optimizer: str, axis: str, shown: list[int]) -> Panel:
    measure, say = scene.measure, scene.say
    column = measure.column("val")
    with scene.style():
        figure = canvas(height=3.7)
        axes = figure.add_subplot()
        for index, size in enumerate(shown):
            line = rows[(rows["batch_size"] == size) & (rows["step"] > 0)]
            x = line[axis].to_numpy(dtype=float)
            axes.fill_between(
                x,
                line[f"{column}_least"],
                line[f"{column}_most"],
                color=RAMP[index],
                alpha=0.16,
                linewidth=0,
            )
            sns.lineplot(
                x=x,
                y=line[column].to_numpy(dtype=float),
                ax=axes,
                color=RAMP[index],
                linestyle=(0, DASHES[index]) if DASHES[index] else "-",
                estimator=None,
                errorbar=None,
                legend=False,
                linewidth=1.5,
            )
            axes.scatter(
                x[-1:],
                line[column].iloc[-1:],
                color=RAMP[index],
                marker=MARKERS[index],
                s=34,
                zorder=4,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(say(f"axis.curve.{axis}"))
        drawn = rows[rows["step"] > 0]
        low, high = drawn[f"{column}_least"].min(), drawn[f"{column}_most"].max()
        scene.measure_axis(axes, "val", float(low), float(high))
        heading = say("panel.curves", optimizer=optimizer, axis=say(f"axis.curve.{axis}"))
        axes.set_title(heading)
        names = [scene.short_batch(size) for size in shown]
        legend(figure, names, RAMP, columns=6 if max(map(len, names)) < 4 and len(names) < 5 else 3)
        told = descriptions.curves(rows, axis, scene.batch, measure, say)
        alt = say("alt.first", optimizer=optimizer, told=told)
        return scene.panel(figure, scene.name("curves", optimizer, axis), heading, alt)


def divergence(scene: Scene) -> Plot | None:
    """Draw which learning rates diverged at which batch size, and how well the others did."""
    rows = scene.rows(scene.results.divergence)
    if rows.empty:
        return None
    panels = [
        _map_panel(scene, rows[rows["optimizer"] == optimizer], optimizer)
        for optimizer in scene.optimizers
        if (rows["optimizer"] == optimizer).any()
    ]
    percent = " (%)" if scene.measure.name == "accuracy" else ""
    caption = scene.say("figure.divergence.caption", result=scene.say.result(scene.measure, "val") + percent)
    columns = [
        "optimizer",
        "batch_size",
        "lr",
        "trials",
        "diverged",
        "interrupted",
        scene.measure.column("val"),
        "best",
    ]
    return Plot(
        scene.name("divergence"), scene.say("figure.divergence.title"), caption, tuple(panels), tidy(rows, columns)
    )


def _map_panel(scene: Scene, rows: pd.DataFrame, optimizer: str) -> Panel:
    rates = sorted({float(rate) for rate in rows["lr"]})
    sizes, measure = scene.sizes, scene.measure
    grid = rows.pivot(index="lr", columns="batch_size", values=measure.column("val"))
    grid = grid.reindex(index=rates[::-1], columns=sizes)
    shades = shade(measure, grid)
    # Where every trial diverged there is no lightest and darkest to find.
    lightest, darkest = (0, 1) if shades.isna().all(axis=None) else (None, None)
    with scene.style():
        figure = canvas(height=1.25 + 0.27 * len(rates))
        axes = figure.add_subplot()
        axes.grid(visible=False)
        sns.heatmap(
            shades,
            ax=axes,
            vmin=lightest,
            vmax=darkest,
            cmap="cividis",
            cbar=False,
            annot=_map_labels(rows, grid, measure),
            fmt="",
            annot_kws={"fontsize": 8.5},
            linewidths=0,
        )
        for row in records(rows):
            place = (sizes.index(int(row["batch_size"])), len(rates) - 1 - rates.index(float(row["lr"])))
            _map_marks(axes, place, int(row["diverged"]), bool(row["best"]))
        batch_places(axes, sizes, scene.full, scene.say, 9, first=0.5)
        axes.yaxis.set_major_locator(FixedLocator([place + 0.5 for place in range(len(rates))]))
        axes.yaxis.set_major_formatter(FixedFormatter([words.learning_rate(rate) for rate in rates[::-1]]))
        axes.tick_params(rotation=0, length=0)
        axes.set_ylabel(scene.say("axis.lr"))
        axes.set_title(optimizer)
        told = descriptions.divergence(rows, scene.batch, scene.say)
        alt = scene.say("alt.of_optimizer", optimizer=optimizer, told=told)
        return scene.panel(figure, scene.name("divergence", optimizer), optimizer, alt)


def _map_labels(rows: pd.DataFrame, grid: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    labels = grid.map(lambda value: measure.brief(value) if np.isfinite(value) else "")
    for row in records(rows[(rows["diverged"] > 0) & (rows["diverged"] < rows["trials"])]):
        labels.loc[row["lr"], row["batch_size"]] += f" −{row['diverged']}"
    return labels


def _map_marks(axes: Axes, place: tuple[int, int], diverged: int, best: bool) -> None:
    x, y = place
    if diverged:
        axes.add_patch(Rectangle((x, y), 1, 1, fill=False, hatch="////", linewidth=0.4, edgecolor=INK, alpha=0.6))
    if best:
        axes.add_patch(Rectangle((x + 0.05, y + 0.07), 0.9, 0.86, fill=False, edgecolor="#e0483e", linewidth=2))
