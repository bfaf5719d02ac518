"""Families of ten claims whose true effects are planted, from tables to verdicts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.analysis.correlation import stratified_spearman
from bench.analysis.curves import against_prediction, late_over_early
from bench.analysis.learning_rates import best_learning_rates
from bench.analysis.scaling import regimes
from bench.analysis.statistics.aggregates import interquartile_mean_interval, probability_of_improvement
from bench.analysis.statistics.differences import (
    difference_over_seeds_and_examples,
    paired_difference,
    sign_flip_interval,
)
from bench.analysis.statistics.estimates import Estimate, Estimator
from bench.analysis.statistics.multiplicity import adjusted
from bench.analysis.statistics.verdicts import verdict

#: True effects, in margins.
SIZES = (0.0, 0.5, 3.0)
SEEDS = 10

#: Random numbers, true effect in margins → the claim's method, waiting for its confidence.
Plant = Callable[[np.random.Generator, float], Estimator]


@dataclass(frozen=True)
class Planted:
    """A claim "the effect is greater" with what it is measured by.

    Attributes:
        name: Of the effect.
        margin: In the estimate's unit.
        null: What the estimate is when there is no effect.
        plant: Draws a study with an effect.
    """

    name: str
    margin: float
    null: float
    plant: Plant


def _difference(rng: np.random.Generator, size: float) -> Estimator:
    return partial(_paired, rng.normal(0.005 * size, 0.004, SEEDS))


def _paired(differences: np.ndarray, confidence: float) -> Estimate:
    return paired_difference(differences, confidence)


def _sign_flip(rng: np.random.Generator, size: float) -> Estimator:
    return partial(sign_flip_interval, rng.laplace(0.1 * size, 0.03, SEEDS + 2))


def _examples(rng: np.random.Generator, size: float) -> Estimator:
    hard, noise = rng.random(1000), rng.normal(0, 0.1, (2, SEEDS, 1000))
    one = hard + noise[0] < 0.8 + 0.03 * size
    other = hard + noise[1] < 0.8
    return partial(difference_over_seeds_and_examples, one, other)


def _steps_slope(rng: np.random.Generator, size: float) -> Estimator:
    batch = 2.0 ** np.arange(2, 9)
    steps = 1e5 * batch ** (-1 + 0.05 * size) * np.exp(rng.normal(0, 0.1, (SEEDS, batch.size)))
    return lambda confidence: regimes(batch, steps, confidence).whole


def _rate_slope(rng: np.random.Generator, size: float) -> Estimator:
    rates, batch = 2.0 ** np.arange(-14, 4), 2.0 ** np.arange(2, 9)
    best = -9 + (0.5 + 0.1 * size + rng.normal(0, 0.05, (SEEDS, 1))) * np.log2(batch / 4)
    scores = -0.01 * (np.log2(rates) - best[..., None]) ** 2 + rng.normal(0, 0.002, (SEEDS, batch.size, rates.size))
    return lambda confidence: best_learning_rates(batch, rates, scores, confidence).slope


def _growth(rng: np.random.Generator, size: float) -> Estimator:
    steps = np.arange(0, 101, 5)
    seeds = rng.normal(0, 0.1, (SEEDS, 1))
    # Constant in both windows, so that the planted ratio is the ratio of their means.
    values = np.exp((np.log(1.2) * size + seeds) * (steps >= 50)) * np.exp(rng.normal(0, 0.01, (SEEDS, steps.size)))

    def estimate(confidence: float) -> Estimate:
        found = late_over_early(steps, values, confidence=confidence)
        return Estimate(np.log(found.estimate), np.log(found.lo), np.log(found.hi), found.n, confidence)

    return estimate


def _improvement(rng: np.random.Generator, size: float) -> Estimator:
    # Of n uniform scores each, A's a share of the way above all of B's: P(A > B) = ½ + share/2.
    share = 0.3 * size
    above = rng.random((5, 8)) < share
    a = [rng.random(8) + up for up in above]
    return partial(probability_of_improvement, a, [rng.random(8) for _ in range(5)])


def _middle(rng: np.random.Generator, size: float) -> Estimator:
    return partial(interquartile_mean_interval, rng.normal(0.1 * size, 0.2, (SEEDS, 6)), resamples=200)


def _memory(rng: np.random.Generator, size: float) -> Estimator:
    batch = np.geomspace(8, 4096, 12)
    memory = (100 + 0.5 * (1 + 0.02 * size) * batch) * np.exp(rng.normal(0, 0.01, batch.size))
    return lambda confidence: against_prediction(batch, memory, 100, 0.5, confidence).slope_ratio


def _correlation(rng: np.random.Generator, size: float) -> Estimator:
    rho = 2 * np.sin(np.pi / 6 * 0.25 * size)
    strata = []
    for _ in range(10):
        x = rng.normal(size=20)
        strata.append((x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=20)))
    return partial(stratified_spearman, strata)


PLANTED = (
    Planted("test accuracy, over seeds", 0.005, 0, _difference),
    Planted("test accuracy, over seeds and examples", 0.03, 0, _examples),
    Planted("log step time, sign flips", 0.1, 0, _sign_flip),
    Planted("slope of steps to target", 0.05, -1, _steps_slope),
    Planted("slope of the best learning rate", 0.1, 0.5, _rate_slope),
    Planted("growth of the noise scale", np.log(1.2), 0, _growth),
    Planted("probability of improvement", 0.15, 0.5, _improvement),
    Planted("interquartile mean", 0.1, 0, _middle),
    Planted("memory per example", 0.02, 1, _memory),
    Planted("rank correlation in strata", 0.25, 0, _correlation),
)


@dataclass(frozen=True)
class Outcome:
    """What a verdict on a planted effect was.

    Attributes:
        name: Of the effect.
        size: True, in margins.
        word: The verdict on "the effect is greater".
        result: "right", "overstated" (supported, and the true effect is half a margin), "inconclusive" or "wrong".
    """

    name: str
    size: float
    word: str
    result: str


def _result(size: float, word: str) -> str:
    if word == "inconclusive":
        return word
    if size == 0.5 and word == "supported":
        return "overstated"
    return "right" if word == ("supported" if size > 1 else "equivalent") else "wrong"


def family(rng: np.random.Generator, rotation: int) -> list[Outcome]:
    """Draw a study of all ten effects, of mixed sizes, and judge them as one family."""
    sizes = {effect.name: SIZES[(index + rotation) % 3] for index, effect in enumerate(PLANTED)}
    claims = {effect.name: effect.plant(rng, sizes[effect.name]) for effect in PLANTED}
    found = adjusted(claims, {effect.name: effect.null for effect in PLANTED})
    outcomes = []
    for effect in PLANTED:
        word = verdict(found[effect.name].holm, effect.margin, "greater", effect.null).word
        outcomes.append(Outcome(effect.name, sizes[effect.name], word, _result(sizes[effect.name], word)))
    return outcomes


def families(draws: int, seed: int = 0) -> list[list[Outcome]]:
    """Draw so many families for each of the three rotations of sizes."""
    rng = np.random.default_rng(seed)
    return [family(rng, rotation) for rotation in range(3) for _ in range(draws)]
