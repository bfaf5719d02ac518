"""What a figure shows, in words: the alt text of every panel, made from the same rows that are drawn."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from bench.analysis import words
from bench.analysis.measures import Measure
from bench.report.messages import Messages

Formatter = Callable[[float], str]


def trend(label: str, batches: Sequence[str], values: Sequence[float], form: Formatter, say: Messages) -> str:
    """Describe how a quantity moves along the batch sizes.

    Args:
        label: Name of the series, such as an optimizer.
        batches: Names of the batch sizes, ascending.
        values: The quantity at each; missing ones are not finite.
        form: Writes a value with its unit.
        say: The report's language.

    Returns:
        A clause such as "sgd falls from 94.1 % at batch 4 to 81.9 % at full (4000)", with the extreme named
        where it lies between the ends.
    """
    known = [(batch, float(value)) for batch, value in zip(batches, values, strict=True) if np.isfinite(value)]
    if not known:
        return say("alt.trend.none", label=label)
    if len(known) == 1:
        return say("alt.trend.one", label=label, value=form(known[0][1]), batch=known[0][0])
    (first_batch, first), (last_batch, last) = known[0], known[-1]
    inner = [value for _, value in known]
    top, bottom = int(np.argmax(inner)), int(np.argmin(inner))
    ends = say("alt.trend.ends", first=form(first), first_batch=first_batch, last=form(last), last_batch=last_batch)
    tolerance = 0.02 * max(abs(max(inner)), abs(min(inner)), 1e-300)
    for place, peak in ((top, max(first, last)), (bottom, min(first, last))):
        if 0 < place < len(known) - 1 and abs(inner[place] - peak) > tolerance:
            kind = "highest" if place == top else "lowest"
            extreme = {"value": form(inner[place]), "batch": known[place][0]}
            return say(f"alt.trend.{kind}", label=label, ends=ends, **extreme)
    verb = "level" if abs(last - first) <= tolerance else "rises" if last > first else "falls"
    return say(f"alt.trend.{verb}", label=label, ends=ends)


def by_rule(rows: pd.DataFrame, column: str, what: str, batches: Sequence[str], form: Formatter, say: Messages) -> str:
    """Describe a panel with one line per learning-rate rule.

    Args:
        rows: Columns `batch_size`, `rule`, `outside`, `column`: one optimizer and budget, ascending batch
            sizes.
        column: The quantity.
        what: Its name.
        batches: Names of the batch sizes of `rows`, ascending.
        form: Writes a value with its unit.
        say: The report's language.
    """
    clauses, lost = [], []
    for name, group in rows.groupby("rule", sort=False):
        rule = say.word("rule", str(name))
        values = group.sort_values("batch_size")[column].astype(float).tolist()
        clauses.append(trend(rule, batches, values, form, say))
        if outside := int(group["outside"].sum()):
            lost.append(say("alt.outside_rule", rule=rule, count=outside))
    tail = say("alt.outside", rules=say.listing(lost)) if lost else ""
    return say("alt.by_rule", what=what, clauses=_joined(clauses, say), outside=tail)


def to_target(rows: pd.DataFrame, measure: str, name: Callable[[int], str], say: Messages) -> str:
    """Describe one measure of the way to the target.

    Args:
        rows: Columns `optimizer`, `batch_size`, `median`, `reached`, `n`.
        measure: "steps", "examples" or "seconds".
        name: Writes a batch size.
        say: The report's language.
    """
    form = words.seconds if measure == "seconds" else words.number
    clauses = [
        trend(str(optimizer), [name(size) for size in group["batch_size"]], list(group["median"]), form, say)
        for optimizer, group in rows.groupby("optimizer")
    ]
    never = int(rows["median"].isna().sum())
    tail = say("alt.never", never=never, all=len(rows)) if never else ""
    return say("alt.to_target", measure=say.word("budget", measure), clauses=_joined(clauses, say), never=tail)


def by_optimizer(
    rows: pd.DataFrame, column: str, what: str, form: Formatter, name: Callable[[int], str], say: Messages
) -> str:
    """Describe a panel with one line per optimizer over batch sizes.

    Args:
        rows: Columns `optimizer`, `batch_size`, `column`, ascending batch sizes.
        column: The quantity.
        what: Its name.
        form: Writes a value with its unit.
        name: Writes a batch size.
        say: The report's language.
    """
    clauses = [
        trend(str(optimizer), [name(size) for size in group["batch_size"]], list(group[column]), form, say)
        for optimizer, group in rows.groupby("optimizer")
    ]
    return say("alt.by_optimizer", what=what, clauses=_joined(clauses, say))


def curves(rows: pd.DataFrame, axis: str, name: Callable[[int], str], measure: Measure, say: Messages) -> str:
    """Describe learning curves by where each ends.

    Args:
        rows: Columns `batch_size`, the measure on validation data, and the axis: one optimizer.
        axis: "epoch", "step" or "train_seconds".
        name: Writes a batch size.
        measure: What the setting is judged by.
        say: The report's language.
    """
    unit = say(f"alt.unit.{axis}")
    clauses = []
    for size, group in rows.groupby("batch_size"):
        last = group.iloc[-1]
        value, amount = measure.value(last[measure.column("val")]), words.number(last[axis])
        clauses.append(say("alt.curve", batch=name(int(str(size))), value=value, amount=amount, unit=unit))
    result = words.capital(say.result(measure, "val"))
    return say("alt.curves", result=result, unit=unit, clauses=_joined(clauses, say))


def divergence(rows: pd.DataFrame, name: Callable[[int], str], say: Messages) -> str:
    """Describe the divergence map of one optimizer.

    Args:
        rows: Columns `batch_size`, `lr`, `trials`, `diverged`, `best`.
        name: Writes a batch size.
        say: The report's language.
    """
    trials, lost = int(rows["trials"].sum()), int(rows["diverged"].sum())
    clauses = []
    for size, group in rows.groupby("batch_size"):
        safe, batch = group.loc[group["diverged"] == 0, "lr"], name(int(str(size)))
        if len(safe):
            clauses.append(say("alt.safe", batch=batch, lr=words.learning_rate(float(safe.max()))))
        else:
            clauses.append(say("alt.unsafe", batch=batch))
    return say("alt.divergence", lost=lost, trials=trials, clauses=_joined(clauses, say))


def trade_off(
    rows: pd.DataFrame, name: Callable[[int], str], measure: Measure, budget: str, rule: str, say: Messages
) -> str:
    """Describe the test result against training time along the batch sizes.

    Args:
        rows: Columns `optimizer`, `batch_size`, `train_seconds`, and the measure on test data, ascending batch sizes.
        name: Writes a batch size.
        measure: What the setting is judged by.
        budget: What all batch sizes have had the same of: "epochs".
        rule: Learning-rate rule.
        say: The report's language.
    """
    column = measure.column("test")
    clauses = []
    for optimizer, group in rows.groupby("optimizer"):
        first, last = group.iloc[0], group.iloc[-1]
        clauses.append(
            say(
                "alt.trade",
                optimizer=optimizer,
                first=measure.value(first[column]),
                first_seconds=words.seconds(first["train_seconds"]),
                first_batch=name(first["batch_size"]),
                last=measure.value(last[column]),
                last_seconds=words.seconds(last["train_seconds"]),
                last_batch=name(last["batch_size"]),
            )
        )
    return say(
        "alt.trade_off",
        result=words.capital(say.result(measure, "test")),
        budget=say.word("budget", budget),
        rule=say.word("rule", rule),
        clauses=_joined(clauses, say),
    )


def _joined(clauses: Sequence[str], say: Messages) -> str:
    return say("list.clause").join(clauses)
