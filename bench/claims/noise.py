"""Claims of the gradient noise scale and of the noise of the loss."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.curves import late_over_early
from bench.analysis.intervals import CONFIDENCE
from bench.analysis.rows import Rows, split
from bench.analysis.scaling import critical_batch
from bench.analysis.statistics.differences import paired_estimator
from bench.analysis.statistics.estimates import Estimate, Estimator, StudentT
from bench.analysis.study import CONDITION, POINT, TRIAL, condition_of
from bench.claims.claim import Claim
from bench.claims.evidence import Data, Evidence
from bench.claims.measured import (
    along,
    by_rule,
    groups,
    left_out,
    mean_over_steps,
    of_metric,
    retuned_trials,
    slopes,
)

Array = npt.NDArray[np.float64]

#: Steps off the hyperbola by less than this do not matter: the margin of steps.
HYPERBOLA_MARGIN = 0.1


def noise_scale_predicts_critical_batch(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C3: B_simple, averaged along training, against the critical batch size fitted to steps to target.

    Measure "noise scale": log2 of the ratio. Each seed's noise scale is the mean over the steps up to the target, at
    the best learning rate of each batch size, and the geometric mean over batch sizes of these. Measure "hyperbola":
    root mean square of log(S / fit) as a share. Batch sizes at which a seed never reached the target are in neither;
    with fewer than three others there is no evidence.

    Source: arXiv 1812.06162, section 5 and appendix D: over a run, the critical batch is the mean noise scale.
    """
    chosen = data.results.seeds_to_target
    noise = of_metric(data, "noise_scale")
    for key, rows in split(chosen[chosen["measure"] == "steps"], CONDITION):
        condition = condition_of(key)
        ways = rows.wide()
        whole = ways.known()
        sizes, table = whole.sizes, whole.table
        if not claim.speaks_of(condition["task"]) or len(sizes) < 3:
            continue
        never = len(ways.sizes) - len(sizes)
        note = left_out(never, len(ways.sizes), "batch sizes", "a seed never reached the target")
        scales = _scales_to_target(noise, rows.where(np.isin(rows["batch_size"], sizes)))
        if scales.size >= 2:
            fit = critical_batch(sizes, table)
            mean = 2.0 ** float(scales.mean())
            yield Evidence(
                condition,
                partial(_log2_over_critical, paired_estimator(scales), sizes, table),
                measure="noise scale",
                source="scaling.csv",
                note="; ".join(
                    filter(None, [f"B_simple {mean:.3g}, B_crit {fit.b_crit.estimate:.3g}", fit.reason, note])
                ),
            )
        if len(table) >= 2:
            yield Evidence(
                condition,
                _misfit(sizes, table),
                measure="hyperbola",
                source="scaling.csv",
                margin=HYPERBOLA_MARGIN,
                unit="log ratio",
                note=note,
            )


def _scales_to_target(noise: pd.DataFrame, chosen: Rows) -> Array:
    """Return log2 of each seed's noise scale on the way to the target; seeds not measured everywhere have none."""
    if noise.empty:
        return np.array([])
    way = pd.DataFrame({name: chosen[name] for name in TRIAL}).assign(target=chosen["value"])
    rows = noise.merge(way, on=TRIAL)
    rows = rows[rows["step"] <= rows["target"]]
    if rows.empty:
        return np.array([])
    means = rows.groupby(["seed", "batch_size"])[["step", "value"]].apply(mean_over_steps).unstack()
    means = means.reindex(columns=sorted(set(chosen["batch_size"]))).dropna()
    return np.asarray(np.log2(means.to_numpy(dtype=float)).mean(axis=1))


