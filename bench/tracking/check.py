"""Compare a sweep's mirror with its records, number by number."""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from bench.results.record import Record, RecordError
from bench.results.store import Store
from bench.tracking import content
from bench.tracking.confinement import one_line
from bench.tracking.reader import RunLog, read_runs
from bench.tracking.state import CellMirror, read_state, record_sha256, run_folder
from bench.tracking.worker import md5_base64

OK = "ok"
MISSING = "missing"
DIFFERS = "differs"

# What a run holds beyond the record: wandb's own keys and what it writes about a table.
_FOREIGN = ("_", f"{content.TABLE}.")


@dataclass(frozen=True)
class CellCheck:
    """How one cell's run compares with its record.

    Attributes:
        cell: Cell id.
        name: Name of the run as it should be; the id where the record cannot be read.
        verdict: "ok", "missing" or "differs".
        details: Why it is missing, or each difference, one line apiece.
    """

    cell: str
    name: str
    verdict: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class MirrorReport:
    """How a sweep's mirror compares with its records.

    Attributes:
        cells: One entry per record, and per run whose record is gone; in order of cell ids.
        reason: Why there was nothing to compare, in one line; None if there was.
    """

    cells: list[CellCheck]
    reason: str | None = None

    @property
    def exit_code(self) -> int:
        """0: every run equals its record; 1: one does not, or is missing; 4: nothing to compare."""
        if self.reason is not None:
            return 4
        return 0 if all(check.verdict == OK for check in self.cells) else 1

    def lines(self) -> Iterator[str]:
        """Say it in plain lines: one per cell, one per further difference, one in conclusion."""
        if self.reason is not None:
            yield f"nothing to compare: {self.reason}"
            return
        width = max(len(check.name) for check in self.cells)
        for check in self.cells:
            first, *rest = check.details or ("",)
            yield f"{check.cell}  {check.name:<{width}}  {check.verdict:<7}  {first}".rstrip()
            for line in rest:
                yield f"{'':16}  {'':{width}}  {'':7}  {line}"
        counts = {verdict: sum(c.verdict == verdict for c in self.cells) for verdict in (OK, MISSING, DIFFERS)}
        yield f"{counts[OK]} of {len(self.cells)} ok, {counts[MISSING]} missing, {counts[DIFFERS]} differ"


def check_mirror(store: Store) -> MirrorReport:
    """Compare every record of a sweep with its W&B run, as the run's own files on this machine hold it.

    Raises:
        StateError: `mirror.json` cannot be read.
        UsageError: The installed wandb cannot read runs.
    """
    state = read_state(store)
    if state is None:
        return MirrorReport([], "no mirror was kept (no mirror.json)")
    if not any(entry.path for entry in state.cells.values()) and state.mode == "disabled":
        return MirrorReport([], "tracker.mode=disabled")
    found: dict[str, CellCheck] = {}
    folders: dict[str, Path] = {}
    for cell in sorted({*store.cells(), *state.cells}):
        entry = state.cells.get(cell, CellMirror(MISSING, reason="not mirrored yet"))
        folder = run_folder(store, entry)
        if folder is not None:
            folders[cell] = folder
        else:
            reason = entry.reason or f"run {entry.run} is gone from {entry.path}"
            found[cell] = CellCheck(cell, _name(store, cell), MISSING, (reason,))
    for (cell, folder), log in zip(folders.items(), read_runs(list(folders.values())), strict=True):
        differences = compare(store, cell, state.cells[cell], folder, log)
        found[cell] = CellCheck(cell, _name(store, cell), DIFFERS if differences else OK, tuple(differences))
    if not found:
        return MirrorReport([], "neither records nor runs")
    return MirrorReport([found[cell] for cell in sorted(found)])


def run(store: Store, out: TextIO | None = None) -> int:
    """Check a sweep's mirror and print the report; return the exit code (`MirrorReport.exit_code`)."""
    report = check_mirror(store)
    for line in report.lines():
        print(line, file=out or sys.stdout)
    return report.exit_code


def _name(store: Store, cell: str) -> str:
    try:
        return content.run_name(store.read(cell))
    except RecordError:
        return "?"


def compare(store: Store, cell: str, entry: CellMirror, folder: Path, log: RunLog) -> list[str]:
    """List what a run says otherwise than the record does.

    Args:
        store: The sweep.
        cell: Id of the cell.
        entry: What `mirror.json` says about the cell.
        folder: The run's folder.
        log: The run's log.

    Returns:
        One line per difference, each beginning with the field; empty where the run equals the record.
    """
    if log.error:
        return [f"log: {log.error}"]
    try:
        record, curves, digest = store.read(cell), store.curves(cell), record_sha256(store, cell)
    except (RecordError, OSError) as error:
        return [f"record: {one_line(str(error))}"]
    differences = [] if log.finished else ["log: the run did not end"]
    expected = {
        "run id": (content.run_id(store.sweep, cell, digest), log.run.get("run_id")),
        "name": (content.run_name(record), log.run.get("display_name")),
        "group": (content.group(record), log.run.get("run_group")),
        "tags": (sorted(content.tags(record)), sorted(log.run.get("tags", []))),
        "digest in mirror.json": (digest, entry.digest),
    }
    differences += [_differs(name, *pair) for name, pair in expected.items() if pair[0] != pair[1]]
    differences += _compare_keys("config", content.config(record), log.config)
    summary = {key: value for key, value in log.summary.items() if not key.startswith(_FOREIGN)}
    differences += _compare_keys("summary", content.summary(record) | {content.SEAL: digest}, summary)
    differences += _compare_history(record, curves, log.history)
    differences += _compare_table(record, curves, folder, log)
    differences += _compare_artifact(store, record, folder, log)
    return differences


