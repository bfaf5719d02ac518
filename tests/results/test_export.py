"""Exported files hold the tables, and nothing that a spreadsheet would run."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.results.csv import csv_safe, write_csv
from bench.results.export import export
from bench.results.record import CellStatus, RecordError, TrialStatus
from bench.results.store import Store
from bench.results.tables import tables
from tests.results.records import CELL, curves, record, trial

OTHER = "f" * 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One complete cell, and one with nothing but a reason."""
    made = Store(tmp_path / "results" / "octaves")
    lost = trial(1.0, 0, status=TrialStatus.DIVERGED, steps_to_target=None, final={"train_loss": None})
    made.write(record(trials=[trial(0.5, 0), lost]), curves())
    empty = record(OTHER, status=CellStatus.FAILED, reason="=cmd|calc", trials=[], speed=None, memory=None)
    made.write(empty, curves().iloc[:0])
    return made


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_the_three_tables(store: Store, tmp_path: Path, file_format: str) -> None:
    out = tmp_path / "new" / "out"
    written = list(export(store, out, file_format))
    assert written == [
        (out / f"{name}.{file_format}", rows) for name, rows in [("cells", 2), ("trials", 2), ("curves", 24)]
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path, _ in written)
    expected = tables(list(store.read_all()))
    for path, rows in written:
        frame = pd.read_csv(path) if file_format == "csv" else pd.read_parquet(path)
        wanted: pd.DataFrame = getattr(expected, path.stem)
        assert list(frame.columns) == list(wanted.columns)
        assert len(frame) == rows
        for name in ("lr", "value", "train_loss", "step_ms", "batch_size", "examples"):
            if name in wanted.columns:
                pd.testing.assert_series_equal(frame[name], wanted[name], check_dtype=False)


def test_csv_is_text_that_anything_reads(store: Store, tmp_path: Path) -> None:
    assert [rows for _, rows in export(store, tmp_path, "csv")] == [2, 2, 24]
    cells = (tmp_path / "cells.csv").read_bytes().decode().split("\n")
    assert cells[-1] == ""
    first, second = (dict(zip(cells[0].split(","), line.split(","), strict=True)) for line in cells[1:3])
    # Missing values are empty, counts stay whole beside them, floats keep their digits, formulas are text.
    assert (first["state_bytes"], second["state_bytes"]) == ("0", "")
    assert (first["examples_per_second_n"], first["examples_per_second"]) == ("9", "1000.0")
    assert (first["full_batch"], first["reason"], second["reason"]) == ("false", "", "'=cmd|calc")
    trials = (tmp_path / "trials.csv").read_text().splitlines()
    rows = [dict(zip(trials[0].split(","), line.split(","), strict=True)) for line in trials[1:]]
    assert [row["steps_to_target"] for row in rows] == ["10", ""]
    assert [row["train_loss"] for row in rows] == ["0.5", ""]


def test_an_unreadable_record_stops_the_export_or_is_named(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.cell_path(OTHER) / "record.json").write_text("{")
    out = tmp_path / "out"
    with pytest.raises(RecordError, match=OTHER):
        list(export(store, out, "csv"))
    assert not out.exists()
    assert [rows for _, rows in export(store, out, "csv", skip_unreadable=True)] == [1, 2, 24]
    said = capsys.readouterr().err
    assert said.startswith("bench: left out: ")
    assert OTHER in said
    assert CELL not in said


def test_a_folder_that_cannot_be_written(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--out .*file: cannot be written"):
        list(export(store, tmp_path / "file", "csv"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_formulas_are_text(text: str) -> None:
    assert csv_safe(text) == f"'{text}"


@pytest.mark.parametrize("value", ["adam", "", " =1", "a=b", None, -1, -1.5, True, math.nan])
def test_all_else_is_left_alone(value: object) -> None:
    assert csv_safe(value) is value


@given(values=st.lists(st.floats(allow_nan=False, allow_subnormal=False), min_size=1, max_size=20))
def test_floats_keep_every_digit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.getbasetemp() / "floats.csv"
    write_csv(pd.DataFrame({"value": values}), path)
    assert [float(line) for line in path.read_text().splitlines()[1:]] == values


def test_writing_changes_no_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"=name": ["=x", None], "seed": [1.0, None], "flag": [True, False], "batch_size": [0.5, 1.0]})
    before = frame.copy()
    write_csv(frame, tmp_path / "x.csv")
    pd.testing.assert_frame_equal(frame, before)
    assert (tmp_path / "x.csv").read_bytes() == b"'=name,seed,flag,batch_size\n'=x,1,true,0.5\n,,false,1.0\n"
