"""Snapshots: the raw material of pictures, an optional third file of a cell, `snapshots.parquet`.

What a 2-D surface looks like and where each trial stood on it; the training points of a task in the plane and
what each trial's model said about every point of the plane. Nothing is computed from them but pictures.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.results.curves import UNREADABLE, check_types
from bench.results.record import RecordError

FILE = "snapshots.parquet"
SCHEMA = pa.schema(
    [
        ("lr", pa.float64()),
        ("seed", pa.int64()),
        ("step", pa.int64()),
        ("kind", pa.string()),
        ("values", pa.list_(pa.float32())),
    ]
)
COLUMNS = tuple(SCHEMA.names)

#: What belongs to the whole cell; its rows have lr NaN, seed and step −1.
CELL_KINDS = ("extent", "landscape", "minimisers", "points", "test_points")
#: What belongs to one evaluation of one trial.
TRIAL_KINDS = ("position", "field")
#: So many points of either split are kept at most: a picture holds no more.
MOST_POINTS = 500


def snapshot_table(
    cell_wide: Mapping[str, Sequence[float]],
    of_trials: Iterable[tuple[float, int, int, str, Sequence[float]]],
) -> pd.DataFrame:
    """Arrange snapshots as `bench.results.store.Store.write` takes them.

    Planes are sampled at their nodes, both ends included: value [row, column] of n × n values, row-major, stands
    at y = linspace(y_lo, y_hi, n)[row], x = linspace(x_lo, x_hi, n)[column]. A number too large for float32
    becomes infinite.

    Args:
        cell_wide: Kind → values. "extent": x_lo, x_hi, y_lo, y_hi. "landscape": n × n values of the loss.
            "minimisers": x, y of each. "points", "test_points": x, y, label of each, at most `MOST_POINTS`.
        of_trials: Learning rate, seed, step, kind, values. "position": x, y. "field": n × n outputs of the
            model, the boundary between classes at 0.

    Returns:
        Columns `COLUMNS`; what belongs to the whole cell comes first.

    Raises:
        ValueError: A kind is unknown or its values are not so many as they should be.
    """
    rows = [(math.nan, -1, -1, kind, values) for kind, values in cell_wide.items()]
    rows += list(of_trials)
    with np.errstate(over="ignore"):
        arrays = [np.asarray(values, dtype=np.float32).ravel() for *_, values in rows]
    frame = pd.DataFrame(
        {
            "lr": np.array([row[0] for row in rows], dtype=np.float64),
            "seed": np.array([row[1] for row in rows], dtype=np.int64),
            "step": np.array([row[2] for row in rows], dtype=np.int64),
            "kind": pd.Series([row[3] for row in rows], dtype=object),
            "values": pd.Series(arrays, dtype=object),
        }
    )
    if problem := _problem(frame):
        raise ValueError(problem)
    return frame


def write_snapshots(snapshots: pd.DataFrame, path: Path) -> None:
    """Write the snapshots of a cell.

    Args:
        snapshots: As `snapshot_table` returns.
        path: The file to write.
    """
    arrays = [np.asarray(values, dtype=np.float32) for values in snapshots["values"]]
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    table = pa.table(
        [
            # Taken as they are: pandas' own way makes NaN a missing value.
            pa.array(snapshots["lr"].to_numpy(dtype=np.float64), from_pandas=False),
            pa.array(snapshots["seed"].to_numpy(dtype=np.int64)),
            pa.array(snapshots["step"].to_numpy(dtype=np.int64)),
            pa.array([str(kind) for kind in snapshots["kind"]], type=pa.string()),
            pa.ListArray.from_arrays(offsets, np.concatenate([np.empty(0, dtype=np.float32), *arrays])),
        ],
        schema=SCHEMA,
    )
    # Neighbours in a plane share their exponents: split by byte, a field takes half the room.
    split = ["values.list.element"]
    pq.write_table(
        table, path, compression="zstd", use_dictionary=["kind", "lr", "seed", "step"], use_byte_stream_split=split
    )


def read_snapshots(path: Path) -> pd.DataFrame:
    """Read the snapshots of a cell.

    Returns:
        As `snapshot_table`; no rows where there is no such file.

    Raises:
        RecordError: The file is truncated, has other columns, or holds something that is no snapshot.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        return empty_snapshots()
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecordError(f"{path.name} cannot be read, perhaps truncated ({reason})") from None
    if table.schema.names != list(COLUMNS):
        raise RecordError(f"{path.name} has the columns {table.schema.names}, not {list(COLUMNS)}")
    check_types(table, SCHEMA, path.name)
    if any(column.null_count for column in table.columns):
        raise RecordError(f"{path.name} misses values")
    frame: pd.DataFrame = table.to_pandas()
    frame["kind"] = frame["kind"].astype(object)
    if problem := _problem(frame):
        raise RecordError(f"{path.name}: {problem}")
    return frame


def empty_snapshots() -> pd.DataFrame:
    """Return a table with the right columns and no rows."""
    return snapshot_table({}, [])


def cell_values(snapshots: pd.DataFrame, kind: str) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
    """Return the values of a kind that belongs to the whole cell; None where it was not recorded."""
    found = snapshots.loc[snapshots["kind"] == kind, "values"]
    return None if found.empty else found.iloc[0]


def _problem(frame: pd.DataFrame) -> str | None:
    """Say in one line what is wrong with the first row that is no snapshot."""
    for lr, seed, step, kind, values in zip(*(frame[name].tolist() for name in COLUMNS), strict=True):
        of_cell = step == -1 and seed == -1 and math.isnan(lr)
        known = CELL_KINDS if of_cell else TRIAL_KINDS
        if kind not in known:
            whose = "a cell" if of_cell else "a trial"
            return f"kind {kind!r} is none of {', '.join(known)}, the kinds of {whose}"
        if not _fits(kind, len(values)):
            return f"{kind} holds {len(values)} values, not {_WANTED[kind]}"
    return None


_WANTED = {
    "extent": "4",
    "landscape": "n × n with n of at least 2",
    "field": "n × n with n of at least 2",
    "minimisers": "two each",
    "position": "2",
    "points": f"three each of at most {MOST_POINTS} points",
    "test_points": f"three each of at most {MOST_POINTS} points",
}


def _fits(kind: str, count: int) -> bool:
    match kind:
        case "extent":
            return count == 4
        case "position":
            return count == 2
        case "minimisers":
            return count % 2 == 0
        case "points" | "test_points":
            return count % 3 == 0 and count <= 3 * MOST_POINTS
        case _:
            return count >= 4 and math.isqrt(count) ** 2 == count
