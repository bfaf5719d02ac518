"""What a figure shows, in words: the alt text of every panel, made from the same rows that are drawn."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from bench.analysis import words
from bench.analysis.measures import Measure
from bench.analysis.words import listing

Formatter = Callable[[float], str]


def trend(label: str, batches: Sequence[str], values: Sequence[float], form: Formatter) -> str:
    """Describe how a quantity moves along the batch sizes.

    Args:
        label: Name of the series, such as an optimizer.
        batches: Names of the batch sizes, ascending.
        values: The quantity at each; missing ones are not finite.
        form: Writes a value with its unit.

    Returns:
        A clause such as "sgd falls from 94.1 % at batch 4 to 81.9 % at full (4000)", with the extreme named
        where it lies between the ends.
    """
    known = [(batch, float(value)) for batch, value in zip(batches, values, strict=True) if np.isfinite(value)]
    if not known:
        return f"{label} has no value"
    if len(known) == 1:
        return f"{label} has {form(known[0][1])} at batch {known[0][0]} alone"
    (first_batch, first), (last_batch, last) = known[0], known[-1]
    inner = [value for _, value in known]
    top, bottom = int(np.argmax(inner)), int(np.argmin(inner))
    ends = f"from {form(first)} at batch {first_batch} to {form(last)} at batch {last_batch}"
    tolerance = 0.02 * max(abs(max(inner)), abs(min(inner)), 1e-300)
    for place, peak in ((top, max(first, last)), (bottom, min(first, last))):
        if 0 < place < len(known) - 1 and abs(inner[place] - peak) > tolerance:
            kind = "a highest" if place == top else "a lowest"
            return f"{label} goes {ends}, with {kind} value of {form(inner[place])} at batch {known[place][0]}"
    verb = "stays level," if abs(last - first) <= tolerance else "rises" if last > first else "falls"
    return f"{label} {verb} {ends}"


def by_rule(rows: pd.DataFrame, column: str, what: str, batches: Sequence[str], form: Formatter) -> str:
    """Describe a panel with one line per learning-rate rule.

    Args:
        rows: Columns `batch_size`, `rule`, `outside`, `column`: one optimizer and budget, ascending batch
            sizes.
        column: The quantity.
        what: Its name.
        batches: Names of the batch sizes of `rows`, ascending.
        form: Writes a value with its unit.
    """
    clauses, lost = [], []
    for rule, group in rows.groupby("rule", sort=False):
        values = group.sort_values("batch_size")[column].astype(float).tolist()
        clauses.append(trend(f"{rule}", batches, values, form))
        if outside := int(group["outside"].sum()):
            lost.append(f"{rule} {outside}")
    tail = f" Points outside the learning-rate grid: {listing(lost)}." if lost else ""
    return f"{what} against batch size by learning-rate rule: {'; '.join(clauses)}.{tail}"


def to_target(rows: pd.DataFrame, measure: str, name: Callable[[int], str]) -> str:
    """Describe one measure of the way to the target.

    Args:
        rows: Columns `optimizer`, `batch_size`, `median`, `reached`, `n`.
        measure: "steps", "examples" or "seconds".
        name: Writes a batch size.
    """
    form = words.seconds if measure == "seconds" else words.number
    clauses = [
        trend(str(optimizer), [name(size) for size in group["batch_size"]], list(group["median"]), form)
        for optimizer, group in rows.groupby("optimizer")
    ]
    never = int(rows["median"].isna().sum())
    tail = f" {never} of {len(rows)} points never reached the target." if never else ""
    return f"Median {measure} to the target against batch size: {'; '.join(clauses)}.{tail}"


def by_optimizer(rows: pd.DataFrame, column: str, what: str, form: Formatter, name: Callable[[int], str]) -> str:
    """Describe a panel with one line per optimizer over batch sizes.

    Args:
        rows: Columns `optimizer`, `batch_size`, `column`, ascending batch sizes.
        column: The quantity.
        what: Its name.
        form: Writes a value with its unit.
        name: Writes a batch size.
    """
    clauses = [
        trend(str(optimizer), [name(size) for size in group["batch_size"]], list(group[column]), form)
        for optimizer, group in rows.groupby("optimizer")
    ]
    return f"{what} against batch size: {'; '.join(clauses)}."


def curves(rows: pd.DataFrame, axis: str, name: Callable[[int], str], measure: Measure) -> str:
    """Describe learning curves by where each ends.

    Args:
        rows: Columns `batch_size`, the measure on validation data, and the axis: one optimizer.
        axis: "epoch", "step" or "train_seconds".
        name: Writes a batch size.
        measure: What the setting is judged by.
    """
    unit = {"epoch": "epochs", "step": "steps", "train_seconds": "seconds"}[axis]
    clauses = []
    for size, group in rows.groupby("batch_size"):
        last = group.iloc[-1]
        clauses.append(
            f"batch {name(int(str(size)))} ends at {measure.value(last[measure.column('val')])} "
            f"after {words.number(last[axis])} {unit}"
        )
    return f"{words.capital(measure.of('val'))} against {unit}: {'; '.join(clauses)}."


def divergence(rows: pd.DataFrame, name: Callable[[int], str]) -> str:
    """Describe the divergence map of one optimizer.

    Args:
        rows: Columns `batch_size`, `lr`, `trials`, `diverged`, `best`.
        name: Writes a batch size.
    """
    trials, lost = int(rows["trials"].sum()), int(rows["diverged"].sum())
    clauses = []
    for size, group in rows.groupby("batch_size"):
        safe = group.loc[group["diverged"] == 0, "lr"]
        limit = f"up to {words.learning_rate(float(safe.max()))}" if len(safe) else "at no learning rate"
        clauses.append(f"batch {name(int(str(size)))} trains without divergence {limit}")
    return f"{lost} of {trials} trials diverged: {'; '.join(clauses)}."


def trade_off(rows: pd.DataFrame, name: Callable[[int], str], measure: Measure, budget: str, rule: str) -> str:
    """Describe the test result against training time along the batch sizes.

    Args:
        rows: Columns `optimizer`, `batch_size`, `train_seconds`, and the measure on test data, ascending batch sizes.
        name: Writes a batch size.
        measure: What the setting is judged by.
        budget: What all batch sizes have had the same of: "epochs".
        rule: Learning-rate rule.
    """
    column = measure.column("test")
    clauses = []
    for optimizer, group in rows.groupby("optimizer"):
        first, last = group.iloc[0], group.iloc[-1]
        clauses.append(
            f"{optimizer} goes from {measure.value(first[column])} in "
            f"{words.seconds(first['train_seconds'])} "
            f"at batch {name(first['batch_size'])} to {measure.value(last[column])} in "
            f"{words.seconds(last['train_seconds'])} at batch {name(last['batch_size'])}"
        )
    at = f"at equal {budget}, learning rate {rule}"
    return f"{words.capital(measure.of('test'))} against training time {at}: {'; '.join(clauses)}."
