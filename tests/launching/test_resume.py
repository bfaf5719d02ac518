"""Which cells are done, and what a worker's death costs."""

import signal
from pathlib import Path

import pytest

from bench.config import Cell
from bench.errors import UsageError
from bench.launching.cell import failed_record
from bench.launching.pool import Pool
from bench.launching.queue import CellQueue
from bench.launching.resume import divide
from bench.launching.worker import Outcome, record_death
from bench.results.leases import Leases
from bench.results.record import FINISHED, CellStatus
from bench.results.store import Store
from tests.results.records import curves, record
from tests.small import small_cell


def test_cells_whose_records_are_whole_and_finished_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {size: small_cell(f"batch_size={size}") for size in (8, 16, 32, 64, 128, 256)}
    store = Store(tmp_path / "default")
    for size, status in zip(sizes, ("complete", "oom", "failed", "complete", "complete"), strict=False):
        store.write(record(sizes[size].id, status=CellStatus(status)), curves())
    # A curve is gone, and a number has become another.
    (store.cell_path(sizes[64].id) / "curves.parquet").unlink()
    text = (store.cell_path(sizes[128].id) / "record.json").read_text()
    (store.cell_path(sizes[128].id) / "record.json").write_text(text.replace('"steps": 20', '"steps": 21'))
    done, pending = divide(list(sizes.values()), store)
    assert [cell.batch_size for cell in done] == [8, 16]
    assert [cell.batch_size for cell in pending] == [32, 64, 128, 256]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("damaged record, the cell is trained again" in line for line in said)
    assert sizes[64].id in said[0]
    assert "curves.parquet: No such file or directory" in said[0]
    assert "record.json has changed since it was written" in said[1]


def test_a_record_of_a_newer_version_is_not_lost(tmp_path: Path) -> None:
    cell, store = small_cell(), Store(tmp_path / "default")
    store.write(record(cell.id, schema=99), curves())
    with pytest.raises(UsageError, match=f"{cell.id}.*newer"):
        divide([cell], store)


def test_a_cell_that_was_complete_when_its_worker_died_is_complete(tmp_path: Path) -> None:
    cell, store = small_cell(), Store(tmp_path / "default")
    died = Outcome(cell.id, "failed", "its worker process was killed by SIGKILL", died=True)
    assert record_death(cell, store, died) == died
    assert store.read(cell.id).status == CellStatus.FAILED
    store.write(record(cell.id), curves())
    outcome = record_death(cell, store, died)
    assert (outcome.status, outcome.reason, outcome.elsewhere) == ("complete", None, True)
    assert store.read(cell.id) == record(cell.id)


@pytest.mark.slow
def test_a_worker_that_dies_while_it_is_given_a_cell_costs_that_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool has just seen it live."""
    cells, store = [small_cell("batch_size=16"), small_cell("batch_size=64")], Store(tmp_path / "default")
    store.path.mkdir()
    outcomes: dict[str, Outcome] = {}

    def started(cell: Cell) -> None:
        """Kill the worker that is about to be sent its cell, and wait until the kernel has closed its pipe."""
        if len(killed) == 0:
            (worker,) = [worker for worker in pool._workers if worker.cell == cell]
            worker.process.kill()
            worker.process.join()
            killed.append(worker.process.exitcode)

    def ended(cell: Cell, outcome: Outcome) -> bool:
        outcomes[cell.id] = outcome
        if outcome.died:
            store.write(*failed_record(cell, outcome.reason or ""))
        return True

    killed: list[int | None] = []
    pool = Pool(1, store, started, ended)
    with Leases(store) as leases:
        pool.run(CellQueue(cells, store, leases, FINISHED, lambda cell, status: None))
    assert killed == [-signal.SIGKILL]
    assert sorted(outcome.status for outcome in outcomes.values()) == ["complete", "failed"]
    assert {store.read(cell).status for cell in store.cells()} == {"complete", "failed"}
