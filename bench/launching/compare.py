"""`bench compare`: two sweeps side by side."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.analysis.compare import compare, matches, outcome
from bench.errors import NotComparable, UsageError, printable
from bench.listing import print_table
from bench.report.compare import Table, environment_differences, in_words, markdown, tables
from bench.report.evidence import environment_frame
from bench.report.sources import Sources, read_sources
from bench.results.csv import write_csv
from bench.results.record import SAME_BITS
from bench.results.store import Store
from bench.results.tables import Tables

#: Exit code of what a comparison found.
EXIT = {"equal": 0, "different": 1, "inconclusive": 3}


def compare_sweeps(first: Store, second: Store, out: Path | None) -> int:
    """Compare the second sweep with the first, print what changed, and write it if a folder is given.

    Records that cannot be read are named on standard error and left out.

    Returns:
        0 equal within the margins, 1 different beyond them, 3 inconclusive.

    Raises:
        NotComparable: The sweeps have no cell in common.
        UsageError: The folder cannot be written.
    """
    sources = [_read(store) for store in (first, second)]
    exported = [_exported(found) for found in sources]
    paired = matches(exported[0].cells, exported[1].cells)
    lone = paired[paired["match"].str.startswith("only")]
    if len(lone) == len(paired):
        raise NotComparable(
            f"sweeps {first.sweep} and {second.sweep} have no cell in common: none with the same configuration, nor "
            "with the same task, optimizer, batch size and precision"
        )
    environment = environment_differences(*(environment_frame(found.records) for found in sources))
    compared = compare(*((table.cells, table.trials) for table in exported))
    found = tables(environment, lone, compared)
    result = outcome(compared)
    said = in_words(compared, result)
    for title, header, rows in found:
        print_table(title, header, rows)
        print()
    print(said)
    if out is not None:
        _write(
            out, (first.sweep, second.sweep), found, said, {"environment": environment, "only": lone, "cells": compared}
        )
        print(f"compare: {out / 'compare.md'}")
    return EXIT[result]


def _read(store: Store) -> Sources:
    found = read_sources(store)
    for item in found.unreadable:
        print(printable(f"bench: left out: {store.sweep}/{item.cell}: {item.reason}"), file=sys.stderr)
    return found


def _exported(found: Sources) -> Tables:
    """Return a sweep's tables, the cells with what their bits depend on."""
    made = found.exported
    bits = {
        record.cell: json.dumps([record.environment.get(name) for name in SAME_BITS], sort_keys=True)
        for record in found.records
    }
    repeatable = {record.cell: record.repeatable for record in found.records}
    cells = made.cells.assign(bits=made.cells["cell"].map(bits), repeatable=made.cells["cell"].map(repeatable))
    return Tables(cells, made.trials, made.curves)


def _write(
    out: Path, names: tuple[str, str], found: Sequence[Table], said: str, frames: dict[str, pd.DataFrame]
) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "compare.md").write_text(markdown(names, found, said), encoding="utf-8")
        for name, frame in frames.items():
            write_csv(frame, out / f"{name}.csv")
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror or error})") from None
