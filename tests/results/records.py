"""Records made up by hand and by hypothesis."""

import dataclasses
import types
import typing
from enum import StrEnum
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from bench.results.curves import COLUMNS
from bench.results.record import (
    SCHEMA_VERSION,
    AuditCheck,
    Axes,
    CellStatus,
    Engine,
    Interval,
    Measured,
    Memory,
    Record,
    Speed,
    Stacking,
    TrialStatus,
    TrialSummary,
)

METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")
CELL = "0123456789abcdef"


def trial(lr: float = 0.5, seed: int = 0, **changes: Any) -> TrialSummary:
    values: dict[str, Any] = {
        "lr": lr,
        "seed": seed,
        "status": TrialStatus.COMPLETE,
        "reason": None,
        "steps": 20,
        "epochs": 0.5,
        "examples": 200,
        "train_seconds": 0.25,
        "evaluations": 2,
        "final": {name: lr + number for number, name in enumerate(METRICS)},
        "at_best_validation": {name: lr + 10 + number for number, name in enumerate(METRICS)},
        "steps_to_target": 10,
        "examples_to_target": 100,
        "seconds_to_target": 0.125,
        "parameters_sha256": "ab" * 32,
    }
    return TrialSummary(**(values | changes))


def interval(median: float) -> Interval:
    return Interval(median, median - 1, median + 1, 9, 0.9609375)


def record(cell: str = CELL, axes: dict[str, Any] | None = None, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "cell": cell,
        "sweep": "octaves",
        "status": CellStatus.COMPLETE,
        "reason": None,
        "traceback": None,
        "config": {"task": {"target_metric": "val_accuracy", "target": 0.9}, "lr": [0.5, 1.0]},
        "axes": Axes(
            **(
                {
                    "task": "mnist5k/mlp",
                    "model": "mlp",
                    "optimizer": "sgd",
                    "batch_size": 10,
                    "full_batch": False,
                    "device": "cpu",
                    "precision": "float32",
                    "knobs": "label_noise=0.4",
                    "method": "clip_norm=1.0",
                }
                | (axes or {})
            )
        ),
        "environment": {"threads": 1, "hardware": "a processor", "train_examples": 4000, "test_examples": 500},
        "implementation": "forloop",
        "audit": [AuditCheck("untrained loss", True, "2.3", "ln 10")],
        "trials": [trial(0.5, 0), trial(1.0, 0)],
        "speed": Speed(
            *(interval(1000.0), interval(10.0), interval(2.0), 20, 30, 2, 40.0),
            *(interval(1.5), interval(3.0), interval(4.0), interval(5.0), 0.01, 3000.0, 300.0, None),
        ),
        "memory": Memory(None, None, 310.5, 300.25, 1234, 400, 400, 0, 280.5, 270.25, None),
        "digest": "cd" * 32,
        "repeatable": True,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": {"data": 0.5, "training": 1.5},
        "stacking": Stacking("native", 21, True, None),
        "measures": [Measured("lambda_max", "train", 1000, 12, 0.75, None)],
        "engine": Engine(True, True, 2.5, 0.25, "a reason"),
    }
    return Record(**(values | changes))


def curves(lrs: tuple[float, ...] = (0.5, 1.0), seeds: tuple[int, ...] = (0,)) -> pd.DataFrame:
    """Two evaluation points per trial, in the order in which a cell trains: seed by seed."""
    rows = [
        (lr, seed, step, step / 40, 10 * step, step / 80, *name.split("_"), lr + seed + step + number / 8)
        for seed in seeds
        for lr in lrs
        for step in (0, 20)
        for number, name in enumerate(METRICS)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


FLOATS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


#: Fields that have a range.
RANGES: dict[str, st.SearchStrategy[Any]] = {
    "batch_size": st.integers(1, 2**63 - 1),
    "seed": st.integers(0, 2**63 - 1),
    "steps": st.integers(0, 2**63 - 1),
    "lr": st.floats(1e-300, 1e300),
}


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of an annotated type, dataclasses included."""
    if isinstance(kind, st.SearchStrategy):
        return kind
    origin = typing.get_origin(kind)
    if kind is Any:
        return JSON
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(strategy(argument) for argument in typing.get_args(kind)))
    if kind is types.NoneType:
        return st.none()
    if origin is list:
        return st.lists(strategy(typing.get_args(kind)[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(max_size=6), strategy(typing.get_args(kind)[1]), max_size=2)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]
        return st.builds(kind, **{field.name: strategy(RANGES.get(field.name, hints[field.name])) for field in fields})  # type: ignore[arg-type]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return st.sampled_from(list(kind))
    return {float: FLOATS, int: st.integers(-(2**63), 2**63 - 1), str: st.text(max_size=8), bool: st.booleans()}[kind]


def records() -> st.SearchStrategy[Record]:
    hints = typing.get_type_hints(Record)
    fields = {field.name: strategy(hints[field.name]) for field in dataclasses.fields(Record)}
    return st.builds(Record, **(fields | {"schema": st.just(SCHEMA_VERSION)}))
