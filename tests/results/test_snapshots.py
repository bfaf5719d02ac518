"""Snapshots on disk: as safe as the rest of a record, and checked when they are read."""

import errno
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results import store as store_module
from bench.results.record import CellStatus, RecordError
from bench.results.snapshots import (
    COLUMNS,
    SCHEMA,
    cell_values,
    empty_snapshots,
    read_snapshots,
    snapshot_table,
    write_snapshots,
)
from bench.results.store import Store
from tests.results.files import everything, fail
from tests.results.records import CELL, curves, record

CELL_WIDE: dict[str, Sequence[float]] = {
    "extent": [-2, 2, -1, 3],
    "landscape": [0.5, 1, 2, 4, 8, 16, 32, 64, math.inf],
    "minimisers": [1, 1],
    "points": [0, 0.5, 1, 1, 2, -1],
    "test_points": [],
}
OF_TRIALS = [
    (0.25, 0, 0, "position", [-1.5, 2.5]),
    (0.25, 0, 4, "position", [math.nan, math.inf]),
    (0.5, 3, 7, "field", [-1.0, 0.25, 0.0, 1.0]),
]


def made() -> pd.DataFrame:
    return snapshot_table(CELL_WIDE, OF_TRIALS)


def equal(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    """Whether two tables are the same, NaN equal to NaN, row by row."""
    pd.testing.assert_frame_equal(left.drop(columns="values"), right.drop(columns="values"))
    return all(
        a.dtype == b.dtype == np.float32 and np.array_equal(a, b, equal_nan=True)
        for a, b in zip(left["values"], right["values"], strict=True)
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results" / "octaves")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "snapshots.parquet"


def test_what_is_written_is_read(store: Store) -> None:
    assert store.write(record(), curves(), made())
    assert equal(store.snapshots(CELL), made())
    assert store.has_snapshots(CELL)
    assert sorted(path.name for path in store.cell_path(CELL).iterdir()) == [
        "SHA256SUMS",
        "curves.parquet",
        "record.json",
        "snapshots.parquet",
    ]
    assert store.read(CELL) == record()
    assert store.curves(CELL).equals(curves())


def test_what_belongs_to_the_cell_comes_first_and_names_no_trial() -> None:
    frame = made()
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame["kind"]) == [*CELL_WIDE, "position", "position", "field"]
    assert frame["lr"].isna().tolist() == [True] * 5 + [False] * 3
    assert frame["seed"].tolist() == [-1] * 5 + [0, 0, 3]
    assert frame["step"].tolist() == [-1] * 5 + [0, 4, 7]
    extent = cell_values(frame, "extent")
    assert extent is not None
    assert extent.tolist() == [-2, 2, -1, 3]
    assert cell_values(frame[1:], "extent") is None


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False),
            st.integers(0, 2**62),
            st.integers(0, 2**62),
            st.just("position"),
            st.lists(st.floats(width=32), min_size=2, max_size=2),
        ),
        max_size=5,
    )
)
def test_any_number_survives(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.mktemp("any") / "snapshots.parquet"
    frame = snapshot_table({}, rows)
    write_snapshots(frame, path)
    assert equal(read_snapshots(path), frame)


def test_a_number_too_large_becomes_infinite() -> None:
    assert snapshot_table({}, [(1.0, 0, 0, "position", [1e300, -1e300])])["values"][0].tolist() == [math.inf, -math.inf]


def test_the_file_holds_the_documented_columns(file: Path) -> None:
    write_snapshots(made(), file)
    assert pq.read_schema(file).equals(SCHEMA)
    assert pq.read_table(file)["lr"].null_count == 0


@pytest.mark.parametrize("nothing", [None, empty_snapshots()])
def test_without_snapshots_there_is_no_file(store: Store, nothing: pd.DataFrame | None) -> None:
    store.write(record(), curves(), nothing)
    assert not store.has_snapshots(CELL)
    absent = store.snapshots(CELL)
    assert len(absent) == 0
    assert list(absent.columns) == list(COLUMNS)
    assert absent.dtypes.equals(made().dtypes)
    store.check_readable()


def test_the_same_snapshots_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_snapshots(made(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(("owner", "name", "call"), [(os, "fsync", 3), (store_module, "write_snapshots", 1)])
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
    store.path.mkdir(parents=True)
    if before is not None:
        store.write(record(status=before, digest=None), curves(), made())
    files = everything(store.path)
    with monkeypatch.context() as patch:
        fail(patch, owner, name, number, call)
        with pytest.raises(OSError, match=os.strerror(number)):
            store.write(record(), curves(), made())
    assert everything(store.path) == files
    assert sorted(path.name for path in store.path.iterdir()) == store.cells()


def test_all_files_reach_the_disk_before_the_rename(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    names: dict[int, str] = {}
    real_open, real_sync, real_rename = os.open, os.fsync, Path.rename

    def opened(path: Any, *arguments: Any, **keywords: Any) -> int:
        descriptor = real_open(path, *arguments, **keywords)
        names[descriptor] = Path(path).name
        return descriptor

    def synced(descriptor: int) -> None:
        events.append(names[descriptor])
        real_sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    store.write(record(), curves(), made())
    assert events[:4] == ["SHA256SUMS", "curves.parquet", "record.json", "snapshots.parquet"]
    assert events.index("rename") > 4


def test_the_newer_record_brings_its_own_snapshots(store: Store) -> None:
    store.write(record(status=CellStatus.INTERRUPTED, digest=None), curves(), made())
    store.write(record(), curves())
    assert not store.has_snapshots(CELL)


@pytest.mark.parametrize("kept", [slice(-10), slice(100), slice(0)])
def test_a_damaged_file_names_the_cell_in_one_line(store: Store, kept: slice) -> None:
    store.write(record(), curves(), made())
    file = store.cell_path(CELL) / "snapshots.parquet"
    file.write_bytes(file.read_bytes()[kept])
    for read in (lambda: store.snapshots(CELL), store.check_readable):
        with pytest.raises(RecordError, match=r"snapshots\.parquet cannot be read, perhaps truncated") as caught:
            read()
        assert str(store.cell_path(CELL)) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert store.read(CELL) == record()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"lr": [1.0], "colour": ["red"]}), "has the columns"),
        (
            pa.table({"lr": [1.0], "seed": [0], "step": [0], "kind": ["position"], "values": [[1.0, 2.0]]}),
            "has a column of type list<",
        ),
        (
            pa.table([[None], [0], [0], ["position"], [[1.0, 2.0]]], schema=SCHEMA),
            "misses values",
        ),
        (pa.table([[1.0], [0], [0], ["photograph"], [[1.0]]], schema=SCHEMA), "kind 'photograph' is none of"),
        (pa.table([[1.0], [0], [0], ["position"], [[1.0]]], schema=SCHEMA), "position holds 1 values, not 2"),
    ],
)
def test_what_is_no_snapshot_is_not_read(file: Path, table: pa.Table, words: str) -> None:
    pq.write_table(table, file)
    with pytest.raises(RecordError, match=words) as caught:
        read_snapshots(file)
    assert str(caught.value).startswith("snapshots.parquet")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("extent", [0.0, 1.0, 0.0]),
        ("landscape", [0.0] * 8),
        ("landscape", [0.0]),
        ("minimisers", [0.0]),
        ("points", [0.0] * 4),
        ("points", [0.0] * 1503),
        ("field", [0.0] * 4),
        ("photograph", [0.0]),
    ],
)
def test_a_cell_wide_kind_is_checked(kind: str, values: list[float]) -> None:
    with pytest.raises(ValueError, match=kind):
        snapshot_table({kind: values}, [])


@pytest.mark.parametrize(
    ("kind", "values"), [("position", [0.0, 1.0, 2.0]), ("field", [0.0] * 5), ("extent", [0.0] * 4)]
)
def test_a_kind_of_trials_is_checked(kind: str, values: list[float]) -> None:
    with pytest.raises(ValueError, match=kind):
        snapshot_table({}, [(0.5, 0, 0, kind, values)])
