"""Claims of the way to the target: how many steps, examples and seconds each batch size takes."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from bench.analysis.rows import Rows, Wide
from bench.analysis.scaling import Regimes, regimes
from bench.analysis.statistics.differences import paired_estimator
from bench.analysis.statistics.estimates import Estimate, Estimator
from bench.analysis.study import CONDITION, SETTING, condition_of
from bench.claims.claim import Claim
from bench.claims.contrasts import notes
from bench.claims.evidence import Data, Evidence

Array = npt.NDArray[np.float64]

#: Times that matter, as log2 of a ratio: 2 %. Steps and examples have the claims' own margin.
SECONDS_MARGIN = math.log2(1.02)
#: Regimes of `bench.analysis.scaling.Regimes` that a slope is taken of.
REGIMES = ("whole", "perfect", "between", "maximal")
#: Who is held against plain stochastic gradient descent.
ACCELERATED = ("momentum", "nesterov", "adam", "adamw")
#: What `bench.claims.evidence.Data.ways` are split by, and what optimizers are compared within.
PLACED, WITHIN = (*CONDITION, "rule", "measure"), (*SETTING, "rule", "measure")


def bigger_is_always_better(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C1: log2 of what the largest batch size takes to the target over what the best smaller one takes, within seeds.

    The best smaller batch size is chosen for each seed by the other seeds, of those at which every seed arrived, so
    that the choice does not flatter it. Seeds that never arrived at the largest batch size count with how far they
    went: the ratio is then bounded from below alone, and can refute but not support.
    """
    for key, rows in data.ways.items():
        condition = condition_of(key)
        ways = rows.wide()
        if not claim.speaks_of(condition["task"]) or ways.sizes.size < 2:
            continue
        largest = ways.sizes[-1]
        smaller = Wide(ways.seeds, ways.sizes[:-1], ways.table[:, :-1]).known()
        if not smaller.sizes.size:
            continue
        logs = np.log2(smaller.table)
        own = logs.mean(axis=0)
        others = (own * len(logs) - logs) / (len(logs) - 1) if len(logs) > 1 else logs
        best = np.take_along_axis(logs, others.argmin(axis=1)[:, None], axis=1)[:, 0]
        went = float(np.fmax.reduce(rows.of(largest)["went"]))
        never = np.isnan(ways.at(largest))
        lost = int(never.sum())
        found = paired_estimator(np.log2(np.where(never, went, ways.at(largest))) - best)
        measure = str(key[-1])
        yield Evidence(
            condition,
            partial(_at_least, found) if lost else found,
            rule=str(key[-2]),
            measure=f"{measure} to target",
            source="seeds-to-target.csv",
            margin=SECONDS_MARGIN if measure == "seconds" else None,
            note=notes(
                f"batch {largest:g} against {smaller.sizes[int(own.argmin())]:g}",
                f"{lost} of {len(never)} seeds never arrived at the largest: a lower bound" if lost else "",
            ),
        )


def _at_least(differences: Estimator, confidence: float) -> Estimate:
    """Return the mean of lower bounds: with a lower end alone."""
    found = differences(confidence)
    return found if math.isnan(found.hi) else replace(found, hi=math.inf)


def doubling_halves_the_steps(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C2: slope of log2 steps to target on log2 batch size, over all batch sizes and in each of the three regimes.

    Batch sizes at which a seed never arrived are left out, and named. The regime of perfect scaling is found by its
    being so, so its slope is near −1 unless it is short; the claim as people make it is of the whole range.
    """
    for key, rows in data.ways.items():
        condition = condition_of(key)
        if key[-1] != "steps" or not claim.speaks_of(condition["task"]):
            continue
        ways = rows.wide()
        if ways.sizes.size < 2:
            continue
        found = regimes(ways.sizes, ways.table)
        censored = ", ".join(f"{size:g}" for size in found.censored)
        for name in REGIMES:
            if math.isnan(found.slopes[name].estimate):
                continue
            yield Evidence(
                condition,
                found.slopes[name],
                rule=str(key[-2]),
                measure=name,
                source="seeds-to-target.csv",
                note=notes(
                    _span(found, name, ways.sizes[~np.isin(ways.sizes, found.censored)]),
                    f"without batch {censored}, where a seed never arrived" if censored else "",
                ),
            )


def _span(found: Regimes, name: str, sizes: Array) -> str:
    """Say from which batch size to which a regime goes."""
    first, last = sizes.min(), sizes.max()
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
    settings: dict[tuple[str, ...], dict[str, Rows]] = {}
    for key, rows in data.ways.items():
        if key[-1] in ("steps", "seconds") and claim.speaks_of(key[0]):
            place = dict(zip(PLACED, key, strict=True))
            settings.setdefault(tuple(place[name] for name in WITHIN), {})[place["optimizer"]] = rows
    for key in sorted(settings):
        found = {name: rows.wide().known() for name, rows in settings[key].items() if name in ("sgd", *ACCELERATED)}
        for optimizer in ACCELERATED if "sgd" in found else ():
            plain, other = found["sgd"], found.get(optimizer)
            if other is None:
                continue
            sizes, seeds = (np.intersect1d(getattr(plain, name), getattr(other, name)) for name in ("sizes", "seeds"))
            if sizes.size < 2 or not seeds.size:
                continue
            small, large = (
                np.log2(plain.of(seeds).at(size) / other.of(seeds).at(size)) for size in (sizes[0], sizes[-1])
            )
            said = [f"{2 ** log.mean():.3g} at batch {size:g}" for size, log in ((sizes[0], small), (sizes[-1], large))]
            yield Evidence(
                dict(zip(SETTING, key, strict=False)) | {"optimizer": optimizer},
                paired_estimator(large - small),
                rule=key[-2],
                measure=f"{key[-1]} to target",
                source="seeds-to-target.csv",
                margin=SECONDS_MARGIN if key[-1] == "seconds" else None,
                note=f"SGD takes {' and '.join(said)} times as many",
            )
