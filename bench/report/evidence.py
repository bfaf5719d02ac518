"""Tables about the evidence itself: what failed, the self-audit, the environment, the tracking mirror."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.study import CONDITION
from bench.report.messages import Messages
from bench.report.sources import Sources, Unreadable, portable
from bench.report.view import Cell, Group, Table
from bench.results.record import Record


def failed_table(
    cells: pd.DataFrame, unreadable: Sequence[Unreadable], repeated: pd.DataFrame, say: Messages
) -> Table | None:
    """Every cell that is not complete, could not be read, or shares its place with another."""
    rows = [
        (
            Cell(str(row.cell)),
            Cell(_axes(row, say)),
            Cell(say.word("status", str(row.status)), "", "bad"),
            Cell(portable(str(row.reason)) if isinstance(row.reason, str) else "–"),
        )
        for row in cells.itertuples()
    ]
    rows += [
        (Cell(item.cell), Cell(say("evidence.unknown")), Cell(say("status.unreadable"), "", "bad"), Cell(item.reason))
        for item in unreadable
    ]
    rows += [
        (
            Cell(str(row.cell)),
            Cell(_axes(row, say)),
            Cell(say("evidence.not_shown"), "", "dim"),
            Cell(say("evidence.repeated")),
        )
        for row in repeated.itertuples()
    ]
    if not rows:
        return None
    return Table(
        say("evidence.failed"),
        tuple(say(f"column.{name}") for name in ("cell", "axes", "status", "reason")),
        (Group("", tuple(rows)),),
        "unfinished.csv",
    )


def _axes(row: Any, say: Messages) -> str:
    names = ("task", "optimizer", "batch_size", "device", "precision")
    return say("evidence.axes", **{name: getattr(row, name) for name in names})


def audit_frame(found: Sequence[Record]) -> pd.DataFrame:
    """Every check of every cell: `CONDITION`, `batch_size`, `cell` and the fields of `AuditCheck`."""
    rows = [
        {
            "task": record.axes.task,
            "model": record.axes.model,
            "optimizer": record.axes.optimizer,
            "device": record.axes.device,
            "precision": record.axes.precision,
            "batch_size": record.axes.batch_size,
            "cell": record.cell,
            "check": check.check,
            "passed": check.passed,
            "value": portable(check.value),
            "expected": portable(check.expected),
        }
        for record in found
        for check in record.audit
    ]
    columns = [*CONDITION, "batch_size", "cell", "check", "passed", "value", "expected"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(["check", *CONDITION, "batch_size", "cell"], ignore_index=True)


def audit_table(frame: pd.DataFrame, say: Messages) -> Table | None:
    """The self-audit, one row per check; cells that failed it are named."""
    if frame.empty:
        return None
    rows = []
    for check, group in frame.groupby("check", sort=False):
        failed = group[~group["passed"].astype(bool)]
        example = (failed if len(failed) else group).iloc[0]
        verdict = Cell(say("evidence.passed"), "", "good")
        if len(failed):
            verdict = Cell(say("evidence.failed_in", count=len(failed)), "", "bad")
        named = say("list.join").join(
            say("evidence.cell", optimizer=row.optimizer, batch_size=row.batch_size, device=row.device)
            for row in failed.head(6).itertuples()
        )
        more = say("evidence.and_more", count=len(failed) - 6) if len(failed) > 6 else ""
        rows.append(
            (
                Cell(say.retold("audit", str(check))),
                verdict,
                Cell(say("evidence.of_cells", passed=len(group) - len(failed), all=len(group)), named + more),
                Cell(say.retold("audit", str(example["value"]))),
                Cell(say.retold("audit", str(example["expected"]))),
            )
        )
    columns = tuple(say(f"column.{name}") for name in ("check", "result", "cells", "example", "expected"))
    return Table(say("evidence.audit"), columns, (Group("", tuple(rows)),), "audit.csv")


def environment_frame(found: Sequence[Record]) -> pd.DataFrame:
    """Every value of the environment and how many cells ran in it: columns `name`, `value`, `cells`."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for record in found:
        for name, value in _flat(record.environment):
            seen[name][portable(value)] += 1
        if record.implementation:
            seen["optimizer implementation"][record.implementation] += 1
    rows = [
        {"name": name, "value": value, "cells": cells}
        for name in sorted(seen)
        for value, cells in sorted(seen[name].items(), key=lambda item: (-item[1], item[0]))
    ]
    return pd.DataFrame(rows, columns=["name", "value", "cells"])


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, sort_keys=True)))
    return pairs


def environment_table(frame: pd.DataFrame, cells: int, say: Messages) -> Table | None:
    """The environment, one row per fact; where cells differ, each value with its count."""
    if frame.empty:
        return None
    rows = []
    for name, group in frame.groupby("name", sort=False):
        if len(group) == 1 and int(group["cells"].iloc[0]) == cells:
            text = str(group["value"].iloc[0])
        else:
            shown = [say("evidence.cells", value=row.value, count=row.cells) for row in group.head(8).itertuples()]
            more = say("evidence.more_values", count=len(group) - 8) if len(group) > 8 else ""
            text = say("list.clause").join(shown) + more
        rows.append((Cell(str(name)), Cell(text)))
    return Table(
        say("evidence.environment"),
        (say("column.fact"), say("column.value")),
        (Group("", tuple(rows)),),
        "environment.csv",
    )


@dataclass(frozen=True)
class Mirror:
    """What the tracking mirror holds.

    Attributes:
        text: In one or two sentences.
        table: What it lacks and why; None where it lacks nothing.
    """

    text: str
    table: Table | None


def mirror_view(sources: Sources, say: Messages) -> Mirror:
    """Say what the tracking mirror holds of this sweep's cells."""
    if sources.mirror_problem:
        return Mirror(say("evidence.mirror_unknown", problem=sources.mirror_problem), None)
    if sources.mirror is None:
        return Mirror(say("evidence.no_mirror"), None)
    entries: dict[str, Any] = sources.mirror["cells"]
    cells = [record.cell for record in sources.records] + [item.cell for item in sources.unreadable]
    lacking = []
    for cell in sorted(set(cells) | set(entries)):
        entry = entries.get(cell)
        entry = entry if isinstance(entry, dict) else {}
        if entry.get("status") != "mirrored":
            reason = entry.get("reason") or say("evidence.no_entry" if cell not in entries else "evidence.no_reason")
            lacking.append((Cell(cell), Cell(portable(str(reason)))))
    total = len(set(cells) | set(entries))
    tracker, mode = str(sources.mirror.get("tracker", "?")), str(sources.mirror.get("mode", "?"))
    text = say("evidence.mirror", tracker=tracker, mode=mode, held=total - len(lacking), all=total)
    if sources.mirror.get("note"):
        text += say("evidence.mirror_note", note=portable(str(sources.mirror["note"])))
    columns = (say("column.cell"), say("column.reason"))
    table = Table(say("evidence.lacks"), columns, (Group("", tuple(lacking)),)) if lacking else None
    return Mirror(text, table)
