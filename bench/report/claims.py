"""Claims as the page and its Markdown twin print them: the wall, and a section for each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from bench.analysis import words
from bench.analysis.budgets import BUDGETS
from bench.analysis.rules import RULES
from bench.analysis.study import CONDITION, records
from bench.claims.claim import Claim
from bench.claims.evidence import Judged
from bench.claims.wall import BESIDE, MISSING, MIXED, PARTLY, SETTLED
from bench.report.messages import Messages
from bench.report.plot import Plot
from bench.report.published import published_table
from bench.report.units import unit_name, write, write_interval, write_null
from bench.report.view import Cell, Group, Table

#: More conditions than this have their primary places in one table; the others stand in the file.
MANY_CONDITIONS = 6
#: Rows of such a table, and notes.
MOST_ROWS = 60
MOST_NOTES = 8
#: What a statistic is taken across.
ACROSS = "–"
FILE = "claims.csv"
#: Verdicts besides "supported" that settle a place: named on the wall where places contradict one another.
MIXED_OTHERS = ("refuted", "equivalent")


@dataclass(frozen=True)
class Brick:
    """A claim on the wall.

    Attributes:
        name: Of the claim.
        sentence: In the report's language.
        verdict: Word of `bench.claims.wall.wall`, for the style.
        word: The same in the report's language.
        counts: In how many places it holds, or what supplies its data.
    """

    name: str
    sentence: str
    verdict: str
    word: str
    counts: str


@dataclass(frozen=True)
class Entry(Cell):
    """A verdict in a matrix.

    Attributes:
        place: What filters ask for: `budget`, `rule`, `task`, `optimizer`; empty where it is taken across them.
        word: The verdict in the report's language.
    """

    place: tuple[tuple[str, str], ...] = ()
    word: str = ""


@dataclass(frozen=True)
class Told:
    """The section of a claim.

    Attributes:
        brick: As on the wall.
        facts: Name and text.
        tables: Matrices; their entries are `Entry` but for heads and gaps.
        notes: What a reader has to know.
        plots: Figures.
        published: What the literature reports, beside what the sweep found; None where nothing is known.
        command: What supplies its data, where the sweep has none; else empty.
    """

    brick: Brick
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    plots: tuple[Plot, ...]
    published: Table | None = None
    command: str = ""

    @property
    def anchor(self) -> str:
        """Id of the section, for links."""
        return f"claim-{self.brick.name.lower()}"


@dataclass(frozen=True)
class Claims:
    """What the report says of claims.

    Attributes:
        judged: The verdicts.
        wall: `bench.claims.wall.wall` of them.
        plots: By name of a claim, its figures.
        digest: `bench.claims.claim.frozen_hash`.
        say: The report's language.
        several: Whether claims may be judged on another sweep than the report's.
    """

    judged: Judged
    wall: pd.DataFrame
    plots: dict[str, tuple[Plot, ...]]
    digest: str
    say: Messages
    several: bool = False

    @cached_property
    def told(self) -> list[Told]:
        """The section of every claim, in order."""
        bricks = {str(row["claim"]): self._brick(row) for row in records(self.wall)}
        return [self._told(claim, bricks[claim.name]) for claim in self.judged.claims]

    def families(self) -> str:
        """Say in which families intervals are adjusted."""
        primary = int(self.judged.verdicts["primary"].astype(bool).sum())
        return self.say("claims.families", claims=len(self.judged.claims), primary=primary)

    def filters(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Return what matrices can be filtered by: name, label, and values with their words, two at least."""
        found = []
        for name, order in (("budget", BUDGETS), ("rule", RULES), ("task", ()), ("optimizer", ())):
            values = [value for value in sorted(set(self.judged.verdicts[name])) if value not in ("", ACROSS)]
            if len(values) > 1:
                pairs = [(value, self.say.word(name, value)) for value in _ordered(values, order)]
                found.append((name, self.say(f"filter.{name}"), pairs))
        return found

    def _brick(self, row: dict[str, Any]) -> Brick:
        claim = next(item for item in self.judged.claims if item.name == row["claim"])
        verdict = str(row["verdict"])
        if verdict == MISSING:
            counts = self.say("wall.missing", experiment=claim.experiment)
        elif verdict == BESIDE:
            counts = self.say("wall.beside", holds=row["holds_elsewhere"], of=row["elsewhere"])
        elif verdict.startswith(PARTLY):
            word = verdict.removeprefix(PARTLY)
            counts = self.say("wall.partly", some=row[SETTLED[word]], of=row["primary"])
        elif verdict == MIXED:
            counts = self.say("wall.holds", holds=row["holds"], of=row["primary"])
            others = [word for word in MIXED_OTHERS if row[SETTLED[word]]]
            counts += "".join(self.say(f"wall.also.{word}", some=row[SETTLED[word]]) for word in others)
        else:
            counts = self.say("wall.holds", holds=row["holds"], of=row["primary"])
        sentence = claim.sentence[self.say.language]
        return Brick(claim.name, sentence, verdict.replace(" ", "-"), self.say.word("verdict", verdict), counts)

    def _told(self, claim: Claim, brick: Brick) -> Told:
        found = self.judged.of(claim)
        tables = tuple(_tables(claim, found, self.say)) if len(found) else ()
        plots = self.plots.get(claim.name, ())
        command = "" if len(found) else f"bench run -m experiment={claim.experiment}"
        published = published_table(claim, found, self.say)
        facts = _facts(claim, self.say)
        if self.several and len(found):
            facts.append((self.say("claims.judged_on"), self.say("list.join").join(dict.fromkeys(found["sweep"]))))
        notes = tuple(_notes(found, self.say))
        return Told(brick, tuple(facts), tables, notes, plots, published, command)


