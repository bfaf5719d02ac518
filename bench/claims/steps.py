"""Claims of the way to the target: how many steps, examples and seconds each batch size takes."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.results import Results
from bench.analysis.rules import EXPONENTS, SNAP_OCTAVES
from bench.analysis.scaling import Regimes, regimes
from bench.analysis.statistics.differences import paired_difference
from bench.analysis.statistics.estimates import Estimate
from bench.analysis.study import CONDITION, POINT, SETTING
from bench.analysis.targets import MEASURES
from bench.claims.claim import Claim
from bench.claims.contrasts import notes
from bench.claims.evidence import Data, Evidence

Array = npt.NDArray[np.float64]

#: Measure of the way to the target → its column of the trials that says how far a trial went.
WENT = {"steps": "steps", "examples": "examples", "seconds": "train_seconds"}
#: Times that matter, as log2 of a ratio: 2 %. Steps and examples have the claims' own margin.
SECONDS_MARGIN = math.log2(1.02)
#: Regimes of `bench.analysis.scaling.Regimes` that a slope is taken of.
REGIMES = ("whole", "perfect", "between", "maximal")
#: Who is held against plain stochastic gradient descent.
ACCELERATED = ("momentum", "nesterov", "adam", "adamw")


def ways_to_target(results: Results) -> pd.DataFrame:
    """Return each seed's way to the target under every learning-rate rule.

    Re-tuned is the rate that gets there soonest at each batch size. The other rules scale the one that does so at the
    reference batch size, to the nearest rate of the grid; a rate further outside it than half an octave has no rows.

    Args:
        results: The analysis.

    Returns:
        Columns `POINT`, `measure` (of `WENT`), `rule`, `lr`, `seed`, `value` (nan where never reached), `went` (the
        farthest that a trial of the point went). Interrupted trials that had not arrived are left out.

    Source: protocol of Shallue et al., arXiv 1811.03600, section 4; rules as in `bench.analysis.rules`.
    """
    trials = results.study.complete_trials()
    best = results.targets.loc[results.targets["measure"].isin(WENT), [*POINT, "measure", "lr", "median"]]
    start = best.merge(results.references, on=CONDITION)
    start = start[(start["batch_size"] == start["reference"]) & start["median"].notna()]
    start = start[[*CONDITION, "measure", "reference", "lr"]].rename(columns={"lr": "lr_reference"})
    grid = trials[[*POINT, "lr"]].drop_duplicates()
    ends = grid.groupby(POINT, as_index=False).agg(lr_lo=("lr", "min"), lr_hi=("lr", "max"))
    asked = best[[*POINT, "measure"]].merge(start, on=[*CONDITION, "measure"]).merge(ends, on=POINT)
    chosen = [best.assign(rule="re-tuned")[[*POINT, "measure", "rule", "lr"]]]
    for rule, exponent in EXPONENTS.items():
        wanted = asked["lr_reference"] * (asked["batch_size"] / asked["reference"]) ** exponent
        reach = 2**SNAP_OCTAVES * (1 + 1e-9)
        inside = (wanted >= asked["lr_lo"] / reach) & (wanted <= asked["lr_hi"] * reach)
        pairs = asked.assign(rule=rule, wanted_=wanted)[inside].merge(grid, on=POINT)
        pairs["octaves_"] = np.abs(np.log2(pairs["wanted_"] / pairs["lr"])).round(9)
        nearest = pairs.sort_values([*POINT, "measure", "octaves_", "lr"]).drop_duplicates([*POINT, "measure"])
        chosen.append(nearest[[*POINT, "measure", "rule", "lr"]])
    rates = pd.concat(chosen, ignore_index=True)
    frames = []
    for measure, went in WENT.items():
        rows = rates[rates["measure"] == measure].merge(
            trials[[*POINT, "lr", "seed", "status", MEASURES[measure], went]], on=[*POINT, "lr"]
        )
        value = rows[MEASURES[measure]].astype(float)
        rows = rows.assign(value=value.where(value > 0), went=rows[went].astype(float))
        rows["went"] = rows.groupby([*POINT, "rule"])["went"].transform("max")
        frames.append(rows[(rows["status"] != "interrupted") | rows["value"].notna()])
    columns = [*POINT, "measure", "rule", "lr", "seed", "value", "went"]
    return pd.concat([frame[columns] for frame in frames], ignore_index=True)


def bigger_is_always_better(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C1: log2 of what the largest batch size takes to the target over what the best smaller one takes, within seeds.

    The best smaller batch size is chosen for each seed by the other seeds, of those at which every seed arrived, so
    that the choice does not flatter it. Seeds that never arrived at the largest batch size count with how far they
    went: the ratio is then bounded from below alone, and can refute but not support.
    """
    ways = ways_to_target(data.results)
    for key, group in ways.groupby([*CONDITION, "rule", "measure"], sort=True):
        condition = _condition(key)
        table = _by_batch_size(group)
        if not claim.speaks_of(condition["task"]) or table.shape[1] < 2:
            continue
        largest = table.columns.max()
        smaller = table.drop(columns=largest).dropna(axis=1)
        if smaller.empty:
            continue
        logs = np.log2(smaller.to_numpy(dtype=float))
        own = logs.mean(axis=0)
        others = (own * len(logs) - logs) / (len(logs) - 1) if len(logs) > 1 else logs
        best = np.take_along_axis(logs, others.argmin(axis=1)[:, None], axis=1)[:, 0]
        went = float(group.loc[group["batch_size"] == largest, "went"].max())
        lost = int(table[largest].isna().sum())
        differences = np.log2(table[largest].fillna(went).to_numpy(dtype=float)) - best
        measure = str(key[-1])
        yield Evidence(
            condition,
            partial(_at_least if lost else paired_difference, differences),
            rule=str(key[-2]),
            measure=f"{measure} to target",
            source="seeds-to-target.csv",
            margin=SECONDS_MARGIN if measure == "seconds" else None,
            note=notes(
                f"batch {largest:g} against {smaller.columns[int(own.argmin())]:g}",
                f"{lost} of {len(table)} seeds never arrived at the largest: a lower bound" if lost else "",
            ),
        )


