"""What runs inside a job: processes that pull cells until none is left, or the job's time is nearly up."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bench.config import Cell
from bench.errors import BenchError
from bench.launching.pool import Pool
from bench.launching.queue import CellQueue
from bench.launching.slurm.ledger import Launch, Ledger
from bench.launching.worker import OF_THE_PARENT, Outcome, record_death
from bench.results.leases import Leases
from bench.results.record import FINISHED, CellStatus

#: How long a job without a cell of its own to run waits for those of others before it frees its node, seconds.
IDLE_SECONDS = 60.0
#: Share of a job's time in which it begins cells that are expected to take longer than it has.
YOUNG = 0.1


class OutOfSpace(BenchError):
    """A record or a note could not be written, so the job ends."""


def work(folder: str) -> int:
    """Run cells of a launch; called by submitit in every job.

    Args:
        folder: The launch's ledger.

    Returns:
        How many cells have ended here.

    Raises:
        OutOfSpace: A record could not be written.
    """
    return Job(Ledger(Path(folder))).run()


class JobQueue(CellQueue):
    """Hands out the cells of a launch to one of its jobs: none that has ended, or whose jobs die again and again.

    Args:
        launch: What is to be done.
        ledger: What the jobs share.
        leases: Where they are taken.
        end: When the job's time is up, seconds since 1970.
        clock: Seconds since 1970.
    """

    def __init__(
        self, launch: Launch, ledger: Ledger, leases: Leases, end: float, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(launch.cells, ledger.store, leases, tuple(CellStatus), self._elsewhere)
        self._launch, self._ledger, self._end, self._clock = launch, ledger, end, clock
        self._began = clock()
        self._idle_since: float | None = None
        self._notes: dict[str, tuple[Path, float]] = {}

    def take(self, process: int) -> Cell | None:
        """Return the next cell, with its lease and a note that it is begun; None where none is to be had."""
        self._forget()
        while (cell := super().take(process)) is not None:
            self._idle_since = None
            tries = self._ledger.begun()[cell.id]
            if tries < self._launch.settings.attempts:
                self._notes[cell.id] = self._ledger.begin(cell.id), self._clock()
                return cell
            self._fail(cell, f"begun {tries} times, and each time its job died or ran out of time before it had ended")
        self._leave()
        return None

    def ended(self, outcome: Outcome, stopped: bool, out_of_time: bool = False) -> None:
        """Note what came of a cell.

        Args:
            outcome: What came of it.
            stopped: Whether it ended because the job does, so that another job is to run it.
            out_of_time: Whether the job does because of its time limit, which counts as an attempt.
        """
        note, began = self._notes.pop(outcome.cell)
        if not stopped:
            self._ledger.end(replace(outcome, seconds=round(self._clock() - began, 3)))
        if not (stopped and (out_of_time or self._clock() >= self._last_moment)):
            note.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Take back the notes of cells that were begun here: the job was stopped, and not for lack of time."""
        for note, _ in self._notes.values():
            note.unlink(missing_ok=True)
        self._notes.clear()

    @property
    def _last_moment(self) -> float:
        return self._end - self._launch.settings.stop_seconds - 1.0

    def _forget(self) -> None:
        """Leave out the cells that have ended, and those that this job has no time for."""
        now, limit = self._clock(), 60.0 * self._launch.settings.minutes
        left = self._last_moment - now
        if left <= 0:
            self._cells.clear()
            return
        for cell in self._ledger.ended() & self._cells.keys():
            del self._cells[cell]
        if now - self._began > YOUNG * limit:
            for cell in [cell for cell in self._cells if self._launch.seconds.get(cell, 0.0) > left]:
                del self._cells[cell]

    def _leave(self) -> None:
        """Leave cells to those who run them, if that lasts; should they fail to, the launcher sends another job."""
        if self._idle_since is None:
            self._idle_since = self._clock()
        elif self._clock() - self._idle_since > IDLE_SECONDS:
            self._cells.clear()

    def _status(self, cell: Cell) -> CellStatus | None:
        # Since this launch began, a cell has ended if that is noted; from before it, only a result counts.
        if self._ledger.has_ended(cell.id):
            return CellStatus(self._ledger.outcome(cell.id).status)
        status = super()._status(cell)
        return status if status in FINISHED else None

    def _elsewhere(self, cell: Cell, status: CellStatus) -> None:
        if not self._ledger.has_ended(cell.id):
            self._ledger.end(Outcome(cell.id, str(status), None, elsewhere=True))

    def _fail(self, cell: Cell, reason: str) -> None:
        from bench.launching.cell import failed_record

        self._store.write(*failed_record(cell, reason))
        self._ledger.end(Outcome(cell.id, str(CellStatus.FAILED), reason))
        self.give_back(cell)


