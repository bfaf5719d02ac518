"""Which cells of a grid are done: a glance at each record, and all of its files held against their checksums."""

import sys
from collections.abc import Sequence

from bench.config import Cell
from bench.errors import UsageError, printable
from bench.results.record import FINISHED, RecordError
from bench.results.store import Store


def divide(cells: Sequence[Cell], store: Store) -> tuple[list[Cell], list[Cell]]:
    """Split cells into those whose record is a result already, and those to run.

    Raises:
        UsageError: A record is of a newer version, and would be lost.
    """
    have = set(store.cells())
    done: list[Cell] = []
    pending: list[Cell] = []
    for cell in cells:
        (done if cell.id in have and _is_finished(store, cell) else pending).append(cell)
    return done, pending


def _is_finished(store: Store, cell: Cell) -> bool:
    try:
        return store.glance(cell.id).status in FINISHED
    except RecordError as error:
        where = store.cell_path(cell.id)
        if "newer" in str(error):
            raise UsageError(f"{where}: {error}") from None
        print(printable(f"bench: damaged record, the cell is trained again: {where}: {error}"), file=sys.stderr)
        return False
