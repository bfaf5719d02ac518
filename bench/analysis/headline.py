"""The headline: "is a bigger batch always better?" in sentences whose numbers are rows of `findings`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from bench.analysis import words
from bench.analysis.answer import short_answer
from bench.analysis.measures import MEASURES, Measure, measure_of
from bench.analysis.study import SETTING, select

Row = dict[str, Any]

#: Topic → its heading in the headline, in order.
TOPICS = {
    "speed": "Throughput",
    "time": "Time to target",
    "epochs": "Generalisation, equal epochs",
    "equal steps": "Generalisation, equal steps",
    "memory": "Memory",
}

#: Notes of findings in which no other batch size was faster.
_LARGEST_WON = ("largest is best", "largest alone")


@dataclass(frozen=True)
class Statement:
    """One part of the answer.

    Attributes:
        topic: Key of `TOPICS`, or "target" / "missing" where there was nothing to compare.
        title: Heading.
        claim: What the verdict is about.
        verdict: Verdict on the claim where all optimizers agree, "differs" where not.
        text: One or two sentences.
        details: One sentence per optimizer, where there are several.
        source: CSV table the numbers stand in.
        per: What the details are about, one each.
    """

    topic: str
    title: str
    claim: str
    verdict: str
    text: str
    details: tuple[str, ...]
    source: str
    per: str = "optimizer"


@dataclass(frozen=True)
class Headline:
    """The answer for one setting.

    Attributes:
        setting: Task, model, device and precision.
        answer: The answer in a word or two: "No."
        reason: What speaks for and against the largest batch, in a sentence.
        unsettled: What the sweep does not settle, in a sentence; empty where it settles all.
        statements: The parts of the answer.
    """

    setting: dict[str, str]
    answer: str
    reason: str
    unsettled: str
    statements: tuple[Statement, ...]

    @property
    def text(self) -> str:
        """The answer with its reasons."""
        return " ".join(part for part in (self.answer, self.reason, self.unsettled) if part)


def headlines(findings: pd.DataFrame, cells: pd.DataFrame) -> list[Headline]:
    """Answer the question for every setting.

    Args:
        findings: As `bench.analysis.findings.findings` returns.
        cells: As in `bench.analysis.study.Study`.
    """
    answers = []
    for key in cells[SETTING].drop_duplicates().sort_values(SETTING).itertuples(index=False):
        setting = {name: str(value) for name, value in zip(SETTING, key, strict=True)}
        here = select(cells, **setting)
        rows: list[Row] = [
            {str(name): value for name, value in row.items()} for row in select(findings, **setting).to_dict("records")
        ]
        full = {int(size) for size in here.loc[here["full_batch"].astype(bool), "batch_size"]}
        speaker = _Speaker(measure_of(here), full, target_text(here))
        statements = [statement for topic in TOPICS if (statement := speaker.statement(topic, rows))]
        answer = short_answer(rows, speaker.batch, speaker.target, speaker.measure)
        answers.append(Headline(setting, *answer, tuple(statements)))
    return answers


def target_text(cells: pd.DataFrame) -> str:
    """Return the target of a setting in words: "90 % validation accuracy".

    Args:
        cells: Columns `target_metric`, `target`.
    """
    known = cells[cells["target"].notna()]
    if known.empty:
        return "the target"
    split, _, name = str(known["target_metric"].iloc[0]).partition("_")
    return MEASURES[name]().target(split, float(known["target"].iloc[0])) if name in MEASURES else "the target"


@dataclass(frozen=True)
class _Speaker:
    measure: Measure
    full: set[int]
    target: str

    def batch(self, size: float) -> str:
        if round(size) in self.full:
            return f"the full batch ({round(size)})"
        return f"batch {words.batch_name(size)}"

    def statement(self, topic: str, rows: list[Row]) -> Statement | None:
        mine = [row for row in rows if row["topic"] == topic and row["verdict"] != "outside the grid"]
        if not mine:
            return self._unanswered(topic)
        sentence: Callable[[Row], str] = {
            "speed": self.speed,
            "time": self.time,
            "epochs": self.generalisation,
            "equal steps": self.generalisation,
            "memory": self.memory,
        }[topic]
        verdicts = {str(row["verdict"]) for row in mine}
        common = verdicts.pop() if len(verdicts) == 1 else "differs"
        source, claim = str(mine[0]["source"]), str(mine[0]["claim"])
        if len(mine) == 1:
            text, details = sentence(mine[0]), []
        else:
            text = self.together(topic, mine)
            details = [f"{row['optimizer']}: {sentence(row)}" for row in mine]
        return Statement(topic, TOPICS[topic], claim, common, text, tuple(details), source)

    def _unanswered(self, topic: str) -> Statement | None:
        missing = {
            "speed": "no two batch sizes have a measured speed",
            "time": f"no two batch sizes reached {self.target}",
            "epochs": "no two batch sizes have results to compare",
            "equal steps": "no two batch sizes have results to compare",
            "memory": "no two batch sizes have measured memory",
        }
        text = f"Not answered: {missing[topic]}."
        return Statement(topic, TOPICS[topic], "", "not answered", text, (), "cells.csv")

    def speed(self, row: Row) -> str:
        knee = row["budget_value"]
        half = (
            f" Half of the highest rate is reached near batch {words.number(knee, 2)}."
            if math.isfinite(knee) and knee >= 1
            else ""
        )
        return (
            f"From {self.batch(row['batch_from'])} to {self.batch(row['batch_to'])}, throughput goes from "
            f"{words.number(row['value_from'])} to {words.number(row['value_to'])} examples/s "
            f"({words.ratio(row['effect'])}, interval {words.number(row['lo'])} to "
            f"{words.number(row['hi'])}).{half}"
        )

    def time(self, row: Row) -> str:
        best, largest = self.batch(row["batch_from"]), self.batch(row["batch_to"])
        first = best[0].upper() + best[1:]
        if row["note"] == "never reached":
            return (
                f"{first} reached {self.target} first, in {words.seconds(row['value_from'])} of training; "
                f"{largest} never got there with more than half of its seeds."
            )
        if row["note"] == "largest alone":
            return (
                f"Only the largest batch, {largest.removeprefix('batch ')}, reached {self.target} with more than half "
                f"of its seeds, in {words.seconds(row['value_to'])} of training."
            )
        if row["note"] == "largest is best":
            return (
                f"The largest batch, {largest.removeprefix('batch ')}, reached {self.target} first, "
                f"in {words.seconds(row['value_to'])} of "
                f"training; {best} took {words.seconds(row['value_from'])}{self._interval(row)}."
            )
        return (
            f"{first} reached {self.target} first, in {words.seconds(row['value_from'])} of training; "
            f"{largest} took {words.seconds(row['value_to'])}, "
            f"{words.ratio(row['effect'])}{self._interval(row)}."
        )

    def _interval(self, row: Row) -> str:
        if not math.isfinite(row["lo"]):
            return ""
        # A ratio on few seeds can have an interval over orders of magnitude; three digits would be pretence.
        ends = f"{words.number(row['lo'], 2)} to {words.number(row['hi'], 2)}"
        return f" (interval {ends}, {round(row['n'])} seeds)"

    def generalisation(self, row: Row) -> str:
        unit = "epoch" if row["topic"] == "epochs" else "step"
        unit = unit if row["budget_value"] == 1 else f"{unit}s"
        measure, scale = self.measure, str(row["effect_unit"])
        wide = (
            f"; {measure.interval(row['lo_wide'], row['hi_wide'], scale)} if the "
            f"{words.count(measure.test_examples)} test "
            "examples count as a sample too"
            if measure.test_examples and scale == "fraction"
            else ""
        )
        note = f" ({row['note']})" if row["note"] else ""
        meaning = {
            "supported": "larger is worse",
            "refuted": "larger is better",
            "equivalent": "no difference that matters",
            "inconclusive": "this does not settle which is better",
        }[str(row["verdict"])]
        after = f"After {words.number(row['budget_value'])} {unit}, {measure.of('test')}"
        if not row["n"]:
            return f"{after} has no finite value to compare{note}: {meaning}."
        return (
            f"{after} is "
            f"{measure.value(row['value_to'])} at {self.batch(row['batch_to'])} and "
            f"{measure.value(row['value_from'])} at {self.batch(row['batch_from'])}: "
            f"{measure.effect(row['effect'], scale)} "
            f"{measure.interval(row['lo'], row['hi'], scale)} over {words.plural(row['n'], 'seed')}"
            f"{note}{wide}: {meaning}."
        )

    def memory(self, row: Row) -> str:
        return (
            f"From {self.batch(row['batch_from'])} to {self.batch(row['batch_to'])}, what a step has to hold "
            "(parameters, gradients, optimizer state, activations) grows from "
            f"{words.mebibytes(row['value_from'])} to "
            f"{words.mebibytes(row['value_to'])} ({words.ratio(row['effect'])})."
        )

    def together(self, topic: str, rows: list[Row]) -> str:
        if topic == "time":
            return self._time_together(rows)
        if topic in ("epochs", "equal steps"):
            return self._generalisation_together(rows)
        span = _span(rows, words.ratio)
        if topic == "speed":
            return f"The largest batch handles {span} as many examples per second as the smallest."
        return f"A step at the largest batch has to hold {span} the memory of one at the smallest."

    def _time_together(self, rows: list[Row]) -> str:
        won = [str(row["optimizer"]) for row in rows if row["note"] in _LARGEST_WON]
        never = [str(row["optimizer"]) for row in rows if row["note"] == "never reached"]
        lost = [row for row in rows if row["note"] not in _LARGEST_WON]
        sizes = sorted({int(row["batch_from"]) for row in lost})
        best = [
            f"{self.batch(size)} "
            f"({words.names([str(row['optimizer']) for row in lost if row['batch_from'] == size], 'optimizer')})"
            for size in sizes
        ]
        parts = []
        if won:
            parts.append(f"The largest batch reached {self.target} first with {words.names(won, 'optimizer')}.")
        if lost:
            parts.append(f"The fastest way to {self.target} was {words.listing(best)}.")
        slower = [row for row in lost if math.isfinite(row["effect"])]
        if len(slower) > 1:
            low, high = _ends(slower)
            parts.append(
                f"The largest took {words.ratio(low['effect'])} ({low['optimizer']}) to "
                f"{words.ratio(high['effect'])} "
                f"({high['optimizer']}) of its time."
            )
        elif slower:
            parts.append(f"The largest took {words.ratio(slower[0]['effect'])} of its time ({slower[0]['optimizer']}).")
        if never:
            parts.append(f"With {words.names(never, 'optimizer')} the largest batch never got there.")
        return " ".join(parts)

    def _generalisation_together(self, rows: list[Row]) -> str:
        unit = "epochs" if rows[0]["topic"] == "epochs" else "steps"
        tally = words.listing(
            [
                f"{wording} for {words.names(names, 'optimizer')}"
                for verdict, wording in (
                    ("supported", "worse"),
                    ("refuted", "better"),
                    ("equivalent", "no difference that matters"),
                    ("inconclusive", "not settled"),
                )
                if (names := [str(row["optimizer"]) for row in rows if row["verdict"] == verdict])
            ]
        )
        units = [scale for scale in ("fraction", "ratio", "loss") if any(row["effect_unit"] == scale for row in rows)]
        spans = []
        for scale in units:
            finite = [row for row in rows if row["effect_unit"] == scale and math.isfinite(row["effect"])]
            if finite:
                span = _span(finite, partial(self.measure.effect, unit=scale))
                spans.append(self.measure.apart(span, scale))
        what = words.listing(spans) or f"no {self.measure.of('test')} is finite at both ends"
        return f"At equal {unit}, {what}: {tally}."


def _span(rows: list[Row], form: Callable[[float], str]) -> str:
    """Write the least and the greatest effect with their optimizers, or one value where they look the same."""
    low, high = _ends(rows)
    if form(low["effect"]) == form(high["effect"]):
        return form(low["effect"])
    return f"{form(low['effect'])} ({low['optimizer']}) to {form(high['effect'])} ({high['optimizer']})"


def _ends(rows: list[Row]) -> tuple[Row, Row]:
    """Return the rows with the least and the greatest effect."""
    return min(rows, key=lambda row: float(row["effect"])), max(rows, key=lambda row: float(row["effect"]))
