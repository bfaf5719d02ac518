"""The cells of a launch that are still to be run, handed out one at a time; none that another process runs."""

import sys
from collections.abc import Callable, Collection, Sequence

from bench.analysis.words import plural
from bench.config import Cell
from bench.results.leases import Lease, Leases
from bench.results.record import CellStatus, RecordError
from bench.results.store import Store

#: How long to wait before looking again whether a cell that another process runs is free or done, seconds.
AGAIN_SECONDS = 0.5


class CellQueue:
    """Hands out cells, the costliest first.

    A cell that a live process has a lease of is left for later: by then its record is there, or the lease is free.

    Args:
        cells: What is to be run.
        store: The sweep.
        leases: Where they are taken.
        finished: Statuses with which a cell need not be run any more.
        on_elsewhere: Called with each cell that another process has finished meanwhile, and its status.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        store: Store,
        leases: Leases,
        finished: Collection[CellStatus],
        on_elsewhere: Callable[[Cell, CellStatus], None],
    ) -> None:
        self._cells = {cell.id: cell for cell in sorted(cells, key=lambda cell: (-cell.cost, cell.id))}
        self._store = store
        self._leases = leases
        self._finished = finished
        self._on_elsewhere = on_elsewhere
        self._said = False

    def __len__(self) -> int:
        return len(self._cells)

    def take(self, process: int) -> Cell | None:
        """Return the next cell, with its lease; None where none is left, or other processes run all that are.

        Args:
            process: Process of this machine that is going to run it.
        """
        others: list[Lease] = []
        for cell in list(self._cells.values()):
            other = self._leases.take(cell.id, process)
            if other is not None:
                others.append(other)
                continue
            del self._cells[cell.id]
            status = self._status(cell)
            if status is None or status not in self._finished:
                return cell
            self._leases.give_back(cell.id)
            self._on_elsewhere(cell, status)
        self._say(others)
        return None

    def give_back(self, cell: Cell) -> None:
        """Give a cell's lease back: it has ended, and its record is there."""
        self._leases.give_back(cell.id)

    def _status(self, cell: Cell) -> CellStatus | None:
        if not self._store.cell_path(cell.id).exists():
            return None
        try:
            return self._store.glance(cell.id).status
        except RecordError:
            # One that cannot be read is no result.
            return None

    def _say(self, others: list[Lease]) -> None:
        if others and not self._said:
            first = others[0]
            print(
                f"bench: other processes run {plural(len(others), 'cell')} ({first.host}, process {first.process}); "
                "waiting for them",
                file=sys.stderr,
                flush=True,
            )
            self._said = True
