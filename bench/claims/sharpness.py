"""Claims of how sharp the minima are that batch sizes find, and of what that says about the test result."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.correlation import LEAST_PAIRS, stratified_spearman
from bench.analysis.measures import direction, values
from bench.analysis.statistics.differences import paired_estimator
from bench.analysis.study import TRIAL
from bench.claims.claim import Claim
from bench.claims.evidence import Data, Evidence
from bench.claims.measured import at_end, by_rule, groups, left_out, of_metric
from bench.measure.catalogue import MEASURES, RESCALED

Array = npt.NDArray[np.float64]

#: Sharpness at a point. The curvature of a batch's own loss is none of it: it depends on the batch size by definition.
SHARPNESS = tuple(
    metric
    for name in ("lambda_max", "trace", "keskar", "keskar_random", "sam", "asam")
    for metric in MEASURES[name].metrics
    if not metric.endswith(("_residual", "_error"))
)


def large_batches_find_sharp_minima(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C7: log of sharpness at the largest batch size over that at the smallest, within seeds, at the end of training.

    Each measure of sharpness under each learning-rate rule: "re-tuned" is the best rate of each batch size, "linear"
    is pairs at a fixed ratio of rate and batch size, for batch sizes at which the grid has that rate. Pairs with a
    diverged trial, or a sharpness that is not above 0, are left out and counted. Training losses are not matched: the
    note has both, as the sharper of two may only be trained less far.

    Source: arXiv 1609.04836, section 2.2; 1711.04623 for the fixed ratio.
    """
    table = by_rule(data, of_metric(data, *SHARPNESS))
    for condition, (rule, metric), group in groups(table, claim, ["rule", "metric"]):
        sizes = np.sort(group["batch_size"].unique())
        if len(sizes) < 2:
            continue
        ends = group[group["batch_size"].isin([sizes[0], sizes[-1]])]
        pairs = ends.pivot(index="seed", columns="batch_size", values="value")
        usable = pairs[(pairs > 0).all(axis=1)]
        if usable.empty:
            continue
        small, large = usable.to_numpy(dtype=float).T
        losses = ends[ends["seed"].isin(usable.index)].groupby("batch_size")["train_loss"].mean()
        lost = left_out(len(pairs) - len(usable), len(pairs), "pairs", "diverged, or sharpness not above 0")
        told = f"training loss {losses.iloc[0]:.3g} at batch size {sizes[0]}, {losses.iloc[-1]:.3g} at {sizes[-1]}"
        yield Evidence(
            condition,
            paired_estimator(np.log(large / small)),
            budget="end",
            rule=rule,
            measure=metric,
            source="measures.csv",
            note="; ".join(filter(None, [told, lost])),
        )


def sharpness_explains_the_gap(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C8: rank correlation of sharpness and generalisation gap over batch sizes and seeds, inside learning rates.

    The gap is training minus test accuracy at the end (test minus training loss where the task is judged by loss).
    Rates with fewer than six complete trials are left out. Where parameters were also rescaled (`measure.rescaling`), a
    second statistic is the control "…, every second seed rescaled": the same functions with the same gap, of which half
    have other parameters; what explains the gap has to survive that.

    Source: arXiv 1609.04836; 1703.04933, section 4, for the rescaling; 1912.02178 for correlation inside strata.
    """
    gaps = _gaps(data)
    for metric in SHARPNESS:
        plain = at_end(of_metric(data, metric))[[*TRIAL, "value"]].merge(gaps, on=TRIAL)
        moved = at_end(of_metric(data, metric + RESCALED))[[*TRIAL, "value"]].rename(columns={"value": "moved"})
        for condition, _, group in groups(plain, claim):
            strata = _strata(group)
            if not strata:
                continue
            used = sum(len(x) for x, _ in strata)
            note = left_out(len(group) - used, len(group), "trials", f"fewer than {LEAST_PAIRS} at their rate")
            yield _correlation(condition, strata, metric, note)
            both = group.merge(moved, on=TRIAL)
            both = both[(both["value"] > 0) & (both["moved"] > 0)]
            if both.empty:
                continue
            factor = float(np.exp(np.log(both["moved"] / both["value"]).mean()))
            ranks = both["seed"].rank(method="dense").astype(int)
            both = both.assign(value=both["value"].where(ranks % 2 == 1, both["moved"]))
            if strata := _strata(both):
                yield _correlation(
                    condition,
                    strata,
                    f"{metric}, every second seed rescaled",
                    f"rescaling multiplies the measure by {factor:.3g}",
                )


def _gaps(data: Data) -> pd.DataFrame:
    """Return the generalisation gap at the end of complete trials: columns `TRIAL`, `gap`."""
    table = data.last_evaluations
    gap = direction(table) * (values(table, "train") - values(table, "test"))
    found: pd.DataFrame = table.assign(gap=gap).loc[np.isfinite(gap), [*TRIAL, "gap"]]
    return found


def _strata(table: pd.DataFrame) -> list[tuple[Array, Array]]:
    """Return sharpness and gap at each learning rate that has enough trials, and where neither is constant."""
    return [
        (rows["value"].to_numpy(dtype=float), rows["gap"].to_numpy(dtype=float))
        for _, rows in table.groupby("lr", sort=True)
        if len(rows) >= LEAST_PAIRS and rows["value"].nunique() > 1 and rows["gap"].nunique() > 1
    ]


def _correlation(condition: dict[str, str], strata: list[tuple[Array, Array]], measure: str, note: str) -> Evidence:
    return Evidence(
        condition,
        partial(stratified_spearman, strata),
        budget="end",
        measure=measure,
        source="measures.csv",
        note=note,
    )
