"""Small sweeps of made-up records, the same on every run."""

import hashlib
import math
from pathlib import Path

import pandas as pd

from bench.results.curves import COLUMNS, empty_curves
from bench.results.record import (
    Axes,
    CellStatus,
    Interval,
    Memory,
    Record,
    Speed,
    TrialStatus,
    TrialSummary,
)
from bench.results.store import Store

STEPS = (0, 10, 20, 40)
TRIALS = ((0.0625, 0), (0.0625, 1), (1e-05, 0), (4.0, 0))
METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy")


def made_up(lr: float, seed: int, step: int, metric: str) -> float:
    """A number in (0, 1] that depends on its arguments alone; infinite where the trial has diverged."""
    if lr > 1 and step > 10 and metric.endswith("loss"):
        return math.inf
    digest = hashlib.sha256(f"{lr} {seed} {step} {metric}".encode()).digest()
    return (1 + int.from_bytes(digest[:6], "little")) / 2**48


def curves(batch_size: int) -> pd.DataFrame:
    rows = [
        (
            lr,
            seed,
            step,
            step * batch_size / 4000,
            step * batch_size,
            step * 0.001 + seed,
            *metric.split("_"),
            value,
        )
        for lr, seed in TRIALS
        for step in STEPS
        for metric in METRICS
        for value in [made_up(lr, seed, step, metric)]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def trial(lr: float, seed: int, batch_size: int) -> TrialSummary:
    diverged = lr > 1
    final = {metric: made_up(lr, seed, STEPS[-1], metric) for metric in METRICS}
    return TrialSummary(
        lr=lr,
        seed=seed,
        status=TrialStatus.DIVERGED if diverged else TrialStatus.COMPLETE,
        reason="loss is not finite" if diverged else None,
        steps=STEPS[-1],
        epochs=STEPS[-1] * batch_size / 4000,
        examples=STEPS[-1] * batch_size,
        train_seconds=0.04 + seed,
        evaluations=len(STEPS),
        final={metric: value if math.isfinite(value) else None for metric, value in final.items()},
        at_best_validation={metric: made_up(lr, seed, 10, metric) for metric in METRICS},
        steps_to_target=None if diverged else 20,
        examples_to_target=None if diverged else 20 * batch_size,
        seconds_to_target=None if diverged else 0.02,
        parameters_sha256=hashlib.sha256(f"{lr} {seed}".encode()).hexdigest(),
    )


def interval(median: float) -> Interval:
    return Interval(median=median, lo=median * 0.9, hi=median * 1.1, n=9, confidence=0.96)


def record(sweep: str, batch_size: int, optimizer: str = "adam", status: CellStatus = CellStatus.COMPLETE) -> Record:
    whole = status == CellStatus.COMPLETE
    name = f"{optimizer} {batch_size}"
    return Record(
        schema=1,
        cell=hashlib.sha256(name.encode()).hexdigest()[:16],
        sweep=sweep,
        status=status,
        reason=None if whole else "stopped by hand",
        traceback=None,
        config={
            "task": {"name": "mnist5k/mlp", "target": 0.9},
            "optimizer": {"name": optimizer, "betas": [0.9, 0.999]},
        },
        axes=Axes("mnist5k/mlp", "mlp", optimizer, batch_size, batch_size == 4000, "cpu", "float32"),
        environment={"threads": 1, "hardware": "a processor"},
        implementation="foreach" if whole else None,
        trials=[trial(lr, seed, batch_size) for lr, seed in TRIALS] if whole else [],
        speed=Speed(interval(1e4), interval(6.4), interval(0.1), 5, 20, 1) if whole else None,
        memory=Memory(None, None, 250.5, 200.25, 1024, 2048, 2048, 4096) if whole else None,
        digest=hashlib.sha256(name.encode()).hexdigest() if whole else None,
        started="2025-01-01T00:00:00Z",
        seconds={"data": 0.5, "training": 1.25},
    )


def write_sweep(path: Path, batch_sizes: tuple[int, ...] = (16, 64, 4000)) -> Store:
    """Write a sweep with one complete cell per batch size."""
    store = Store(path)
    for batch_size in batch_sizes:
        assert store.write(record(store.sweep, batch_size), curves(batch_size))
    return store


def write_interrupted(store: Store, batch_size: int) -> Record:
    """Add a cell that was interrupted before its first evaluation."""
    interrupted = record(store.sweep, batch_size, status=CellStatus.INTERRUPTED)
    assert store.write(interrupted, empty_curves())
    return interrupted


def fingerprint(store: Store) -> dict[str, str]:
    """Hash of every byte of every record."""
    return {
        file.relative_to(store.path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for cell in store.cells()
        for file in sorted(store.cell_path(cell).iterdir())
    }
