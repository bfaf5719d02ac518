"""`bench status`: how far a sweep is, from its folder alone. Reads neither whole records nor torch."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.analysis.words import plural
from bench.errors import printable
from bench.launching.estimate import duration, seconds_left
from bench.results.glance import Glance
from bench.results.leases import Lease, live_leases
from bench.results.plan import Planned, read_plan
from bench.results.record import CellStatus, RecordError
from bench.results.store import RECORD, Store

#: How often a watched sweep is looked at, seconds.
REFRESH_SECONDS = 2.0
#: How many reasons and running cells are shown; `--json` has all.
SHOWN = 20


@dataclass(frozen=True)
class SweepStatus:
    """How far a sweep is. Every cell is in exactly one of records, unreadable, running and waiting.

    Attributes:
        sweep: Name of the sweep.
        plan: What was asked for, by cell id; empty in sweeps of versions before 0.2.
        records: Cells with a record that nobody is running again.
        unreadable: Why a record cannot be read, by cell id; likewise.
        running: Leases of live processes, by cell id.
        waiting: Ids of planned cells without a record that nobody runs.
    """

    sweep: str
    plan: dict[str, Planned]
    records: dict[str, Glance]
    unreadable: dict[str, str]
    running: dict[str, Lease]
    waiting: list[str]

    @property
    def is_done(self) -> bool:
        """Whether nothing is running and nothing waits."""
        return not self.running and not self.waiting

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells of each status of a record, and of "unreadable", "running" and "waiting" ones."""
        found = Counter(str(seen.status) for seen in self.records.values())
        return {str(status): found[status] for status in CellStatus} | {
            "unreadable": len(self.unreadable),
            "running": len(self.running),
            "waiting": len(self.waiting),
        }

    @property
    def cell_seconds(self) -> float:
        """Seconds that the recorded cells took, one after the other."""
        return sum(seen.seconds for seen in self.records.values())

    @property
    def cell_seconds_left(self) -> float | None:
        """Seconds that running and waiting cells still need, one after the other; None where nothing tells."""
        if self.is_done:
            return 0.0
        done = [cell for cell, seen in self.records.items() if seen.status == "complete" and cell in self.plan]
        spent = sum(self.records[cell].seconds for cell in done)
        done_cost = sum(self.plan[cell].cost for cell in done)

        def needed(cell: str) -> float | None:
            return seconds_left(spent, done_cost, self.plan[cell].cost) if cell in self.plan else None

        running = [(needed(cell), lease.seconds) for cell, lease in self.running.items()]
        parts = [*map(needed, self.waiting), *(None if whole is None else max(0.0, whole - s) for whole, s in running)]
        return None if None in parts else sum(part for part in parts if part is not None)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is done, with as many processes as run now; None where nothing tells."""
        left = self.cell_seconds_left
        if left is None or (left > 0 and not self.running):
            return None
        return left / max(1, len(self.running))

    def label(self, cell: str) -> str:
        """Return a cell in a few words; its id where nothing tells more."""
        if cell in self.plan:
            return self.plan[cell].label
        return self.records[cell].label if cell in self.records else cell


@dataclass
class Watcher:
    """Looks at one sweep again and again, and reads no record twice.

    Attributes:
        store: The sweep.
    """

    store: Store
    _seen: dict[str, tuple[tuple[int, int], Glance | RecordError]] = field(default_factory=dict)

    def look(self) -> SweepStatus:
        """Return how far the sweep is.

        Raises:
            RecordError: Its plan cannot be read.
        """
        plan = read_plan(self.store)
        # Leases first: a cell that ends in between has a record by now.
        running = live_leases(self.store)
        looked = {cell: self._glance(cell) for cell in self.store.cells() if cell not in running}
        return SweepStatus(
            sweep=self.store.sweep,
            plan=plan,
            records={cell: seen for cell, seen in looked.items() if isinstance(seen, Glance)},
            unreadable={cell: str(seen) for cell, seen in looked.items() if isinstance(seen, RecordError)},
            running=running,
            waiting=[cell for cell in plan if cell not in running and cell not in looked],
        )

    def _glance(self, cell: str) -> Glance | RecordError:
        file = self.store.cell_path(cell) / RECORD
        try:
            found = file.stat()
            stamp = found.st_mtime_ns, found.st_ino
            if cell not in self._seen or self._seen[cell][0] != stamp:
                self._seen[cell] = stamp, self.store.glance(cell)
        except OSError as error:
            return RecordError(error.strerror or str(error))
        except RecordError as error:
            self._seen[cell] = stamp, error
        return self._seen[cell][1]


def show_status(
    store: Store, watch: bool = False, as_json: bool = False, pause: Callable[[float], None] = time.sleep
) -> int:
    """Print how far a sweep is; return 0.

    Args:
        store: The sweep.
        watch: Whether to go on until nothing is running or waiting: a display that renews itself in a terminal, a line
            for each change elsewhere.
        as_json: Whether to print JSON, an object a line, instead of words.
        pause: Waits some seconds.

    Raises:
        RecordError: The plan cannot be read.
    """
    looks = _looks(Watcher(store), watch, pause)
    console = Console()
    if watch and not as_json and console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for status in looks:
                live.update(Text("\n".join(in_words(status))), refresh=True)
        return 0
    before: object = None
    for status in looks:
        if as_json:
            changed: object = status.counts
            said = json.dumps(as_plain(status), sort_keys=True)
        else:
            changed = (status.counts, sorted(status.running))
            said = "\n".join(in_words(status)) if status.is_done or not watch else headline(status)
        if changed != before:
            print(said, flush=True)
        before = changed
    return 0


def _looks(watcher: Watcher, watch: bool, pause: Callable[[float], None]) -> Iterator[SweepStatus]:
    while True:
        status = watcher.look()
        yield status
        if not watch or status.is_done:
            return
        pause(REFRESH_SECONDS)


def headline(status: SweepStatus) -> str:
    """Return how far a sweep is, in one line."""
    counts = status.counts
    total = sum(counts.values())
    parts = [f"{counts['complete']} of {total} cells complete"]
    parts += [f"{n} {name}" for name, n in counts.items() if n and name != "complete"]
    parts.append(f"{duration(status.cell_seconds)} of cell time so far")
    if not status.is_done:
        parts.append(_left(status))
    return f"{status.sweep}: {', '.join(parts)}"


def _left(status: SweepStatus) -> str:
    if status.seconds_left is not None:
        processes = len(status.running)
        return f"about {duration(status.seconds_left)} left with {processes} process{'es' if processes > 1 else ''}"
    work = status.cell_seconds_left
    if work is None:
        return "time left unknown"
    return f"about {duration(work)} of cell time left, and nothing is running"


def in_words(status: SweepStatus) -> list[str]:
    """Return how far a sweep is, in lines for people."""
    lines = [headline(status)]
    if status.running:
        lines.append("running:")
        shown = sorted(status.running.values(), key=lambda lease: (lease.since, lease.cell))[:SHOWN]
        lines += [
            f"  {lease.cell} {status.label(lease.cell)}: {lease.host}, process {lease.process}, since {lease.since} "
            f"({duration(lease.seconds)})"
            for lease in shown
        ]
        lines += _more(len(status.running) - len(shown))
    problems = _problems(status)
    if problems:
        lines.append("not complete:")
        for (kind, reason), cells in problems[:SHOWN]:
            named = f"{cells[0]} {status.label(cells[0])}" + (f" and {len(cells) - 1} more" if len(cells) > 1 else "")
            lines.append(f"  {len(cells)} {kind}: {reason or 'no reason given'} ({named})")
        lines += _more(len(problems) - SHOWN)
    diverged = [seen for seen in status.records.values() if seen.diverged]
    if diverged:
        trials, of = sum(seen.diverged for seen in diverged), sum(seen.trials for seen in status.records.values())
        lines.append(f"diverged: {trials} of {of} trials, in {plural(len(diverged), 'cell')}; they are data")
    if not status.plan:
        lines.append(
            "no plan here, as in sweeps of versions before 0.2: what was asked for and has no record is not known"
        )
    # Names and reasons are what records and leases say.
    return [printable(line) for line in lines]


def _more(count: int) -> list[str]:
    return [f"  … and {count} more (--json has all)"] if count > 0 else []


def _problems(status: SweepStatus) -> list[tuple[tuple[str, str | None], list[str]]]:
    """Return cells that are not complete by status and reason, the most frequent first."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for cell, seen in status.records.items():
        if seen.status != CellStatus.COMPLETE:
            groups.setdefault((str(seen.status), seen.reason), []).append(cell)
    for cell, reason in status.unreadable.items():
        groups.setdefault(("unreadable", reason), []).append(cell)
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0][0], item[0][1] or ""))


