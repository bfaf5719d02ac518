"""Leases: who runs which cell, so that two sweeps into one folder do not train a cell at the same moment.

A lease is a file `leases/<cell id>.json` in the sweep's folder, there for as long as a process runs the cell. It is
advice: whoever holds it, a record is whole, and a complete one is never replaced.
"""

import contextlib
import dataclasses
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import psutil

from bench.results.files import exclusive
from bench.results.store import CELL_ID, Store

FOLDER = "leases"
LOCK = "lock"
#: How often a lease is touched to say that its holder lives, seconds.
HEARTBEAT_SECONDS = 30.0
#: How long after the last heartbeat a lease of another machine counts, seconds. Here, processes are looked at instead.
PATIENCE_SECONDS = 300.0
#: Process ids are below this everywhere.
PROCESS_LIMIT = 2**31
#: How exactly the start of a process is known, seconds.
START_TOLERANCE = 2.0


@dataclass(frozen=True)
class Lease:
    """That a process runs a cell.

    Attributes:
        cell: Cell id.
        host: Name of the machine.
        process: Id of the process there.
        process_started: When it started, as process ids are used again: on Linux, seconds after the machine did, which
            no change of its clock changes; elsewhere, seconds since 1970.
        since: UTC time at which it began with the cell, ISO 8601.
    """

    cell: str
    host: str
    process: int
    process_started: float
    since: str

    @classmethod
    def of(cls, cell: str, process: int) -> "Lease":
        """Return the lease of a process of this machine, from now on."""
        try:
            started = _started(psutil.Process(process))
        except psutil.NoSuchProcess:
            # It has died since; nobody started before the machine did, so the lease is a dead one.
            started = -1e9
        return cls(cell, socket.gethostname(), process, started, datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def seconds(self) -> float:
        """Seconds since it began, at least 0."""
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(self.since)).total_seconds())

    def is_live(self, unheard: float) -> bool:
        """Tell whether its process still runs.

        Args:
            unheard: Seconds since its last heartbeat, which decides for another machine.
        """
        if self.host != socket.gethostname():
            return unheard < PATIENCE_SECONDS
        try:
            process = psutil.Process(self.process)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return abs(_started(process) - self.process_started) < START_TOLERANCE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


def live_leases(store: Store) -> dict[str, Lease]:
    """Return the leases of a sweep whose processes still run, by cell id."""
    folder = store.path / FOLDER
    if not folder.is_dir():
        return {}
    found = {cell: _read(folder / f"{cell}.json") for cell in _cells(folder)}
    return {cell: lease for cell, lease in sorted(found.items()) if lease is not None}


def remove_dead_leases(store: Store) -> None:
    """Remove what processes that are no more have left; no harm where it cannot be removed."""
    folder = store.path / FOLDER
    if not folder.is_dir():
        return
    for cell in _cells(folder):
        file = folder / f"{cell}.json"
        if _read(file) is None:
            # Under the lock it is looked at again: somebody may have taken it meanwhile.
            with contextlib.suppress(OSError), exclusive(folder / LOCK):
                if _read(file) is None:
                    file.unlink()


class Leases:
    """The leases that this process takes in one sweep, for itself or its workers; given back at the end of the block.

    Args:
        store: The sweep.
    """

    def __init__(self, store: Store) -> None:
        self._folder = store.path / FOLDER
        self._held: dict[str, Lease] = {}
        self._ended = threading.Event()
        self._warned = False

    def __enter__(self) -> "Leases":
        threading.Thread(target=self._beat, daemon=True, name="bench-leases").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for cell in list(self._held):
            self.give_back(cell)

    def take(self, cell: str, process: int) -> Lease | None:
        """Take the lease of a cell, unless a live process has it.

        Args:
            cell: Cell id.
            process: Process of this machine that is going to run it.

        Returns:
            None where the lease is ours now; else the one that another process has. Where no lease can be written the
            cell is ours too: the worst that can come of it is that it is trained twice.
        """
        lease, file = Lease.of(cell, process), self._folder / f"{cell}.json"
        try:
            self._folder.mkdir(exist_ok=True)
            with exclusive(self._folder / LOCK):
                other = _read(file)
                if other is not None and dataclasses.replace(other, since=lease.since) != lease:
                    return other
                file.write_text(json.dumps(dataclasses.asdict(lease)) + "\n", encoding="utf-8")
        except OSError as error:
            if not self._warned:
                print(
                    f"bench: {file}: no lease ({error.strerror or error}); the cells are run all the same",
                    file=sys.stderr,
                )
            self._warned = True
        self._held[cell] = lease
        return None

    def give_back(self, cell: str) -> None:
        """Give the lease of a cell back, if it is ours."""
        lease, file = self._held.pop(cell, None), self._folder / f"{cell}.json"
        # What cannot be removed names a process that will end.
        with contextlib.suppress(OSError), exclusive(self._folder / LOCK):
            if lease is not None and _parsed(file) == lease:
                file.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            for cell in list(self._held):
                # It may have been given back just now.
                with contextlib.suppress(OSError):
                    os.utime(self._folder / f"{cell}.json")


def _started(process: psutil.Process) -> float:
    """Return when a process started, as `Lease.process_started`.

    Linux counts it from the boot, and the boot's time of day moves with the clock.
    """
    return process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)


def _cells(folder: Path) -> list[str]:
    return [entry.stem for entry in folder.glob("*.json") if CELL_ID.fullmatch(entry.stem)]


def _read(file: Path) -> Lease | None:
    """Return the lease in a file; None where there is none, or its process is no more."""
    try:
        unheard = time.time() - file.stat().st_mtime
    except OSError:
        return None
    lease = _parsed(file)
    return lease if lease is not None and lease.is_live(unheard) else None


def _parsed(file: Path) -> Lease | None:
    """Return what a file says; None where that is no lease, as where its writer was killed."""
    try:
        lease = Lease(**json.loads(file.read_text(encoding="utf-8")))
        sound = lease.cell == file.stem and isinstance(lease.host, str) and isinstance(lease.process_started, float)
        sound = sound and type(lease.process) is int and 0 < lease.process < PROCESS_LIMIT
        return lease if sound and datetime.fromisoformat(lease.since).tzinfo else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None
