"""The store: one folder per sweep, one per cell; a record is whole or absent."""

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd
import psutil
import pyarrow as pa

from bench.errors import UsageError, nearest
from bench.results.checksums import FILE as CHECKSUMS
from bench.results.checksums import check, read_checksums, write_checksums
from bench.results.curves import read_arrow, read_curves, write_curves
from bench.results.files import temporary_name
from bench.results.glance import Glance, glance
from bench.results.record import CellStatus, Record, RecordError
from bench.results.snapshots import FILE as SNAPSHOTS
from bench.results.snapshots import read_snapshots, write_snapshots

Table = TypeVar("Table")

CELL_ID = re.compile(r"[0-9a-f]{16}")
SWEEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What a sweep was to run (`bench.results.plan`).
PLAN = "plan.json"
#: Files of a record; snapshots are there where a task has a plane to picture, checksums in all since 0.2.
RECORD, CURVES = "record.json", "curves.parquet"
FILES = (RECORD, CURVES, SNAPSHOTS, CHECKSUMS)
#: What a temporary file or folder in a sweep's folder is named after (`bench.results.files.temporary_name`).
TEMPORARY = r"[0-9a-f]{16}|plan\.json|mirror\.json|probe"
#: Ending of the temporary name of a record that makes way.
OLD = ".old"
#: A Parquet file begins and ends with it.
PARQUET = b"PAR1"


@dataclass(frozen=True)
class Store:
    """Records of one sweep in the folder `path`."""

    path: Path

    @property
    def sweep(self) -> str:
        """Name of the sweep: the folder's name."""
        return self.path.name

    def cell_path(self, cell: str) -> Path:
        """Folder of one cell's record."""
        return self.path / cell

    def cells(self) -> list[str]:
        """Ids of the cells that have a record, sorted."""
        if not self.path.is_dir():
            return []
        return sorted(entry.name for entry in self.path.iterdir() if CELL_ID.fullmatch(entry.name))

    def read(self, cell: str) -> Record:
        """Read one record.

        Raises:
            RecordError: It is missing, truncated, of a newer schema or malformed, or not what was written; the message
                names the file.
        """
        file = self.cell_path(cell) / RECORD
        try:
            content = file.read_bytes()
            record = Record.from_json(content.decode())
            check(RECORD, content, read_checksums(str(file.parent)))
        except FileNotFoundError:
            raise RecordError(f"{file}: missing") from None
        except UnicodeDecodeError:
            raise RecordError(f"{file}: not text") from None
        except OSError as error:
            raise RecordError(f"{file}: {error.strerror}") from None
        except RecordError as error:
            raise RecordError(f"{file}: {error}") from None
        if record.cell != cell:
            raise RecordError(f"{self.cell_path(cell)}: holds the record of cell {record.cell}")
        return record

    def glance(self, cell: str) -> Glance:
        """Read how a cell ended, and hold all of its files against their checksums.

        Where a record has none, as before 0.2, its ends are looked at.

        Raises:
            RecordError: A file is missing, truncated, malformed, of a newer schema or not what was written; the message
                does not name the folder.
        """
        folder = str(self.cell_path(cell))
        content = _content(folder, RECORD)
        seen = glance(content)
        checksums = read_checksums(folder)
        check(RECORD, content, checksums)
        if checksums and not {RECORD, CURVES} <= checksums.keys():
            raise RecordError(f"{CHECKSUMS} does not name all files")
        for name in checksums:
            if name != RECORD:
                check(name, _content(folder, name), checksums)
        if not checksums and seen.trials:
            curves = _content(folder, CURVES)
            if not (curves.startswith(PARQUET) and curves.endswith(PARQUET)):
                raise RecordError(f"{CURVES} cannot be read, perhaps truncated")
        return seen

    def curves(self, cell: str) -> pd.DataFrame:
        """Read one cell's curves.

        Raises:
            RecordError: The file is missing, truncated or malformed; the message names the cell.
        """
        return self._file(cell, CURVES, read_curves)

    def arrow_curves(self, cell: str) -> pa.Table:
        """Read one cell's curves as a table of Arrow (`bench.results.curves.read_arrow`).

        Raises:
            RecordError: As `curves`.
        """
        return self._file(cell, CURVES, read_arrow)

    def snapshots(self, cell: str) -> pd.DataFrame:
        """Read one cell's snapshots; a table without rows where the cell has none.

        Raises:
            RecordError: The file is truncated or malformed; the message names the cell.
        """
        return self._file(cell, SNAPSHOTS, read_snapshots)

    def _file(self, cell: str, name: str, read: Callable[[Path], Table]) -> Table:
        """Read a table of a cell; an error names the cell."""
        try:
            folder = self.cell_path(cell)
            table = read(folder / name)
            checksums = read_checksums(str(folder))
            if name in checksums:
                check(name, _content(str(folder), name), checksums)
            return table
        except RecordError as error:
            raise RecordError(f"{self.cell_path(cell)}: {error}") from None

    def has_snapshots(self, cell: str) -> bool:
        """Whether the cell has a file of snapshots, readable or not."""
        return (self.cell_path(cell) / SNAPSHOTS).exists()

    def read_all(self) -> Iterator[tuple[Record, pd.DataFrame]]:
        """Read every record with its curves, in order of cell id.

        Raises:
            RecordError: As `read` and `curves`, at the first record that cannot be read.
        """
        for cell in self.cells():
            yield self.read(cell), self.curves(cell)

    def check_readable(self) -> None:
        """Read everything once.

        Raises:
            RecordError: As `read`, `curves` and `snapshots`, at the first record that cannot be read.
        """
        for record, _ in self.read_all():
            self.snapshots(record.cell)

    def write(self, record: Record, curves: pd.DataFrame, snapshots: pd.DataFrame | None = None) -> bool:
        """Put a record in place, whole.

        All files are written into a temporary folder and flushed to disk; the folder is then renamed. Where
        another process has written the same cell meanwhile, a complete record stays and this one is dropped.

        Args:
            record: The record.
            curves: Columns `bench.results.curves.COLUMNS`.
            snapshots: As `bench.results.snapshots.snapshot_table` returns; without rows, no file is written.

        Returns:
            Whether this record is the one in place now.

        Raises:
            OSError: The disk is full or not writable. Nothing is left behind.
        """

        def fill(folder: Path) -> None:
            write_curves(curves, folder / CURVES)
            (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
            if snapshots is not None and len(snapshots):
                write_snapshots(snapshots, folder / SNAPSHOTS)
            write_checksums(folder, sorted(file.name for file in folder.iterdir()))

        return self._put(record.cell, fill)

    def adopt(self, other: "Store", cell: str) -> bool:
        """Put a copy of another store's record in place, whole and byte for byte, as `write` does.

        Returns:
            Whether it is the one in place now.

        Raises:
            OSError: The disk is full or not writable, or a file cannot be read. Nothing is left behind.
        """

        def fill(folder: Path) -> None:
            for name in FILES:
                if (other.cell_path(cell) / name).exists():
                    shutil.copyfile(other.cell_path(cell) / name, folder / name)

        return self._put(cell, fill)

    def _put(self, cell: str, fill: Callable[[Path], None]) -> bool:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=temporary_name(cell), dir=self.path))
        try:
            temporary.chmod(0o755)
            fill(temporary)
            for file in sorted(temporary.iterdir()):
                _flush(file)
            _flush(temporary)
            return self._rename(temporary, self.cell_path(cell))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _rename(self, temporary: Path, target: Path) -> bool:
        away = temporary.with_name(temporary.name + OLD)
        try:
            for _ in range(8):
                try:
                    temporary.rename(target)
                except OSError:
                    if not target.exists():
                        raise
                else:
                    _flush(self.path)
                    return True
                if self._is_complete(target.name):
                    return False
                # An unfinished record (interrupted, failed, unreadable) makes way; it goes when this one is in place.
                shutil.rmtree(away, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError):
                    target.rename(away)
            raise OSError(f"{target} is being replaced by other processes over and over")
        finally:
            _settle(away, target)

    def _is_complete(self, cell: str) -> bool:
        try:
            return self.glance(cell).status == CellStatus.COMPLETE
        except RecordError:
            return False

    def sweep_leftovers(self) -> None:
        """Remove temporary files and folders of processes of this machine that are no more.

        A record that had made way for one that did not get there is put back.
        """
        if not self.path.is_dir():
            return
        pattern = re.compile(rf"\.({TEMPORARY})\.{re.escape(socket.gethostname())}\.(\d+)\..*")
        for entry in self.path.iterdir():
            match = pattern.fullmatch(entry.name)
            if match and not psutil.pid_exists(int(match[2])):
                if entry.name.endswith(OLD):
                    _settle(entry, self.cell_path(match[1]))
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        entry.unlink()


