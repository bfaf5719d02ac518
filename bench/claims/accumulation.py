"""The claim that accumulating the gradients of small batches is the big batch."""

import math
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.analysis.intervals import CONFIDENCE, t_quantile
from bench.analysis.statistics.differences import paired_estimator
from bench.analysis.statistics.estimates import Estimator, StudentT
from bench.analysis.study import CONDITION, TRIAL
from bench.claims.claim import Claim
from bench.claims.evidence import Data, Evidence
from bench.claims.measured import groups, left_out

#: Time and memory that differ by less than these do not matter.
TIME_MARGIN, MEMORY_MARGIN = 0.02, 0.01

_METHOD = re.compile(r"(.*?)(?: \((.*)\))?")
_WORD = "micro_batch="


def accumulation_is_the_big_batch(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C24: a batch in passes of `training.micro_batch` examples against the same batch at once.

    Measure "training loss": for each seed, the largest |difference| at the end over batch sizes and rates, as a share
    of the loss at once. Measure "time": log of the time per example in passes over that at once, mean over batch sizes,
    by the intervals of both; drift of the machine from one cell to the other is in neither. Measure "activations": the
    same of the bytes that are kept for the backward pass, which are counted and have no error. Batches of one pass are
    left out, and pairs of which a trial diverged.

    Source: folk; arithmetic: the mean of a batch is the mean of the means of its equal parts.
    """
    ends = _accumulated(data.last_evaluations)
    plain = data.last_evaluations
    key = [name for name in TRIAL if name != "optimizer"]
    pairs = ends.merge(plain, left_on=["plain_optimizer", *key], right_on=["optimizer", *key], suffixes=("", "_plain"))
    pairs["apart"] = (pairs["train_loss"] / pairs["train_loss_plain"] - 1).abs()
    for condition, _, group in groups(pairs, claim):
        usable = group[np.isfinite(group["apart"])]
        worst = usable.groupby("seed")["apart"].max()
        if len(worst):
            yield Evidence(
                condition,
                paired_estimator(worst.to_numpy(dtype=float)),
                measure="training loss",
                source="trials.csv",
                note=left_out(len(group) - len(usable), len(group), "pairs", "a loss of 0"),
            )
    yield from _costs(data, claim)


def _accumulated(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of batches that were accumulated, with `plain_optimizer`: the optimizer without."""
    kept, names = [], []
    for optimizer, size in zip(table["optimizer"], table["batch_size"], strict=True):
        matched = _METHOD.fullmatch(optimizer)
        name, told = matched.groups() if matched else (optimizer, None)
        words = (told or "").split()
        passes = [int(word.removeprefix(_WORD)) for word in words if word.startswith(_WORD)]
        others = " ".join(word for word in words if not word.startswith(_WORD))
        kept.append(bool(passes) and passes[0] < int(size))
        names.append(f"{name} ({others})" if others else name)
    named = table.assign(plain_optimizer=pd.Series(names, index=table.index, dtype=object))
    return named[np.array(kept, dtype=bool)]


def _costs(data: Data, claim: Claim) -> Iterator[Evidence]:
    cells = data.results.study.cells
    cells = cells[cells["status"] == "complete"]
    key = [name for name in [*CONDITION, "batch_size"] if name != "optimizer"]
    pairs = _accumulated(cells).merge(
        cells, left_on=["plain_optimizer", *key], right_on=["optimizer", *key], suffixes=("", "_plain")
    )
    for condition, _, group in groups(pairs, claim):
        timed = group.dropna(subset=["examples_per_second", "examples_per_second_plain"])
        timed = timed[(timed["examples_per_second_n"] >= 2) & (timed["examples_per_second_n_plain"] >= 2)]
        if len(timed):
            yield Evidence(
                condition,
                _log_time_ratio(timed),
                measure="time",
                source="cells.csv",
                margin=TIME_MARGIN,
                unit="log ratio",
            )
        counted = group[(group["activation_bytes"] > 0) & (group["activation_bytes_plain"] > 0)]
        if len(counted):
            ratio = float(np.log(counted["activation_bytes"] / counted["activation_bytes_plain"]).mean())
            yield Evidence(
                condition,
                StudentT(ratio, 0.0, math.inf, len(counted)),
                measure="activations",
                source="cells.csv",
                margin=MEMORY_MARGIN,
                unit="log ratio",
                note=f"counted exactly; in passes {math.exp(ratio):.3g} of those at once",
            )


def _log_time_ratio(pairs: pd.DataFrame) -> Estimator:
    """Return the mean over batch sizes of log(time in passes / time at once), with an error from the windows of both.

    Windows of a cell are independent; its interval of the median is turned back into a standard error.
    """
    variance, windows = 0.0, 0
    for end in ("", "_plain"):
        n = pairs[f"examples_per_second_n{end}"].to_numpy(dtype=int)
        lo, hi = (pairs[f"examples_per_second_{name}{end}"].to_numpy(dtype=float) for name in ("lo", "hi"))
        factors = np.array([2 * t_quantile((1 + CONFIDENCE) / 2, count - 1) for count in n])
        variance += float(((np.log(hi / lo) / factors) ** 2).sum()) / len(pairs) ** 2
        windows += int((n - 1).sum())
    ratio = float(np.log(pairs["examples_per_second_plain"] / pairs["examples_per_second"]).mean())
    return StudentT(ratio, math.sqrt(variance), windows, windows)
