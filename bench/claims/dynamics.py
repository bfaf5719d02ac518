"""Claims of how training moves: at the edge of stability, and how far from where it started."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from bench.analysis.curves import distance_growth
from bench.analysis.intervals import CONFIDENCE
from bench.analysis.statistics.differences import paired_estimator
from bench.analysis.statistics.estimates import Estimate
from bench.analysis.study import TRIAL
from bench.claims.claim import Claim
from bench.claims.evidence import Data, Evidence
from bench.claims.measured import along, groups, left_out, mean_over_steps, of_metric, retuned_trials
from bench.claims.noise import batch_name

Array = npt.NDArray[np.float64]

#: Optimizers whose edge is 2/η: momentum and preconditioning have others.
PLAIN = ("sgd", "gradient_descent")
#: Fits of distance need so many points, as `bench.analysis.curves.distance_growth`.
LEAST_POINTS = 4


def gradient_descent_at_the_edge_of_stability(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C22: λmax·η/2 of full-batch gradient descent, the mean over the last half of the steps, seed by seed.

    Each learning rate is a measure of its own ("learning rate 0.1"): one too small for the budget never comes to the
    edge. Only `PLAIN` optimizers; diverged trials are left out and counted.

    Source: arXiv 2103.00065, section 3.
    """
    study = data.results.study
    full = study.cells.loc[study.cells["full_batch"].astype(bool) & study.cells["optimizer"].isin(PLAIN), "cell"]
    trials = study.complete_trials()
    trials = trials.loc[trials["cell"].isin(full), [*TRIAL, "status", "steps"]]
    rows = of_metric(data, "lambda_max").merge(trials, on=TRIAL)
    for condition, rate, group in groups(rows, claim, ["lr"]):
        late = group[(group["status"] == "complete") & (group["step"] >= group["steps"] / 2)]
        if late.empty:
            continue
        means = late.groupby("seed")[["step", "value"]].apply(mean_over_steps)
        seeds = group["seed"].nunique()
        yield Evidence(
            condition,
            paired_estimator(means.to_numpy(dtype=float) * float(rate[0]) / 2),
            measure=f"learning rate {float(rate[0]):g}",
            source="measures.csv",
            note=left_out(seeds - len(means), seeds, "seeds"),
        )


def distance_grows_like_the_logarithm(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C23: log of how much worse √t fits the distance from the initial parameters than log t, seed by seed.

    At the best learning rate; measure "reference batch size" is the smallest of at least 16 that was trained, each
    other batch size is a measure of its own. The note has the exponent of a power law, ½ for a random walk. Fewer than
    four points after the start give no evidence; diverged seeds are left out.

    Source: arXiv 1705.08741, section 3.
    """
    rows = of_metric(data, "distance").merge(retuned_trials(data), on=TRIAL)
    for condition, sizes, group in groups(rows[rows["value"] > 0], claim, ["batch_size"]):
        steps, values, lost = along(group)
        if len(values) < 2 or len(steps) < LEAST_POINTS:
            continue
        exponent = distance_growth(steps, values).exponent.estimate
        told = f"batch size {sizes[0]}, exponent {exponent:.2f}"
        yield Evidence(
            condition,
            partial(_advantage, steps, values),
            budget="end",
            rule="re-tuned",
            measure=batch_name(data, condition, int(sizes[0])),
            source="measures.csv",
            note="; ".join(filter(None, [told, left_out(lost, lost + len(values), "seeds")])),
        )


def _advantage(steps: Array, distances: Array, confidence: float = CONFIDENCE) -> Estimate:
    return replace(distance_growth(steps, distances, confidence).advantage, confidence=confidence)
