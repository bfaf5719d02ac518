"""Persistent worker processes: one per core, longest cells first, a dead worker costs its own cell only."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from bench.config import Cell
from bench.launching.queue import AGAIN_SECONDS, CellQueue
from bench.launching.worker import STOP, Outcome, worker_main
from bench.results.store import Store

#: How long a worker that was told to stop may take to reach the end of a piece of training, seconds.
STOP_SECONDS = 30.0


@dataclass
class Worker:
    """One process and the cell it has."""

    process: BaseProcess
    connection: Connection
    cell: Cell | None = None


class Pool:
    """Workers that run cells of one sweep.

    Args:
        size: Number of worker processes.
        store: Where they put records.
        on_start: Called with each cell handed to a worker.
        on_outcome: Called with each cell that ended, and how; False ends the pool early.
    """

    def __init__(
        self,
        size: int,
        store: Store,
        on_start: Callable[[Cell], None],
        on_outcome: Callable[[Cell, Outcome], bool],
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._size = size
        self._store = store
        self._on_start = on_start
        self._on_outcome = on_outcome
        self._workers: list[Worker] = []

    def run(self, queue: CellQueue) -> None:
        """Run all cells of a queue.

        Raises:
            KeyboardInterrupt: After the workers have been told to stop and have written what they have.
        """
        try:
            self._workers = [self._start() for _ in range(min(self._size, len(queue)))]
            while True:
                self._give(queue)
                if not queue and not any(worker.cell for worker in self._workers):
                    break
                # A worker without a cell, while some are left, waits for what other processes run.
                idle = bool(queue) and not all(worker.cell for worker in self._workers)
                if not self._collect(AGAIN_SECONDS if idle else None):
                    self._stop()
                    return
            self._end()
        except KeyboardInterrupt:
            self._stop()
            raise
        finally:
            self._kill()

    def _start(self) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker_main, args=(theirs, self._store, self._size), daemon=True, name="bench-worker"
        )
        process.start()
        theirs.close()
        return Worker(process, ours)

    def _give(self, queue: CellQueue) -> None:
        """Give every worker without a cell one, as far as there are any to be had."""
        for number, worker in enumerate(self._workers):
            if worker.cell or not queue:
                continue
            if worker.process.exitcode is not None:
                self._workers[number] = worker = self._start()
            assert worker.process.pid is not None
            worker.cell = queue.take(worker.process.pid)
            if worker.cell:
                self._on_start(worker.cell)
                # Where it has died since it was looked at, the end of its pipe is the news that is collected.
                with contextlib.suppress(OSError):
                    worker.connection.send(worker.cell)

    def _collect(self, seconds: float | None) -> bool:
        """Wait for news, at most some seconds, and act on it; return False where the sweep should end."""
        busy = [worker for worker in self._workers if worker.cell]
        going_on = True
        ready = wait([worker.connection for worker in busy], seconds)
        for worker in [worker for worker in busy if worker.connection in ready]:
            cell = worker.cell
            assert cell is not None
            outcome = self._receive(worker, cell)
            worker.cell = None
            going_on = self._on_outcome(cell, outcome) and going_on
        return going_on

    def _receive(self, worker: Worker, cell: Cell) -> Outcome:
        try:
            outcome: Outcome = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            return Outcome(cell.id, "failed", cause_of_death(worker.process.exitcode), died=True)
        return outcome

    def _end(self) -> None:
        for worker in self._workers:
            # One that has died has nothing to end.
            with contextlib.suppress(OSError):
                worker.connection.send(None)
        for worker in self._workers:
            worker.process.join(STOP_SECONDS)

    def _stop(self) -> None:
        """Tell the workers to stop and let each write an interrupted record."""
        for worker in self._workers:
            try:
                worker.connection.send(STOP)
            except OSError:
                worker.cell = None
        for worker in self._workers:
            if worker.cell and worker.connection.poll(STOP_SECONDS):
                self._on_outcome(worker.cell, self._receive(worker, worker.cell))
                worker.cell = None

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
            worker.connection.close()


def cause_of_death(exit_code: int | None, who: str = "its worker process") -> str:
    """Say how a process ended.

    Args:
        exit_code: As `subprocess` and `multiprocessing` give it: negative for a signal.
        who: The process, in words.
    """
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", perhaps by the system for lack of memory" if name == "SIGKILL" else ""
        return f"{who} was killed by {name}{hint}"
    return f"{who} died with exit code {exit_code}"
