"""Curves on disk."""

import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.results.curves import COLUMNS, SCHEMA, empty_curves, read_curves, write_curves
from bench.results.record import RecordError
from tests.results.records import curves


def test_round_trip(tmp_path: Path) -> None:
    written = curves(seeds=(0, 3))
    written.loc[2, "value"] = math.inf
    write_curves(written, tmp_path / "curves.parquet")
    pd.testing.assert_frame_equal(read_curves(tmp_path / "curves.parquet"), written)
    assert pq.read_schema(tmp_path / "curves.parquet").names == list(COLUMNS)


def test_no_rows(tmp_path: Path) -> None:
    empty = empty_curves()
    assert list(empty.columns) == list(COLUMNS)
    write_curves(empty, tmp_path / "curves.parquet")
    again = read_curves(tmp_path / "curves.parquet")
    assert len(again) == 0
    assert list(again.columns) == list(COLUMNS)
    assert pq.read_schema(tmp_path / "curves.parquet").equals(SCHEMA)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"^curves\.parquet is missing$"):
        read_curves(tmp_path / "curves.parquet")


@pytest.mark.parametrize("kept", [slice(-10), slice(100), slice(0)])
def test_truncated(tmp_path: Path, kept: slice) -> None:
    file = tmp_path / "curves.parquet"
    write_curves(curves(), file)
    file.write_bytes(file.read_bytes()[kept])
    with pytest.raises(RecordError, match=r"curves\.parquet cannot be read, perhaps truncated") as caught:
        read_curves(file)
    assert "\n" not in str(caught.value)


def test_a_damaged_page_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "curves.parquet"
    write_curves(curves(), file)
    content = bytearray(file.read_bytes())
    content[4:400] = bytes(396)
    file.write_bytes(content)
    with pytest.raises(RecordError, match="cannot be read"):
        read_curves(file)


def test_other_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"lr": [1.0], "colour": ["red"]}), tmp_path / "curves.parquet")
    with pytest.raises(RecordError, match="has the columns"):
        read_curves(tmp_path / "curves.parquet")


def test_columns_of_other_types_and_missing_values(tmp_path: Path) -> None:
    file = tmp_path / "curves.parquet"
    write_curves(curves(), file)
    table = pq.read_table(file)
    for name, values, words in (
        ("lr", ["x"] * len(table), "a column of type string where double belongs"),
        ("seed", pa.nulls(len(table), pa.int64()), "misses values in the column seed"),
    ):
        pq.write_table(table.set_column(table.schema.names.index(name), name, [values]), file)
        with pytest.raises(RecordError, match=words):
            read_curves(file)
