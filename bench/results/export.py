"""Export: a sweep's records as three tables in files that any tool reads."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from bench.errors import UsageError, printable
from bench.results.csv import write_csv
from bench.results.record import Record, RecordError
from bench.results.store import Store
from bench.results.tables import tables


def export(store: Store, out: Path, file_format: str, skip_unreadable: bool = False) -> Iterator[tuple[Path, int]]:
    """Write cells, trials and curves; yield each file and its number of rows.

    Args:
        store: The sweep.
        out: Folder to write; made if missing.
        file_format: "csv" or "parquet".
        skip_unreadable: Whether to leave out records that cannot be read, naming them on standard error.

    Raises:
        RecordError: A record cannot be read and is not to be skipped; nothing has been written then.
        UsageError: The folder cannot be written.
    """
    exported = tables(_records(store, skip_unreadable))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("cells", "trials", "curves"):
            frame: pd.DataFrame = getattr(exported, name)
            path = out / f"{name}.{file_format}"
            if file_format == "csv":
                write_csv(frame, path)
            else:
                texts = {name: str for name, kind in frame.dtypes.items() if isinstance(kind, pd.CategoricalDtype)}
                frame.astype(texts).to_parquet(path, index=False)
            yield path, len(frame)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror or error})") from None


def _records(store: Store, skip_unreadable: bool) -> Iterator[tuple[Record, pa.Table]]:
    for cell in store.cells():
        try:
            pair = store.read(cell), store.arrow_curves(cell)
        except RecordError as error:
            if not skip_unreadable:
                raise
            print(printable(f"bench: left out: {error}"), file=sys.stderr)
        else:
            yield pair
