"""Curves: metrics over step, epoch, examples and training seconds, one Parquet file per cell."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.results.record import RecordError

SCHEMA = pa.schema(
    [
        ("lr", pa.float64()),
        ("seed", pa.int64()),
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("examples", pa.int64()),
        ("train_seconds", pa.float64()),
        ("split", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)
COLUMNS = tuple(SCHEMA.names)


def write_curves(curves: pd.DataFrame, path: Path) -> None:
    """Write the curves of a cell.

    Args:
        curves: Columns `COLUMNS`; one row per trial, evaluation point, split and metric.
        path: The file to write.
    """
    table = pa.Table.from_pandas(curves, schema=SCHEMA, preserve_index=False)
    pq.write_table(table, path, compression="zstd")


def read_curves(path: Path) -> pd.DataFrame:
    """Read the curves of a cell.

    Raises:
        RecordError: The file is missing, truncated or has other columns.
    """
    frame: pd.DataFrame = read_arrow(path, texts=()).to_pandas()
    return frame


def read_arrow(path: Path, texts: Sequence[str] = ("split", "metric")) -> pa.Table:
    """Read the curves of a cell into a table of Arrow, of which thousands are joined faster than frames are.

    Args:
        path: The file.
        texts: Columns to read as dictionaries: their different values once, and numbers.

    Raises:
        RecordError: The file is missing, truncated or has other columns.
    """
    try:
        with pq.ParquetFile(path, read_dictionary=list(texts)) as file:
            table = file.read(use_threads=False)
    except FileNotFoundError:
        raise RecordError(f"{path.name} is missing") from None
    except UNREADABLE as error:
        raise RecordError(f"{path.name} cannot be read, perhaps truncated ({_first_line(error)})") from None
    if table.schema.names != list(COLUMNS):
        raise RecordError(f"{path.name} has the columns {table.schema.names}, not {list(COLUMNS)}")
    check_types(table, SCHEMA, path.name)
    for name in COLUMNS:
        # Metrics that are not finite are missing.
        if name not in ("value", "train_seconds") and table.column(name).null_count:
            raise RecordError(f"{path.name} misses values in the column {name}")
    return table


#: What reading a damaged file raises.
UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, MemoryError)


def check_types(table: pa.Table, schema: pa.Schema, name: str) -> None:
    """Refuse a table with columns of other types than a schema has, or with text that is none.

    Raises:
        RecordError: The message begins with `name`.
    """
    for found, wanted in zip(table.schema.types, schema.types, strict=True):
        if found != wanted and not (pa.types.is_dictionary(found) and found.value_type == wanted):
            raise RecordError(f"{name} has a column of type {found} where {wanted} belongs")
    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        raise RecordError(f"{name} cannot be read ({_first_line(error)})") from None


def empty_curves() -> pd.DataFrame:
    """Return a table with the right columns and no rows."""
    frame: pd.DataFrame = SCHEMA.empty_table().to_pandas()
    return frame


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
