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
from bench.report.plot import TOGETHER, Panel, Plot
from bench.report.style import DASHES, INK, SERIES, canvas, figure_style, svg
from bench.report.view import Cell, Group, Table

#: Costs that are drawn; examples differ from steps by the same factor for everybody on a problem.
DRAWN = {
    "gradients": "gradients to target",
    "steps": "steps to target",
    "seconds": "training seconds to target",
}
#: The axis ends at the largest finite ratio, but not beyond this.
FARTHEST = 64.0


def performance_profile(results: Results) -> Plot | None:
    """Draw ρ(τ) for gradients (old records: steps) and seconds; None with fewer than three tasks or two optimizers."""
    if not is_enough(results.ratios):
        return None
    drawn = (price(results.targets), "seconds")
    panels = [_panel(results, cost) for cost in drawn]
    first = results.profile_scores.iloc[0]
    caption = (
        f"For each factor τ the fraction of problems on which an optimizer's cost is at most τ times the best "
        f"optimizer's. A problem is a task at a batch size, on a device, in a precision: "
        f"{words.plural(first['problems'], 'problem')} that somebody solved"
        f"{_unsolved(int(first['unsolved']))}. The cost is the median over seeds at the learning rate with the "
        f"smallest one; who did not reach the target, or has no complete cell, has not solved the problem. In colour "
        f"the {TOGETHER} with the highest score, grey the others; the table has all. Score: the area under the "
        f"profile from τ = 1 to {TAU_MAX:g}, divided by {TAU_MAX - 1:g} (AlgoPerf, arXiv 2306.07179). Who is best "
        f"depends on who else takes part, so scores do not compare between sweeps.{_gradients(results)}"
    )
    ratios = results.ratios[results.ratios["cost"].isin(drawn)]
    return Plot("profile", "Performance profile", caption, tuple(panels), ratios.reset_index(drop=True))


def _unsolved(count: int) -> str:
    return f"; {words.plural(count, 'more problem')} nobody solved, and no profile counts" if count else ""


def _gradients(results: Results) -> str:
    several = gradients_per_step(results.study.trials)
    named = [f"{name} {words.number(value, 2)}" for name, value in several.items() if value > 1.005]
    if not named:
        return ""
    return f" A step is one update; some compute more than one gradient for it, on average: {words.listing(named)}."


def _panel(results: Results, cost: str) -> Panel:
    ratios = results.ratios[(results.ratios["cost"] == cost) & results.ratios["ratio"].notna()]
    scores = select(results.profile_scores, cost=cost)
    named = [str(name) for name in scores["optimizer"].head(TOGETHER)]
    finite = ratios["ratio"].to_numpy(dtype=float)
    # A whole octave to the right of the score's range, so that what it integrates is seen to end.
    end = min(max(float(finite[np.isfinite(finite)].max(initial=1.0)), 2 * TAU_MAX), FARTHEST)
    with figure_style():
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
        axes.set_xlabel("factor τ of the best")
        axes.set_ylabel("problems within it (%)")
        axes.set_title(DRAWN[cost].capitalize())
        legend(figure, named, columns=3, markers=False)
        title = f"Profile over {DRAWN[cost]}"
        return Panel(
            f"profile-{cost}", title, _alt(scores, cost), svg(figure, f"profile-{cost}", title, _alt(scores, cost))
        )


def _steps(ratios: pd.Series, end: float) -> tuple[list[float], list[float]]:
    values = np.unique([1.0, *(value for value in ratios if value <= end), end])
    return values.tolist(), profile(ratios, values).tolist()


def _alt(scores: pd.DataFrame, cost: str) -> str:
    rows = records(scores)
    best = [
        f"{row['optimizer']} {_two(row['score'])} (best on {words.percent(row['best'], 0)} of problems, "
        f"solved {words.percent(row['solved'], 0)})"
        for row in rows[:TOGETHER]
    ]
    last = rows[-1]
    tail = f" Lowest: {last['optimizer']} {_two(last['score'])}." if len(rows) > TOGETHER else ""
    return (
        f"Performance profiles of {len(rows)} optimizers over {words.plural(rows[0]['problems'], 'problem')}, cost: "
        f"{DRAWN[cost]}. Scores: {words.listing(best)}.{tail}"
    )


def score_table(results: Results) -> Table | None:
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
    columns = ("optimizer", f"score, {main}", "score, seconds", "best (τ = 1)", "within 2 ×", "within 4 ×", "solved")
    more = ("cells without result", *(("gradients per step",) if len(gradients) else ()))
    caption = (
        f"Scores and, for {main}, the share of problems; an optimizer's cells without a result count as not solved"
    )
    return Table(caption, (*columns, *more), (Group("", tuple(lines)),), "profile-scores.csv", "dense")


def _two(value: float) -> str:
    return f"{value:.2f}"


def _shade(fraction: float) -> str:
    return "" if fraction != fraction or fraction < 0.2 else f"q{max(1, 6 - int(5 * fraction + 1e-9))}"
