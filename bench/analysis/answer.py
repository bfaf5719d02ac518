"""The answer in a sentence: what speaks for and what against the largest batch."""

from collections.abc import Callable
from typing import Any

from bench.analysis import words
from bench.analysis.measures import Accuracy, Measure

Row = dict[str, Any]


def short_answer(
    rows: list[Row], batch: Callable[[float], str], target: str, measure: Measure | None = None
) -> tuple[str, str, str]:
    """Put the verdicts of one setting together.

    A part of which the verdict is inconclusive is no reason for or against; it is named as not settled.

    Args:
        rows: Rows of `bench.analysis.findings.findings`.
        batch: Writes a batch size.
        target: The target in words.
        measure: What the setting is judged by; accuracy unless given.

    Returns:
        The answer in a word or two, the reasons in a sentence, and what is not settled in a sentence (or
        empty).
    """
    by_topic = {
        topic: [row for row in rows if row["topic"] == topic] for topic in ("speed", "time", "epochs", "equal steps")
    }
    if not any(by_topic.values()):
        return "Not answered:", "no two batch sizes of this sweep are complete.", ""
    verdicts = {topic: {str(row["verdict"]) for row in found} for topic, found in by_topic.items()}
    against, unsettled = [], []
    if "refuted" in verdicts["speed"]:
        against.append("the largest batch does not handle more examples per second")
    if "refuted" in verdicts["time"]:
        against.append(_against_time(by_topic["time"], batch, target))
    elif "inconclusive" in verdicts["time"]:
        unsettled.append("which batch reaches the target first")
    for topic, unit in (("epochs", "epochs"), ("equal steps", "steps")):
        if "supported" in verdicts[topic]:
            against.append(_against_result(by_topic[topic], unit, measure or Accuracy()))
        elif "inconclusive" in verdicts[topic]:
            unsettled.append(f"which generalises better at equal {unit}")
    tail = f"Not settled by this sweep: {words.listing(unsettled)}." if unsettled else ""
    if against:
        praise = _praise(by_topic["speed"])
        reason = f"{praise}{', and '.join(against)}."
        return "No.", reason[0].upper() + reason[1:], tail
    if unsettled:
        return "Not settled.", "Nothing that was settled speaks against the largest batch.", tail
    return "Here, yes:", "but for memory, nothing measured speaks against the largest batch.", ""


def _praise(rows: list[Row]) -> str:
    if {str(row["verdict"]) for row in rows} != {"supported"}:
        return ""
    return f"the largest batch handles {_span(rows)} as many examples per second as the smallest, but "


def _span(rows: list[Row]) -> str:
    return f"{words.span(sorted(float(row['effect']) for row in rows))} times"


def _against_time(rows: list[Row], batch: Callable[[float], str], target: str) -> str:
    lost = [row for row in rows if row["verdict"] == "refuted"]
    first, *others = (batch(size) for size in sorted({int(row["batch_from"]) for row in lost}))
    named = words.listing([first, *[other.removeprefix("batch ") for other in others]], "or")
    return f"{named} reached {target} first{_who(lost, rows)}"


def _against_result(rows: list[Row], unit: str, measure: Measure) -> str:
    worse = [row for row in rows if row["verdict"] == "supported"]
    by_unit = {
        scale: [float(row["effect"]) for row in worse if row.get("effect_unit", "fraction") == scale]
        for scale in sorted({str(row.get("effect_unit", "fraction")) for row in worse})
    }
    ends = words.listing([measure.behind(effects, scale) for scale, effects in by_unit.items()])
    return f"at equal {unit} the largest ends {ends}{_who(worse, rows)}"


def _who(some: list[Row], everyone: list[Row]) -> str:
    if len(some) == len(everyone):
        return ""
    return f" (with {words.names([str(row['optimizer']) for row in some], 'optimizer')})"