def _differs(field: str, record: object, mirror: object) -> str:
    return one_line(f"{field}: record {record!r}, mirror {mirror!r}")


def _same(record: Any, mirror: Any) -> bool:
    if isinstance(record, float) and not math.isfinite(record):
        # JSON has no such numbers; wandb writes their names.
        return str(mirror).lstrip("+").replace("Infinity", "inf").lower() == str(record).lower()
    return bool(record == mirror)


def _compare_keys(field: str, record: dict[str, Any], mirror: dict[str, Any]) -> list[str]:
    absent = object()
    wrong = [
        _differs(f"{field} {key}", *("nothing" if side is absent else side for side in pair))
        for key in sorted({*record, *mirror})
        for pair in [(record.get(key, absent), mirror.get(key, absent))]
        if not _same(*pair)
    ]
    return _first(wrong, f"{field} values")


def _compare_history(record: Record, curves: pd.DataFrame, history: list[dict[str, Any]]) -> list[str]:
    """Walk from the curves to the history, not the way they were mirrored; then look for leftovers."""
    # W&B keeps one row per step; the row of a run without curves holds its table alone.
    rows = {int(row["_step"]): row for row in history if any(not key.startswith(_FOREIGN) for key in row)}
    steps = set(map(int, curves["step"]))
    if steps != set(rows):
        return [_differs("history rows", len(steps), len(rows))]
    best = content.best_trial(record)
    wrong: list[str] = []
    seen: dict[int, set[str]] = {step: set() for step in steps}

    def look(step: int, key: str, value: float) -> None:
        seen[step].add(key)
        if not _same(value, rows[step].get(key)):
            wrong.append(_differs(f"history step {step} {key}", value, rows[step].get(key)))

    for row in curves.to_dict("records"):
        step, lr, seed = int(row["step"]), row["lr"], row["seed"]
        metrics = {f"{row['split']}_{row['metric']}": row["value"], "train_seconds": row["train_seconds"]}
        for metric, value in metrics.items():
            look(step, content.trial_key(metric, lr, seed), value)
            if best is not None and (lr, seed) == (best.lr, best.seed):
                look(step, f"best/{metric}", value)
        look(step, "epoch", row["epoch"])
        look(step, "examples", row["examples"])
    for step, keys in seen.items():
        extra = sorted(key for key in rows[step] if key not in keys and not key.startswith(_FOREIGN))
        wrong += [_differs(f"history step {step} {key}", "nothing", rows[step][key]) for key in extra]
    return _first(list(dict.fromkeys(wrong)), "history values")


def _first(lines: list[str], what: str, limit: int = 5) -> list[str]:
    return lines if len(lines) <= limit else [*lines[:limit], f"{what}: {len(lines) - limit} more differ"]


def _compare_table(record: Record, curves: pd.DataFrame, folder: Path, log: RunLog) -> list[str]:
    columns, data = content.trials_table(record, curves)
    path = log.summary.get(f"{content.TABLE}.path")
    if not data:
        return [] if path is None else [_differs("table", "no trials", path)]
    if path is None:
        return [_differs("table", f"{len(data)} trials", "no table")]
    try:
        table = json.loads((folder / "files" / path).read_text(encoding="utf-8"))
        mirrored, rows = table["columns"], table["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [one_line(f"table: {path} cannot be read ({type(error).__name__}: {error})")]
    if columns != mirrored:
        return [_differs("table columns", columns, mirrored)]
    if len(data) != len(rows):
        return [_differs("table rows", len(data), len(rows))]
    wrong = [
        _differs(f"table row {number} {column}", ours, theirs)
        for number, (expected, row) in enumerate(zip(data, rows, strict=True))
        for column, ours, theirs in zip(columns, expected, row, strict=True)
        if not _same(ours, theirs)
    ]
    return _first(wrong, "table values")


def _compare_artifact(store: Store, record: Record, folder: Path, log: RunLog) -> list[str]:
    named = [item for item in log.artifacts if item.get("type") == content.ARTIFACT_TYPE]
    if len(named) != 1 or named[0].get("name") != content.artifact_name(record):
        return [_differs("artifact", content.artifact_name(record), [item.get("name") for item in named])]
    contents = {item["path"]: item for item in named[0].get("manifest", {}).get("contents", [])}
    if sorted(contents) != sorted(content.RECORD_FILES):
        return [_differs("artifact files", sorted(content.RECORD_FILES), sorted(contents))]
    metadata = json.loads(named[0].get("metadata") or "{}")
    differences = [] if metadata.get("digest") == record.digest else ["artifact metadata: another digest"]
    for name, item in contents.items():
        ours = md5_base64(store.cell_path(record.cell) / name)
        if item.get("digest") != ours:
            differences.append(_differs(f"artifact {name}", f"md5 {ours}", f"md5 {item.get('digest')}"))
        # By its name alone: the folder may have been moved since.
        copy = folder / "data" / "artifacts" / "staging" / Path(item.get("local_path", "")).name
        if not copy.is_file():
            differences.append(f"artifact {name}: its copy {copy.name!r} is gone")
        elif md5_base64(copy) != item.get("digest"):
            differences.append(f"artifact {name}: its copy {copy.name!r} was changed")
    return differences