def _at_least(differences: Array, confidence: float) -> Estimate:
    """Return the mean of lower bounds: with a lower end alone."""
    found = paired_difference(differences, confidence)
    return found if math.isnan(found.hi) else replace(found, hi=math.inf)


def doubling_halves_the_steps(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C2: slope of log2 steps to target on log2 batch size, over all batch sizes and in each of the three regimes.

    Batch sizes at which a seed never arrived are left out, and named. The regime of perfect scaling is found by its
    being so, so its slope is near −1 unless it is short; the claim as people make it is of the whole range.
    """
    ways = ways_to_target(data.results)
    steps = ways[ways["measure"] == "steps"]
    for key, group in steps.groupby([*CONDITION, "rule"], sort=True):
        condition = _condition(key)
        table = _by_batch_size(group)
        if not claim.speaks_of(condition["task"]) or table.shape[1] < 2:
            continue
        found = regimes(table.columns, table.to_numpy(dtype=float))
        censored = ", ".join(f"{size:g}" for size in found.censored)
        for name in REGIMES:
            if math.isnan(getattr(found, name).estimate):
                continue
            yield Evidence(
                condition,
                partial(_slope, table, name),
                rule=str(key[-1]),
                measure=name,
                source="seeds-to-target.csv",
                note=notes(
                    _span(found, name, table.drop(columns=list(found.censored))),
                    f"without batch {censored}, where a seed never arrived" if censored else "",
                ),
            )


def _slope(table: pd.DataFrame, name: str, confidence: float) -> Estimate:
    found: Estimate = getattr(regimes(table.columns, table.to_numpy(dtype=float), confidence), name)
    return found


def _span(found: Regimes, name: str, table: pd.DataFrame) -> str:
    """Say from which batch size to which a regime goes."""
    first, last = table.columns.min(), table.columns.max()
    middle = sorted((found.b_perfect, found.b_max))
    ends = {
        "whole": (first, last),
        "perfect": (first, found.b_perfect),
        "between": middle,
        "maximal": (found.b_max, last),
    }
    lo, hi = ends[name]
    return f"batch {lo:g} to {hi:g}"


def acceleration_pays_at_large_batches(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C15: by how many doublings SGD's disadvantage to another optimizer grows from the smallest to the largest batch.

    The statistic is log2 of S_SGD/S_other at the largest batch size minus the same at the smallest, within seeds, of
    the batch sizes at which every seed of both arrived; the advantages at both ends are in the note. Optimizers with a
    method beyond the plain step are left out.
    """
    ways = ways_to_target(data.results)
    ways = ways[ways["measure"].isin(["steps", "seconds"])]
    for key, group in ways.groupby([*SETTING, "rule", "measure"], sort=True):
        setting = dict(zip(SETTING, map(str, key[: len(SETTING)]), strict=True))
        plain = _by_batch_size(group[group["optimizer"] == "sgd"]).dropna(axis=1)
        for optimizer in ACCELERATED:
            other = _by_batch_size(group[group["optimizer"] == optimizer]).dropna(axis=1)
            sizes, seeds = plain.columns.intersection(other.columns), plain.index.intersection(other.index)
            if not claim.speaks_of(setting["task"]) or len(sizes) < 2 or not len(seeds):
                continue
            small, large = sizes.min(), sizes.max()
            advantage = np.log2(plain.loc[seeds, [small, large]] / other.loc[seeds, [small, large]])
            said = [f"{2 ** advantage[size].mean():.3g} at batch {size:g}" for size in (small, large)]
            yield Evidence(
                setting | {"optimizer": optimizer},
                partial(paired_difference, (advantage[large] - advantage[small]).to_numpy()),
                rule=str(key[-2]),
                measure=f"{key[-1]} to target",
                source="seeds-to-target.csv",
                margin=SECONDS_MARGIN if key[-1] == "seconds" else None,
                note=f"SGD takes {' and '.join(said)} times as many",
            )


def _condition(key: tuple[object, ...]) -> dict[str, str]:
    return dict(zip(CONDITION, map(str, key[: len(CONDITION)]), strict=True))


def _by_batch_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Return seeds × batch sizes, nan where a seed never arrived."""
    return rows.pivot(index="seed", columns="batch_size", values="value").astype(float)
