"""Claims of learning rates: how the best one, or the best batch size for one, moves, and how many do nearly as well."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bench.analysis.learning_rates import best_learning_rates, octaves_per_seed
from bench.analysis.measures import ACCURACY_MARGIN_SMALL, LOSS_MARGIN
from bench.analysis.statistics.differences import paired_estimator
from bench.analysis.study import CONDITION, condition_of, records
from bench.claims.claim import Claim
from bench.claims.evidence import Data, Evidence
from bench.claims.scores import Scores

Array = npt.NDArray[np.float64]

#: Whose best learning rate is said to be proportional to the batch size, and whose to its root.
STOCHASTIC_GRADIENT = ("sgd", "momentum", "nesterov")
ADAPTIVE = ("adam", "adamw", "nadam", "radam", "adamax")


def rate_follows_batch_size(optimizers: Sequence[str]) -> Callable[[Data, Claim], Iterator[Evidence]]:
    """C10 and C11: slope of log2 of the best learning rate on log2 batch size.

    The best rate is that of the validation result, refined between grid points; batch sizes whose best one is an end of
    the grid are left out, and counted. Its variance is that of seeds and of departures from the line
    (`bench.analysis.learning_rates.best_learning_rates`).

    Args:
        optimizers: Names of the optimizers that the claim is about, with whatever method.
    """

    def judge(data: Data, claim: Claim) -> Iterator[Evidence]:
        for scores in data.validation_scores:
            spoken = claim.speaks_of(scores.condition["task"])
            if not spoken or scores.condition["optimizer"].partition(" (")[0] not in optimizers:
                continue
            evidence = _slope_evidence(scores, (scores.batch_sizes, scores.rates, scores.table), "batch sizes")
            if evidence:
                yield evidence

    return judge


def _slope_evidence(scores: Scores, axes: tuple[Array, Array, Array], unit: str, measure: str = "") -> Evidence | None:
    """Return the slope of the best point of the second axis on the first; None where too few optima lie inside."""
    if axes[1].size < 3:
        return None
    found = best_learning_rates(*axes)
    if math.isnan(found.slope.estimate):
        return None
    lost = sum(found.edge)
    return Evidence(
        scores.condition,
        found.estimator,
        budget=scores.budget,
        measure=measure,
        source="curves.csv",
        note=f"{lost} of {axes[0].size} {unit} have their best at an end of the grid and are left out" if lost else "",
    )


def small_batches_tolerate_more_rates(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C14: octaves of learning rates near the best at the smallest batch size minus those at the largest, within seeds.

    Near is within half a point of validation accuracy, or 10 % of a loss. Ranges that reach an end of the grid are
    lower bounds, and counted in the note.
    """
    for scores in data.validation_scores:
        if not claim.speaks_of(scores.condition["task"]) or scores.batch_sizes.size < 2 or scores.rates.size < 3:
            continue
        near = ACCURACY_MARGIN_SMALL if scores.measure == "accuracy" else math.log1p(LOSS_MARGIN)
        small, large = (octaves_per_seed(scores.rates, scores.table[:, place], near) for place in (0, -1))
        said = [
            f"{int(cut.sum())} at batch {size:g}"
            for size, (_, cut, _) in zip(scores.batch_sizes[[0, -1]], (small, large), strict=True)
            if cut.any()
        ]
        yield Evidence(
            scores.condition,
            paired_estimator(small[0] - large[0]),
            budget=scores.budget,
            source="curves.csv",
            note=f"the range reaches an end of the grid for {' and '.join(said)} of {len(scores.seeds)} seeds"
            if said
            else "",
        )


def optimal_batch_size(data: Data, claim: Claim) -> Iterator[Evidence]:
    """C13: slope of log2 of the best batch size on log2 of the learning rate, and of the training examples.

    The best batch size is that of the test result at one learning rate, refined between batch sizes; rates and sizes
    of the training split whose best one is an end of the grid are left out, and counted. Across training splits the
    rate is that of the grid with the fewest of these, and of equals the best on average.
    """
    for scores in data.test_scores:
        if claim.speaks_of(scores.condition["task"]) and scores.rates.size > 1:
            swapped = scores.rates, scores.batch_sizes, scores.table.transpose(0, 2, 1)
            if evidence := _slope_evidence(scores, swapped, "learning rates", "learning rate"):
                yield evidence
    yield from _by_training_examples(data, claim)


def _by_training_examples(data: Data, claim: Claim) -> Iterator[Evidence]:
    """Yield the slope on the number of training examples, of conditions that differ in the knob `subset` alone."""
    cells = data.results.study.cells.drop_duplicates(CONDITION)
    facts = {tuple(str(row[name]) for name in CONDITION): row for row in records(cells)}
    groups: dict[tuple[str, ...], list[tuple[float, Scores]]] = {}
    for scores in data.test_scores:
        row = facts[tuple(scores.condition[name] for name in CONDITION)]
        knobs = row.get("knobs")
        told = knobs if isinstance(knobs, str) else ""
        others = " ".join(word for word in told.split() if not word.startswith("subset="))
        base = scores.condition["task"].removesuffix(f" ({told})") + (f" ({others})" if others else "")
        condition = scores.condition | {"task": base}
        if np.isfinite(examples := float(row["train_examples"])):
            groups.setdefault((*(condition[name] for name in CONDITION), scores.budget), []).append((examples, scores))
    for key, members in groups.items():
        condition = condition_of(key)
        members.sort(key=lambda member: member[0])
        splits = np.array([count for count, _ in members])
        if not claim.speaks_of(condition["task"]) or np.unique(splits).size < max(len(members), 2):
            continue
        first = members[0][1]
        sizes = np.array(sorted(set.intersection(*(set(one.batch_sizes) for _, one in members))))
        rates = np.array(sorted(set.intersection(*(set(one.rates) for _, one in members))))
        seeds = sorted(set.intersection(*(set(one.seeds) for _, one in members)))
        if sizes.size < 3 or not rates.size or not seeds:
            continue
        stacked = np.stack([_restricted(one, seeds, sizes, rates) for _, one in members], axis=1)
        lost = [sum(best_learning_rates(splits, sizes, stacked[..., place]).edge) for place in range(rates.size)]
        height = np.nanmean(np.where(np.isnan(stacked), np.nanmin(stacked, initial=0.0), stacked), axis=(0, 1, 2))
        chosen = min(range(rates.size), key=lambda place: (lost[place], -height[place]))
        axes = splits, sizes, stacked[..., chosen]
        place = Scores(condition, first.budget, first.measure, sizes, rates, tuple(seeds), stacked[..., chosen])
        if evidence := _slope_evidence(place, axes, f"training splits at rate {rates[chosen]:g}", "training examples"):
            yield evidence


def _restricted(scores: Scores, seeds: Sequence[int], sizes: Array, rates: Array) -> Array:
    """Return the scores of some seeds, batch sizes and rates."""
    rows = scores.table[[scores.seeds.index(seed) for seed in seeds]]
    return rows[:, np.searchsorted(scores.batch_sizes, sizes)][:, :, np.searchsorted(scores.rates, rates)]
