"""The headline: "is a bigger batch always better?" in sentences whose numbers are rows of `findings`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from bench.analysis import words
from bench.analysis.measures import Measure, measure_of
from bench.analysis.study import SETTING, records, select
from bench.report.answer import short_answer
from bench.report.messages import Messages
from bench.report.wording import apart, claim_text, target_text

Row = dict[str, Any]

#: Topics of the headline, in order.
TOPICS = ("speed", "time", "epochs", "equal steps", "memory")

#: Notes of findings in which no other batch size was faster.
_LARGEST_WON = ("largest is best", "largest alone")


@dataclass(frozen=True)
class Statement:
    """One part of the answer.

    Attributes:
        topic: One of `TOPICS`.
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
    per: str


@dataclass(frozen=True)
class Headline:
    """The answer for one setting.

    Attributes:
        setting: Task, model, device and precision.
        answer: The answer in a word or two: "No."
        reason: What speaks for and against the largest batch, in a sentence.
        unsettled: What the sweep does not settle, in a sentence; empty where it settles all.
        statements: The parts of the answer.
        between: What stands between sentences.
    """

    setting: dict[str, str]
    answer: str
    reason: str
    unsettled: str
    statements: tuple[Statement, ...]
    between: str = " "

    @property
    def text(self) -> str:
        """The answer with its reasons."""
        return self.between.join(part for part in (self.answer, self.reason, self.unsettled) if part)


def headlines(findings: pd.DataFrame, cells: pd.DataFrame, say: Messages) -> list[Headline]:
    """Answer the question for every setting.

    Args:
        findings: As `bench.analysis.findings.findings` returns.
        cells: As in `bench.analysis.study.Study`.
        say: The language.
    """
    answers = []
    for key in cells[SETTING].drop_duplicates().sort_values(SETTING).itertuples(index=False):
        setting = {name: str(value) for name, value in zip(SETTING, key, strict=True)}
        here = select(cells, **setting)
        rows = records(select(findings, **setting))
        full = {int(size) for size in here.loc[here["full_batch"].astype(bool), "batch_size"]}
        speaker = _Speaker(measure_of(here), full, target_text(here, say), say)
        statements = [speaker.statement(topic, rows) for topic in TOPICS]
        answer = short_answer(rows, speaker.batch, speaker.target, say, speaker.measure)
        answers.append(Headline(setting, *answer, tuple(statements), say("answer.between")))
    return answers


