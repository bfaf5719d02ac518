"""The answer in a sentence: what speaks for and what against the largest batch."""

import re
from collections.abc import Callable
from typing import Any

from bench.analysis import words
from bench.analysis.measures import Accuracy, Measure
from bench.report.messages import Messages
from bench.report.wording import behind

Row = dict[str, Any]


def short_answer(
    rows: list[Row], batch: Callable[[float], str], target: str, say: Messages, measure: Measure | None = None
) -> tuple[str, str, str]:
    """Put the verdicts of one setting together.

    A part of which the verdict is inconclusive is no reason for or against; it is named as not settled.

    Args:
        rows: Rows of `bench.analysis.findings.findings`.
        batch: Writes a batch size.
        target: The target in words.
        say: The language.
        measure: What the setting is judged by; accuracy unless given.

    Returns:
        The answer in a word or two, the reasons in a sentence, and what is not settled in a sentence (or
        empty).
    """
    by_topic = {
        topic: [row for row in rows if row["topic"] == topic] for topic in ("speed", "time", "epochs", "equal steps")
    }
    if not any(by_topic.values()):
        return say("answer.unanswered"), say("answer.nothing"), ""
    verdicts = {topic: {str(row["verdict"]) for row in found} for topic, found in by_topic.items()}
    against, unsettled = [], []
    if "refuted" in verdicts["speed"]:
        against.append(say("answer.against.speed"))
    if "refuted" in verdicts["time"]:
        against.append(_against_time(by_topic["time"], batch, target, say))
    elif "inconclusive" in verdicts["time"]:
        unsettled.append(say("answer.open.time"))
    for topic in ("epochs", "equal steps"):
        if "supported" in verdicts[topic]:
            against.append(_against_result(by_topic[topic], topic, measure or Accuracy(), say))
        elif "inconclusive" in verdicts[topic]:
            unsettled.append(say(f"answer.open.{topic}"))
    tail = say("answer.unsettled", parts=say.listing(unsettled)) if unsettled else ""
    if against:
        return say("answer.no"), words.capital(_reason(by_topic["speed"], say("answer.and").join(against), say)), tail
    if unsettled:
        return say("answer.not_settled"), say("answer.nothing_settled"), tail
    return say("answer.yes"), say("answer.but_memory"), ""


def _reason(rows: list[Row], against: str, say: Messages) -> str:
    if {str(row["verdict"]) for row in rows} != {"supported"}:
        return say("answer.reason", against=against)
    span = say.span(sorted(float(row["effect"]) for row in rows))
    return say("answer.reason_but", span=span, against=against)


def _against_time(rows: list[Row], batch: Callable[[float], str], target: str, say: Messages) -> str:
    lost = [row for row in rows if row["verdict"] == "refuted"]
    names = [batch(size) for size in sorted({int(row["batch_from"]) for row in lost})]
    # What stands before the number is said once: batch 16, 64 or 128.
    noun = re.split(r"\d", names[0])[0]
    named = say.listing([names[0], *[name.removeprefix(noun) for name in names[1:]]], "answer.or")
    return say("answer.against.time", batches=named, target=target, who=_who(lost, rows, say))


def _against_result(rows: list[Row], topic: str, measure: Measure, say: Messages) -> str:
    worse = [row for row in rows if row["verdict"] == "supported"]
    by_unit = {
        scale: [float(row["effect"]) for row in worse if row.get("effect_unit", "fraction") == scale]
        for scale in sorted({str(row.get("effect_unit", "fraction")) for row in worse})
    }
    ends = say.listing([behind(measure, effects, scale, say) for scale, effects in by_unit.items()])
    return say(f"answer.against.{topic}", ends=ends, who=_who(worse, rows, say))


def _who(some: list[Row], everyone: list[Row], say: Messages) -> str:
    if len(some) == len(everyone):
        return ""
    return say("answer.who", names=say.names([str(row["optimizer"]) for row in some], "optimizer"))