def open_sweep(name_or_path: str, results_root: str | Path = "results", planned: bool = False) -> Store:
    """Find the sweep a person names on the command line.

    Args:
        name_or_path: A sweep's name under `results_root`, or a path to its folder.
        results_root: Where sweeps are kept.
        planned: Whether a plan is enough, so that a sweep can be looked at before its first record.

    Raises:
        UsageError: There is no such folder, or it holds no record.
    """
    root = Path(results_root)
    candidates = [root / name_or_path, Path(name_or_path)]
    known = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    for path in candidates:
        if path.is_dir():
            store = Store(path.resolve())
            if store.cells() or (planned and (path / PLAN).exists()):
                return store
            tables = any((path / f"cells.{kind}").exists() for kind in ("parquet", "csv"))
            held = "tables, not records (docs/import.md says how to analyse them)" if tables else "no records yet"
            raise UsageError(f"sweep {name_or_path!r}: {path} holds {held}")
    close = nearest(name_or_path, known)
    hint = f"; did you mean {close!r}?" if close else ""
    have = f"sweeps there: {', '.join(known)}" if known else "no sweeps there yet"
    raise UsageError(f"unknown sweep {name_or_path!r}{hint} (looked in {root} and for a folder of that name; {have})")


def _content(folder: str, name: str) -> bytes:
    """Read a file of a cell; the message of an error names the file, but for the record itself."""
    try:
        with open(f"{folder}/{name}", "rb") as stream:  # noqa: PTH123, ten thousand are read at a time
            return stream.read()
    except OSError as error:
        what = "" if name == RECORD else f"{name}: "
        raise RecordError(f"{what}{error.strerror or error}") from None


def _settle(away: Path, target: Path) -> None:
    """Remove a record that has made way, or put it back where nothing has come in its place."""
    if away.exists() and not target.exists():
        # Another process may be faster.
        with contextlib.suppress(OSError):
            away.rename(target)
    shutil.rmtree(away, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
