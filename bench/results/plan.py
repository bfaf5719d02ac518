"""The plan of a sweep: every cell that was ever asked for, in `plan.json` beside the records.

Several sweeps into one folder add up. Nothing that is computed depends on it.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.results.files import exclusive, write_whole
from bench.results.leases import FOLDER, LOCK
from bench.results.private import private
from bench.results.record import RecordError
from bench.results.store import CELL_ID, PLAN, Store


@dataclass(frozen=True)
class Planned:
    """A cell that was asked for.

    Attributes:
        label: The cell in a few words.
        cost: Estimated cost in arbitrary units, the same for all cells of a plan.
        overrides: What stands after `bench run` for this cell alone; empty where it was not asked for by words.
    """

    label: str
    cost: float
    overrides: tuple[str, ...] = ()


def read_plan(store: Store) -> dict[str, Planned]:
    """Read the plan of a sweep, by cell id; empty where there is none, as in sweeps of versions before 0.2.

    Raises:
        RecordError: It cannot be read; the message names the file.
    """
    file = store.path / PLAN
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return {cell: _planned(cell, value) for cell, value in raw["cells"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise RecordError(
            f"{file}: not a plan, perhaps truncated; without it the next bench run writes it anew"
        ) from None


def add_to_plan(store: Store, cells: Mapping[str, Planned]) -> None:
    """Add cells to the plan of a sweep, whose folder there is; those that it has already stay as they are.

    Args:
        store: The sweep.
        cells: By cell id.

    Raises:
        OSError: The disk is full or not writable; the plan stays as it was.
        RecordError: The plan that is there cannot be read.
    """
    (store.path / FOLDER).mkdir(exist_ok=True)
    with exclusive(store.path / FOLDER / LOCK):
        before = read_plan(store)
        merged = {**cells, **before}
        if merged != before:
            write_whole(store.path / PLAN, _to_json(merged))


def _planned(cell: str, value: dict[str, Any]) -> Planned:
    if not CELL_ID.fullmatch(cell):
        raise ValueError(cell)
    label, cost, overrides = value["label"], float(value["cost"]), value["overrides"]
    texts = isinstance(overrides, list) and all(isinstance(text, str) for text in (label, *overrides))
    if not texts or not 0 <= cost < math.inf:
        raise ValueError(cell)
    return Planned(label, cost, tuple(overrides))


def _to_json(cells: Mapping[str, Planned]) -> str:
    plain = {cell: dataclasses.asdict(planned) for cell, planned in sorted(cells.items())}
    # One line a cell, so that a person can read it.
    lines = ",\n".join(f'  "{cell}": {private(json.dumps(value))}' for cell, value in plain.items())
    return f'{{\n "cells": {{\n{lines}\n }}\n}}\n'
