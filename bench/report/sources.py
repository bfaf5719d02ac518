"""Read a sweep for the report: every record that can be read, and a line about every one that cannot."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from bench.analysis.pictures import Pictures, collect
from bench.analysis.results import Results, analyse
from bench.results.curves import SCHEMA
from bench.results.record import Record, RecordError
from bench.results.store import Store
from bench.results.tables import Tables, tables

#: An absolute path in a message says more about a machine than about the failure.
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])(?:[A-Za-z]:)?(?:[/\\][\w.@+~-]+){2,}[/\\]?")


@dataclass(frozen=True)
class Unreadable:
    """A record that could not be read.

    Attributes:
        cell: Cell id: the folder's name.
        reason: Why, in one line.
    """

    cell: str
    reason: str


@dataclass(frozen=True)
class Sources:
    """What was found on disk.

    Attributes:
        sweep: Name of the sweep.
        records: In order of cell id.
        exported: Their tables.
        unreadable: Records, or curves of records, that could not be read.
        mirror: Contents of mirror.json; None where there is none.
        mirror_problem: Why mirror.json could not be used, in one line; None where it could or is absent.
    """

    sweep: str
    records: tuple[Record, ...]
    exported: Tables
    unreadable: tuple[Unreadable, ...]
    mirror: dict[str, Any] | None
    mirror_problem: str | None

    @property
    def command(self) -> str:
        """The command line that most of the records came from; that of a multirun without words where none says."""
        commands = Counter(record.command for record in self.records if record.command)
        # Of several equally common ones the first in order of cell id, so that every render says the same.
        return portable(commands.most_common(1)[0][0]) if commands else f"bench run -m sweep={self.sweep}"


@dataclass(frozen=True)
class Sweep:
    """A sweep as a report takes it.

    Attributes:
        sources: What was found on disk.
        results: The analysis of its tables.
    """

    sources: Sources
    results: Results


def read_sweep(store: Store) -> Sweep:
    """Read a sweep and analyse it."""
    sources = read_sources(store)
    exported = sources.exported
    return Sweep(sources, analyse(exported.cells, exported.trials, exported.curves))


def read_sources(store: Store) -> Sources:
    """Read a sweep. A record that cannot be read is listed and does not stop the rest."""
    pairs: list[tuple[Record, pa.Table]] = []
    unreadable: list[Unreadable] = []
    for cell in store.cells():
        try:
            record = store.read(cell)
            # Cells that never trained may have left no curves; those that did cannot be used without.
            curves = store.arrow_curves(cell) if record.trials else SCHEMA.empty_table()
        except RecordError as error:
            unreadable.append(Unreadable(cell, portable(str(error).removeprefix(f"{store.path}/"))))
        else:
            pairs.append((record, curves))
    mirror, problem = _read_mirror(store)
    records = tuple(record for record, _ in pairs)
    return Sources(store.sweep, records, tables(pairs), tuple(unreadable), mirror, problem)


def read_pictures(store: Store, sources: Sources, results: Results) -> tuple[Pictures, tuple[Unreadable, ...]]:
    """Read what the records keep for pictures, a cell at a time; one that cannot be read is listed, without its own."""
    unreadable: list[Unreadable] = []

    def read() -> Iterator[tuple[str, pd.DataFrame]]:
        for record in sources.records:
            if store.has_snapshots(record.cell):
                try:
                    yield record.cell, store.snapshots(record.cell)
                except RecordError as error:
                    unreadable.append(Unreadable(record.cell, portable(str(error).removeprefix(f"{store.path}/"))))

    pictures = collect(results.study, results.choices, read())
    return pictures, tuple(unreadable)


def _read_mirror(store: Store) -> tuple[dict[str, Any] | None, str | None]:
    try:
        mirror = json.loads((store.path / "mirror.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, RecursionError) as error:
        return None, portable(f"mirror.json cannot be read ({type(error).__name__})")
    if not isinstance(mirror, dict) or not isinstance(mirror.get("cells"), dict):
        return None, "mirror.json is not what this version writes: it has no object 'cells'"
    return mirror, None


def portable(text: str) -> str:
    """Shorten absolute paths to their last two parts: …/training/loop.py."""
    return _ABSOLUTE.sub(_shorten, text)


def _shorten(match: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[/\\]", match[0]) if part]
    return "…/" + "/".join(parts[-2:])
