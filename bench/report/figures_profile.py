"""The performance profile over tasks: the share of problems on which an optimizer is within a factor of the best."""

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.analysis import words
from bench.analysis.profiles import TAU_MAX, gradients_per_step, is_enough, profile
from bench.analysis.results import Results
from bench.analysis.study import records, select
from bench.analysis.targets import price
from bench.report.axes import legend
from bench.report.messages import Messages
from bench.report.plot import TOGETHER, Panel, Plot
from bench.report.style import DASHES, INK, SERIES, canvas, figure_style, svg
from bench.report.view import Cell, Group, Table

#: The axis ends at the largest finite ratio, but not beyond this.
FARTHEST = 64.0


def performance_profile(results: Results, say: Messages) -> Plot | None:
    """Draw ρ(τ) for gradients (old records: steps) and seconds; None with fewer than three tasks or two optimizers.

    Examples differ from steps by the same factor for everybody on a problem.
    """
    if not is_enough(results.ratios):
        return None
    drawn = (price(results.targets), "seconds")
    panels = [_panel(results, cost, say) for cost in drawn]
    first = results.profile_scores.iloc[0]
    unsolved = int(first["unsolved"])
    caption = say(
        "figure.profile.caption",
        problems=say.count("problem", first["problems"]),
        unsolved=say("figure.profile.unsolved", problems=say.count("more_problem", unsolved)) if unsolved else "",
        together=TOGETHER,
        most=f"{TAU_MAX:g}",
        width=f"{TAU_MAX - 1:g}",
        gradients=_gradients(results, say),
    )
    ratios = results.ratios[results.ratios["cost"].isin(drawn)]
    return Plot("profile", say("figure.profile.title"), caption, tuple(panels), ratios.reset_index(drop=True))


def _gradients(results: Results, say: Messages) -> str:
    several = gradients_per_step(results.study.trials)
    named = [f"{name} {words.number(value, 2)}" for name, value in several.items() if value > 1.005]
    return say("figure.profile.gradients", names=say.listing(named)) if named else ""


def _panel(results: Results, cost: str, say: Messages) -> Panel:
    ratios = results.ratios[(results.ratios["cost"] == cost) & results.ratios["ratio"].notna()]
    scores = select(results.profile_scores, cost=cost)
    named = [str(name) for name in scores["optimizer"].head(TOGETHER)]
    finite = ratios["ratio"].to_numpy(dtype=float)
    # A whole octave to the right of the score's range, so that what it integrates is seen to end.
    end = min(max(float(finite[np.isfinite(finite)].max(initial=1.0)), 2 * TAU_MAX), FARTHEST)
    label = say(f"axis.to_target.{cost}")
    with figure_style(say.language):
        figure = canvas(height=3.9)
        axes = figure.add_subplot()
        # The best is drawn last, on top.
        for optimizer in list(scores["optimizer"])[::-1]:
            own = ratios.loc[ratios["optimizer"] == optimizer, "ratio"]
            x, y = _steps(own, end)
            if optimizer in named:
                index = named.index(optimizer)
                style = (0, DASHES[index]) if DASHES[index] else "-"
                axes.plot(x, y, drawstyle="steps-post", color=SERIES[index], linestyle=style, linewidth=1.7, zorder=3)
            else:
                axes.plot(x, y, drawstyle="steps-post", color=INK, alpha=0.28, linewidth=0.8, zorder=2)
        axes.axvline(TAU_MAX, color=INK, alpha=0.45, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        axes.set_xscale("log", base=2)
        axes.set_xlim(1, end)
        axes.set_ylim(0, 1.03)
        axes.xaxis.set_major_locator(FixedLocator([2.0**k for k in range(int(np.log2(end)) + 1)]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
        axes.set_xlabel(say("axis.profile.factor"))
        axes.set_ylabel(say("axis.profile.problems"))
        axes.set_title(words.capital(label))
        legend(figure, named, columns=3, markers=False)
        name, title, alt = f"profile-{cost}", say("panel.profile", cost=label), _alt(scores, label, say)
        return Panel(name, title, alt, svg(figure, name, title, alt, language=say.language))


def _steps(ratios: pd.Series, end: float) -> tuple[list[float], list[float]]:
    values = np.unique([1.0, *(value for value in ratios if value <= end), end])
    return values.tolist(), profile(ratios, values).tolist()


def _alt(scores: pd.DataFrame, cost: str, say: Messages) -> str:
    rows = records(scores)
    best = [
        say(
            "alt.score",
            optimizer=row["optimizer"],
            score=_two(row["score"]),
            best=words.percent(row["best"], 0),
            solved=words.percent(row["solved"], 0),
        )
        for row in rows[:TOGETHER]
    ]
    last = rows[-1]
    lowest = say("alt.lowest", optimizer=last["optimizer"], score=_two(last["score"]))
    return say(
        "alt.profile",
        optimizers=len(rows),
        problems=say.count("problem", rows[0]["problems"]),
        cost=cost,
        scores=say.listing(best),
        lowest=lowest if len(rows) > TOGETHER else "",
    )


def score_table(results: Results, say: Messages) -> Table | None:
    """Every optimizer's score, and its profile at a few factors; None where there is no profile."""
    if not is_enough(results.ratios):
        return None
    scores = results.profile_scores
    seconds = select(scores, cost="seconds").set_index("optimizer")["score"]
    gradients = gradients_per_step(results.study.trials)
    lines = []
    main = price(results.targets)
    for place, row in enumerate(records(select(scores, cost=main))):
        name = str(row["optimizer"])
        shares = [Cell(words.percent(row[key], 0), "", _shade(row[key])) for key in ("best", "within_2", "within_4")]
        lines.append(
            (
                Cell(name),
                Cell(_two(row["score"]), "", "best" if place == 0 else ""),
                Cell(_two(seconds[name]), "", "best" if seconds[name] == seconds.max() else ""),
                *shares,
                Cell(words.percent(row["solved"], 0), "", _shade(row["solved"])),
                Cell(words.count(row["incomplete"]), "", "bad" if row["incomplete"] else "dim"),
                *([Cell(words.number(gradients.get(name, np.nan), 2))] if len(gradients) else []),
            )
        )
    costs = [say("scores.score", cost=say(f"scores.cost.{cost}")) for cost in (main, "seconds")]
    names = ("best", "within_2", "within_4", "solved", "incomplete", *(("gradients",) if len(gradients) else ()))
    columns = (say("column.optimizer"), *costs, *[say(f"scores.{name}") for name in names])
    caption = say("scores.caption", cost=say(f"scores.cost.{main}"))
    return Table(caption, columns, (Group("", tuple(lines)),), "profile-scores.csv", "dense")


def _two(value: float) -> str:
    return f"{value:.2f}"


def _shade(fraction: float) -> str:
    return "" if fraction != fraction or fraction < 0.2 else f"q{max(1, 6 - int(5 * fraction + 1e-9))}"
