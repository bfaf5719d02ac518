"""Hand-made exported tables, small enough to check by head."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bench.analysis.study import Study, study
from bench.results.tables import CELL_COLUMNS, CURVE_COLUMNS, TRIAL_COLUMNS

KEYS = {
    "sweep": "hand",
    "task": "mnist5k/mlp",
    "model": "mlp",
    "optimizer": "sgd",
    "device": "cpu",
    "precision": "float32",
}
STEPS = (0, 1, 2, 4, 8, 16)

#: (batch size, learning rate, seed, step) → accuracy on all splits.
Law = Callable[[int, float, int, int], float]


def hand_study(
    law: Law,
    batch_sizes: tuple[int, ...] = (16, 64, 256),
    lrs: tuple[float, ...] = (0.25, 0.5, 1.0),
    seeds: int = 3,
    diverged_at: dict[tuple[int, float, int], int] | None = None,
    statuses: dict[int, str] | None = None,
    train_examples: int = 1024,
    metric: str = "accuracy",
) -> Study:
    """Trials of 16 steps, evaluated at `STEPS`; seconds = steps × batch size / 1000.

    With the metric "loss" the law gives losses and the task has no accuracy.
    """
    cells, trials, curves = [], [], []
    for batch_size in batch_sizes:
        cell = f"{batch_size:016x}"
        keys = KEYS | {"cell": cell, "batch_size": batch_size}
        full = batch_size == train_examples
        status = (statuses or {}).get(batch_size, "complete")
        cells.append(
            keys | {"status": status, "full_batch": full, "test_examples": 500, "target_metric": f"val_{metric}"}
        )
        for lr in lrs:
            for seed in range(seeds):
                end = (diverged_at or {}).get((batch_size, lr, seed))
                steps = [step for step in STEPS if end is None or step <= end]
                last = steps[-1]
                trials.append(
                    keys
                    | {
                        "lr": lr,
                        "seed": seed,
                        "status": "complete" if end is None else "diverged",
                        "full_batch": full,
                    }
                    | {
                        "steps": last,
                        "epochs": last * batch_size / train_examples,
                        "examples": last * batch_size,
                    }
                    | {
                        "train_seconds": last * batch_size / 1000,
                        f"val_{metric}": law(batch_size, lr, seed, last),
                    }
                )
                curves += [
                    keys
                    | {"lr": lr, "seed": seed, "step": step, "epoch": step * batch_size / train_examples}
                    | {"examples": step * batch_size, "train_seconds": step * batch_size / 1000}
                    | {"split": split, "metric": metric, "value": law(batch_size, lr, seed, step)}
                    for step in steps
                    for split in ("train", "val", "test")
                ]
    return study(
        pd.DataFrame(cells).reindex(columns=list(CELL_COLUMNS)),
        pd.DataFrame(trials).reindex(columns=list(TRIAL_COLUMNS)),
        pd.DataFrame(curves, columns=list(CURVE_COLUMNS)).sample(frac=1, random_state=np.random.RandomState(0)),
    )


def target_trials(values: dict[tuple[int, float], list[float | None]]) -> pd.DataFrame:
    """Trials whose steps to target are given per (batch size, lr), one per seed."""
    rows = [
        KEYS
        | {"batch_size": batch_size, "lr": lr, "seed": seed, "status": "complete", "steps_to_target": steps}
        | {"examples_to_target": None if steps is None else steps * batch_size}
        | {"seconds_to_target": None if steps is None else steps / 10}
        for (batch_size, lr), per_seed in values.items()
        for seed, steps in enumerate(per_seed)
    ]
    return pd.DataFrame(rows)
