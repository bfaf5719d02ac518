"""A look at a sweep's folder that shares no code with the suite, and what `bench status` may say between two."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.sweep import CELLS

CELL = re.compile(r"[0-9a-f]{16}")
#: Statuses of a record.
STATUSES = ("complete", "interrupted", "oom", "unavailable", "failed")


@dataclass(frozen=True)
class Look:
    """What lay in the folder at one moment.

    Attributes:
        planned: Ids in plan.json; None where there is none.
        states: Cell id → status of its record, "unreadable", "running" or "waiting".
        digests: Cell id → digest and time of writing (nanoseconds) of a whole, complete record.
    """

    planned: frozenset[str] | None
    states: dict[str, str]
    digests: dict[str, tuple[str, int]]


def look(sweep: Path) -> Look:
    """Look at the folder of a sweep, which need not be there."""
    planned = _plan(sweep / "plan.json")
    # Leases first, as a cell that ends meanwhile has a record by then.
    running = {file.stem for file in sweep.glob("leases/*.json") if _holds(file)}
    records = {entry.name: _record(entry) for entry in _folders(sweep)}
    states = dict.fromkeys(planned or (), "waiting")
    states |= {cell: "unreadable" if record is None else str(record["status"]) for cell, record in records.items()}
    states |= dict.fromkeys(running, "running")
    digests = {}
    for cell, record in records.items():
        if record is not None and record["status"] == "complete":
            digests[cell] = (str(record["digest"]), record["written"])
    return Look(planned, states, digests)


def _folders(sweep: Path) -> list[Path]:
    return [entry for entry in sweep.iterdir() if CELL.fullmatch(entry.name)] if sweep.is_dir() else []


def _plan(file: Path) -> frozenset[str] | None:
    try:
        return frozenset(json.loads(file.read_text())["cells"])
    except FileNotFoundError:
        return None


def _record(folder: Path) -> dict[str, Any] | None:
    """Return a record that is what was written, by its checksums where it has them; None for any other."""
    try:
        sums = (folder / "SHA256SUMS").read_text().splitlines() if (folder / "SHA256SUMS").exists() else None
        names = {"record.json", "curves.parquet"}
        if sums is not None:
            listed = dict(reversed(line.split("  ")) for line in sums)
            if any(hashlib.sha256((folder / name).read_bytes()).hexdigest() != told for name, told in listed.items()):
                return None
            if not names <= listed.keys():
                return None
        if not all((folder / name).is_file() for name in names):
            return None
        record: dict[str, Any] = json.loads((folder / "record.json").read_bytes())
        return record | {"written": (folder / "record.json").stat().st_mtime_ns}
    except (OSError, ValueError):
        return None


def _holds(file: Path) -> bool:
    """Whether a lease names a process that lives: not merely one whose parent has not asked for its end."""
    try:
        lease = json.loads(file.read_text())
        fields = Path(f"/proc/{lease['process']}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return fields[0] not in "ZX"


def problems(said: str, exit_code: int, before: Look, after: Look, anybody: bool) -> list[str]:
    """Return what is wrong with an answer of `bench status --json`, given what lay there before and after it.

    A cell may be what it was at either look. While a sweep lives it may be running besides: a process that finds a cell
    done meanwhile had its lease for a moment; and where it has changed, a record that made way was not there for one.

    Args:
        said: Standard output.
        exit_code: Of the command.
        before: The folder before it was asked.
        after: The folder when it had answered.
        anybody: Whether a process of a sweep lived at any time meanwhile.
    """
    if exit_code == 2 and not before.states and before.planned is None:
        return []
    if exit_code != 0:
        return [f"bench status ended with {exit_code}"]
    answer = json.loads(said)
    listed = {entry["cell"]: str(entry["status"]) for entry in answer["not_complete"]}
    listed |= {entry["cell"]: "waiting" for entry in answer["waiting"]}
    listed |= {entry["cell"]: "running" for entry in answer["running"]}
    found = []
    for cell in sorted(before.states.keys() | after.states.keys()):
        allowed = {seen.states.get(cell, "waiting") for seen in (before, after)}
        if anybody:
            allowed |= {"running"} | ({"waiting"} if len(allowed) > 1 else set())
        # The answer lists every cell but those that are complete.
        if listed.get(cell, "complete") not in allowed:
            found.append(
                f"{cell} is {listed.get(cell, 'complete')} by status, {' or '.join(sorted(allowed))} by a look"
            )
    counted = Counter(listed.values())
    told = {name: count for name, count in answer["counts"].items() if name != "complete" and count}
    if told != dict(counted):
        found.append(f"counts {told}, but lists {dict(counted)}")
    if before.planned is not None and (answer["planned"] != CELLS or sum(answer["counts"].values()) != CELLS):
        found.append(f"{sum(answer['counts'].values())} cells of {answer['planned']} planned, not {CELLS}")
    if answer["done"] != (not answer["running"] and not answer["waiting"]):
        found.append(f"done is {answer['done']}")
    return found