def _log2_over_critical(scales: Estimator, sizes: Array, steps: Array, confidence: float = CONFIDENCE) -> Estimate:
    """Return log2(B_simple / B_crit), with an interval from those of both.

    The limits of a difference lie as far from it as the root of the sum of squares of both distances on that side;
    that keeps the asymmetry of the critical batch's interval, and is unbounded where that is.

    Source: Zou & Donner, Statistics in Medicine 27 (2008): recovery of variance estimates.
    """
    scale = scales(confidence)
    fit = critical_batch(sizes, steps, confidence).b_crit
    lo = math.log2(fit.lo) if fit.lo > 0 else -math.inf
    hi = math.log2(fit.hi)
    critical = math.log2(fit.estimate)
    estimate = scale.estimate - critical
    return Estimate(
        estimate,
        estimate - math.hypot(scale.estimate - scale.lo, hi - critical),
        estimate + math.hypot(scale.hi - scale.estimate, critical - lo),
        fit.n,
        confidence,
    )


def _misfit(sizes: Array, steps: Array) -> Estimator:
    """Return the root mean square departure from the hyperbola, with the jackknife over seeds.

    Source: Tukey, Annals of Mathematical Statistics 29 (1958), with Student's t.
    """
    seeds = len(steps)
    without = np.array([critical_batch(sizes, np.delete(steps, seed, axis=0)).rms for seed in range(seeds)])
    error = math.sqrt((seeds - 1) / seeds * float(((without - without.mean()) ** 2).sum()))
    return StudentT(critical_batch(sizes, steps).rms, error, seeds - 1, seeds)


def critical_batch_grows(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C4: log2 of the noise scale late in training over that early, at the best learning rate.

    Late and early are the last and first fifth of the steps. Measure "reference batch size" is the smallest of at
    least 16 that was trained; each other batch size is a measure of its own. Diverged seeds are left out and counted.

    Source: arXiv 1812.06162, section 3.3.
    """
    trials = retuned_trials(data)
    rows = of_metric(data, "noise_scale").merge(trials, on=TRIAL)
    for condition, sizes, group in groups(rows, claim, ["batch_size"]):
        steps, values, lost = along(group)
        fifth = (steps[-1] - steps[0]) / 5
        late = steps >= steps[-1] - fifth
        if len(values) < 2 or len(steps) < 2 or late.all():
            continue
        yield Evidence(
            condition,
            partial(_log2_growth, steps, values),
            budget="end",
            rule="re-tuned",
            measure=batch_name(data, condition, int(sizes[0])),
            source="measures.csv",
            note="; ".join(filter(None, [f"batch size {sizes[0]}", left_out(lost, lost + len(values), "seeds")])),
        )


def batch_name(data: Data, condition: dict[str, str], batch_size: int) -> str:
    """Name the measure that a batch size is: "reference batch size" for the one that stands for its condition."""
    references = data.results.references
    for name, value in condition.items():
        references = references[references[name] == value]
    return "reference batch size" if batch_size in set(references["reference"]) else f"batch size {batch_size}"


def _log2_growth(steps: Array, values: Array, confidence: float = CONFIDENCE) -> Estimate:
    found = late_over_early(steps, values, confidence=confidence)
    with np.errstate(divide="ignore"):
        estimate, lo, hi = np.log2([found.estimate, found.lo, found.hi]).tolist()
    return replace(found, estimate=estimate, lo=lo, hi=hi)


def small_batches_are_unstable(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C25: slope of log variance of the batch loss from step to step on log batch size, seed by seed.

    At the end of training, under each learning-rate rule; 0 is none, −1 what averaging independent examples at the same
    parameters gives. The full batch is left out: the variance of its loss is the descent itself. Diverged trials are
    left out and counted; seeds need two batch sizes.
    """
    table = by_rule(data, of_metric(data, "step_loss_variance"))
    cells = data.results.study.cells
    table = table.merge(cells.loc[~cells["full_batch"].astype(bool), POINT], on=POINT)
    for condition, rule, group in groups(table, claim, ["rule"]):
        usable = group[group["value"] > 0]
        found = slopes(
            usable.assign(x=np.log2(usable["batch_size"].astype(float)), log=np.log2(usable["value"])), "log"
        )
        if found.size:
            yield Evidence(
                condition,
                paired_estimator(found),
                budget="end",
                rule=rule[0],
                source="measures.csv",
                note=left_out(len(group) - len(usable), len(group), "trials"),
            )
