"""Made-up sweeps in the real record format, for tests of analysis and report alone.

Learning curves follow a simple law (progress with learning rate × steps, a noise floor with learning rate
over batch size, divergence above a cap), so the effects to be found are known. Nothing in the package imports
this.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from bench.results.curves import COLUMNS, empty_curves
from bench.results.record import (
    AuditCheck,
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

TRAIN = 4000
TARGET = 0.9

COMMAND = "bench run -m experiment=quickstart"
#: One cell of every kind that is not complete.
BROKEN = {
    ("adam", 1024): "failed",
    ("sgd", 1024): "oom",
    ("adam", 256): "unavailable",
    ("sgd", 256): "interrupted",
}


@dataclass(frozen=True)
class Law:
    """How one made-up optimizer learns."""

    rate: float
    cap_log2: float
    grid_log2: tuple[int, int]
    overhead_ms: float


LAWS = {
    "sgd": Law(rate=0.6, cap_log2=0.6, grid_log2=(-8, 1), overhead_ms=0.25),
    "momentum": Law(rate=5.0, cap_log2=-2.4, grid_log2=(-11, -2), overhead_ms=0.28),
    "adam": Law(rate=60.0, cap_log2=-5.5, grid_log2=(-13, -5), overhead_ms=0.40),
}


@dataclass(frozen=True)
class Plan:
    """Which cells a made-up sweep holds."""

    name: str = "synthetic"
    task: str = "mnist5k/mlp"
    optimizers: tuple[str, ...] = ("sgd", "adam")
    batch_sizes: tuple[int, ...] = (4, 16, 64, 256, 1024, TRAIN)
    seeds: int = 3
    epochs: float = 8.0
    steps: int = 160
    device: str = "cpu"
    broken: Mapping[tuple[str, int], str] = field(default_factory=dict)
    laws: Mapping[str, Law] = field(default_factory=lambda: LAWS)
    #: "val_loss" makes a task without accuracy; its losses are those of the others plus `shift`, and not below `floor`.
    target_metric: str = "val_accuracy"
    target: float = TARGET
    shift: float = 0.0
    floor: float = -math.inf
    #: Multiplies how fast everyone learns.
    ease: float = 1.0
    reason: str = "DataLoader worker <script>alert('x')</script> & died"


#: A task without accuracy, its loss falling from 2.3 to about .13.
LOSS = {"task": "synthetic/quadratic", "target_metric": "val_loss", "target": 0.3}


def zoo_plans(tasks: int, optimizers: int, batch_sizes: tuple[int, ...] = (16, 256)) -> list[Plan]:
    """One plan per task of a sweep like `experiment=zoo`, few learning rates, every kind of cell in it."""
    rng = np.random.default_rng(7)
    laws = {
        f"optimizer{number:02}": Law(float(2 ** rng.uniform(0, 5)), float(rng.uniform(-3, -1)), (-4, -2), 0.3)
        for number in range(optimizers)
    }
    names, plans = tuple(laws), []
    for number in range(tasks):
        broken = {(names[-1], batch_sizes[0]): "failed", (names[-2], batch_sizes[-1]): "oom"} if number == 1 else {}
        broken |= {(names[0], size): "unavailable" for size in batch_sizes} if number == 2 else {}
        common = {
            "name": "zoo",
            # The last optimizer of all was not run on the first task.
            "optimizers": names[:-1] if number == 0 else names,
            "batch_sizes": batch_sizes,
            "seeds": 1 + number % 2,
            "epochs": 0.0,
            "laws": laws,
            "broken": broken,
            "ease": float(2 ** rng.uniform(-2, 3)),
        }
        if number % 4 == 0:
            plans.append(Plan(task=f"shapes/spiral{number}", **common))  # type: ignore[arg-type]
        elif number % 4 == 1:
            plans.append(Plan(**common | LOSS | {"task": f"quadratic/rotated{number}"}))  # type: ignore[arg-type]
        elif number % 4 == 2:
            # Reaches a loss of exactly 0; its target is out of reach for all.
            flat = {"task": f"surface/rosenbrock{number}", "target": -0.1, "shift": -0.5, "floor": 0.0}
            plans.append(Plan(**common | LOSS | flat))  # type: ignore[arg-type]
        else:
            below = {"task": f"regression/sine{number}", "target": -0.7, "shift": -1.0}
            plans.append(Plan(**common | LOSS | below))  # type: ignore[arg-type]
    return plans


def write_zoo(root: Path, tasks: int, optimizers: int, batch_sizes: tuple[int, ...] = (16, 256)) -> Store:
    for plan in zoo_plans(tasks, optimizers, batch_sizes):
        store = write_sweep(root, plan)
    return store


def write_sweep(root: Path, plan: Plan) -> Store:
    store = Store(root / plan.name)
    for optimizer in plan.optimizers:
        for batch_size in plan.batch_sizes:
            record, curves = make_cell(plan, optimizer, batch_size)
            assert store.write(record, curves)
    return store


def cell_id(plan: Plan, optimizer: str, batch_size: int) -> str:
    return hashlib.sha256(f"{plan.task} {optimizer} {batch_size} {plan.device}".encode()).hexdigest()[:16]


def make_cell(plan: Plan, optimizer: str, batch_size: int) -> tuple[Record, pd.DataFrame]:
    status = CellStatus(plan.broken.get((optimizer, batch_size), "complete"))
    law = plan.laws[optimizer]
    trials: list[TrialSummary] = []
    curves = [empty_curves()]
    if status in (CellStatus.COMPLETE, CellStatus.INTERRUPTED):
        for exponent in range(law.grid_log2[0], law.grid_log2[1] + 1):
            for seed in range(plan.seeds):
                trial, curve = make_trial(plan, optimizer, batch_size, 2.0**exponent, seed, status)
                trials.append(trial)
                curves.append(curve)
    complete = status is CellStatus.COMPLETE
    cell = cell_id(plan, optimizer, batch_size)
    grid = [2.0**e for e in range(law.grid_log2[0], law.grid_log2[1] + 1)]
    return Record(
        schema=1,
        cell=cell,
        sweep=plan.name,
        status=status,
        reason=None if complete else plan.reason,
        traceback=f'File "/home/someone/bench/training/loop.py", line 3\n{plan.reason}' if status == "failed" else None,
        config={
            "task": {"name": plan.task, "target_metric": plan.target_metric, "target": plan.target},
            "optimizer": {"name": optimizer},
            "batch_size": "full" if batch_size == TRAIN else batch_size,
            "device": {"name": plan.device, "threads": 1},
            "lr": grid,
            "seeds": list(range(plan.seeds)),
            "budget": {"epochs": plan.epochs or None, "steps": plan.steps, "examples": None, "until": "largest"},
        },
        axes=Axes(plan.task, "mlp", optimizer, batch_size, batch_size == TRAIN, plan.device, "float32"),
        environment={
            "python": "3.11.7",
            "torch": "2.11.0",
            "hardware": "a made-up processor",
            "threads": 1,
            "train_examples": TRAIN,
            "test_examples": 500,
            "flags": {"denormals_flushed": True},
            "executable": "/opt/somewhere/bin/python",
        },
        implementation="foreach" if complete else None,
        audit=[
            AuditCheck("untrained loss", True, "2.3041", "ln 10 = 2.3026 ± 0.2"),
            AuditCheck("learning rate 0", optimizer != "adam" or batch_size != 64, "unmoved", "unmoved by 5 steps"),
        ]
        if complete
        else [],
        trials=trials,
        speed=_speed(law, batch_size) if complete else None,
        memory=_memory(batch_size) if complete else None,
        digest=hashlib.sha256(cell.encode()).hexdigest() if complete else None,
        started="2026-01-01T00:00:00+00:00",
        command=COMMAND,
        seconds={"training": 12.5},
    ), pd.concat(curves, ignore_index=True)[list(COLUMNS)]


def _steps(plan: Plan, batch_size: int) -> tuple[int, int]:
    per_epoch = -(-TRAIN // batch_size)
    return per_epoch, max(math.ceil(plan.epochs * per_epoch), plan.steps)


def make_trial(
    plan: Plan, optimizer: str, batch_size: int, lr: float, seed: int, cell_status: CellStatus
) -> tuple[TrialSummary, pd.DataFrame]:
    law = plan.laws[optimizer]
    rng = np.random.default_rng([seed, batch_size, round(math.log2(lr)) + 50, len(optimizer)])
    seed_effect = np.random.default_rng(seed).normal(0, 0.004)
    per_epoch, total = _steps(plan, batch_size)
    cap = 2.0 ** (law.cap_log2 + min(0.0, 0.4 * (math.log2(batch_size) - 6)) + 0.2 * rng.normal())
    diverged = lr > cap
    if diverged:
        total = min(total, 8)
    if cell_status is CellStatus.INTERRUPTED:
        total = max(1, total // 3)
    every = np.unique(np.round(2 ** np.arange(0, math.log2(total) + 0.25, 0.25)).astype(int))
    epochs = np.arange(per_epoch, total + 1, per_epoch)[:50]
    step = np.unique(np.concatenate([[0], every[every <= total], epochs, [total]]))
    progress = 1 + plan.ease * law.rate * lr * step
    noise_floor = 0.05 * lr / cap * math.sqrt(64 / (64 + batch_size))
    error = 0.05 + 0.85 / progress**1.1 + noise_floor * (1 - 1 / progress) + seed_effect * (step > 0)
    val = np.clip(error + 0.004 * rng.normal(size=step.size), 0.01, 0.91)
    test = np.clip(error + 0.005 + 0.004 * rng.normal(size=step.size), 0.01, 0.91)
    train = np.clip(error - 0.045 * (1 - 1 / progress), 0.001, 0.91)
    if diverged:
        val, test, train = (np.where(step > 2, 0.9, e) for e in (val, test, train))
    values = {}
    for split, e in (("train", train), ("val", val), ("test", test)):
        if plan.target_metric == "val_accuracy":
            values[f"{split}_accuracy"] = np.round((1 - e) * 500) / 500
        loss = np.maximum(2.6 * e + plan.shift, plan.floor)
        values[f"{split}_loss"] = np.where((step > 4) & diverged, np.nan, loss)
    seconds = step * (law.overhead_ms + 0.004 * batch_size) / 1000 * (1 + 0.02 * rng.normal())
    examples = np.minimum(step * batch_size, step * TRAIN / per_epoch).round().astype(int)
    names = [name.split("_") for name in values]
    points = {"step": step, "epoch": step / per_epoch, "examples": examples, "train_seconds": seconds}
    curve = pd.DataFrame(
        {"lr": lr, "seed": seed}
        | {name: np.tile(column, len(values)) for name, column in points.items()}
        | {
            part: np.repeat([name[place] for name in names], step.size)
            for place, part in enumerate(("split", "metric"))
        }
        | {"value": np.concatenate(list(values.values()))}
    )
    sign = 1 if plan.target_metric == "val_accuracy" else -1
    past = np.flatnonzero(sign * values[plan.target_metric] > sign * plan.target)
    hit = int(past[0]) if past.size else None
    best = int(np.nanargmax(sign * values[plan.target_metric]))
    status = TrialStatus.DIVERGED if diverged else TrialStatus(str(cell_status))
    return TrialSummary(
        lr=lr,
        seed=seed,
        status=status,
        reason="training loss is not finite" if diverged else None,
        steps=int(step[-1]),
        epochs=float(step[-1] / per_epoch),
        examples=int(examples[-1]),
        train_seconds=float(seconds[-1]),
        evaluations=step.size,
        final={k: None if np.isnan(v[-1]) else float(v[-1]) for k, v in values.items()},
        at_best_validation={k: None if np.isnan(v[best]) else float(v[best]) for k, v in values.items()},
        steps_to_target=None if hit is None else int(step[hit]),
        examples_to_target=None if hit is None else int(examples[hit]),
        seconds_to_target=None if hit is None else float(seconds[hit]),
        parameters_sha256="0" * 64,
    ), curve


def _speed(law: Law, batch_size: int) -> Speed:
    step_ms = law.overhead_ms + 0.004 * batch_size

    def interval(value: float, spread: float) -> Interval:
        return Interval(value, value * (1 - spread), value * (1 + spread), 9, 0.961)

    parts = {"data_ms": 0.01, "forward_ms": 0.3 * (step_ms - 0.06), "backward_ms": 0.7 * (step_ms - 0.06)}
    return Speed(
        interval(1000 * batch_size / step_ms, 0.03),
        interval(step_ms, 0.03),
        interval(0.05, 0.1),
        20,
        50,
        1,
        first_step_ms=3 * step_ms,
        **{name: interval(value, 0.02) for name, value in parts.items()},  # type: ignore[arg-type]
        control_ms=interval(0.05, 0.01),
        # The largest batch met a machine that was slowing down.
        drift=0.05 if batch_size == TRAIN else 0.004,
    )


def _memory(batch_size: int) -> Memory:
    parameters = 101_770 * 4
    return Memory(
        peak_allocated_mib=None,
        peak_reserved_mib=None,
        peak_rss_mib=410.0 + 0.012 * batch_size,
        base_rss_mib=395.0,
        activation_bytes=4000 * batch_size,
        parameter_bytes=parameters,
        gradient_bytes=parameters,
        state_bytes=2 * parameters,
    )
