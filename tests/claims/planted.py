"""Exported tables with planted effects, for claims that take measures at evaluation points."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from bench.analysis.results import analyse
from bench.claims.claim import claim
from bench.claims.data import claim_data
from bench.claims.evidence import Data, judged
from bench.claims.judges import JUDGES
from bench.results.tables import CELL_COLUMNS, CURVE_COLUMNS, TRIAL_COLUMNS, Tables
from tests.claims.retold import assert_retold

STEPS = (0, 1, 2, 4, 8, 16, 32, 64)
TRAIN_EXAMPLES = 1024

#: (batch size, learning rate, seed, step) → "split_metric" → value, such as "val_accuracy" or "measure_distance".
Law = Callable[[int, float, int, int], Mapping[str, float]]


def accuracies(value: float) -> dict[str, float]:
    """Return the same accuracy and one minus it as loss on all splits."""
    return {f"{split}_{name}": v for split in ("train", "val", "test") for name, v in _both(value)}


def _both(value: float) -> tuple[tuple[str, float], tuple[str, float]]:
    return ("accuracy", value), ("loss", 1 - value)


def planted(
    law: Law,
    batch_sizes: Iterable[int] = (16, 64, 256),
    lrs: Iterable[float] = (0.5,),
    seeds: int = 5,
    steps: Iterable[int] = STEPS,
    keys: Mapping[str, object] | None = None,
    cell: Callable[[int], Mapping[str, object]] = lambda _: {},
    trial: Callable[[int, float, int], Mapping[str, object]] = lambda *_: {},
) -> Tables:
    """Make the tables of a sweep.

    Args:
        law: What is evaluated and measured at each step of each trial.
        batch_sizes: One cell for each.
        lrs: Learning rates of each cell.
        seeds: Number of seeds.
        steps: Evaluation points; the last is the end.
        keys: Of all rows, where they are not those of mnist5k/mlp with SGD.
        cell: Further columns of a cell, by batch size.
        trial: Further columns of a trial, by batch size, learning rate and seed.
    """
    base = {"sweep": "planted", "task": "mnist5k/mlp", "model": "mlp", "optimizer": "sgd", "device": "cpu"}
    base |= {"precision": "float64", "knobs": "", "method": ""} | dict(keys or {})
    cells, trials, curves = [], [], []
    for size in batch_sizes:
        key = base | {"cell": f"{'-'.join(map(str, base.values()))}-{size}", "batch_size": size}
        full = size == TRAIN_EXAMPLES
        cells.append(
            key | {"status": "complete", "full_batch": full, "target_metric": "val_accuracy"} | dict(cell(size))
        )
        for lr in lrs:
            for seed in range(seeds):
                told = {"lr": lr, "seed": seed, "status": "complete", "full_batch": full} | dict(trial(size, lr, seed))
                last = max(steps)
                reach = {"steps": last, "epochs": last * size / TRAIN_EXAMPLES, "examples": last * size}
                trials.append(key | told | reach | {"train_seconds": last / 100})
                for step in steps:
                    point = {"lr": lr, "seed": seed, "step": step, "epoch": step * size / TRAIN_EXAMPLES}
                    point |= {"examples": step * size, "train_seconds": step / 100}
                    for name, value in law(size, lr, seed, step).items():
                        split, metric = name.split("_", 1)
                        curves.append(key | point | {"split": split, "metric": metric, "value": value})
    return Tables(
        pd.DataFrame(cells).reindex(columns=list(CELL_COLUMNS)),
        pd.DataFrame(trials).reindex(columns=list(TRIAL_COLUMNS)),
        pd.DataFrame(curves).reindex(columns=list(CURVE_COLUMNS)),
    )


def data_of(*sweeps: Tables) -> Data:
    """Analyse sweeps together, as the command line does with exported tables."""
    together = Tables(
        *(pd.concat([getattr(sweep, name) for sweep in sweeps]) for name in ("cells", "trials", "curves"))
    )
    return claim_data(together, analyse(together.cells, together.trials, together.curves))


def verdicts(name: str, data: Data) -> pd.DataFrame:
    """Return the verdicts on one claim; no rows where the sweep has no data for it."""
    found = judged(data, [claim(name)], JUDGES)
    assert bool(found.missing) == found.verdicts.empty
    assert_retold(found.verdicts)
    return found.verdicts


def primary(name: str, data: Data) -> dict[str, object]:
    """Return the verdict on a claim's only primary place."""
    table = verdicts(name, data)
    (row,) = table[table["primary"].astype(bool)].to_dict("records")
    return {str(column): value for column, value in row.items()}


def jitter(*names: float) -> float:
    """Return noise of deviation about 1 that depends on nothing but what it is for."""
    return float(np.random.default_rng([int(1000 * name) for name in names]).standard_normal())
