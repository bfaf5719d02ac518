"""Verify: run stored cells again and compare what must repeat bit for bit."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.config import Cell, resolve
from bench.errors import BenchError, NotComparable, UsageError, printable
from bench.launching.cell import run_cell
from bench.references import is_foreign
from bench.results.record import SAME_BITS, CellStatus, Record
from bench.results.store import Store


@dataclass(frozen=True)
class Comparison:
    """A stored cell beside its repetition.

    Attributes:
        cell: Cell id.
        label: The cell in words.
        verdict: "equal", "differs" or "not comparable".
        detail: What differs, or why the two cannot be compared.
    """

    cell: str
    label: str
    verdict: str
    detail: str


def verify(store: Store, count: int | None, allow_code: bool = False) -> int:
    """Repeat cells of a sweep and print one line each.

    Args:
        store: The sweep.
        count: How many of its complete cells, spread evenly over them; None for all.
        allow_code: Whether code outside the suite that a record names (a task or an optimizer of one's own) may be
            imported and run.

    Returns:
        0 all equal; 1 one differs; 4 none could be compared.

    Raises:
        RecordError: A record cannot be read.
    """
    complete = [record.cell for record, _ in store.read_all() if record.status == CellStatus.COMPLETE]
    if not complete:
        raise NotComparable(f"sweep {store.sweep} has no complete cell to repeat")
    wanted = len(complete) if count is None else min(count, len(complete))
    chosen = [complete[i * len(complete) // wanted] for i in range(wanted)]
    verdicts = []
    for number, cell in enumerate(chosen, 1):
        comparison = compare(store.read(cell), store.curves(cell), allow_code)
        verdicts.append(comparison.verdict)
        detail = f" ({comparison.detail})" if comparison.detail else ""
        print(
            printable(f"[{number}/{len(chosen)}] {cell} {comparison.label}: {comparison.verdict}{detail}"), flush=True
        )
    equal, differ = verdicts.count("equal"), verdicts.count("differs")
    print(f"{equal} of {len(chosen)} equal, {differ} differ, {len(chosen) - equal - differ} not comparable")
    if differ:
        return 1
    return 0 if equal else NotComparable.exit_code


def compare(record: Record, curves: pd.DataFrame, allow_code: bool = False) -> Comparison:
    """Run the cell of a record again and compare.

    A cell whose steps were decided by a clock is compared on the evaluation points that both runs have.
    """
    foreign = foreign_code(record.config)
    if foreign and not allow_code:
        detail = f"it runs {' and '.join(foreign)}, code outside the suite; --allow-code lets it"
        return Comparison(record.cell, record.axes.task, "not comparable", detail)
    try:
        cell = resolve(stored_config(record))
    except BenchError as error:
        return Comparison(record.cell, record.axes.task, "not comparable", str(error))
    if cell.id != record.cell:
        return Comparison(record.cell, cell.label, "not comparable", f"its configuration now has the id {cell.id}")
    again, again_curves, _ = run_cell(_without_measuring(cell))
    if again.status != CellStatus.COMPLETE:
        return Comparison(record.cell, cell.label, "not comparable", f"{again.status}: {again.reason}")
    if record.repeatable and again.digest == record.digest:
        return Comparison(record.cell, cell.label, "equal", "")
    difference = _first_difference(curves, again_curves)
    if not record.repeatable and difference is None:
        return Comparison(record.cell, cell.label, "equal", "on the common part of the curves; it ended by the clock")
    changed = [
        f"{key}: {record.environment.get(key)} → {again.environment.get(key)}"
        for key in SAME_BITS
        if record.environment.get(key) != again.environment.get(key)
    ]
    if changed:
        print(printable(f"bench: {record.cell} was made elsewhere: {'; '.join(changed)}"), file=sys.stderr)
        return Comparison(record.cell, cell.label, "not comparable", "other hardware or versions")
    return Comparison(record.cell, cell.label, "differs", difference or "the final parameters or statuses differ")


def foreign_code(config: Mapping[str, Any]) -> list[str]:
    """Return what a record's configuration would import that is not the suite's own or torch's.

    A record is data: whoever wrote it must not decide what is run here.
    """
    return list(foreign_keys(config).values())


def foreign_keys(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the same by the keys of the configuration that name it."""
    optimizer = _object(config, "optimizer")
    named = {
        "task.module": _object(config, "task").get("module"),
        "optimizer.target": optimizer.get("target"),
        "optimizer.fallback.target": _object(optimizer, "fallback").get("target"),
    }
    # The suite's own tasks have names of the catalogue, never a module.
    return {key: str(name) for key, name in named.items() if name and (key == "task.module" or is_foreign(str(name)))}


def _object(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of a configuration; an empty one where something else is there, which does not resolve anyway."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def stored_config(record: Record) -> DictConfig:
    """Return a record's configuration, in which nothing refers to anything else.

    Raises:
        UsageError: It has interpolations. No record is written with one, and it could name code that `foreign_code`
            does not see.
    """
    if "${" in json.dumps(record.config):
        raise UsageError("its configuration has an interpolation (${…}), which no record is written with")
    try:
        return OmegaConf.create(record.config)
    except (OmegaConfBaseException, ValueError) as error:
        raise UsageError(f"its configuration is none: {(str(error).splitlines() or [''])[0]}") from None


def _without_measuring(cell: Cell) -> Cell:
    """Return the cell with its speed and memory left unmeasured: times are no part of a digest."""
    measure = replace(cell.config.measure, speed=False, memory=False)
    return replace(cell, config=replace(cell.config, measure=measure))


def _first_difference(stored: pd.DataFrame, again: pd.DataFrame) -> str | None:
    keys = ["lr", "seed", "step", "split", "metric"]
    both = stored.merge(again, on=keys, suffixes=("", "_again"))
    same = (both["value"] == both["value_again"]) | (both["value"].isna() & both["value_again"].isna())
    differing = both[~same].sort_values(["step", *keys])
    if differing.empty:
        return None
    row = differing.iloc[0]
    return (
        f"first at lr {row['lr']:g} seed {row['seed']} step {row['step']}: {row['split']} {row['metric']} "
        f"{row['value']!r} then {row['value_again']!r}"
    )
