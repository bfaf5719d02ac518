"""CSV files that a spreadsheet opens without running anything in them."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

#: A spreadsheet reads a text cell that begins with one of these as a formula (OWASP, "CSV injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
#: So many rows are turned into text at a time.
ROWS = 10_000


def csv_safe(value: object) -> object:
    """Put an apostrophe before text that a spreadsheet would run as a formula; leave all else alone."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as UTF-8 CSV, the same bytes for the same table on every platform.

    Floats keep every digit (the shortest text that reads back equal), missing values are empty, lines end
    with a single line feed. Numbers stay numbers; text goes through `csv_safe`. Columns that count (`WHOLE`)
    are written as whole numbers even where something is missing in them.

    Args:
        frame: The table; its index is not written.
        path: The file to write. Its folder must exist.

    Raises:
        OSError: The file cannot be written.
    """
    fields = [_fields(frame.iloc[:, position], str(name)) for position, name in enumerate(frame.columns)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([str(csv_safe(name)) for name in frame.columns])
        # Some rows at a time: numbers take four times as much memory as objects.
        for start in range(0, len(frame), ROWS):
            writer.writerows(zip(*(field(slice(start, start + ROWS)) for field in fields), strict=True))


def _fields(column: pd.Series, name: str) -> Callable[[slice], list[object]]:
    """Return what writes some rows of a column: numbers as the shortest text that reads back equal, which is theirs."""
    lost = column.isna().to_numpy()
    if is_bool_dtype(column.dtype):
        words = {True: "true", False: "false"}
        return lambda rows: [words.get(value, "") for value in column.iloc[rows].tolist()]
    if not is_numeric_dtype(column.dtype):
        texts = _safe_texts(column.astype(object).mask(lost, ""))
        return lambda rows: texts[rows].tolist()
    whole = name in WHOLE and bool((column.dropna() % 1 == 0).all())
    if not lost.any() and not whole:
        return lambda rows: column.iloc[rows].tolist()
    form = int if whole or is_integer_dtype(column.dtype) else float
    numbers = column.fillna(0).to_numpy()
    return lambda rows: [
        "" if gone else form(value) for value, gone in zip(numbers[rows].tolist(), lost[rows].tolist(), strict=True)
    ]


def _safe_texts(column: pd.Series) -> npt.NDArray[np.object_]:
    """Return texts, and whatever else stands among them, through `csv_safe`: equal texts once."""
    if not all(type(value) is str for value in column):
        return pd.Series([csv_safe(value) for value in column], dtype=object).to_numpy()
    codes, different = pd.factorize(column)
    return np.array([csv_safe(value) for value in different], dtype=object)[codes]


#: Columns that count things; pandas turns them into floats where a value is missing.
WHOLE = frozenset(
    {
        "batch_size",
        "seed",
        "step",
        "steps",
        "examples",
        "steps_to_target",
        "examples_to_target",
        "examples_per_second_n",
        "step_ms_n",
        "optimizer_step_ms_n",
        "activation_bytes",
        "parameter_bytes",
        "gradient_bytes",
        "state_bytes",
        "threads",
        "train_examples",
        "test_examples",
        "gradient_evaluations",
        "gradient_evaluations_to_target",
        "data_ms_n",
        "forward_ms_n",
        "backward_ms_n",
        "control_ms_n",
        "stacked_trials",
        "source_trial",
    }
)
