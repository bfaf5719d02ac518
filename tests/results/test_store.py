"""The store: a record is whole or absent, and a complete one is never replaced."""

import dataclasses
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.errors import UsageError
from bench.results import store as store_module
from bench.results.record import SCHEMA_VERSION, CellStatus, Record, RecordError
from bench.results.snapshots import snapshot_table
from bench.results.store import Store, open_sweep
from tests.results.files import everything, fail
from tests.results.records import CELL, curves, record

OTHER = "f" * 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results" / "octaves")


def test_what_is_written_is_read(store: Store) -> None:
    assert store.sweep == "octaves"
    assert store.cells() == []
    assert store.write(record(OTHER), curves())
    assert store.write(record(), curves())
    assert store.cells() == [CELL, OTHER]
    assert store.read(CELL) == record()
    assert store.curves(CELL).equals(curves())
    assert [made.cell for made, _ in store.read_all()] == [CELL, OTHER]
    assert sorted(everything(store.path)) == [
        f"{cell}/{name}" for cell in (CELL, OTHER) for name in ("SHA256SUMS", "curves.parquet", "record.json")
    ]
    assert store.cell_path(CELL).stat().st_mode & 0o777 == 0o755


def test_only_folders_of_cells_are_cells(store: Store) -> None:
    store.write(record(), curves())
    for name in ("wandb", f".{CELL}.host.1.x", CELL[:-1], CELL + "0", CELL.upper(), "mirror.json"):
        (store.path / name).mkdir(exist_ok=True)
    assert store.cells() == [CELL]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (os, "fsync", 1),
        (os, "fsync", 2),
        (os, "fsync", 4),
        (Path, "write_text", 1),
        (Path, "write_text", 2),
        (store_module, "write_curves", 1),
        (store_module.tempfile, "mkdtemp", 1),
    ],
)
@pytest.mark.parametrize("before", [None, CellStatus.INTERRUPTED])
def test_a_failed_write_leaves_everything_as_it_was(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    owner: Any,
    name: str,
    call: int,
    before: CellStatus | None,
) -> None:
    store.write(record(OTHER), curves())
    if before is not None:
        store.write(record(status=before, digest=None), curves())
    files = everything(store.path)
    with monkeypatch.context() as patch:
        fail(patch, owner, name, number, call)
        with pytest.raises(OSError, match=os.strerror(number)):
            store.write(record(), curves())
    assert everything(store.path) == files
    assert sorted(path.name for path in store.path.iterdir()) == store.cells()
    assert store.write(record(), curves())
    assert store.read(CELL) == record()


def test_a_failed_rename_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, Path, "rename", errno.EIO, 1)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        store.write(record(), curves())
    assert list(store.path.iterdir()) == []


def test_both_files_reach_the_disk_before_the_rename(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_open, real_sync, real_rename = os.open, os.fsync, Path.rename
    names: dict[int, str] = {}

    def opened(path: Any, *arguments: Any, **keywords: Any) -> int:
        descriptor = real_open(path, *arguments, **keywords)
        names[descriptor] = Path(path).name
        return descriptor

    def synced(descriptor: int) -> None:
        events.append(f"sync {names[descriptor]}")
        real_sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    store.write(record(), curves())
    assert events[:3] == ["sync SHA256SUMS", "sync curves.parquet", "sync record.json"]
    assert events[3].startswith(f"sync .{CELL}.")
    assert events[4:] == ["rename", "sync octaves"]


@pytest.mark.parametrize("newcomer", list(CellStatus))
def test_a_complete_record_is_never_replaced(store: Store, newcomer: CellStatus) -> None:
    assert store.write(record(), curves())
    files = everything(store.path)
    other = record(status=newcomer, seconds={"training": 99.0}, digest="ee" * 32)
    assert store.write(other, curves(lrs=(8.0,))) is False
    assert everything(store.path) == files
    assert [path.name for path in store.path.iterdir()] == [CELL]


@pytest.mark.parametrize("status", [status for status in CellStatus if status != CellStatus.COMPLETE])
def test_any_other_record_makes_way(store: Store, status: CellStatus) -> None:
    store.write(record(status=status, digest=None), curves(lrs=(0.5,)))
    assert store.write(record(), curves())
    assert store.read(CELL) == record()
    assert store.curves(CELL).equals(curves())
    assert [path.name for path in store.path.iterdir()] == [CELL]


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 99}'])
def test_an_unreadable_record_makes_way(store: Store, damage: str) -> None:
    store.write(record(), curves())
    (store.cell_path(CELL) / "record.json").write_text(damage)
    assert store.write(record(), curves())
    assert store.read(CELL) == record()


