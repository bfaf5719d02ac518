"""Claims of what noise is good for: it escapes a local optimum, and it does not memorise wrong labels."""

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from bench.analysis.correlation import LEAST_PAIRS, spearman
from bench.analysis.statistics.differences import paired_estimator
from bench.analysis.study import CONDITION, TRIAL
from bench.claims.claim import Claim
from bench.claims.evidence import Data, Evidence
from bench.claims.measured import groups, left_out, slopes

#: Correlations smaller than this do not matter.
CORRELATION_MARGIN = 0.3
#: A probability that differs by less than this does not.
PROBABILITY_MARGIN = 0.05

_LABEL_NOISE = re.compile(r"\blabel_noise=([\d.]+)")


def small_batches_regularise_label_noise(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C20: how much clean test accuracy a doubling of η/B adds where training labels are wrong, seed by seed.

    Measure "half memorised": at the point of each trial's curve where half of the wrong labels are learned, which is a
    training accuracy of 1 − noise/2, between evaluations along a straight line; the slope of test accuracy on
    log2(η/B) over all batch sizes and rates. Trials that never get there are left out and counted. Measure "end": the
    same slope at the end, over the best rate of each batch size. The full batch has no noise and is in neither.

    Source: arXiv 1711.04623, section 5.2, where the ratio of learning rate and batch size sets what is memorised.
    """
    noisy = data.results.study.cells
    noisy = noisy[noisy["task"].str.contains("label_noise=", regex=False) & (noisy["measure"] == "accuracy")]
    noisy = noisy[~noisy["full_batch"].astype(bool)]
    crossings = _half_memorised(data, noisy)
    for condition, _, group in groups(crossings, claim):
        reached = group.dropna(subset=["test_accuracy"])
        found = slopes(_against_ratio(reached), "test_accuracy")
        if found.size:
            yield Evidence(
                condition,
                paired_estimator(found),
                measure="half memorised",
                source="measures.csv",
                note=left_out(len(group) - len(reached), len(group), "trials", "never memorised that much"),
            )
    outcomes = data.results.seed_outcomes
    outcomes = outcomes[(outcomes["budget"] == "end") & (outcomes["rule"] == "re-tuned")]
    outcomes = outcomes.merge(noisy[[*CONDITION, "batch_size"]], on=[*CONDITION, "batch_size"])
    for condition, _, group in groups(outcomes, claim):
        usable = group[~group["diverged"].astype(bool)]
        found = slopes(_against_ratio(usable), "test_accuracy")
        if found.size:
            yield Evidence(
                condition,
                paired_estimator(found),
                budget="end",
                rule="re-tuned",
                measure="end",
                source="rules.csv",
                note=left_out(len(group) - len(usable), len(group), "trials"),
            )


def _against_ratio(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(x=np.log2(table["lr"] / table["batch_size"].astype(float)))


def _half_memorised(data: Data, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the test accuracy where each complete trial has learned half of the wrong labels; nan where it never has.

    Columns `TRIAL`, `test_accuracy`.
    """
    study = data.results.study
    trials = study.complete_trials()
    trials = trials[(trials["status"] == "complete") & trials["cell"].isin(cells["cell"])]
    rows = study.evaluations[study.evaluations["cell"].isin(cells["cell"])]
    curves = dict(iter(rows.groupby(["cell", "lr", "seed"], sort=False)))
    found = []
    for trial in trials[["cell", *TRIAL]].to_dict("records"):
        noise = float(_LABEL_NOISE.findall(trial["task"])[0])
        curve = curves.get((trial["cell"], trial["lr"], trial["seed"]))
        if noise > 0 and curve is not None:
            found.append({name: trial[name] for name in TRIAL} | {"test_accuracy": _crossing(curve, 1 - noise / 2)})
    return pd.DataFrame(found, columns=[*TRIAL, "test_accuracy"])


def _crossing(curve: pd.DataFrame, level: float) -> float:
    """Return the test accuracy where the training accuracy first reaches a level; nan where it does not."""
    known = curve.dropna(subset=["train_accuracy", "test_accuracy"])
    train, test = known["train_accuracy"].to_numpy(dtype=float), known["test_accuracy"].to_numpy(dtype=float)
    above = np.flatnonzero(train >= level)
    if not above.size:
        return float("nan")
    after = int(above[0])
    if after == 0:
        return float(test[0])
    share = (level - train[after - 1]) / (train[after] - train[after - 1])
    return float(test[after - 1] + share * (test[after] - test[after - 1]))


def noise_escapes_local_optima(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C21: how the chance of ending in the wide well follows η/B, where accuracy is whether a trial is in it.

    Measure "slope": what a doubling of η/B adds to the chance, seed by seed over all batch sizes and rates. Measure
    "rank correlation": of the share of seeds in the wide well with η/B over its levels, of which it takes six: whether
    it is monotone. Measure "smallest batch against full": the difference of the chances at equal rates; without noise
    a stable rate stays where it is. The full batch is in the last alone. Diverged trials are left out and counted.

    Source: arXiv 1711.04623: η/B sets which minima are reached.
    """
    ends = data.last_evaluations.dropna(subset=["test_accuracy"])
    trials = data.results.study.complete_trials()
    for condition, _, group in groups(ends, claim):
        of_condition = trials[(trials[CONDITION] == pd.Series(condition)).all(axis=1)]
        note = left_out(len(of_condition) - len(group), len(of_condition), "trials")
        noisy = _against_ratio(group[~group["full_batch"]])
        found = slopes(noisy, "test_accuracy")
        if found.size:
            yield Evidence(condition, paired_estimator(found), measure="slope", source="measures.csv", note=note)
        # Ratios that are equal up to rounding are one level.
        levels = noisy.groupby(noisy["x"].round(6))["test_accuracy"].mean()
        if len(levels) >= LEAST_PAIRS and levels.nunique() > 1:
            yield Evidence(
                condition,
                partial(spearman, levels.index.to_numpy(dtype=float), levels.to_numpy(dtype=float)),
                measure="rank correlation",
                source="measures.csv",
                margin=CORRELATION_MARGIN,
                unit="rank correlation",
                note=note,
            )
        full, smallest = group[group["full_batch"]], noisy[noisy["batch_size"] == noisy["batch_size"].min()]
        pairs = smallest.merge(full, on=["lr", "seed"], suffixes=("", "_full"))
        gains = (pairs["test_accuracy"] - pairs["test_accuracy_full"]).groupby(pairs["seed"]).mean()
        if len(gains):
            yield Evidence(
                condition,
                paired_estimator(gains.to_numpy(dtype=float)),
                measure="smallest batch against full",
                source="measures.csv",
                margin=PROBABILITY_MARGIN,
                unit="fraction",
                note=note,
            )
