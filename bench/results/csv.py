"""CSV files that a spreadsheet opens without running anything in them."""

from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

#: A spreadsheet reads a text cell that begins with one of these as a formula (OWASP, "CSV injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


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
    safe = frame.copy(deep=False)
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if is_bool_dtype(column.dtype):
            safe.isetitem(position, column.map({True: "true", False: "false"}).array)
        elif not is_numeric_dtype(column.dtype):
            safe.isetitem(position, column.astype(object).map(csv_safe).array)
        elif name in WHOLE and (column.dropna() % 1 == 0).all():
            safe.isetitem(position, column.astype("Int64").array)
    safe.columns = pd.Index([str(csv_safe(name)) for name in frame.columns])
    safe.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


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