def test_a_record_that_others_keep_putting_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(record(status=CellStatus.INTERRUPTED), curves())
    real = Path.rename

    def contested(self: Path, target: Path) -> Path:
        if target.name == CELL:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        return self if target.name.endswith(".old") else real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", contested)
        with pytest.raises(OSError, match="is being replaced by other processes over and over"):
            store.write(record(), curves())
    assert [path.name for path in store.path.iterdir()] == [CELL]


def test_another_process_may_be_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = record(status=CellStatus.INTERRUPTED)
    store.write(interrupted, curves())
    real = Store._is_complete

    def meanwhile(self: Store, cell: str) -> bool:
        answer = real(self, cell)
        if not answer:
            # Between the look and the rename, another process puts its complete record in place.
            monkeypatch.setattr(Store, "_is_complete", real)
            assert Store(self.path).write(record(started="first"), curves())
        return answer

    monkeypatch.setattr(Store, "_is_complete", meanwhile)
    store.write(record(started="second"), curves())
    assert store.read(CELL).status == CellStatus.COMPLETE
    assert [path.name for path in store.path.iterdir()] == [CELL]


def dead_pid() -> int:
    return next(pid for pid in range(4_000_000, 4_100_000) if not psutil.pid_exists(pid))


def test_leftovers_of_the_dead_are_removed_and_others_kept(store: Store) -> None:
    store.write(record(), curves())
    host, dead = socket.gethostname(), dead_pid()
    gone = [f".{CELL}.{host}.{dead}.abc", f".{CELL}.{host}.{dead}.abc.old"]
    kept = [
        f".{CELL}.{host}.{os.getpid()}.abc",
        f".{CELL}.another-{host}.{dead}.abc",
        f".{CELL[:5]}.{host}.{dead}.abc",
        f"{OTHER}",
        "wandb",
    ]
    for name in gone + kept:
        (store.path / name).mkdir()
        (store.path / name / "record.json").write_text("half a rec")
    files = [f".{name}.{host}.{dead}.abc" for name in ("plan.json", "mirror.json", "probe")]
    for name in [*files, ".mine.json", f".notes.{host}.{dead}.abc"]:
        (store.path / name).write_text("half")
    store.sweep_leftovers()
    kept += [".mine.json", f".notes.{host}.{dead}.abc"]
    assert sorted(path.name for path in store.path.iterdir()) == sorted([CELL, *kept])
    assert store.read(CELL) == record()


