"""A worker process: takes cells from a pipe, runs them, puts their records in the store."""

import os
import queue
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bench.config import Cell
from bench.results.record import CellStatus
from bench.results.store import Store

STOP = "stop"
#: Signals that reach every process of a group or of a job: the parent decides what they mean and tells its workers.
OF_THE_PARENT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR2") if hasattr(signal, name))


@dataclass(frozen=True)
class Outcome:
    """What a worker tells its parent about a cell.

    Attributes:
        cell: Cell id.
        status: The record's status.
        reason: Why it is not complete.
        unwritten: Why the record could not be written, such as a full disk; None where it was.
        died: Whether the worker died, so that nobody has written a record yet.
        elsewhere: Whether another process ran the cell meanwhile.
        seconds: How long it took, where the one who reports it did not see it begin.
    """

    cell: str
    status: str
    reason: str | None
    unwritten: str | None = None
    died: bool = False
    elsewhere: bool = False
    seconds: float | None = None


def run_and_store(cell: Cell, store: Store, stop: threading.Event, concurrent_workers: int) -> Outcome:
    """Run one cell in this process and put its record in the store."""
    from bench.launching.cell import run_cell

    record, curves, snapshots = run_cell(cell, stop.is_set, concurrent_workers)
    try:
        store.write(record, curves, snapshots)
    except OSError as error:
        unwritten = f"{store.cell_path(cell.id)}: {error.strerror or error}"
        return Outcome(cell.id, str(record.status), record.reason, unwritten)
    return Outcome(cell.id, str(record.status), record.reason)


def record_death(cell: Cell, store: Store, outcome: Outcome) -> Outcome:
    """Write the record of a cell whose worker died; one that somebody has completed stays and counts."""
    from bench.launching.cell import failed_record

    try:
        in_place = store.write(*failed_record(cell, outcome.reason or ""))
    except OSError as error:
        return Outcome(cell.id, outcome.status, outcome.reason, f"{store.path}: {error.strerror}")
    return outcome if in_place else Outcome(cell.id, str(CellStatus.COMPLETE), None, elsewhere=True)


def signals_of_the_parent(how: int) -> None:
    """Block or unblock `OF_THE_PARENT` in this thread, and in processes that it starts until they say otherwise.

    Args:
        how: signal.SIG_BLOCK or signal.SIG_UNBLOCK.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(how, OF_THE_PARENT)


def worker_main(connection: Connection, store: Store, concurrent_workers: int, devices: str | None = None) -> None:
    """Serve cells until the parent sends None; end at once when the parent is gone.

    Args:
        connection: To the parent.
        store: Where records go.
        concurrent_workers: Worker processes of the parent, this one included.
        devices: What CUDA_VISIBLE_DEVICES is to be here; None leaves it.
    """
    for number in OF_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signals_of_the_parent(signal.SIG_UNBLOCK)
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    stop = threading.Event()
    inbox: queue.SimpleQueue[Cell | None] = queue.SimpleQueue()

    def listen() -> None:
        while True:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                # The parent died, however hard; a worker without one would train for nobody.
                os._exit(1)
            if message == STOP:
                stop.set()
            else:
                inbox.put(message)
                if message is None:
                    return

    threading.Thread(target=listen, daemon=True).start()
    while (cell := inbox.get()) is not None:
        connection.send(run_and_store(cell, store, stop, concurrent_workers))
    # All is written, and to take apart what torch has made takes half a second.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