def as_plain(status: SweepStatus) -> dict[str, Any]:
    """Return how far a sweep is as plain dictionaries and lists; docs/sweeps.md documents every key."""
    return {
        "sweep": status.sweep,
        "done": status.is_done,
        "planned": len(status.plan) or None,
        "counts": status.counts,
        "cell_seconds": status.cell_seconds,
        "cell_seconds_left": status.cell_seconds_left,
        "seconds_left": status.seconds_left,
        "running": [
            dataclasses.asdict(lease) | {"label": status.label(cell)} for cell, lease in status.running.items()
        ],
        "not_complete": [
            {"cell": cell, "label": seen.label, "status": str(seen.status), "reason": seen.reason}
            for cell, seen in status.records.items()
            if seen.status != CellStatus.COMPLETE
        ]
        + [
            {"cell": cell, "label": status.label(cell), "status": "unreadable", "reason": reason}
            for cell, reason in status.unreadable.items()
        ],
        "diverged": [
            {"cell": cell, "label": seen.label, "trials": seen.trials, "diverged": seen.diverged}
            for cell, seen in status.records.items()
            if seen.diverged
        ],
        "waiting": [
            {"cell": cell, "label": status.plan[cell].label, "overrides": list(status.plan[cell].overrides)}
            for cell in status.waiting
        ],
    }
