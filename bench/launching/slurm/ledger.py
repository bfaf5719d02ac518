"""What the jobs of one launch share beside leases and records: the cells, who has begun which, what came of them.

A folder `jobs/<launch>` in the sweep's folder. Records and leases decide what is true; the ledger keeps a cell that
failed from being run by one job after the other, and tells the launcher how far the jobs are.
"""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import socket
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from bench.config import Cell
from bench.launching.settings import SlurmSettings
from bench.launching.worker import Outcome
from bench.results.files import write_whole
from bench.results.store import CELL_ID, Store

FOLDER = "jobs"
LAUNCH, BEGUN, ENDED, LOGS = "launch.json", "begun", "ended", "logs"


@dataclass(frozen=True)
class Launch:
    """What a job is to do.

    Attributes:
        cells: The cells that are to be run.
        seconds: How long each is expected to take, by cell id; none where nothing tells.
        settings: The settings of the launcher.
        gpus: GPUs of each process.
    """

    cells: tuple[Cell, ...]
    seconds: dict[str, float]
    settings: SlurmSettings
    gpus: int


@functools.cache
def _shape() -> TypeAdapter[Launch]:
    """Return what reads a launch: composing thousands of cells anew in every job would take too long."""
    return TypeAdapter(Launch)


@dataclass(frozen=True)
class Ledger:
    """The ledger of one launch in the folder `path`."""

    path: Path

    @classmethod
    def create(cls, store: Store, launch: Launch) -> "Ledger":
        """Make the ledger of a new launch.

        Raises:
            OSError: The disk is full or not writable.
        """
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        ledger = cls(store.path.resolve() / FOLDER / name)
        for folder in (BEGUN, ENDED, LOGS):
            (ledger.path / folder).mkdir(parents=True)
        # Sets are what JSON has not.
        write_whole(ledger.path / LAUNCH, json.dumps(dataclasses.asdict(launch), default=sorted) + "\n")
        return ledger

    @property
    def store(self) -> Store:
        """The sweep."""
        return Store(self.path.parents[1])

    def launch(self) -> Launch:
        """Return what is to be done."""
        return _shape().validate_python(json.loads((self.path / LAUNCH).read_text(encoding="utf-8")))

    def begin(self, cell: str) -> Path:
        """Note that a cell is begun here, and return the note; whoever outlives the cell removes it.

        Raises:
            OSError: The disk is full or not writable.
        """
        note = self.path / BEGUN / f"{cell}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        note.touch()
        return note

    def begun(self) -> Counter[str]:
        """Return how often each cell was begun and has not ended, by cell id."""
        return Counter(entry.name.partition(".")[0] for entry in (self.path / BEGUN).iterdir())

    def end(self, outcome: Outcome) -> None:
        """Note what came of a cell.

        Raises:
            OSError: The disk is full or not writable.
        """
        write_whole(self.path / ENDED / f"{outcome.cell}.json", json.dumps(dataclasses.asdict(outcome)) + "\n")

    def ended(self) -> set[str]:
        """Return the ids of the cells that have ended."""
        names = (entry.stem for entry in (self.path / ENDED).glob("*.json"))
        return {name for name in names if CELL_ID.fullmatch(name)}

    def has_ended(self, cell: str) -> bool:
        """Whether a cell has ended."""
        return (self.path / ENDED / f"{cell}.json").exists()

    def outcome(self, cell: str) -> Outcome:
        """Return what came of a cell that has ended."""
        return Outcome(**json.loads((self.path / ENDED / f"{cell}.json").read_text(encoding="utf-8")))

    def discard(self) -> None:
        """Remove the ledger, as where no job came of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()
