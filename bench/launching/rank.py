"""A process of a data parallel cell: one device of several (`bench.launching.ranks` starts and watches them).

Run as a module with the number of the file descriptor of its line to the process that started it.
"""

import os
import queue
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.config import Cell

#: Sent by a rank now and then while it has a cell; and once, when all ranks have met.
ALIVE, READY = "alive", "ready"
#: Sent to a rank: end the cell at the next evaluation point or piece of training.
STOP = "stop"


@dataclass(frozen=True)
class Place:
    """What a process is told of its place among the others.

    Attributes:
        rank: Which of them it is.
        size: How many there are.
        device: The device they are, all together, such as "cpu:2".
        meeting: File that they find each other by.
        timeout: Seconds that a collective operation may take.
        patience: Seconds that all of them may take to come.
        pulse: Seconds between two signs of life.
    """

    rank: int
    size: int
    device: str
    meeting: str
    timeout: float
    patience: float
    pulse: float


@dataclass(frozen=True)
class Job:
    """A cell to train, and how many worker processes train on this machine meanwhile."""

    cell: "Cell"
    concurrent_workers: int


@dataclass(frozen=True)
class Trouble:
    """What ended a cell too early.

    Attributes:
        status: Status that the cell gets.
        reason: Why, in one line.
        trace: Python traceback; None where there is none.
        weight: Of several, the one of most weight is the cause, of equal ones the first: a dead process takes others
            with it.
    """

    status: str
    reason: str
    trace: str | None = None
    weight: int = 0


class Line:
    """The line to the process that started this one, on which two threads send."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)
        self._lock = threading.Lock()
        self.place: Place = self._connection.recv()
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.stop, self.busy = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def send(self, message: object) -> None:
        """Send a message; without anybody to send it to, this process ends."""
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            os._exit(1)

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                # Whoever started this process is gone, however hard: it would train for nobody.
                os._exit(1)
            if message == STOP:
                self.stop.set()
            else:
                self.stop.clear()
                self.busy.set()
                self.jobs.put(message)

    def _beat(self) -> None:
        while self.busy.wait():
            self.send(ALIVE)
            time.sleep(self.place.pulse)


def main() -> None:
    """Take part in cells until the line is closed."""
    # What schedulers send to all processes means what the one that started this one makes of it.
    for received in (signal.SIGINT, signal.SIGTERM):
        signal.signal(received, signal.SIG_IGN)
    line = Line(int(sys.argv[1]))
    place = line.place
    try:
        # Imported late, with torch, so that the line is open by then; all of it before this rank is ready.
        from bench.launching.cell import follow_cell, run_here
        from bench.training.parallel import join

        group = join(place.rank, place.size, place.device, place.meeting, place.timeout, place.patience)
        line.send(READY)
        while True:
            job = line.jobs.get()
            if group.rank == 0:
                line.send(run_here(job.cell, line.stop.is_set, job.concurrent_workers, group))
            else:
                follow_cell(job.cell, group)
                line.send(None)
            line.busy.clear()
    except Exception as error:
        line.send(_trouble(error, place.rank))
        # At once: others see that this rank is gone, and wait for it no longer.
        os._exit(1)


def _trouble(error: Exception, rank: int) -> Trouble:
    from bench.measure.memory import out_of_memory

    lines = str(error).strip().splitlines()
    reason = f"rank {rank}: {type(error).__name__}" + (f": {lines[0]}" if lines else "")
    if out_of_memory(error):
        # What memory is refused to is a cause; most else that a rank says may be about another one.
        return Trouble("oom", reason, None, 1)
    return Trouble("failed", reason, traceback.format_exc())


if __name__ == "__main__":
    main()
