"""What a W&B run says about a record: pure functions from a record and its curves."""

import hashlib
import json
import math
from decimal import Decimal
from typing import Any

import pandas as pd

from bench.results.record import Interval, Record, TrialSummary
from bench.results.store import CURVES, RECORD
from bench.results.tables import TRIAL_COLUMNS, tables

ARTIFACT_TYPE = "record"
# Not snapshots.parquet: it is the largest file of a cell, and nothing in W&B draws from it.
RECORD_FILES = (RECORD, CURVES)
TABLE = "trials"

# The last thing said to a run: a log that holds it holds everything before it.
SEAL = "record_sha256"


def run_id(sweep: str, cell: str, record_sha256: str) -> str:
    """Return the run's id, 16 hexadecimal digits: the same record mirrored twice is the same run."""
    return hashlib.sha256(f"{sweep}\0{cell}\0{record_sha256}".encode()).hexdigest()[:16]


def short(text: str, limit: int) -> str:
    """Return text cut to `limit` characters; what is cut off leaves a hash, so that names stay distinct."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 9]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def group(record: Record) -> str:
    """Return the run's group: the sweep."""
    return short(record.sweep, 128)


def run_name(record: Record) -> str:
    """Return the run's name, such as "mnist5k/mlp adam B=64 cpu"."""
    axes = record.axes
    batch = "full" if axes.full_batch else str(axes.batch_size)
    precision = "" if axes.precision == "float32" else f" {axes.precision}"
    return short(f"{axes.task} {axes.optimizer} B={batch} {axes.device}{precision}", 128)


def tags(record: Record) -> list[str]:
    """Return the run's tags, one per axis and one for the status; W&B allows 64 characters each."""
    axes = record.axes
    named = {
        "task": axes.task,
        "optimizer": axes.optimizer,
        "batch_size": axes.batch_size,
        "device": axes.device,
        "precision": axes.precision,
        "status": str(record.status),
    }
    return [short(f"{name}:{value}", 64) for name, value in named.items()]


def config(record: Record) -> dict[str, Any]:
    """Return the run's config: the axes on top, where W&B can group by them, everything else beneath."""
    plain = json.loads(record.to_json())
    return {
        **plain["axes"],
        "sweep": record.sweep,
        "cell": record.cell,
        "schema": record.schema,
        "digest": record.digest,
        "repeatable": record.repeatable,
        "implementation": record.implementation,
        "resolved": plain["config"],
        "environment": plain["environment"],
    }


def trial_key(metric: str, lr: float, seed: int) -> str:
    """Return the history key of one trial's metric, such as "val_loss/lr=2^-4/seed=0".

    What stands before the first slash is W&B's panel section. W&B takes a dot in a key for nesting, so a
    learning rate is written exactly without one: a power of two as such, others as integer and exponent.
    """
    return f"{metric}/lr={_without_dot(lr)}/seed={seed}"


def _without_dot(number: float) -> str:
    if math.isfinite(number) and number > 0:
        mantissa, exponent = math.frexp(number)
        if mantissa == 0.5:
            return f"2^{exponent - 1}"
    if not math.isfinite(number):
        return str(number)
    sign, digits, power = Decimal(repr(float(number))).normalize().as_tuple()
    text = ("-" if sign else "") + "".join(map(str, digits))
    return f"{text}e{power}" if power else text


def best_trial(record: Record) -> TrialSummary | None:
    """Return the trial with the best validation accuracy, else loss; ties go to the lowest lr, then seed.

    None where no trial has either. The test split has no say.
    """

    def value(trial: TrialSummary, metric: str) -> float | None:
        found = trial.at_best_validation.get(metric)
        return found if found is not None and math.isfinite(found) else None

    for metric, sign in (("val_accuracy", -1.0), ("val_loss", 1.0)):
        ranked = [
            (sign * score, trial.lr, trial.seed, trial)
            for trial in record.trials
            if (score := value(trial, metric)) is not None
        ]
        if ranked:
            return min(ranked, key=lambda entry: entry[:3])[3]
    return None


def sections(curves: pd.DataFrame) -> list[str]:
    """Return the panel sections of the history: "train_loss", "val_accuracy", …, "train_seconds"; sorted."""
    names = {f"{split}_{metric}" for split, metric in zip(curves["split"], curves["metric"], strict=True)}
    return sorted(names | ({"train_seconds"} if len(curves) else set()))


def history(record: Record, curves: pd.DataFrame) -> list[tuple[int, dict[str, float]]]:
    """Return the run's history: one row per distinct step, holding what every trial measured there.

    Args:
        record: The record.
        curves: Its curves, columns `bench.results.curves.COLUMNS`.

    Returns:
        Pairs of a step and a row, in order of steps. A row has `epoch`, `examples` and, per trial, its
        metrics and `train_seconds` under `trial_key`; the best trial's stand under "best/" too, so that one
        panel compares cells. A curve's value that is not finite stays so.
    """
    best = best_trial(record)
    chosen = (best.lr, best.seed) if best else None
    rows: dict[int, dict[str, float]] = {}
    columns = ("lr", "seed", "step", "epoch", "examples", "train_seconds", "split", "metric", "value")
    for lr, seed, step, epoch, examples, seconds, split, metric, value in zip(
        *(curves[name].tolist() for name in columns), strict=True
    ):
        row = rows.setdefault(int(step), {"epoch": float(epoch), "examples": int(examples)})
        for name, number in ((f"{split}_{metric}", value), ("train_seconds", seconds)):
            row[trial_key(name, lr, seed)] = float(number)
            if (lr, seed) == chosen:
                row[f"best/{name}"] = float(number)
    return sorted(rows.items())


def summary(record: Record) -> dict[str, Any]:
    """Return the run's summary: status, the best trial, medians of speed, memory. No value is None."""
    statuses = [str(trial.status) for trial in record.trials]
    values: dict[str, Any] = {
        "status": str(record.status),
        "reason": record.reason,
        "digest": record.digest,
        "trials_total": len(statuses),
        "trials_complete": statuses.count("complete"),
        "trials_diverged": statuses.count("diverged"),
        "seconds_total": sum(record.seconds.values()),
    }
    best = best_trial(record)
    if best:
        values |= {
            "best_lr": best.lr,
            "best_seed": best.seed,
            "best_steps_to_target": best.steps_to_target,
            "best_examples_to_target": best.examples_to_target,
            "best_seconds_to_target": best.seconds_to_target,
        }
        values |= {f"best_{metric}": number for metric, number in best.at_best_validation.items()}
        values |= {f"best_final_{metric}": number for metric, number in best.final.items()}
    if record.speed:
        for name in ("examples_per_second", "step_ms", "optimizer_step_ms"):
            interval: Interval | None = getattr(record.speed, name)
            if interval is not None:
                values |= {name: interval.median, f"{name}_lo": interval.lo, f"{name}_hi": interval.hi}
    if record.memory:
        values |= vars(record.memory)
    return {name: value for name, value in values.items() if value is not None}


def trials_table(record: Record, curves: pd.DataFrame) -> tuple[list[str], list[list[Any]]]:
    """Return columns (`TRIAL_COLUMNS`) and rows of the table of trials; a missing value is None."""
    frame = tables([(record, curves.iloc[:0])]).trials.astype(object)
    frame = frame.where(frame.notna(), None)
    return list(TRIAL_COLUMNS), [list(row) for row in frame.itertuples(index=False, name=None)]


def artifact_name(record: Record) -> str:
    """Return the artifact's name: versions of one cell's record share it."""
    return f"record-{record.cell}"
