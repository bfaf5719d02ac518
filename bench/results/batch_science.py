"""Google's published trials of how batch sizes affect training, read study by study as rows of the exported tables.

Layout: [group/]dataset/model/optimizer/batch_size/study.json, and beside it trial/metadata.json and
trial/measurements.csv. Everything there is data: names of folders and texts become labels, and no text of a file is
taken for a path.

Source: Shallue et al., arXiv 1811.03600; github.com/google-research/google-research, folder batch_science, README.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from bench.results.record import CellStatus, TrialStatus
from bench.results.tables import METRICS

SWEEP = "batch_science"
#: What no file says; the analysis groups by these columns, so they are never empty.
UNKNOWN = "unknown"

#: Folders of the archive that hold data sets of their own; each is a condition apart from the plain data set.
GROUPS = ("imagenet_subsets", "mnist_subsets", "solution_quality")

#: Training examples, where the archive's largest batch or the paper says them; other data sets have no epochs.
TRAIN_EXAMPLES = {"mnist": 55_000, "fashion_mnist": 55_000, "cifar_10": 45_000, "imagenet": 1_281_167}

#: Data set and model → column of the measurements and the value to pass: below it, for a precision above it. Those of
#: figure 1; other workloads have no target.
TARGETS = {
    ("mnist", "simple_cnn_base"): ("val/classification_error", 0.01),
    ("fashion_mnist", "simple_cnn_base"): ("val/classification_error", 0.1),
    ("cifar_10", "resnet_8"): ("val/classification_error", 0.3),
    ("imagenet", "resnet_50"): ("val/classification_error", 0.25),
    ("imagenet", "vgg_11"): ("val/classification_error", 0.35),
    ("open_images_v4", "resnet_50"): ("val/average_precision", 0.31),
    ("lm1b", "transformer_base"): ("val/cross_entropy_error", 3.9),
    ("lm1b", "lstm"): ("val/cross_entropy_error", 3.9),
    ("common_crawl", "transformer_base"): ("val/cross_entropy_error", 3.9),
}

_METRICS = {"cross_entropy_error": "loss", "classification_error": "accuracy"}
_STATUSES = {
    "COMPLETE": (TrialStatus.COMPLETE, None),
    "INCOMPLETE": (TrialStatus.INTERRUPTED, "INCOMPLETE in the source: not completed for some reason"),
    "INFEASIBLE": (TrialStatus.DIVERGED, "INFEASIBLE in the source: training diverged"),
}

#: Called with the name of a file and why it cannot be used.
Refuse = Callable[[str, str], None]


class _Unreadable(Exception):
    """Why a file cannot be used, in one line."""


@dataclass(frozen=True)
class Trial:
    """One readable trial.

    Attributes:
        row: Its row of the exported trials, without what is null.
        curve: Columns `step`, `epoch`, `examples`, `split`, `metric`, `value`, in order of step; epochs are nan where
            the size of the data set is unknown.
    """

    row: dict[str, Any]
    curve: pd.DataFrame


@dataclass(frozen=True)
class Study:
    """The trials of one workload at one batch size: a cell.

    Attributes:
        folder: Where it is.
        name: The end of the path, which names it: [group/]dataset/model/optimizer/batch_size.
        group: One of `GROUPS`, or empty.
        dataset: Name of the data set.
        model: Name of the model.
        optimizer: Name of the optimizer.
        batch_size: Examples per step.
    """

    folder: Path
    name: str
    group: str
    dataset: str
    model: str
    optimizer: str
    batch_size: int

    @property
    def train_examples(self) -> int | None:
        """Examples of the training split; None where it is unknown."""
        if self.group == "mnist_subsets":
            size = self.dataset.rpartition("_")[2]
            return int(size) if size.isdecimal() else None
        return TRAIN_EXAMPLES.get(self.dataset) if self.group != "imagenet_subsets" else None

    @property
    def target(self) -> tuple[str, float] | None:
        """Column of the measurements and the value to pass; None where the workload has no target."""
        return TARGETS.get((self.dataset, self.model))

    @property
    def keys(self) -> dict[str, Any]:
        """Values of `bench.results.tables.CELL_KEYS`."""
        return {
            "sweep": SWEEP,
            "cell": hashlib.sha256(self.name.encode()).hexdigest()[:16],
            "task": f"{self.dataset}/{self.model}",
            "model": self.model,
            "optimizer": self.optimizer,
            "batch_size": self.batch_size,
            "device": UNKNOWN,
            "precision": UNKNOWN,
        }

    @property
    def full_batch(self) -> bool:
        """Whether the batch is known to be the whole training split."""
        return self.batch_size == self.train_examples

    def cell_row(self, trials: int) -> dict[str, Any]:
        """Return the row of the exported cells, without what is null, given the number of readable trials."""
        target: dict[str, Any] = {}
        if self.target:
            split, metric, value = _renamed(self.target[0], self.target[1])
            target = {"target_metric": f"{split}_{metric}", "target": value}
        return (
            self.keys
            | target
            | {
                "status": str(CellStatus.COMPLETE if trials else CellStatus.FAILED),
                "reason": None if trials else "none of its trials can be read",
                "full_batch": self.full_batch,
                "train_examples": self.train_examples,
                "knobs": self.group,
                "method": "",
            }
        )

    def trials(self, refuse: Refuse) -> Iterator[Trial]:
        """Read the trials, one at a time, in order of learning rate and trial number; those unreadable are refused."""
        known: list[tuple[float, int, dict[str, Any]]] = []
        try:
            folders = sorted((entry for entry in self.folder.iterdir() if entry.is_dir()), key=_by_number)
        except OSError as error:
            refuse(self.name, error.strerror or type(error).__name__)
            return
        for folder in folders:
            try:
                known.append(_metadata(folder))
            except _Unreadable as error:
                refuse(f"{self.name}/{folder.name}/metadata.json", str(error))
        # The search drew every trial's learning rate anew, and no file names a seed: it counts those at one rate.
        seeds: dict[float, int] = {}
        for lr, number, metadata in sorted(known, key=lambda trial: trial[:2]):
            name = f"{self.name}/{number}/measurements.csv"
            try:
                table = _measurements(self.folder / str(number) / "measurements.csv")
            except _Unreadable as error:
                refuse(name, str(error))
                continue
            seed = seeds.get(lr, 0)
            seeds[lr] = seed + 1
            yield self._trial(lr, seed, number, metadata, table)

    def _trial(self, lr: float, seed: int, number: int, metadata: dict[str, Any], table: pd.DataFrame) -> Trial:
        status, reason = _STATUSES[metadata["status"]]
        named = {name: _renamed(name, table[name].to_numpy(dtype=float)) for name in map(str, table) if "/" in name}
        steps = table["step"].to_numpy(dtype=np.int64)
        taken = metadata["steps"]
        row: dict[str, Any] = {
            "lr": lr,
            "seed": seed,
            "status": str(status),
            "steps": taken,
            "examples": taken * self.batch_size,
            "epochs": taken * self.batch_size / self.train_examples if self.train_examples else None,
            "full_batch": self.full_batch,
            "reason": reason,
            "source_trial": number,
            "parameters": json.dumps(metadata["parameters"], sort_keys=True),
        }
        wide = {f"{split}_{metric}": values for split, metric, values in named.values()}
        if len(steps):
            best = _best(wide)
            for metric in METRICS:
                if metric in wide:
                    row[metric] = _finite(wide[metric][-1])
                    row[f"{metric}_at_best_val"] = None if best is None else _finite(wide[metric][best])
        reached = self._reached(table)
        if reached is not None:
            row |= {"steps_to_target": int(steps[reached]), "examples_to_target": int(steps[reached]) * self.batch_size}
        return Trial(row, self._curve(steps, list(named.values())))

    def _reached(self, table: pd.DataFrame) -> int | None:
        """Return the first row past the target, compared in the source's own terms; None if there is none."""
        if self.target is None or self.target[0] not in table:
            return None
        column, value = self.target
        values = table[column].to_numpy(dtype=float)
        past = np.flatnonzero(values > value if column.endswith("precision") else values < value)
        return int(past[0]) if past.size else None

    def _curve(self, steps: np.ndarray[Any, Any], columns: list[tuple[str, str, Any]]) -> pd.DataFrame:
        examples = steps * self.batch_size
        each = len(columns)
        return pd.DataFrame(
            {
                "step": np.repeat(steps, each),
                "epoch": np.repeat(examples / (self.train_examples or math.nan), each),
                "examples": np.repeat(examples, each),
                "split": np.tile(np.array([split for split, _, _ in columns], dtype=object), len(steps)),
                "metric": np.tile(np.array([metric for _, metric, _ in columns], dtype=object), len(steps)),
                "value": np.column_stack([values for _, _, values in columns]).ravel() if each else np.zeros(0),
            }
        )


