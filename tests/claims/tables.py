"""Hand-made exported tables of several conditions, from laws that are written down."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd

from bench.analysis import budgets, rules
from bench.analysis.results import Results
from bench.analysis.speed import memory, throughput
from bench.analysis.study import Study, study
from bench.analysis.targets import to_target
from bench.claims.claim import claim
from bench.claims.evidence import Data, judged
from bench.claims.judges import JUDGES
from bench.results.tables import CELL_COLUMNS, CURVE_COLUMNS, TRIAL_COLUMNS
from tests.claims.retold import assert_retold

#: (batch size, learning rate, seed) → a number.
Law = Callable[[int, float, int], float]
#: Evaluations: every trial is 16 steps long unless said otherwise.
STEPS = (0, 1, 2, 4, 8, 16)
SEEDS = 6
#: What seeds differ by; sums to 0 over the six.
NOISE = (0.0010, -0.0008, 0.0003, -0.0005, 0.0002, -0.0002)


@dataclass(frozen=True)
class Arm:
    """A condition whose trials follow laws.

    Attributes:
        accuracy: On every split, at the end and at all evaluations but the first: (batch size, rate, seed).
        at: The same where it moves with the steps: (batch size, rate, seed, step); None for not.
        loss: Of the training split, likewise; 2.3 before the first step.
        to_target: Steps to the target; None or infinite for a trial that never arrived.
        seconds: Of a step by batch size.
        optimizer: Its name.
        knobs: Turned knobs of the task.
        method: What departs from the plain step.
        batch_sizes: Ascending.
        lrs: Learning rates.
        seeds: How many.
        steps: Steps of every trial by batch size.
        full: The batch size that is the training split.
        train_examples: Of the training split.
        cell: Further columns of the cells by batch size.
    """

    accuracy: Law = lambda batch_size, lr, seed: 0.9
    at: Callable[[int, float, int, int], float] | None = None
    loss: Law = lambda batch_size, lr, seed: 0.1
    to_target: Law | None = None
    seconds: Callable[[int], float] = lambda batch_size: 1.0
    optimizer: str = "sgd"
    knobs: str = ""
    method: str = ""
    batch_sizes: tuple[int, ...] = (16, 64, 256)
    lrs: tuple[float, ...] = (0.25, 0.5, 1.0)
    seeds: int = SEEDS
    steps: Callable[[int], int] = lambda batch_size: 16
    full: int | None = None
    train_examples: int = 1024
    cell: Callable[[int], dict[str, Any]] = field(default=lambda batch_size: {})


def exported(*arms: Arm) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return cells, trials and curves."""
    cells: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for number, arm in enumerate(arms):
        for size in arm.batch_sizes:
            keys = {"sweep": "hand", "cell": f"{number:08x}{size:08x}", "task": "mnist5k/mlp", "model": "mlp"}
            keys |= {"optimizer": arm.optimizer, "device": "cpu", "precision": "float32", "batch_size": size}
            full = size == arm.full
            cells.append(
                keys
                | {"status": "complete", "full_batch": full, "target_metric": "val_accuracy", "knobs": arm.knobs}
                | {"method": arm.method, "train_examples": arm.train_examples}
                | arm.cell(size)
            )
            for lr in arm.lrs:
                for seed in range(arm.seeds):
                    trials.append(keys | {"lr": lr, "seed": seed, "full_batch": full} | _trial(arm, size, lr, seed))
                    curves += [keys | {"lr": lr, "seed": seed} | row for row in _curve(arm, size, lr, seed)]
    return (
        pd.DataFrame(cells).reindex(columns=list(CELL_COLUMNS)),
        pd.DataFrame(trials).reindex(columns=list(TRIAL_COLUMNS)),
        pd.DataFrame(curves, columns=list(CURVE_COLUMNS)),
    )


def _trial(arm: Arm, size: int, lr: float, seed: int) -> dict[str, Any]:
    steps = arm.steps(size)
    row: dict[str, Any] = {"status": "complete", "steps": steps, "epochs": steps * size / arm.train_examples}
    row |= {"examples": steps * size, "train_seconds": steps * arm.seconds(size)}
    reached = np.inf if arm.to_target is None else arm.to_target(size, lr, seed)
    if np.isfinite(reached):
        row |= {"steps_to_target": reached, "examples_to_target": reached * size}
        row |= {"seconds_to_target": reached * arm.seconds(size)}
    return row


def _curve(arm: Arm, size: int, lr: float, seed: int) -> list[dict[str, Any]]:
    rows = []
    for step in sorted({*STEPS, arm.steps(size)}):
        if step > arm.steps(size):
            break
        accuracy = arm.at(size, lr, seed, step) if arm.at else arm.accuracy(size, lr, seed)
        point = {"step": step, "epoch": step * size / arm.train_examples, "examples": step * size}
        point |= {"train_seconds": step * arm.seconds(size)}
        values = {"accuracy": accuracy if step else 0.1, "loss": arm.loss(size, lr, seed) if step else 2.3}
        rows += [
            point | {"split": split, "metric": metric, "value": value}
            for split in ("train", "val", "test")
            for metric, value in values.items()
        ]
    return rows


class Parts:
    """What `bench.analysis.results.analyse` finds, each part when it is asked for: claims take few, and all take long.

    Args:
        cells: Exported cells.
        trials: Exported trials.
        curves: Exported curves.
    """

    def __init__(self, cells: pd.DataFrame, trials: pd.DataFrame, curves: pd.DataFrame) -> None:
        self.study: Study = study(cells, trials, curves)

    @cached_property
    def references(self) -> pd.DataFrame:
        return rules.reference_batch_sizes(self.study.cells)

    @cached_property
    def cuts(self) -> pd.DataFrame:
        return budgets.cuts(self.study)

    @cached_property
    def rates(self) -> pd.DataFrame:
        return rules.rule_rates(rules.learning_rate_scores(self.cuts), self.references)

    @cached_property
    def seed_outcomes(self) -> pd.DataFrame:
        return rules.seed_outcomes(self.cuts, self.rates)

    @cached_property
    def targets(self) -> pd.DataFrame:
        return to_target(self.study.complete_trials())

    @cached_property
    def throughput(self) -> pd.DataFrame:
        return throughput(self.study.cells)

    @cached_property
    def memory(self) -> pd.DataFrame:
        return memory(self.study.cells)


def data(*arms: Arm, measures: pd.DataFrame | None = None) -> Data:
    """Return what claims are judged on."""
    return Data(cast(Results, Parts(*exported(*arms))), pd.DataFrame() if measures is None else measures)


def verdicts(name: str, *arms: Arm, measures: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the verdicts on a claim."""
    found = judged(data(*arms, measures=measures), [claim(name)], JUDGES).verdicts
    assert_retold(found)
    return found


def primary(name: str, *arms: Arm) -> list[str]:
    """Return the words of a claim's primary places."""
    found = verdicts(name, *arms)
    return [str(word) for word in found.loc[found["primary"], "verdict"]]


def missing(name: str, *arms: Arm) -> bool:
    """Whether the tables have no data for a claim."""
    found = judged(data(*arms), [claim(name)], JUDGES)
    return [item.name for item in found.missing] == [name] and found.verdicts.empty
