"""What a measure's comparisons and targets are called in sentences, in the report's language."""

import math
from collections.abc import Sequence

import pandas as pd

from bench.analysis import words
from bench.analysis.measures import MEASURES, Measure
from bench.report.messages import Messages


def apart(measure: Measure, span: str, unit: str, say: Messages) -> str:
    """Say how far the largest batch ends from the smallest, given the written effects."""
    return say(f"apart.{measure.name}{'_ratio' if unit == 'ratio' else ''}", span=span)


def behind(measure: Measure, effects: Sequence[float], unit: str, say: Messages) -> str:
    """Say how much worse the largest batch ends, given the effects on the optimizers where it does."""
    if measure.name == "accuracy":
        return say("behind.accuracy", span=say.span(sorted(-100 * effect for effect in effects)))
    finite = sorted(effect for effect in effects if math.isfinite(effect))
    if not finite:
        return say("behind.nowhere")
    return say("behind.loss_ratio" if unit == "ratio" else "behind.loss", span=say.span(finite))


def target_text(cells: pd.DataFrame, say: Messages) -> str:
    """Return the target of a setting in words: "90 % validation accuracy".

    Args:
        cells: Columns `target_metric`, `target`.
        say: The language.
    """
    known = cells[cells["target"].notna()]
    if known.empty:
        return say("target.unknown")
    split, _, name = str(known["target_metric"].iloc[0]).partition("_")
    if name not in MEASURES:
        return say("target.unknown")
    value = float(known["target"].iloc[0])
    written = words.number(100 * value if name == "accuracy" else value)
    return say(f"target.{name}", value=written, split=say(f"split.{split}"))


def claim_text(topic: str, measure: Measure | None, say: Messages) -> str:
    """Return what the verdict of a part of the answer is about.

    Args:
        topic: Key of `bench.report.headline.TOPICS`.
        measure: What the setting is judged by; None for tasks with an accuracy and tasks without together.
        say: The language.
    """
    if topic in ("epochs", "equal steps"):
        return say(f"part.{topic}.claim", worse=say(f"part.worse.{measure.name if measure else 'result'}"))
    return say(f"part.{topic}.claim")
