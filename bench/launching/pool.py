"""Persistent worker processes: one per core, longest cells first, a dead worker costs its own cell only."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from bench.config import Cell
from bench.launching.queue import AGAIN_SECONDS, CellQueue
from bench.launching.worker import STOP, Outcome, signals_of_the_parent, worker_main
from bench.results.store import Store

#: How long a worker that was told to stop may take to reach the end of a piece of training, seconds.
STOP_SECONDS = 30.0


@dataclass
class Worker:
    """One process, the cell it has, and when that is to have ended, in seconds of the monotonic clock."""

    process: BaseProcess
    connection: Connection
    cell: Cell | None = None
    deadline: float | None = None


class Pool:
    """Workers that run cells of one sweep.

    Args:
        size: Number of worker processes.
        store: Where they put records.
        on_start: Called with each cell handed to a worker.
        on_outcome: Called with each cell that ended, and how; False ends the pool early.
        cell_seconds: How long a cell may take before its worker is killed; None for no limit.
        devices: What CUDA_VISIBLE_DEVICES is to be in each worker; empty to leave it as it is.
    """

    def __init__(
        self,
        size: int,
        store: Store,
        on_start: Callable[[Cell], None],
        on_outcome: Callable[[Cell, Outcome], bool],
        cell_seconds: float | None = None,
        devices: Sequence[str] = (),
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._size = size
        self._store = store
        self._on_start = on_start
        self._on_outcome = on_outcome
        self._cell_seconds = cell_seconds
        self._devices = devices
        self._workers: list[Worker] = []

    def run(self, queue: CellQueue) -> None:
        """Run all cells of a queue.

        Raises:
            KeyboardInterrupt: After the workers have been told to stop and have written what they have.
        """
        try:
            self._workers = [self._start(number) for number in range(min(self._size, len(queue)))]
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

    def _start(self, number: int) -> Worker:
        ours, theirs = self._context.Pipe()
        devices = self._devices[number] if self._devices else None
        process = self._context.Process(
            target=worker_main, args=(theirs, self._store, self._size, devices), daemon=True, name="bench-worker"
        )
        # Until it ignores them: a scheduler sends its signals to every process of a job.
        signals_of_the_parent(signal.SIG_BLOCK)
        try:
            process.start()
        finally:
            signals_of_the_parent(signal.SIG_UNBLOCK)
        theirs.close()
        return Worker(process, ours)

    def _give(self, queue: CellQueue) -> None:
        """Give every worker without a cell one, as far as there are any to be had."""
        for number, worker in enumerate(self._workers):
            if worker.cell or not queue:
                continue
            if worker.process.exitcode is not None:
                worker.connection.close()
                self._workers[number] = worker = self._start(number)
            assert worker.process.pid is not None
            worker.cell = queue.take(worker.process.pid)
            if worker.cell:
                self._on_start(worker.cell)
                worker.deadline = time.monotonic() + self._cell_seconds if self._cell_seconds else None
                # Where it has died since it was looked at, the end of its pipe is the news that is collected.
                with contextlib.suppress(OSError):
                    worker.connection.send(worker.cell)

    def _collect(self, seconds: float | None) -> bool:
        """Wait for news, at most some seconds, and act on it; return False where the sweep should end."""
        busy = [worker for worker in self._workers if worker.cell]
        going_on = True
        limits = [max(0.0, worker.deadline - time.monotonic()) for worker in busy if worker.deadline is not None]
        wait(
            [worker.connection for worker in busy],
            min([*limits, *([] if seconds is None else [seconds])], default=None),
        )
        for worker in busy:
            cell = worker.cell
            assert cell is not None
            if worker.connection.poll():
                outcome = self._receive(worker, cell)
            elif worker.deadline is not None and time.monotonic() >= worker.deadline:
                outcome = self._overdue(worker, cell)
            else:
                continue
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

    def _overdue(self, worker: Worker, cell: Cell) -> Outcome:
        """Kill a worker whose cell has taken too long."""
        worker.process.kill()
        worker.process.join()
        reason = f"took longer than {self._cell_seconds:g} s, the limit of a cell (hydra.launcher.cell_seconds)"
        return Outcome(cell.id, "failed", reason, died=True)

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