def place_label(row: dict[str, Any], varying: Sequence[str], say: Messages) -> str:
    """Name a place by what tells it apart from others."""
    told = [say.place(name, str(row[name])) for name in varying if str(row[name]) not in ("", ACROSS)]
    return say("list.join").join(told) or say("claims.across")


def varying(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the columns that tell places apart; of the condition at least the task and the optimizer."""
    models = rows["model"].nunique() > rows["task"].nunique()
    return [
        name
        for name in names
        if name in ("task", "optimizer") or (rows[name].nunique() > 1 and (name != "model" or models))
    ]


def _ordered(values: Sequence[str], order: Sequence[str]) -> list[str]:
    return sorted(values, key=lambda value: (order.index(value) if value in order else len(order), value))


def _facts(claim: Claim, say: Messages) -> list[tuple[str, str]]:
    null = write_null(claim)
    primary = say("list.join").join(say.place(name, value) for name, value in claim.primary.items() if value)
    margins = []
    for tasks, margin in claim.margin.items():
        where = say("claims.rest") if len(claim.margin) > 1 else ""
        where = where if tasks == "else" else say("claims.task", tasks=tasks)
        size = f"{words.number(100 * margin)} pp" if claim.unit == "fraction" else words.number(margin)
        below = say("claims.below", margin=size)
        margins.append(say("claims.below_where", below=below, where=where) if where else below)
    return [
        (say("claims.measured"), claim.contrast[say.language]),
        (say("claims.says"), say(f"direction.{claim.direction}", null=null)),
        (say("claims.margin"), say("list.join").join(margins)),
        (say("claims.primary"), primary or say("claims.everywhere")),
        (say("claims.who"), say.from_declaration("who", claim.who, claim.who)),
        (say("claims.literature"), say.from_declaration("literature", claim.name, claim.literature)),
    ]


def _notes(found: pd.DataFrame, say: Messages) -> list[str]:
    noted = found[found["note"] != ""]
    if len(noted) <= MOST_NOTES:
        names = varying(found, [*CONDITION, "budget", "rule", "measure"]) if len(found) else []
        return [
            say("claims.note", place=place_label(row, names, say), note=say.retold("remark", str(row["note"])))
            for row in records(noted)
        ]
    # Most places of a condition say the same.
    counts = noted["note"].value_counts(sort=False)
    told = [
        say("claims.note_times", note=say.retold("remark", str(note)), count=count)
        for note, count in counts.head(MOST_NOTES).items()
    ]
    return told + ([say("claims.hidden", rows=len(counts) - MOST_NOTES)] if len(counts) > MOST_NOTES else [])


def _tables(claim: Claim, found: pd.DataFrame, say: Messages) -> list[Table]:
    units = found.groupby("unit", sort=False)
    tables = []
    for unit, rows in units:
        conditions = rows[CONDITION].drop_duplicates()
        single = not rows.duplicated([*CONDITION, "measure"]).any()
        if len(conditions) > MANY_CONDITIONS or single:
            tables.append(_list(rows, str(unit), single, say))
        else:
            names = varying(rows, CONDITION)
            for _, mine in rows.groupby(CONDITION, sort=False):
                where = place_label(records(mine)[0], names, say)
                tables.append(_matrix(mine, say("claims.caption", where=where, unit=unit_name(str(unit), say)), say))
    return tables


def _matrix(rows: pd.DataFrame, caption: str, say: Messages) -> Table:
    """Budgets (and measures) against rules, for one condition."""
    by_place = {(row["budget"], row["measure"], row["rule"]): row for row in records(rows)}
    rules = _ordered(sorted(set(rows["rule"])), RULES)
    heads = [
        (budget, measure)
        for budget in _ordered(sorted(set(rows["budget"])), BUDGETS)
        for measure in dict.fromkeys(rows.loc[rows["budget"] == budget, "measure"])
    ]
    lines = []
    for budget, measure in heads:
        named = say.place("measure", measure)
        head = Cell(say.word("budget", budget) if budget else named or "–", named if budget else "")
        entries = [by_place.get((budget, measure, rule)) for rule in rules]
        lines.append((head, *[_entry(row, say) if row else Cell("–") for row in entries]))
    columns = (say("claims.budget"), *[say.word("rule", rule or "none") for rule in rules])
    return Table(caption, columns, (Group("", tuple(lines)),), FILE, "places")


def _list(rows: pd.DataFrame, unit: str, single: bool, say: Messages) -> Table:
    """One place a row: all of them, or of many conditions the primary ones."""
    names = varying(rows, [*CONDITION, "measure"])
    shown = rows if single or not rows["primary"].any() else rows[rows["primary"].astype(bool)]
    if not single:
        names = [*names, *[name for name in ("budget", "rule") if shown[name].nunique() > 1]]
    lines = [(Cell(place_label(row, names, say)), _entry(row, say)) for row in records(shown.head(MOST_ROWS))]
    where = "claims.caption" if single else "claims.condensed"
    caption = say(where, where=say("claims.everywhere"), unit=unit_name(unit, say))
    if len(shown) > MOST_ROWS:
        caption += f" {say('claims.hidden', rows=len(shown) - MOST_ROWS)}"
    if len(shown) < len(rows):
        caption += f" {say('claims.others', places=len(rows) - len(shown))}"
    return Table(caption, (say("claims.where"), say("rule.none")), (Group("", tuple(lines)),), FILE, "places")


def _entry(row: dict[str, Any], say: Messages) -> Entry:
    unit, verdict = str(row["unit"]), str(row["verdict"])
    interval = write_interval(row["lo_adjusted"], row["hi_adjusted"], unit) or say("claims.no_interval")
    count = say("list.join").join([say("claims.n", n=round(row["n"])), *_needed(row, say)])
    place = tuple(
        (name, "" if row[name] == ACROSS else str(row[name])) for name in ("budget", "rule", "task", "optimizer")
    )
    kind = f"{verdict}{' primary' if row['primary'] else ''}"
    return Entry(f"{write(row['estimate'], unit)} {interval}", count, kind, place, say.word("verdict", verdict))


def _needed(row: dict[str, Any], say: Messages) -> list[str]:
    """Say how many units would settle an inconclusive verdict."""
    bounded = math.isfinite(row["lo_adjusted"]) and math.isfinite(row["hi_adjusted"])
    if row["verdict"] != "inconclusive" or not bounded:
        return []
    needed = float(row["n_needed"])
    if math.isnan(needed):
        # The table keeps no infinity: the interval is bounded, so this is what it was.
        return [say("claims.never")]
    return [say("claims.near") if needed <= row["n"] else say("claims.needed", n=words.count(math.ceil(needed)))]
