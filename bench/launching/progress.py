"""Progress for people: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench.config import Cell
from bench.launching.estimate import duration, seconds_left
from bench.launching.worker import Outcome


class SweepProgress:
    """Shows cells done, current cells and time left.

    The time left assumes that a cell's time grows with its estimated cost, and learns the rate as cells end.

    Args:
        cells: Every cell that is going to be run.
        stream: Where to write; a bar is drawn if it is a terminal.
    """

    def __init__(self, cells: list[Cell], stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._total = len(cells)
        self._cost = sum(cell.cost for cell in cells)
        self._done_cost = 0.0
        self._done = 0
        self._running: dict[str, str] = {}
        self._start = time.monotonic()
        self._began: dict[str, float] = {}
        self._bar: Progress | None = None
        if self._stream.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("cells · {task.fields[left]}"),
                console=Console(file=self._stream),
            )
            self._task = self._bar.add_task("starting", total=self._total, left="time left unknown")

    def __enter__(self) -> "SweepProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def started(self, cell: Cell) -> None:
        """Show that a cell is being run."""
        self._running[cell.id] = cell.label
        self._began[cell.id] = time.monotonic()
        if self._bar:
            self._bar.update(self._task, description=escape(" | ".join(self._running.values())))

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """Show that a cell has ended, and how."""
        self._running.pop(cell.id, None)
        self._done += 1
        self._done_cost += cell.cost
        seconds = outcome.seconds
        if seconds is None:
            seconds = time.monotonic() - self._began.get(cell.id, self._start)
        how = "by another process" if outcome.elsewhere else f"in {seconds:.1f} s"
        line = f"[{self._done}/{self._total}] {cell.label}: {outcome.status} {how}"
        if outcome.reason:
            line += f" ({outcome.reason})"
        left = self.time_left()
        if self._bar:
            if outcome.status != "complete":
                self._bar.console.print(line, markup=False, highlight=False)
            self._bar.update(
                self._task,
                advance=1,
                left=left,
                description=escape(" | ".join(self._running.values()) or "finishing"),
            )
        else:
            print(f"{line}; {left}", file=self._stream, flush=True)

    def time_left(self) -> str:
        """Return the estimated time left, in words."""
        if self._done == self._total:
            return f"done in {duration(time.monotonic() - self._start)}"
        seconds = seconds_left(time.monotonic() - self._start, self._done_cost, self._cost - self._done_cost)
        return "time left unknown" if seconds is None else f"about {duration(seconds)} left"
