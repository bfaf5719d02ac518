"""Studies with a known truth: how often does each interval hold it. scripts/coverage runs them whole, tests in part."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from bench.analysis.censoring import restricted_mean
from bench.analysis.correlation import spearman, stratified_spearman
from bench.analysis.curves import against_prediction, distance_growth, fit_line, knee, late_over_early
from bench.analysis.learning_rates import best_learning_rates, tolerated_octaves
from bench.analysis.scaling import critical_batch, regimes
from bench.analysis.statistics.aggregates import (
    interquartile_mean,
    interquartile_mean_interval,
    probability_of_improvement,
)
from bench.analysis.statistics.differences import (
    binomial_error,
    difference_over_seeds_and_examples,
    paired_difference,
    sign_flip_interval,
)
from bench.analysis.statistics.estimates import Estimate
from bench.analysis.statistics.multiplicity import adjusted
from bench.analysis.statistics.resampling import cluster_bootstrap
from bench.analysis.statistics.verdicts import verdict

Draw = Callable[[np.random.Generator], Estimate]

#: Bounds of what counts as 95 %.
NOMINAL = (0.93, 0.97)


@dataclass(frozen=True)
class Case:
    """A kind of study and the interval that is tried on it.

    Attributes:
        method: What makes the interval; a name of the package, or of a method that it does not use.
        setting: What is drawn.
        draw: Simulates a study and returns its estimate.
        truth: What the interval should hold.
        expected: "95 %", "at least 95 %" (known to be wide here) or "too rarely" (why it is not used).
    """

    method: str
    setting: str
    draw: Draw
    truth: float
    expected: str = "95 %"


@dataclass(frozen=True)
class Coverage:
    """How often the intervals of a case held the truth.

    Attributes:
        covered: Share of studies.
        below: Share in which the interval lay below the truth.
        above: Share in which it lay above.
        width: Median width of the interval.
        unbounded: Share of intervals with an infinite end.
    """

    covered: float
    below: float
    above: float
    width: float
    unbounded: float

    def verdict(self, studies: int) -> str:
        """Say what it amounts to, three standard errors of the simulation allowed beyond the bounds of nominal."""
        slack = 3 * np.sqrt(0.95 * 0.05 / studies) if studies < 2000 else 0.0
        if self.covered < NOMINAL[0] - slack:
            return "too rarely"
        return "at least 95 %" if self.covered > NOMINAL[1] + slack else "95 %"


def coverage(case: Case, studies: int, seed: int = 0) -> Coverage:
    rng = np.random.default_rng([seed, *case.method.encode(), *case.setting.encode()])
    found = [case.draw(rng) for _ in range(studies)]
    lo, hi = np.array([one.lo for one in found]), np.array([one.hi for one in found])
    assert not np.isnan(lo).any(), f"{case.method}, {case.setting}: a study has no interval"
    below, above = (hi < case.truth).mean(), (lo > case.truth).mean()
    unbounded = (~np.isfinite(lo) | ~np.isfinite(hi)).mean()
    return Coverage(1 - below - above, below, above, float(np.median(hi - lo)), unbounded)


def percentile_bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator, resamples: int = 500
) -> Estimate:
    """The interval that the package does not use: percentiles of the statistic of resampled rows."""
    drawn = values[rng.integers(len(values), size=(resamples, len(values)))]
    replicates = statistic(drawn)
    lo, hi = np.percentile(replicates[np.isfinite(replicates)], [2.5, 97.5])
    return Estimate(float(statistic(values[None])[0]), float(lo), float(hi), len(values))


def _row_means(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=1)


def means() -> Iterator[Case]:
    for n in (3, 5, 10):
        yield Case(
            "paired_difference", f"{n} seeds, normal", lambda rng, n=n: paired_difference(rng.normal(1, 2, n)), 1
        )
        yield Case(
            "percentile bootstrap of a mean",
            f"{n} seeds, normal",
            lambda rng, n=n: percentile_bootstrap(rng.normal(1, 2, n), _row_means, rng),
            1,
            "too rarely",
        )
        yield Case(
            "cluster_bootstrap",
            f"{n} seeds, mean",
            lambda rng, n=n: cluster_bootstrap(
                rng.normal(1, 2, n), _row_means, resamples=500, seed=int(rng.integers(2**31))
            ),
            1,
        )
    yield Case("paired_difference", "10 seeds, uniform", lambda rng: paired_difference(rng.uniform(-1, 1, 10)), 0)
    yield Case("paired_difference", "10 seeds, Laplace", lambda rng: paired_difference(rng.laplace(size=10)), 0)
    for n in (6, 8, 12, 20):
        yield Case(
            "sign_flip_interval",
            f"{n} seeds, t with 3 degrees of freedom",
            lambda rng, n=n: sign_flip_interval(rng.standard_t(3, n) + 1, seed=int(rng.integers(2**31))),
            1,
            # Of 2^6 flips whole ones are 96.9 %.
            "at least 95 %" if n == 6 else "95 %",
        )


def _accuracies(rng: np.random.Generator, seeds: int, examples: int, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """Correctness of two conditions; examples are more or less hard for both, seeds a little better or not."""
    hard = rng.normal(size=examples)
    effects = rng.normal(0, 0.1, (2, seeds, 1))
    own = rng.normal(size=(2, examples))
    noise = rng.normal(size=(2, seeds, examples))
    latent = 1.3 + effects + np.sqrt(shared) * hard + np.sqrt(0.8 - shared) * own[:, None] + np.sqrt(0.2) * noise
    return latent[0] > 0, latent[1] > 0


def accuracies() -> Iterator[Case]:
    for seeds in (3, 5, 10):
        yield Case(
            "difference_over_seeds_and_examples",
            f"{seeds} seeds × 400 examples",
            lambda rng, seeds=seeds: difference_over_seeds_and_examples(*_accuracies(rng, seeds, 400, 0.4)),
            0,
        )

    def binomial(rng: np.random.Generator, shared: float) -> Estimate:
        one, other = _accuracies(rng, 5, 400, shared)
        error = binomial_error(float(one.mean()), float(other.mean()), 400)
        return paired_difference(one.mean(axis=1) - other.mean(axis=1), sampling=error)

    def over_seeds(rng: np.random.Generator) -> Estimate:
        one, other = _accuracies(rng, 5, 400, 0.4)
        return paired_difference(one.mean(axis=1) - other.mean(axis=1))

    yield Case(
        "paired_difference, binomial_error",
        "5 seeds × 400 examples, errors apart",
        lambda rng: binomial(rng, 0),
        0,
        "at least 95 %",
    )
    yield Case(
        "paired_difference, binomial_error",
        "5 seeds × 400 examples, half of the errors shared",
        lambda rng: binomial(rng, 0.4),
        0,
        "at least 95 %",
    )
    yield Case("paired_difference without the test split", "5 seeds × 400 examples", over_seeds, 0, "too rarely")


def aggregates() -> Iterator[Case]:
    for runs, tasks in ((3, 5), (5, 5), (10, 5), (3, 20), (10, 1), (20, 1)):
        middle, spread = np.linspace(-2, 2, tasks), np.linspace(0.5, 2, tasks)

        def scores(rng: np.random.Generator, runs: int = runs, middle=middle, spread=spread) -> np.ndarray:
            return middle + spread * rng.gumbel(size=(runs, middle.size))

        truth = interquartile_mean(scores(np.random.default_rng(9), 1_000_000 // tasks))
        yield Case(
            "interquartile_mean_interval",
            f"{runs} runs × {tasks} tasks, Gumbel",
            lambda rng, scores=scores: interquartile_mean_interval(
                scores(rng), resamples=500, seed=int(rng.integers(2**31))
            ),
            truth,
            "at least 95 %" if (runs, tasks) == (3, 5) else "95 %",
        )
        if runs == 3:
            yield Case(
                "percentile bootstrap of the interquartile mean",
                f"{runs} runs × {tasks} tasks, Gumbel",
                lambda rng, scores=scores: _stratified_percentiles(scores(rng), rng),
                truth,
                "too rarely",
            )
    for runs, tasks, shift in ((3, 5, 1.0), (5, 1, 0.0), (5, 1, 1.0), (5, 1, 2.0), (10, 1, 1.0), (10, 5, 1.0)):
        shifts = shift + np.linspace(-0.5, 0.5, tasks) if tasks > 1 else np.array([shift])
        yield Case(
            "probability_of_improvement",
            f"{runs} runs × {tasks} tasks, {shift:g} standard deviations apart",
            lambda rng, runs=runs, shifts=shifts: probability_of_improvement(
                [rng.normal(one, 1, runs) for one in shifts], [rng.normal(0, 1, runs) for _ in shifts]
            ),
            float(stats.norm.cdf(shifts / np.sqrt(2)).mean()),
        )


def _stratified_percentiles(scores: np.ndarray, rng: np.random.Generator) -> Estimate:
    drawn = rng.integers(len(scores), size=(500, *scores.shape))
    replicates = stats.trim_mean(np.take_along_axis(scores[None], drawn, axis=1).reshape(500, -1), 0.25, axis=1)
    lo, hi = np.percentile(replicates, [2.5, 97.5])
    return Estimate(interquartile_mean(scores), float(lo), float(hi), len(scores))


def claims() -> Iterator[Case]:
    """A family of ten: the largest distance from the truth, in half widths, is what should not exceed 1."""
    truths = np.array([0.0] * 5 + [5.0] * 5)

    def worst(rng: np.random.Generator, which: str) -> Estimate:
        family = {str(i): partial(paired_difference, rng.normal(truth, 1, 8)) for i, truth in enumerate(truths)}
        excess = []
        for found, truth in zip(adjusted(family).values(), truths, strict=True):
            one = found.simultaneous if which == "simultaneous" else found.holm
            if which == "simultaneous" or truth == 0:
                excess.append(abs(one.estimate - truth) / (one.hi - one.estimate))
        return Estimate(max(excess), max(excess), np.inf, 8)

    yield Case("adjusted, simultaneous", "all ten claims of a family", lambda rng: worst(rng, "simultaneous"), 1)
    yield Case("adjusted, Holm", "the five of ten claims without effect", lambda rng: worst(rng, "Holm"), 1)


def scaling() -> Iterator[Case]:
    batch = 2.0 ** np.arange(2, 13)
    steps = 100 * (1 + 500 / batch)
    perfect = batch <= regimes(batch, [steps] * 2).b_perfect
    slope = float(np.polyfit(np.log2(batch[perfect]), np.log2(steps[perfect]), 1)[0])
    for seeds in (3, 5, 10):
        # So little noise that all studies find the same regimes: the slope inside them is the truth.
        yield Case(
            "regimes, slope of perfect scaling",
            f"{seeds} seeds, 1 % noise",
            lambda rng, seeds=seeds: regimes(batch, steps * np.exp(rng.normal(0, 0.01, (seeds, batch.size)))).perfect,
            slope,
        )
        yield Case(
            "regimes, slope over all batch sizes",
            f"{seeds} seeds, 20 % noise",
            lambda rng, seeds=seeds: regimes(batch, steps * np.exp(rng.normal(0, 0.2, (seeds, batch.size)))).whole,
            float(np.polyfit(np.log2(batch), np.log2(steps), 1)[0]),
        )
    for k in (5, 7, 11):
        sizes = np.geomspace(4, 4096, k)
        for critical in (64.0, 1000.0):

            def curve(rng: np.random.Generator, sizes=sizes, critical=critical) -> np.ndarray:
                return 100 * (1 + critical / sizes) * np.exp(rng.normal(0, 0.08, sizes.size))

            setting = f"{k} batch sizes, B_crit {critical:g}, 8 % noise"
            yield Case(
                "critical_batch",
                setting,
                lambda rng, sizes=sizes, curve=curve: critical_batch(sizes, curve(rng)).b_crit,
                critical,
            )
            if critical == 64:
                yield Case(
                    "percentile bootstrap over batch sizes of B_crit",
                    setting,
                    lambda rng, sizes=sizes, curve=curve: _bootstrapped_critical(sizes, curve(rng), rng),
                    critical,
                    "too rarely",
                )
    yield from learning_rates()


def _bootstrapped_critical(batch: np.ndarray, steps: np.ndarray, rng: np.random.Generator) -> Estimate:
    u = np.linspace(np.log(batch[0] / 64), np.log(batch[-1] * 64), 400)
    offsets = np.log(steps) - np.log1p(np.exp(u)[:, None] / batch)
    drawn = rng.integers(batch.size, size=(300, batch.size))
    best = offsets[:, drawn].var(axis=2).argmin(axis=0)
    lo, hi = np.percentile(np.exp(u[best]), [2.5, 97.5])
    return Estimate(float(np.exp(u[offsets.var(axis=1).argmin()])), float(lo), float(hi), batch.size)


def learning_rates() -> Iterator[Case]:
    rates, batch = 2.0 ** np.arange(-12, 3), 2.0 ** np.arange(2, 11)

    def scores(rng: np.random.Generator, seeds: int, noise: float, between: float) -> np.ndarray:
        slopes = 0.5 + rng.normal(0, between, (seeds, 1))
        best = -8 + slopes * np.log2(batch / 4) + rng.normal(0, 0.1, (seeds, 1))
        height = 1 - 0.01 * (np.log2(rates) - best[..., None]) ** 2
        return height + rng.normal(0, noise, (seeds, batch.size, rates.size))

    for seeds in (3, 5, 10):
        for noise, between in ((0.003, 0.0), (0.003, 0.1), (0.01, 0.05)):
            expected = "at least 95 %" if between == 0 else "95 %"
            yield Case(
                "best_learning_rates, slope",
                f"{seeds} seeds, accuracy noise {noise:g}, slopes of seeds ± {between:g}",
                lambda rng, seeds=seeds, noise=noise, between=between: (
                    best_learning_rates(batch, rates, scores(rng, seeds, noise, between)).slope
                ),
                0.5,
                expected,
            )
    fine = np.random.default_rng(3)
    for seeds in (3, 10):

        def octaves(rng: np.random.Generator, seeds: int = seeds):
            best = rng.normal(-5, 0.5, (seeds, 1))
            return 1 - 0.002 * (np.log2(rates) - best) ** 2 + rng.normal(0, 0.0003, (seeds, rates.size))

        truth = tolerated_octaves(rates, octaves(fine, 40_000), 0.005).octaves.estimate
        yield Case(
            "tolerated_octaves",
            f"{seeds} seeds",
            lambda rng, octaves=octaves: tolerated_octaves(rates, octaves(rng), 0.005).octaves,
            truth,
        )


def censored() -> Iterator[Case]:
    big = np.random.default_rng(5).lognormal(np.log(100), 0.2, 1_000_000)
    for n in (5, 10, 20):
        for horizon in (115.0, 200.0):

            def study(rng: np.random.Generator, n: int = n, horizon: float = horizon) -> Estimate:
                steps = rng.lognormal(np.log(100), 0.2, n)
                # One trial in five is interrupted at some time; the others are watched to the end.
                watched = np.where(rng.random(n) < 0.2, rng.uniform(80, 200, n), 200)
                # Where the longest-watched trial was interrupted before the horizon there is no restricted mean.
                if (
                    np.minimum(steps, watched).max() < horizon
                    and (watched < steps)[np.minimum(steps, watched).argmax()]
                ):
                    return study(rng)
                return restricted_mean(np.minimum(steps, watched), steps <= watched, horizon)

            yield Case(
                "restricted_mean",
                f"{n} trials, a fifth interrupted, horizon {horizon:g}",
                study,
                float(np.minimum(big, horizon).mean()),
            )


def _knees(drawn: np.ndarray) -> np.ndarray:
    """Return t0/t1 of each resample of (batch size, time); nan where it holds one batch size alone."""
    weights = drawn[..., 1] ** -2
    x, y = drawn[..., 0], drawn[..., 1]
    total = weights.sum(axis=1)
    mean_x, mean_y = (weights * x).sum(axis=1) / total, (weights * y).sum(axis=1) / total
    cross = (weights * (x - mean_x[:, None]) * (y - mean_y[:, None])).sum(axis=1)
    spread = (weights * (x - mean_x[:, None]) ** 2).sum(axis=1)
    slope = np.divide(cross, spread, out=np.full_like(cross, np.nan), where=spread > 1e-9 * mean_x**2)
    return mean_y / slope - mean_x


def curves() -> Iterator[Case]:
    steps = np.arange(0, 1001, 50)
    growth = 2.0 ** (2 * steps / 1000)
    late, early = growth[steps >= 800].mean(), growth[steps <= 200].mean()
    for seeds in (3, 5, 10):
        yield Case(
            "late_over_early",
            f"{seeds} seeds, 30 % between seeds",
            lambda rng, seeds=seeds: late_over_early(
                steps,
                growth
                * np.exp(rng.normal(0, 0.3, (seeds, 1)) * steps / 1000 + rng.normal(0, 0.02, (seeds, steps.size))),
            ),
            float(late / early),
        )
    for k in (5, 8, 12):
        batch = np.geomspace(8, 4096, k)

        def times(rng: np.random.Generator, batch=batch) -> np.ndarray:
            return (1 + 0.01 * batch) * np.exp(rng.normal(0, 0.05, batch.size))

        yield Case(
            "fit_line, slope",
            f"{k} batch sizes, 5 % noise",
            lambda rng, batch=batch, times=times: fit_line(batch, times(rng)).slope,
            0.01,
        )
        yield Case(
            "knee", f"{k} batch sizes, 5 % noise", lambda rng, batch=batch, times=times: knee(batch, times(rng)), 100
        )
        yield Case(
            "percentile bootstrap over batch sizes of the knee",
            f"{k} batch sizes, 5 % noise",
            lambda rng, batch=batch, times=times: percentile_bootstrap(
                np.column_stack([batch, times(rng)]), _knees, rng, 300
            ),
            100,
            "too rarely",
        )
        yield Case(
            "against_prediction, slope ratio",
            f"{k} batch sizes, 5 % noise",
            lambda rng, batch=batch, times=times: against_prediction(batch, times(rng), 1.0, 0.01).slope_ratio,
            1,
        )
    at = 2.0 ** np.arange(1, 13)

    def distances(rng: np.random.Generator, seeds: int) -> np.ndarray:
        return np.log(at) * (1 + rng.normal(0, 0.1, (seeds, 1))) + 1 + rng.normal(0, 0.1, (seeds, at.size))

    truth = distance_growth(at, distances(np.random.default_rng(4), 200_000)).advantage.estimate
    for seeds in (3, 10):
        yield Case(
            "distance_growth, advantage",
            f"{seeds} seeds, logarithm",
            lambda rng, seeds=seeds: distance_growth(at, distances(rng, seeds)).advantage,
            truth,
        )


def correlations() -> Iterator[Case]:
    def pairs(rng: np.random.Generator, n: int, rho: float) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=n)
        return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)

    for n, rho in ((8, 0.0), (10, 0.7), (20, 0.7), (20, 0.9), (40, 0.5)):
        truth = float(6 / np.pi * np.arcsin(rho / 2))
        yield Case(
            "spearman", f"{n} pairs, ρ {truth:.2f}", lambda rng, n=n, rho=rho: spearman(*pairs(rng, n, rho)), truth
        )
    for n, strata, rho in ((6, 8, 0.6), (8, 5, 0.0), (10, 20, 0.6)):
        truth = float(6 / np.pi * np.arcsin(rho / 2))
        yield Case(
            "stratified_spearman",
            f"{strata} strata of {n} pairs, ρ {truth:.2f}",
            lambda rng, n=n, strata=strata, rho=rho: stratified_spearman([pairs(rng, n, rho) for _ in range(strata)]),
            truth,
            "at least 95 %" if n == 6 else "95 %",
        )


def cases() -> list[Case]:
    return [
        case
        for family in (means, accuracies, aggregates, claims, scaling, censored, curves, correlations)
        for case in family()
    ]


def decisions(effect: float, pairs: int, margin: float, studies: int, seed: int = 0) -> dict[str, float]:
    """How often verdicts on paired differences of deviation 1 fall where `verdict_probabilities` says."""
    rng = np.random.default_rng([seed, pairs])
    words = []
    for _ in range(studies):
        found = paired_difference(rng.normal(effect, 1, pairs))
        words.append((verdict(found, margin, "different").word, found.estimate > 0))
    above, below = words.count(("supported", True)), words.count(("supported", False))
    inside = sum(word == "refuted" for word, _ in words)
    counts = {"above": above, "below": below, "inside": inside, "undecided": studies - above - below - inside}
    return {name: count / studies for name, count in counts.items()}