def test_a_sweep_that_is_not_there_has_no_leftovers(store: Store) -> None:
    store.sweep_leftovers()
    assert not store.path.exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "record.json").unlink(), "record.json: missing"),
        (lambda folder: (folder / "record.json").write_text("{"), "record.json: not valid JSON, perhaps truncated"),
        (lambda folder: (folder / "record.json").write_bytes(b"\xff\xfe{"), "record.json: not text"),
        (lambda folder: (folder / "curves.parquet").unlink(), "curves.parquet is missing"),
        (lambda folder: (folder / "curves.parquet").write_bytes(b"PAR1"), "curves.parquet cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(store: Store, damage: Callable[[Path], Any], words: str) -> None:
    store.write(record(OTHER), curves())
    store.write(record(), curves())
    store.check_readable()
    damage(store.cell_path(OTHER))
    with pytest.raises(RecordError) as caught:
        store.check_readable()
    assert words in str(caught.value)
    assert str(store.cell_path(OTHER)) in str(caught.value)
    assert "\n" not in str(caught.value)


def flipped(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("name", ["record.json", "curves.parquet", "snapshots.parquet", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [flipped, halved, Path.unlink])
def test_a_changed_file_is_no_result_and_makes_way(store: Store, name: str, damage: Callable[[Path], None]) -> None:
    pictured = snapshot_table({"points": [0.0, 1.0, -1.0]}, [])
    store.write(record(), curves(), pictured)
    files = everything(store.path)
    damage(store.cell_path(CELL) / name)
    if (name, damage) == ("SHA256SUMS", Path.unlink):
        # As in records of before: nothing to hold the files against, and nothing wrong with them.
        assert store.glance(CELL).status == CellStatus.COMPLETE
        return
    with pytest.raises(RecordError) as caught:
        store.glance(CELL)
    assert "\n" not in str(caught.value)
    assert store.write(record(), curves(), pictured)
    assert everything(store.path) == files


@pytest.mark.parametrize("name", ["record.json", "curves.parquet", "snapshots.parquet"])
def test_a_changed_digit_is_not_read_as_another_result(store: Store, name: str) -> None:
    store.write(record(), curves(), snapshot_table({"points": [0.0, 1.0, -1.0]}, []))
    other = Store(store.path.parent / "other")
    other.write(record(started="later"), curves(lrs=(3.0,)), snapshot_table({"points": [0.0, 2.0, -1.0]}, []))
    (other.cell_path(CELL) / name).replace(store.cell_path(CELL) / name)
    with pytest.raises(RecordError, match=f"{name} has changed since it was written"):
        store.check_readable()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "No such file or directory"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "curves.parquet cannot be read, perhaps truncated"),
    ],
)
def test_records_of_before_have_no_checksums(store: Store, damage: Callable[[Path], Any], said: str) -> None:
    store.write(record(), curves())
    (store.cell_path(CELL) / "SHA256SUMS").unlink()
    assert store.glance(CELL).status == CellStatus.COMPLETE
    damage(store.cell_path(CELL) / "curves.parquet")
    with pytest.raises(RecordError, match=said):
        store.glance(CELL)


def test_a_folder_in_place_of_a_record(store: Store) -> None:
    (store.cell_path(CELL) / "record.json").mkdir(parents=True)
    with pytest.raises(RecordError, match=r"record\.json: Is a directory"):
        store.read(CELL)


def test_a_newer_record_is_said_to_be_newer(store: Store) -> None:
    newer = dataclasses.replace(record(), schema=SCHEMA_VERSION + 1)
    store.write(newer, curves())
    with pytest.raises(RecordError, match="newer"):
        store.read(CELL)
    assert isinstance(newer, Record)


def test_sweeps_are_found_by_name_and_by_path(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(record(), curves())
    root = store.path.parent
    assert open_sweep("octaves", root).cells() == [CELL]
    assert open_sweep(str(store.path), "elsewhere").path == store.path.resolve()
    monkeypatch.chdir(tmp_path)
    assert open_sweep("octaves").sweep == "octaves"
    assert open_sweep("results/octaves", "elsewhere").cells() == [CELL]
    monkeypatch.chdir(store.path)
    assert open_sweep(".", "elsewhere").sweep == "octaves"


def test_sweeps_that_are_not_there(store: Store) -> None:
    root = store.path.parent
    with pytest.raises(UsageError, match=r"unknown sweep 'octaves' .*looked in .*results.*no sweeps there yet"):
        open_sweep("octaves", root)
    store.write(record(), curves())
    (root / "empty").mkdir()
    with pytest.raises(UsageError, match=r"unknown sweep 'octave'; did you mean 'octaves'\?.*there: empty, octaves"):
        open_sweep("octave", root)
    with pytest.raises(UsageError, match=r"sweep 'empty': .*holds no records yet"):
        open_sweep("empty", root)
