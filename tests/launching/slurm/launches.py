"""Launches over tiny cells, without a cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.config import Cell
from bench.launching.settings import slurm_settings
from bench.launching.slurm.ledger import Launch, Ledger
from bench.results.store import Store
from tests.small import small_cell


def tiny(*sizes: int) -> list[Cell]:
    """Cells of a linear regression, one for each batch size."""
    return [small_cell("task=regression/linear", f"batch_size={size}") for size in sizes]


def ledger_of(folder: Path, cells: Sequence[Cell], **settings: Any) -> Ledger:
    """Return the ledger of a launch of cells in a sweep's folder."""
    store = Store(folder / "default")
    store.path.mkdir(parents=True, exist_ok=True)
    return Ledger.create(store, Launch(tuple(cells), {}, slurm_settings(settings), 0))