def find_studies(path: Path, refuse: Refuse) -> list[Study]:
    """Find the studies in a folder of the archive: all of it, or any folder in it down to one study.

    Args:
        path: The folder; links in it are not followed.
        refuse: Told of every study.json that cannot be used.

    Returns:
        Studies ordered by task, optimizer and batch size.
    """
    found = []
    for folder, folders, files in os.walk(path.resolve()):
        if "study.json" in files:
            # Its folders are trials, of which there are hundreds.
            folders.clear()
            try:
                found.append(_study(Path(folder)))
            except _Unreadable as error:
                refuse("/".join([*Path(folder).parts[-4:], "study.json"]), str(error))
    return sorted(found, key=lambda study: (study.dataset, study.model, study.group, study.optimizer, study.batch_size))


def _study(folder: Path) -> Study:
    raw = _object(folder / "study.json")
    batch_size = raw.get("batch_size")
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise _Unreadable(f"batch_size is {batch_size!r}, not a whole number above 0")
    parts = folder.parts[1:]
    if len(parts) < 4:
        raise _Unreadable("is not in dataset/model/optimizer/batch_size")
    dataset, model, optimizer, _ = parts[-4:]
    group = parts[-5] if len(parts) > 4 and parts[-5] in GROUPS else ""
    name = "/".join([*([group] if group else []), dataset, model, optimizer, str(batch_size)])
    return Study(folder, name, group, dataset, model, optimizer, batch_size)


