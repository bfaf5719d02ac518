"""What the literature reports beside what a sweep found: a table in the section of each claim, and one file."""

import math
from typing import Any

import pandas as pd

from bench.claims.claim import Claim
from bench.claims.evidence import Judged
from bench.claims.published import Published, Value, published
from bench.report.messages import Messages
from bench.report.units import LOGS, write, write_interval
from bench.report.view import Cell, Group, Table

FILE = "published.csv"


def published_table(claim: Claim, verdicts: pd.DataFrame, say: Messages) -> Table | None:
    """Return the published numbers of a claim with the nearest of this sweep; None where none are known.

    Args:
        claim: The claim.
        verdicts: The table of verdicts.
        say: The report's language.
    """
    entries = [entry for entry in published() if entry.claim == claim.name]
    if not entries:
        return None
    rows = tuple(_row(entry, claim, entry.nearest(verdicts), say) for entry in entries)
    columns = tuple(say(f"published.{name}") for name in ("who", "what", "values", "effect", "here"))
    return Table(say("published.caption"), columns, (Group("", rows),), FILE, "beside")


def _row(entry: Published, claim: Claim, ours: dict[str, Any] | None, say: Messages) -> tuple[Cell, ...]:
    parts = [_said(part, say) for part in (entry.task, entry.network, entry.optimizer) if part]
    statistic = entry.statistic
    effect = say("published.none") if math.isnan(statistic) else _write(statistic, claim.unit, say)
    differs = entry.differs[say.language]
    if ours is None:
        key = "published.absent" if entry.comparable else "published.never"
        here = Cell(say(key), differs, "dim")
    else:
        unit = str(ours["unit"])
        found = (
            f"{_write(ours['estimate'], unit, say)} {write_interval(ours['lo_adjusted'], ours['hi_adjusted'], unit)}"
        )
        told = say("published.ours", task=ours["task"], optimizer=ours["optimizer"], differs=differs)
        here = Cell(found.strip(), told)
    return (
        Cell(entry.who, say("list.join").join([entry.source, _said(entry.place, say)])),
        Cell(entry.quantity[say.language], say("list.join").join(parts)),
        Cell(say("list.clause").join(_value(item, entry.unit, say) for item in entry.values)),
        Cell(effect),
        here,
    )


def _said(text: str, say: Messages) -> str:
    return say.from_declaration("published", text, text)


def _write(value: float, unit: str, say: Messages) -> str:
    """Write a statistic with its unit, where what `write` returns has none."""
    named = unit in LOGS or unit in ("fraction", "slope")
    return write(value, unit) if named else f"{write(value, unit)} {say.word('unit', unit)}"


def _value(item: Value, unit: str, say: Messages) -> str:
    deviation = "" if math.isnan(item.spread) else f" ± {item.spread:g}"
    named = f" {say.word('unit', unit)}" if unit not in ("", "loss") else ""
    return say("published.value", at=_said(item.at, say), value=f"{item.value:g}{deviation}{named}")


def published_frame(judged: Judged) -> pd.DataFrame:
    """Return every published value of the claims judged, with the nearest statistic of this sweep.

    Returns:
        Columns `claim`, `who`, `source`, `place`, `task`, `network`, `optimizer`, `quantity`, `at`, `value`, `spread`,
        `unit`; `effect`, `statistic`, `statistic_unit` (what follows for the claim's statistic); `task_here`,
        `optimizer_here`, `budget_here`, `rule_here`, `measure_here`, `estimate_here`, `lo_here`, `hi_here`,
        `verdict_here` (empty where no task is comparable); `differs`.
    """
    rows: list[dict[str, Any]] = []
    columns = ["claim", "who", "source", "place", "task", "network", "optimizer", "quantity", "at", "value", "spread"]
    columns += ["unit", "effect", "statistic", "statistic_unit"]
    taken = {"task": "task", "optimizer": "optimizer", "budget": "budget", "rule": "rule", "measure": "measure"}
    taken |= {"estimate": "estimate", "lo_adjusted": "lo", "hi_adjusted": "hi", "verdict": "verdict"}
    columns += [*(f"{name}_here" for name in taken.values()), "differs"]
    claims = {claim.name: claim for claim in judged.claims}
    for entry in published():
        if entry.claim not in claims:
            continue
        ours = entry.nearest(judged.verdicts)
        shared = {name: getattr(entry, name) for name in columns[:7]} | {"unit": entry.unit, "effect": entry.effect}
        shared |= {"quantity": entry.quantity["en"], "differs": entry.differs["en"], "statistic": entry.statistic}
        shared |= {"statistic_unit": claims[entry.claim].unit}
        shared |= {f"{name}_here": None if ours is None else ours[column] for column, name in taken.items()}
        rows += [shared | {"at": item.at, "value": item.value, "spread": item.spread} for item in entry.values]
    return pd.DataFrame(rows, columns=columns)
