"""The figure of a claim: its estimates with adjusted intervals beside what it is held against."""

import math
import re
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from bench.analysis import words
from bench.analysis.study import CONDITION, records
from bench.claims.claim import Claim
from bench.report.claims import place_label, varying
from bench.report.fonts import half_ems, is_wide
from bench.report.messages import Messages
from bench.report.plot import Panel, Plot
from bench.report.style import INK, MARKERS, SERIES, canvas, figure_style, svg
from bench.report.ticks import round_ratios, round_values
from bench.report.units import LOGS, MOST_DECADES, unit_name, write, write_interval, write_null

#: Up to so many places are all drawn; of more, the primary ones, so many at most.
FEW_PLACES, MOST_PLACES = 12, 30
#: Verdict → its colour and marker, always the same.
LOOKS = ("supported", "refuted", "equivalent", "inconclusive")
#: Intervals are cut off this many times as far from the null as the furthest estimate or margin.
REACH = 4.0
#: Letters of a label side by side.
LABEL = 24
#: Largest natural logarithm of a ratio that has a number.
MOST_LOG = MOST_DECADES * math.log(10)


def forest(claim: Claim, found: pd.DataFrame, say: Messages) -> Plot | None:
    """Draw the estimates of a claim, a panel for every unit; None where it has none.

    Args:
        claim: The claim.
        found: Its rows of the table of verdicts.
        say: The report's language.
    """
    primary = found["primary"].astype(bool)
    alone = len(found) > FEW_PLACES and bool(primary.any())
    shown = found[primary] if alone else found
    shown = shown[np.isfinite(shown["estimate"].astype(float))].groupby("unit", sort=False).head(MOST_PLACES)
    if shown.empty:
        return None
    name = f"claim-{claim.name.lower()}"
    units = list(shown.groupby("unit", sort=False))
    panels = [
        _panel(claim, rows, str(unit), name if len(units) == 1 else f"{name}-{number}", say)
        for number, (unit, rows) in enumerate(units, 1)
    ]
    caption = say("claims.figure_caption") + (f" {say('claims.figure_primary')}" if alone else "")
    return Plot(name, say("claims.figure", claim=claim.name), caption, tuple(panels), shown.reset_index(drop=True))


def _panel(claim: Claim, rows: pd.DataFrame, unit: str, name: str, say: Messages) -> Panel:
    names = varying(rows, [*CONDITION, "budget", "rule", "measure"])
    if rows["task"].nunique() == 1 and rows["optimizer"].nunique() > 1:
        names = [column for column in names if column != "task"]
    found = records(rows)
    labels = [fill(place_label(row, names, say)) for row in found]
    lines = sum(label.count("\n") + 1 for label in labels) + 0.6 * len(labels)
    with figure_style(say.language):
        figure = canvas(height=1.15 + 0.2 * lines)
        axes = figure.add_subplot()
        null, reach = _limits(axes, rows)
        axes.axvline(null, color=INK, alpha=0.6, linewidth=1, zorder=1)
        for y, row in enumerate(found):
            _mark(axes, y, row, null, reach)
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.yaxis.set_major_locator(FixedLocator(list(range(len(found)))))
        axes.set_yticklabels(labels)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(FixedLocator(_ticks(*axes.get_xlim(), unit)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))
        axes.set_xlabel(unit_name(unit, say))
        present = [word for word in LOOKS if word in set(rows["verdict"])]
        handles = [
            Line2D([], [], color=SERIES[index], marker=MARKERS[index], label=say.word("verdict", word))
            for word in present
            for index in (LOOKS.index(word),)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=2, borderaxespad=0.2)
        alt = _alt(claim, found, unit, names, say)
        title = f"{claim.name}: {claim.sentence[say.language]}"
        return Panel(name, claim.name, alt, svg(figure, name, title, alt, language=say.language))


def fill(text: str, most: int = LABEL) -> str:
    """Break a text into lines of so many letters, an ideograph counting as two.

    Text with ideographs is broken after its commas; a part that is longer than a line, beside an ideograph.
    """
    if not any(map(is_wide, text)):
        return textwrap.fill(text, most)
    lines = [""]
    for part in re.findall(r"[^、，]+[、，]*", text):
        letters = [part] if half_ems(part) <= most else re.findall(r"[^\u2e80-\uff60]+|.[、，：）]*", part)
        for piece in letters:
            if lines[-1] and half_ems(lines[-1] + piece.rstrip("、，")) > most:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def _ticks(low: float, high: float, unit: str) -> list[float]:
    """Return where a statistic is labelled between two of its values: at round numbers of what `write` writes."""
    if unit not in LOGS:
        return round_values(low, high)
    log = math.log(LOGS[unit])
    # Beyond, `write` has no number to write.
    lowest, highest = (math.exp(max(min(end * log, MOST_LOG), -MOST_LOG)) for end in (low, high))
    return [math.log(ratio) / log for ratio in round_ratios(lowest, highest)]


def _tick(value: float, unit: str) -> str:
    # Labels are round numbers: what more digits add is what tells close ones apart.
    if unit == "fraction":
        return words.signed(100 * value, 6)
    return words.ratio(LOGS[unit] ** value, 6) if unit in LOGS else words.number(value, 6)


def _limits(axes: Axes, rows: pd.DataFrame) -> tuple[float, float]:
    """Set the horizontal limits; return the null, and how far from it intervals are drawn."""
    null = float(rows["null"].iloc[0])
    table = rows[["estimate", "lo_adjusted", "hi_adjusted"]].to_numpy(dtype=float)
    furthest = max(float(np.abs(table[:, 0] - null).max()), float(rows["margin"].max()))
    ends = np.abs(table[np.isfinite(table)] - null)
    reach = float(min(max(ends.max(), furthest), REACH * furthest))
    axes.set_xlim(null - 1.12 * reach, null + 1.12 * reach)
    return null, reach


def _mark(axes: Axes, y: int, row: dict[str, Any], null: float, reach: float) -> None:
    index = LOOKS.index(str(row["verdict"]))
    colour, margin, value = SERIES[index], float(row["margin"]), float(row["estimate"])
    axes.fill_betweenx([y - 0.5, y + 0.5], null - margin, null + margin, color=INK, alpha=0.09, linewidth=0)
    lo, hi = float(row["lo_adjusted"]), float(row["hi_adjusted"])
    if not (math.isnan(lo) or math.isnan(hi)):
        ends = max(lo, null - reach), min(hi, null + reach)
        axes.plot(ends, [y, y], color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
        for end, known, arrow in ((ends[0], lo, "<"), (ends[1], hi, ">")):
            if end != known:
                axes.plot([end], [y], color=colour, marker=arrow, markersize=6, zorder=3)
    axes.plot([value], [y], color=colour, marker=MARKERS[index], markersize=7, zorder=4)


def _alt(claim: Claim, found: list[dict[str, Any]], unit: str, names: list[str], say: Messages) -> str:
    told = [
        say(
            "alt.estimate",
            place=place_label(row, names, say),
            value=write(row["estimate"], unit),
            interval=write_interval(row["lo_adjusted"], row["hi_adjusted"], unit) or say("alt.without_interval"),
            verdict=say.word("verdict", row["verdict"]),
        )
        for row in found[:6]
    ]
    return say(
        "alt.claim",
        claim=claim.name,
        unit=unit_name(unit, say),
        places=say.count("place", len(found)),
        null=write_null(claim),
        told=say("list.clause").join(told),
        more=say("alt.more", count=len(found) - 6) if len(found) > 6 else "",
    )
