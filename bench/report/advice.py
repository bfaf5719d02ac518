"""The advice of a batch size in sentences."""

import math
from dataclasses import dataclass
from typing import Any

from bench.analysis import words
from bench.analysis.advice import PRICES
from bench.analysis.results import Results
from bench.analysis.rules import EXPONENTS
from bench.analysis.study import CONDITION, records
from bench.report.claims import place_label, varying
from bench.report.messages import Messages

FILE = "advice.csv"
#: A line this close to the counts is them, but for rounding.
EXACT = 5e-4


@dataclass(frozen=True)
class Advice:
    """What is advised for a task and an optimizer.

    Attributes:
        where: Task and optimizer.
        answer: The batch size, in a word or two.
        sentences: How sure that is, what going on costs, learning rate, memory.
    """

    where: str
    answer: str
    sentences: tuple[str, ...]


def advised(results: Results, say: Messages) -> list[Advice]:
    """Return the advice for every task and optimizer, in order."""
    table = results.advice
    if table.empty:
        return []
    cells = results.study.cells
    full = {(str(row["task"]), int(row["batch_size"])) for row in records(cells[cells["full_batch"].astype(bool)])}
    names = varying(table, CONDITION)
    found = []
    for row in records(table):
        batch = _Batch(full, str(row["task"]), say)
        known = math.isfinite(row["batch_size"])
        answer = say("advice.size", batch=batch(row["batch_size"])) if known else say("advice.none")
        told = _size(row, batch, say) if known else [say("advice.reason")]
        told += [*_rules(row, batch, say), *_memory(row, say)]
        found.append(Advice(place_label(row, names, say), answer, tuple(told)))
    return found


@dataclass(frozen=True)
class _Batch:
    """Writes batch sizes of a task."""

    full: set[tuple[str, int]]
    task: str
    say: Messages

    def __call__(self, size: float) -> str:
        return self.say.batch(size, (self.task, round(size)) in self.full)


def _size(row: dict[str, Any], batch: _Batch, say: Messages) -> list[str]:
    lo, hi, seeds = row["batch_lo"], row["batch_hi"], round(row["seeds"])
    if seeds < 2:
        told = [say("advice.one_seed")]
    elif lo == hi == row["batch_size"]:
        told = [say("advice.same", seeds=seeds)]
    else:
        told = [say("advice.range", lo=batch(lo), hi=batch(hi), seeds=seeds)]
    if row["batch_size"] == row["batch_smallest"]:
        told.append(say("advice.smallest"))
    if row["batch_beyond"] > row["batch_size"]:
        prices = [_price(row, price, say) for price in PRICES if math.isfinite(row[price])]
        if prices:
            joined = say("list.join").join(prices)
            told.append(say("advice.beyond", batch=batch(row["batch_beyond"]), prices=joined))
    else:
        told.append(say("advice.largest"))
    if math.isfinite(row["batch_quickest"]):
        ends = {end: batch(row[f"quickest_{end}"]) for end in ("lo", "hi")}
        key = "advice.quickest" if ends["lo"] == ends["hi"] else "advice.quickest_range"
        told.append(say(key, batch=batch(row["batch_quickest"]), **ends))
    if row["never"]:
        told.append(say("advice.never", count=round(row["never"])))
    return told


def _price(row: dict[str, Any], price: str, say: Messages) -> str:
    lo, hi = row[f"{price}_lo"], row[f"{price}_hi"]
    known = math.isfinite(lo) and math.isfinite(hi)
    interval = say("advice.interval", lo=words.ratio(lo, 2), hi=words.ratio(hi, 2)) if known and lo < hi else ""
    return say(f"advice.{price}", ratio=words.ratio(row[price], 2), interval=interval)


def _rules(row: dict[str, Any], batch: _Batch, say: Messages) -> list[str]:
    if not math.isfinite(row["rule_batch"]):
        return []
    clauses = []
    for outcome in ("held", "failed", "open", "outside"):
        named = [say.word("advice.rule", rule) for rule in EXPONENTS if row[f"rule_{rule}"] == outcome]
        if named:
            clauses.append(say(f"advice.{outcome}", rules=say.listing(named)))
    rules = say("list.clause").join(clauses)
    return [say("advice.rules", reference=batch(row["rule_reference"]), batch=batch(row["rule_batch"]), rules=rules)]


def _memory(row: dict[str, Any], say: Messages) -> list[str]:
    if not math.isfinite(row["memory_per_example_mib"]):
        return []
    each, fixed = (words.mebibytes(row[f"memory_{part}_mib"]) for part in ("per_example", "fixed"))
    if row["memory_error"] < EXACT:
        return [say("advice.memory_exact", fixed=fixed, each=each)]
    return [say("advice.memory", fixed=fixed, each=each, error=words.percent(row["memory_error"]))]