class Job:
    """One job of a launch.

    Args:
        ledger: The launch.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._launch, self._store = ledger, ledger.launch(), ledger.store
        #: The first signal that says to stop.
        self._signal: int | None = None
        self._ended = 0
        self._unwritten: str | None = None

    def run(self) -> int:
        """Run cells until none is left, time is nearly up, or Slurm says to stop."""
        settings = self._launch.settings
        with Leases(self._store) as leases, self._stoppable():
            queue = JobQueue(self._launch, self._ledger, leases, job_end(settings.minutes))

            def started(cell: Cell) -> None:
                print(f"{cell.id} {cell.label}: begun", flush=True)

            def ended(cell: Cell, outcome: Outcome) -> bool:
                self._record(cell, outcome, queue)
                queue.give_back(cell)
                return self._unwritten is None

            devices = process_devices(self._launch.gpus, settings.processes)
            pool = Pool(settings.processes, self._store, started, ended, settings.cell_seconds, devices)
            try:
                pool.run(queue)
            except KeyboardInterrupt:
                if not self._out_of_time:
                    queue.abandon()
                print("stopped: what is left is for other jobs", flush=True)
        if self._unwritten:
            raise OutOfSpace(self._unwritten)
        return self._ended

    @property
    def _out_of_time(self) -> bool:
        """Whether it was told to stop by the signal that the batch script asks for before the time limit."""
        return self._signal is not None and self._signal == getattr(signal, "SIGUSR2", None)

    def _record(self, cell: Cell, outcome: Outcome, queue: JobQueue) -> None:
        """Record what came of a cell, unless it only stopped because the job does."""
        try:
            stopped = outcome.status == CellStatus.INTERRUPTED or (self._signal is not None and outcome.died)
            if outcome.died and not stopped:
                outcome = record_death(cell, self._store, outcome)
            if outcome.unwritten:
                self._unwritten = outcome.unwritten
                return
            queue.ended(outcome, stopped, self._out_of_time)
            self._ended += not stopped
            print(f"{cell.id} {cell.label}: {outcome.status} {outcome.reason or ''}".rstrip(), flush=True)
        except OSError as error:
            self._unwritten = f"{error.filename or self._store.path}: {error.strerror or error}"

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Stop once when Slurm says that the job is going to end; it says so more than once."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self._signal is None:
                self._signal = number
                print(f"{signal.Signals(number).name}: stopping", flush=True)
                raise KeyboardInterrupt

        before = {number: signal.signal(number, stop) for number in OF_THE_PARENT}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def job_end(minutes: int) -> float:
    """Return when the job's time is up, seconds since 1970: as Slurm says, else its time limit from now on."""
    said = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(said) if said.isdecimal() and int(said) > 0 else time.time() + 60.0 * minutes


def process_devices(gpus: int, processes: int) -> Sequence[str]:
    """Return what CUDA_VISIBLE_DEVICES is to be in each process; empty to leave it as it is.

    Args:
        gpus: GPUs of each process.
        processes: Processes of the job.
    """
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if not gpus or len(visible) < gpus * processes:
        if gpus:
            print(f"{len(visible)} GPUs here for {processes} processes of {gpus} each", file=sys.stderr, flush=True)
        return ()
    return [",".join(visible[gpus * number : gpus * (number + 1)]) for number in range(processes)]
