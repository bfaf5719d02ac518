"""Import: trials that others published, written as exported tables piece by piece, so that any number of them fits."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.errors import UsageError
from bench.results.batch_science import Study, Trial, find_studies
from bench.results.csv import WHOLE, write_csv
from bench.results.tables import CELL_COLUMNS, CURVE_COLUMNS, TRIAL_COLUMNS, TRIAL_KEYS

#: Rows of the curves that are held before they are written: some 100 MB.
PIECE = 500_000
#: Files that cannot be read and are named on the terminal; all of them stand in unreadable.csv.
NAMED = 20

_TEXTS = (
    *("sweep", "cell", "task", "model", "optimizer", "device", "precision", "status", "reason", "split", "metric"),
    *("hardware", "implementation", "target_metric", "digest", "stacking", "knobs", "method", "engine_reason"),
    "parameters",
)
_TRUTHS = ("full_batch", "compiled", "cuda_graph")

#: Called after each study: its place among them, how many there are, its name and its number of trials.
Show = Callable[[int, int, str, int], None]


def import_batch_science(path: Path, out: Path, show: Show) -> tuple[list[tuple[Path, int]], int]:
    """Write Google's trials as cells.parquet, trials.parquet and curves.parquet; the curves have row groups per study.

    Memory holds one trial's measurements, `PIECE` rows of curves and one study's rows of trials at a time.

    Args:
        path: A folder of the unpacked archive (`bench.results.batch_science`).
        out: Folder to write; made if missing. Tables there are replaced once all are written.
        show: Told of the progress.

    Returns:
        Each file with its number of rows, and how many files could not be read: they are named on standard error and
        in unreadable.csv, and left out.

    Raises:
        UsageError: There is no study, none of its trials can be read, or the folder cannot be written; what was
            there stays as it was.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give that of the unpacked archive, batch_science")
    refused: list[tuple[str, str]] = []
    studies = find_studies(path, lambda name, reason: refused.append((name, reason)))
    if not studies:
        found = f"; {refused[0][0]}: {refused[0][1]}" if refused else ""
        raise UsageError(f"{path}: no study that can be read in dataset/model/optimizer/batch_size/study.json{found}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".import.", dir=out) as scratch:
            rows = _write(studies, Path(scratch), refused, show)
            if not rows["trials"]:
                such = f", such as {refused[0][0]}: {refused[0][1]}" if refused else "; its studies are empty"
                raise UsageError(f"{path}: none of its trials can be read{such}")
            for name in rows:
                shutil.move(Path(scratch) / f"{name}.parquet", out / f"{name}.parquet")
        _list(refused, out)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    return [(out / f"{name}.parquet", count) for name, count in rows.items()], len(refused)


def _write(studies: Sequence[Study], folder: Path, refused: list[tuple[str, str]], show: Show) -> dict[str, int]:
    with (
        _Table(folder / "cells.parquet", CELL_COLUMNS) as cells,
        _Table(folder / "trials.parquet", TRIAL_COLUMNS) as trials,
        _Table(folder / "curves.parquet", CURVE_COLUMNS) as curves,
    ):
        for number, study in enumerate(studies, 1):
            keys, rows = study.keys, []
            for trial in study.trials(lambda name, reason: refused.append((name, reason))):
                rows.append(keys | trial.row)
                curves.add(_curve_table(keys, trial, curves.schema))
            cells.add(pa.Table.from_pylist([study.cell_row(len(rows))], schema=cells.schema))
            trials.add(pa.Table.from_pylist(rows, schema=trials.schema))
            # A reader that wants one task skips the row groups of the others.
            trials.flush()
            curves.flush()
            show(number, len(studies), study.name, len(rows))
    return {"cells": cells.rows, "trials": trials.rows, "curves": curves.rows}


def _curve_table(keys: dict[str, Any], trial: Trial, schema: pa.Schema) -> pa.Table:
    count = len(trial.curve)
    same = {name: value for name, value in (keys | trial.row).items() if name in TRIAL_KEYS}
    columns = {name: pa.repeat(pa.scalar(value, schema.field(name).type), count) for name, value in same.items()}
    columns |= {name: pa.array(trial.curve[name], schema.field(name).type) for name in map(str, trial.curve)}
    # Missing numbers are nan, as in the curves of records.
    columns["train_seconds"] = pa.array(np.full(count, np.nan))
    columns["epoch"] = pa.array(trial.curve["epoch"].to_numpy(), pa.float64())
    columns["value"] = pa.array(trial.curve["value"].to_numpy(), pa.float64())
    return pa.table([columns[name] for name in schema.names], schema=schema)


class _Table:
    """A Parquet file that grows by row groups."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.schema = pa.schema([(name, _kind(name)) for name in columns])
        self.rows = 0
        self._path, self._held, self._pieces = path, 0, list[pa.Table]()

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._path, self.schema, compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.flush()
        self._writer.close()

    def add(self, piece: pa.Table) -> None:
        self._pieces.append(piece)
        self._held += piece.num_rows
        if self._held >= PIECE:
            self.flush()

    def flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._pieces))
        self.rows += self._held
        self._held, self._pieces = 0, []


def _kind(name: str) -> pa.DataType:
    if name in _TEXTS:
        return pa.string()
    if name in _TRUTHS:
        return pa.bool_()
    return pa.int64() if name in WHOLE else pa.float64()


def _list(refused: Sequence[tuple[str, str]], out: Path) -> None:
    """Name what was left out."""
    file = out / "unreadable.csv"
    if not refused:
        file.unlink(missing_ok=True)
        return
    write_csv(pd.DataFrame(refused, columns=["file", "reason"]), file)
    for name, reason in refused[:NAMED]:
        print(f"bench: left out: {name}: {reason}", file=sys.stderr)
    if len(refused) > NAMED:
        print(f"bench: left out: {len(refused) - NAMED} more, listed in {file}", file=sys.stderr)