@dataclass(frozen=True)
class _Speaker:
    measure: Measure
    full: set[int]
    target: str
    say: Messages

    def bare(self, size: float) -> str:
        """Write a batch size after the word batch."""
        if round(size) in self.full:
            return self.say("headline.full", batch=round(size))
        return self.say.batch(size)

    def batch(self, size: float) -> str:
        """Write a batch size."""
        bare = self.bare(size)
        return bare if round(size) in self.full else self.say("headline.batch", batch=bare)

    def statement(self, topic: str, rows: list[Row]) -> Statement:
        """Return a part of the answer."""
        mine = [row for row in rows if row["topic"] == topic and row["verdict"] != "outside the grid"]
        title, per = self.say(f"part.{topic}.title"), self.say("noun.optimizer")
        if not mine:
            missing = self.say(f"part.{topic}.missing", target=self.target)
            text = self.say("headline.unanswered", missing=missing)
            return Statement(topic, title, "", "not answered", text, (), "cells.csv", per)
        sentence: Callable[[Row], str] = {
            "speed": self.speed,
            "time": self.time,
            "epochs": self.generalisation,
            "equal steps": self.generalisation,
            "memory": self.memory,
        }[topic]
        verdicts = {str(row["verdict"]) for row in mine}
        common = verdicts.pop() if len(verdicts) == 1 else "differs"
        source, claim = str(mine[0]["source"]), claim_text(topic, self.measure, self.say)
        if len(mine) == 1:
            text, details = sentence(mine[0]), []
        else:
            text = self.together(topic, mine)
            details = [self.say("headline.of", optimizer=row["optimizer"], told=sentence(row)) for row in mine]
        return Statement(topic, title, claim, common, text, tuple(details), source, per)

    def speed(self, row: Row) -> str:
        """Say how throughput moves."""
        knee = row["budget_value"]
        told = self.say(
            "headline.speed",
            small=self.batch(row["batch_from"]),
            large=self.batch(row["batch_to"]),
            slow=words.number(row["value_from"]),
            fast=words.number(row["value_to"]),
            ratio=words.ratio(row["effect"]),
            lo=words.number(row["lo"]),
            hi=words.number(row["hi"]),
        )
        known = math.isfinite(knee) and knee >= 1
        return told + (self.say("headline.half", batch=words.number(knee, 2)) if known else "")

    def time(self, row: Row) -> str:
        """Say which batch size reached the target first."""
        key = {"never reached": "never", "largest alone": "alone", "largest is best": "largest"}
        return self.say(
            f"headline.time.{key.get(row['note'], 'first')}",
            best=words.capital(self.batch(row["batch_from"])),
            other=self.batch(row["batch_from"]),
            largest=self.batch(row["batch_to"]),
            bare=self.bare(row["batch_to"]),
            target=self.target,
            seconds=words.seconds(row["value_from"]),
            largest_seconds=words.seconds(row["value_to"]),
            ratio=words.ratio(row["effect"]),
            interval=self._interval(row),
        )

    def _interval(self, row: Row) -> str:
        if not math.isfinite(row["lo"]):
            return ""
        # A ratio on few seeds can have an interval over orders of magnitude; three digits would be pretence.
        lo, hi = (words.number(row[end], 2) for end in ("lo", "hi"))
        return self.say("headline.interval", lo=lo, hi=hi, seeds=round(row["n"]))

    def generalisation(self, row: Row) -> str:
        """Say how test results at the ends differ."""
        say, measure, scale = self.say, self.measure, str(row["effect_unit"])
        wide = ""
        if measure.test_examples and scale == "fraction":
            interval = say.interval(measure, row["lo_wide"], row["hi_wide"], scale)
            wide = say("headline.wide", interval=interval, examples=words.count(measure.test_examples))
        lost = [
            say(f"headline.diverged.{end}", count=round(row[f"diverged_{end}"]))
            for end in ("to", "from")
            if row[f"diverged_{end}"] > 0
        ]
        unit = "epochs" if row["topic"] == "epochs" else "steps"
        shared = {
            "budget": words.number(row["budget_value"]),
            "unit": say(f"headline.unit.{unit}.{'one' if row['budget_value'] == 1 else 'more'}"),
            "result": say.result(measure, "test"),
            "note": say("headline.note", note=say.listing(lost)) if lost else "",
            "meaning": say(f"headline.meaning.{row['verdict']}"),
        }
        if not row["n"]:
            return say("headline.after_none", **shared)
        return say(
            "headline.after",
            large=measure.value(row["value_to"]),
            largest=self.batch(row["batch_to"]),
            small=measure.value(row["value_from"]),
            smallest=self.batch(row["batch_from"]),
            effect=measure.effect(row["effect"], scale),
            interval=say.interval(measure, row["lo"], row["hi"], scale),
            seeds=say.count("seed", row["n"]),
            wide=wide,
            **shared,
        )

    def memory(self, row: Row) -> str:
        """Say how memory grows."""
        return self.say(
            "headline.memory",
            small=self.batch(row["batch_from"]),
            large=self.batch(row["batch_to"]),
            least=words.mebibytes(row["value_from"]),
            most=words.mebibytes(row["value_to"]),
            ratio=words.ratio(row["effect"]),
        )

    def together(self, topic: str, rows: list[Row]) -> str:
        """Say what several optimizers have in common."""
        if topic == "time":
            return self._time_together(rows)
        if topic in ("epochs", "equal steps"):
            return self._generalisation_together(topic, rows)
        return self.say(f"together.{topic}", span=self._span(rows, words.ratio))

    def _time_together(self, rows: list[Row]) -> str:
        say = self.say
        won = [str(row["optimizer"]) for row in rows if row["note"] in _LARGEST_WON]
        never = [str(row["optimizer"]) for row in rows if row["note"] == "never reached"]
        lost = [row for row in rows if row["note"] not in _LARGEST_WON]
        best = []
        for size in sorted({int(row["batch_from"]) for row in lost}):
            with_it = [str(row["optimizer"]) for row in lost if row["batch_from"] == size]
            best.append(say("together.with", what=self.batch(size), names=say.names(with_it, "optimizer")))
        parts = []
        if won:
            parts.append(say("together.won", target=self.target, names=say.names(won, "optimizer")))
        if lost:
            parts.append(say("together.fastest", target=self.target, batches=say.listing(best)))
        slower = [row for row in lost if math.isfinite(row["effect"])]
        if len(slower) > 1:
            low, high = _ends(slower)
            ends = [
                say("together.with", what=words.ratio(row["effect"]), names=row["optimizer"]) for row in (low, high)
            ]
            parts.append(say("together.slower", low=ends[0], high=ends[1]))
        elif slower:
            one = slower[0]
            parts.append(say("together.slower_one", ratio=words.ratio(one["effect"]), name=one["optimizer"]))
        if never:
            parts.append(say("together.never", names=say.names(never, "optimizer")))
        return say("answer.between").join(parts)

    def _generalisation_together(self, topic: str, rows: list[Row]) -> str:
        say = self.say
        tally = [
            say("together.for", meaning=say(f"together.meaning.{verdict}"), names=say.names(names, "optimizer"))
            for verdict in ("supported", "refuted", "equivalent", "inconclusive")
            if (names := [str(row["optimizer"]) for row in rows if row["verdict"] == verdict])
        ]
        units = [scale for scale in ("fraction", "ratio", "loss") if any(row["effect_unit"] == scale for row in rows)]
        spans = []
        for scale in units:
            finite = [row for row in rows if row["effect_unit"] == scale and math.isfinite(row["effect"])]
            if finite:
                span = self._span(finite, partial(self.measure.effect, unit=scale))
                spans.append(apart(self.measure, span, scale, say))
        what = say.listing(spans) or say("together.none", result=say.result(self.measure, "test"))
        return say(f"together.{topic}", what=what, tally=say.listing(tally, "together.and"))

    def _span(self, rows: list[Row], form: Callable[[float], str]) -> str:
        """Write the least and the greatest effect with their optimizers, or one value where they look the same."""
        low, high = _ends(rows)
        if form(low["effect"]) == form(high["effect"]):
            return form(low["effect"])
        ends = [self.say("together.with", what=form(row["effect"]), names=row["optimizer"]) for row in (low, high)]
        return self.say("list.range", lo=ends[0], hi=ends[1])


def _ends(rows: list[Row]) -> tuple[Row, Row]:
    """Return the rows with the least and the greatest effect."""
    return min(rows, key=lambda row: float(row["effect"])), max(rows, key=lambda row: float(row["effect"]))
