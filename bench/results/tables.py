"""Records as three tables: cells, trials and curves. The columns are stable and append-only.

docs/records.md documents every column; `bench.analysis` sees nothing but these tables.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from bench.results.curves import SCHEMA
from bench.results.record import Interval, Record

CELL_KEYS = ("sweep", "cell", "task", "model", "optimizer", "batch_size", "device", "precision")
TRIAL_KEYS = (*CELL_KEYS, "lr", "seed")

#: Parts of a step, beside `optimizer_step_ms`, and the control that was measured in between.
STEP_PARTS = ("data_ms", "forward_ms", "backward_ms", "control_ms")

METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")

CELL_COLUMNS = (
    *CELL_KEYS,
    "status",
    "examples_per_second",
    "examples_per_second_lo",
    "examples_per_second_hi",
    "examples_per_second_n",
    "step_ms",
    "step_ms_lo",
    "step_ms_hi",
    "step_ms_n",
    "optimizer_step_ms",
    "optimizer_step_ms_lo",
    "optimizer_step_ms_hi",
    "optimizer_step_ms_n",
    "peak_allocated_mib",
    "peak_reserved_mib",
    "peak_rss_mib",
    "activation_bytes",
    "state_bytes",
    "threads",
    "hardware",
    "base_rss_mib",
    "parameter_bytes",
    "gradient_bytes",
    "implementation",
    "full_batch",
    "train_examples",
    "target_metric",
    "target",
    "reason",
    "digest",
    "test_examples",
    *(f"{name}{end}" for name in STEP_PARTS for end in ("", "_lo", "_hi", "_n")),
    "first_step_ms",
    "drift",
    "stacking",
    "stacked_trials",
    "peak_process_mib",
    "base_process_mib",
    "energy_mj_per_step",
    "energy_mj_per_example",
    "knobs",
    "method",
    "compiled",
    "cuda_graph",
    "compile_seconds",
    "capture_seconds",
    "engine_reason",
    "devices",
    "examples_per_second_per_device",
)

TRIAL_COLUMNS = (
    *TRIAL_KEYS,
    "status",
    "steps",
    "epochs",
    "examples",
    "train_seconds",
    *METRICS,
    *(f"{metric}_at_best_val" for metric in METRICS),
    "steps_to_target",
    "examples_to_target",
    "seconds_to_target",
    "full_batch",
    "reason",
    "gradient_evaluations",
    "gradient_evaluations_to_target",
    "source_trial",
    "parameters",
)

CURVE_COLUMNS = (*TRIAL_KEYS, "step", "epoch", "examples", "train_seconds", "split", "metric", "value")


@dataclass(frozen=True)
class Tables:
    """The exported tables of one or more sweeps.

    Attributes:
        cells: One row per cell, columns `CELL_COLUMNS`.
        trials: One row per trial, columns `TRIAL_COLUMNS`.
        curves: One row per trial, evaluation point, split and metric, columns `CURVE_COLUMNS`; its texts are
            categories, as there are few different ones to millions of rows.
    """

    cells: pd.DataFrame
    trials: pd.DataFrame
    curves: pd.DataFrame


def tables(records: Iterable[tuple[Record, pd.DataFrame | pa.Table]]) -> Tables:
    """Flatten records and their curves into tables.

    Args:
        records: Pairs of a record and its curves, the latter with the columns of `CURVE_COLUMNS` from
            "lr" on (`bench.results.curves.COLUMNS`).

    Returns:
        The three tables, rows ordered by sweep, task, optimizer, device, precision, batch size, then lr, seed, step.
    """
    pairs = sorted(records, key=lambda pair: _order(pair[0]))
    cells: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    for record, _ in pairs:
        keys = _keys(record)
        cells.append(keys | _cell_row(record))
        trials.extend(keys | row for row in _trial_rows(record))
    return Tables(
        cells=pd.DataFrame(cells, columns=list(CELL_COLUMNS)),
        trials=pd.DataFrame(trials, columns=list(TRIAL_COLUMNS)),
        curves=_curves(pairs),
    )


def _curves(cells: Sequence[tuple[Record, pd.DataFrame | pa.Table]]) -> pd.DataFrame:
    parts = [(record, curve) for record, curve in cells if len(curve)]
    if not parts:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    joined = pa.concat_tables(_coded(curve) for _, curve in parts).unify_dictionaries()
    number = np.repeat(np.arange(len(parts)), [len(curve) for _, curve in parts])
    # A cell trains seed by seed, so its curves do not come in this order.
    order = np.lexsort([*(joined.column(name).to_numpy() for name in ("step", "seed", "lr")), number])
    keys = [_keys(record) for record, _ in parts]
    columns: dict[str, Any] = {}
    for name in CURVE_COLUMNS:
        if name in joined.column_names:
            column = joined.column(name)
            if pa.types.is_dictionary(column.type):
                texts = column.to_pandas().cat
                columns[name] = _categories(texts.codes.to_numpy(), texts.categories, order)
            else:
                columns[name] = column.to_numpy()[order]
        elif isinstance(keys[0][name], str):
            codes, labels = pd.factorize(np.array([key[name] for key in keys], dtype=object))
            columns[name] = _categories(codes, labels, number)
        else:
            columns[name] = np.array([key[name] for key in keys])[number]
    return pd.DataFrame(columns, copy=False)


def _coded(curve: pd.DataFrame | pa.Table) -> pa.Table:
    """Return curves with their texts as dictionaries."""
    table = curve if isinstance(curve, pa.Table) else pa.Table.from_pandas(curve, schema=SCHEMA, preserve_index=False)
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            table = table.set_column(place, field.name, table.column(place).dictionary_encode())
    return table.replace_schema_metadata(None)


def _categories(codes: npt.NDArray[Any], labels: Iterable[str], order: npt.NDArray[np.intp]) -> pd.Categorical:
    """Return texts by their codes, in an order; the categories are sorted, as whoever sorts by them expects."""
    names = [str(label) for label in labels]
    places = np.argsort(np.argsort(np.array(names, dtype=object), kind="stable"), kind="stable")
    return pd.Categorical.from_codes(places[codes][order], categories=pd.Index(sorted(names), dtype=object))


def _order(record: Record) -> tuple[Any, ...]:
    axes = record.axes
    return (
        record.sweep,
        axes.task,
        axes.optimizer,
        axes.device,
        axes.precision,
        axes.batch_size,
        record.cell,
    )


def _keys(record: Record) -> dict[str, Any]:
    axes = record.axes
    return {
        "sweep": record.sweep,
        "cell": record.cell,
        "task": axes.task,
        "model": axes.model,
        "optimizer": axes.optimizer,
        "batch_size": axes.batch_size,
        "device": axes.device,
        "precision": axes.precision,
    }


def _interval(name: str, interval: Interval | None) -> dict[str, Any]:
    if interval is None:
        return {name: None, f"{name}_lo": None, f"{name}_hi": None, f"{name}_n": None}
    return {
        name: interval.median,
        f"{name}_lo": interval.lo,
        f"{name}_hi": interval.hi,
        f"{name}_n": interval.n,
    }


def _cell_row(record: Record) -> dict[str, Any]:
    speed, memory, engine = record.speed, record.memory, record.engine
    devices = engine.devices if engine else None
    row: dict[str, Any] = {"status": str(record.status)}
    row |= _interval("examples_per_second", speed.examples_per_second if speed else None)
    row |= _interval("step_ms", speed.step_ms if speed else None)
    row |= _interval("optimizer_step_ms", speed.optimizer_step_ms if speed else None)
    for name in STEP_PARTS:
        row |= _interval(name, getattr(speed, name) if speed else None)
    row |= {
        name: getattr(memory, name) if memory else None
        for name in (
            "peak_allocated_mib",
            "peak_reserved_mib",
            "peak_rss_mib",
            "base_rss_mib",
            "activation_bytes",
            "parameter_bytes",
            "gradient_bytes",
            "state_bytes",
            "peak_process_mib",
            "base_process_mib",
        )
    }
    task = record.config.get("task", {})
    return row | {
        "threads": record.environment.get("threads"),
        "hardware": record.environment.get("hardware"),
        "implementation": record.implementation,
        "full_batch": record.axes.full_batch,
        "train_examples": record.environment.get("train_examples"),
        "target_metric": task.get("target_metric"),
        "target": task.get("target"),
        "reason": record.reason,
        "digest": record.digest,
        "test_examples": record.environment.get("test_examples"),
        "first_step_ms": speed.first_step_ms if speed else None,
        "drift": speed.drift if speed else None,
        "energy_mj_per_step": speed.energy_mj_per_step if speed else None,
        "energy_mj_per_example": speed.energy_mj_per_example if speed else None,
        "stacking": record.stacking.path if record.stacking else None,
        "stacked_trials": record.stacking.trials if record.stacking else None,
        "knobs": record.axes.knobs,
        "method": record.axes.method,
        "compiled": engine.compiled if engine else None,
        "compile_seconds": engine.compile_seconds if engine else None,
        "engine_reason": engine.reason if engine else None,
        "cuda_graph": engine.cuda_graph if engine else None,
        "capture_seconds": engine.capture_seconds if engine else None,
        "devices": devices,
        "examples_per_second_per_device": speed.examples_per_second.median / devices if speed and devices else None,
    }


def _trial_rows(record: Record) -> Iterator[dict[str, Any]]:
    for trial in sorted(record.trials, key=lambda t: (t.lr, t.seed)):
        row: dict[str, Any] = {
            "lr": trial.lr,
            "seed": trial.seed,
            "status": str(trial.status),
            "steps": trial.steps,
            "epochs": trial.epochs,
            "examples": trial.examples,
            "train_seconds": trial.train_seconds,
            "steps_to_target": trial.steps_to_target,
            "examples_to_target": trial.examples_to_target,
            "seconds_to_target": trial.seconds_to_target,
            "full_batch": record.axes.full_batch,
            "reason": trial.reason,
            "gradient_evaluations": trial.gradient_evaluations,
            "gradient_evaluations_to_target": trial.gradient_evaluations_to_target,
        }
        for metric in METRICS:
            row[metric] = trial.final.get(metric)
            row[f"{metric}_at_best_val"] = trial.at_best_validation.get(metric)
        yield row