def _metadata(folder: Path) -> tuple[float, int, dict[str, Any]]:
    """Return learning rate, trial number (the folder's name) and metadata of a trial."""
    if not folder.name.isdecimal() or str(int(folder.name)) != folder.name:
        raise _Unreadable(f"its folder is named {folder.name!r}, not by a number")
    raw = _object(folder / "metadata.json")
    parameters = raw.get("parameters")
    if not isinstance(parameters, dict):
        raise _Unreadable("has no object 'parameters'")
    lr = parameters.get("learning_rate")
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not math.isfinite(lr) or lr <= 0:
        raise _Unreadable(f"learning_rate is {lr!r}, not a finite number above 0")
    if raw.get("status") not in _STATUSES:
        raise _Unreadable(f"status is {raw.get('status')!r}, not one of {', '.join(_STATUSES)}")
    steps = raw.get("steps")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise _Unreadable(f"steps is {steps!r}, not a whole number from 0 on")
    others = {str(name): value for name, value in parameters.items() if name != "learning_rate"}
    return float(lr), int(folder.name), raw | {"parameters": others}


def _measurements(file: Path) -> pd.DataFrame:
    try:
        # Not pandas: its reader rounds the last digit of a float in some versions.
        found = csv.read_csv(file, read_options=csv.ReadOptions(use_threads=False))
    except FileNotFoundError:
        raise _Unreadable("missing") from None
    except OSError as error:
        raise _Unreadable(error.strerror or type(error).__name__) from None
    except ValueError as error:
        raise _Unreadable(f"not a table ({str(error).strip().splitlines()[0]})") from None
    names = [name for name in found.column_names if name == "step" or "/" in name]
    if "step" not in names or len(names) < 2 or len(set(names)) < len(names):
        raise _Unreadable("needs one column 'step', and columns such as 'val/cross_entropy_error'")
    try:
        table = pd.DataFrame({name: found[name].cast(pa.float64()).to_numpy() for name in names})
    except ValueError as error:
        raise _Unreadable(f"holds something else than numbers ({error})") from None
    steps = table["step"]
    if not ((steps >= 0) & (steps % 1 == 0)).all():
        raise _Unreadable("a step is not a whole number from 0 on")
    return table.sort_values("step", kind="stable", ignore_index=True)


def _object(file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _Unreadable("missing") from None
    except OSError as error:
        raise _Unreadable(error.strerror or type(error).__name__) from None
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"not valid JSON, perhaps truncated ({type(error).__name__})") from None
    if not isinstance(raw, dict):
        raise _Unreadable("not a JSON object")
    return raw


def _renamed(column: str, values: Any) -> tuple[str, str, Any]:
    """Return split, metric and values in this suite's terms: an error is 1 − accuracy."""
    split, _, metric = column.partition("/")
    return split, _METRICS.get(metric, metric), 1 - values if metric == "classification_error" else values


def _best(wide: dict[str, Any]) -> int | None:
    """Return the row of the best validation result: accuracy where there is one, else loss."""
    goodness = wide["val_accuracy"] if "val_accuracy" in wide else -wide["val_loss"] if "val_loss" in wide else None
    if goodness is None or not np.isfinite(goodness).any():
        return None
    return int(np.argmax(np.where(np.isfinite(goodness), goodness, -math.inf)))


def _by_number(folder: Path) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdecimal() else -1, folder.name)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
