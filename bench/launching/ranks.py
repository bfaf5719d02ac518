"""Data parallel cells: a process for each device, started and watched by the process that has the cell.

The processes (ranks) stay for the cells that follow. Whatever goes wrong in one of them, the cell ends with a
status and a reason within its limit, and all of them end.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO

import psutil
import torch

from bench.config import Cell
from bench.devices import count_of
from bench.launching.cell import Result, failed_record
from bench.launching.pool import cause_of_death
from bench.launching.rank import ALIVE, READY, STOP, Job, Place, Trouble
from bench.results.record import CellStatus
from bench.training.devices import why_unavailable

#: Seconds that starting may take: importing torch several times on a busy machine.
START_SECONDS = 120.0
#: Part of a cell's limit after which a rank that is not heard of counts as lost; the rest is for rank 0 to hand over
#: what it has.
SILENT_SHARE = 0.75
#: How often this process looks at everything, seconds.
LOOK_SECONDS = 0.1
#: What names the network interface to gloo and NCCL.
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")

#: Weights of troubles; what a rank says of itself is below.
SILENT, DEAD = 2, 3


def run_on_ranks(cell: Cell, stop: Callable[[], bool] = lambda: False, concurrent_workers: int = 1) -> Result:
    """Run a cell on several devices; see `bench.launching.cell.run_cell`."""
    device = cell.config.device
    reason = why_unavailable(device.name)
    if reason is not None:
        return failed_record(cell, f"device {device.name}: {reason}", CellStatus.UNAVAILABLE)
    try:
        ranks = standing_ranks(device.name, device.timeout_seconds)
    except (OSError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return failed_record(cell, f"device {device.name}: its processes could not be started ({lines[0]})")
    return ranks.run(cell, stop, concurrent_workers)


_standing: "list[Ranks]" = []


def standing_ranks(device: str, timeout: float) -> "Ranks":
    """Return the processes of a device that wait for a cell; those of another one end.

    Args:
        device: A device that is several, all of which are here.
        timeout: Seconds within which a cell ends once one of them is lost.
    """
    if not _standing or not _standing[0].fits(device, timeout):
        end_standing()
        _standing.append(Ranks(device, timeout))
    return _standing[0]


def end_standing() -> None:
    """End the processes that wait for a cell, if there are any."""
    while _standing:
        _standing.pop().close()


atexit.register(end_standing)


@dataclass
class Rank:
    """One process.

    Attributes:
        process: The process.
        connection: The line to it.
        output: What it prints, for the reason should it die.
        heard: When it was last heard of.
        ended: Whether it has done its part of the cell.
    """

    process: "subprocess.Popen[bytes]"
    connection: Connection
    output: IO[bytes]
    heard: float = 0.0
    ended: bool = False


class Ranks:
    """The processes of one device that is several.

    Args:
        device: The device, such as "cpu:2".
        timeout: Seconds within which a cell ends once one of them is lost, ≥ 1.
    """

    def __init__(self, device: str, timeout: float) -> None:
        self._device, self._timeout = device, timeout
        self._open, self._ready = True, False
        self._size = count_of(device, torch.cuda.device_count())
        self._folder = Path(tempfile.mkdtemp(prefix="bench-ranks-"))
        self._ranks: list[Rank] = []
        try:
            for rank in range(self._size):
                self._ranks.append(self._start(rank))
        except BaseException:
            self.close()
            raise

    @property
    def processes(self) -> list[int]:
        """The ids of the processes, rank by rank."""
        return [rank.process.pid for rank in self._ranks]

    def fits(self, device: str, timeout: float) -> bool:
        """Tell whether a cell of this device and limit can be run by these processes."""
        alive = self._open and all(rank.process.poll() is None for rank in self._ranks)
        return alive and (self._device, self._timeout) == (device, timeout)

    def run(self, cell: Cell, stop: Callable[[], bool], concurrent_workers: int) -> Result:
        """Run a cell. If anything goes wrong, the processes end: no other cell is to be trained in their state.

        Args:
            cell: What to run.
            stop: Asked now and then; true ends the cell as interrupted.
            concurrent_workers: Worker processes training on this machine meanwhile, for the record.

        Returns:
            What rank 0 left behind; where a rank was lost, with that as its reason.
        """
        watch = _Watch(cell, self._ranks, self._timeout, self._ready)
        for rank in self._ranks:
            rank.heard, rank.ended = time.monotonic(), False
            watch.send(rank, Job(cell, concurrent_workers))
        told = False
        try:
            while not watch.over:
                if not told and stop():
                    told = True
                    watch.send(self._ranks[0], STOP)
                watch.look()
        except BaseException:
            self.close()
            raise
        self._ready = True
        if watch.troubled:
            self.close()
        return watch.result()

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._open = False
        for rank in self._ranks:
            rank.process.kill()
        for rank in self._ranks:
            rank.process.wait()
            rank.connection.close()
            rank.output.close()
        self._ranks.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, rank: int) -> Rank:
        ours, theirs = Pipe()
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
        loopback = dict.fromkeys((name for name in INTERFACES if name not in os.environ), _loopback())
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.launching.rank", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            # gloo and torch say a good deal about processes that come and go.
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            # Ctrl-C is for this process, which decides what it means.
            process_group=0,
            env=os.environ | {"PYTHONPATH": path} | loopback,
        )
        theirs.close()
        silent = SILENT_SHARE * self._timeout
        place = Place(
            rank,
            self._size,
            self._device,
            str(self._folder / "meeting"),
            silent,
            START_SECONDS,
            min(1.0, self._timeout / 20),
        )
        ours.send(place)
        return Rank(process, ours, output)


class _Watch:
    """Watches over the processes of a cell."""

    def __init__(self, cell: Cell, ranks: list[Rank], timeout: float, ready: bool) -> None:
        self._cell, self._ranks, self._timeout = cell, ranks, timeout
        self._left = len(ranks) if not ready else 0
        self._troubles: list[Trouble] = []
        self._result: Result | None = None
        self._last = float("inf")

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        if self._troubles:
            return self._result is not None or self._ranks[0].ended or time.monotonic() > self._last
        return self._result is not None and (self._failed or all(rank.ended for rank in self._ranks))

    @property
    def troubled(self) -> bool:
        """Whether anything went wrong in any of the processes."""
        return self._failed or bool(self._troubles)

    @property
    def _failed(self) -> bool:
        found = self._result
        return found is not None and found.record.status not in (CellStatus.COMPLETE, CellStatus.INTERRUPTED)

    def send(self, rank: Rank, message: object) -> None:
        """Send a message; that a rank is dead shows when it is listened to."""
        try:
            rank.connection.send(message)
        except OSError:
            return

    def look(self) -> None:
        """Wait a moment for news, and act on it."""
        listening = {rank.connection: number for number, rank in enumerate(self._ranks) if not rank.ended}
        for connection in wait(list(listening), LOOK_SECONDS):
            assert isinstance(connection, Connection)
            self._hear(listening[connection])
        allowed = START_SECONDS if self._left else SILENT_SHARE * self._timeout
        for number, rank in enumerate(self._ranks):
            if not rank.ended and time.monotonic() - rank.heard > allowed:
                limit = f"device.timeout_seconds={self._timeout:g}"
                self._trouble(number, Trouble("failed", f"rank {number} does not answer ({limit})", None, SILENT))

    def result(self) -> Result:
        """Return what the cell left behind."""
        if self._result is not None and not (self._troubles and self._failed):
            return self._result
        worst = max(self._troubles, key=lambda trouble: trouble.weight)
        status = CellStatus(worst.status)
        if self._result is None:
            return failed_record(self._cell, worst.reason, status, worst.trace)
        # What rank 0 says went wrong is what the others' end did to it.
        record = replace(self._result.record, status=status, reason=worst.reason, traceback=worst.trace)
        return self._result._replace(record=record)

    def _hear(self, number: int) -> None:
        rank = self._ranks[number]
        try:
            message = rank.connection.recv()
        except (EOFError, OSError):
            self._trouble(number, self._death(number, rank))
            return
        rank.heard = time.monotonic()
        if message == ALIVE:
            return
        if message == READY:
            self._left -= 1
        elif isinstance(message, Trouble):
            self._trouble(number, message)
        else:
            rank.ended = True
            if isinstance(message, Result):
                self._result = message

    def _trouble(self, number: int, trouble: Trouble) -> None:
        self._ranks[number].ended = True
        self._troubles.append(trouble)
        self._last = min(self._last, time.monotonic() + (1 - SILENT_SHARE) * self._timeout)

    def _death(self, number: int, rank: Rank) -> Trouble:
        code = rank.process.wait()
        rank.output.seek(0)
        lines = rank.output.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1].strip()}" if lines and code > 0 else ""
        return Trouble("failed", cause_of_death(code, f"rank {number}") + last, None, DEAD)


def _loopback() -> str:
    """Return the name of the network interface that leads to this machine alone."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            return name
    return "lo"
