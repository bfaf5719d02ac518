"""Known answers: steps to target of the noisy quadratic model (h = 1/i, i ≤ 10⁴, target .01, best constant rate)."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from bench.analysis.intervals import log2_slope
from bench.analysis.scaling import critical_batch, regimes
from bench.errors import UsageError
from bench.tasks.nqm_recursion import NoisyQuadratic

BATCH = [4, 16, 64, 256, 1024]
STEPS = [1_511_461, 378_621, 95_994, 25_820, 10_357]


def test_regimes_of_the_noisy_quadratic_model() -> None:
    found = regimes(BATCH, [STEPS, STEPS])
    assert (found.b_perfect, found.b_max) == (256, 1024)
    line = log2_slope(BATCH[:4], STEPS[:4])
    assert line is not None
    assert found.perfect.estimate == pytest.approx(line.slope)
    assert found.between.estimate == pytest.approx(math.log2(10_357 / 25_820) / 2)
    # One batch size has no slope.
    assert math.isnan(found.maximal.estimate)
    assert found.censored == ()


def test_perfect_scaling_has_slope_minus_one_and_a_plateau_slope_zero() -> None:
    batch = 2.0 ** np.arange(10)
    steps = np.maximum(1024 / batch, 64)
    found = regimes(batch, [steps, 2 * steps])
    assert (found.b_perfect, found.b_max) == (16, 16)
    assert (found.perfect.estimate, found.perfect.lo) == pytest.approx((-1, -1))
    assert found.maximal.estimate == pytest.approx(0)
    assert found.whole.n == 2


def test_slope_interval_is_over_the_seeds_own_slopes() -> None:
    steps = np.array([[1000.0, 510.0, 250.0], [1100.0, 500.0, 260.0], [900.0, 480.0, 240.0]])
    slopes = [stats.linregress([0, 1, 2], np.log2(row)).slope for row in steps]
    expected = stats.ttest_1samp(slopes, 0).confidence_interval()
    found = regimes([1, 2, 4], steps).whole
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high))


def test_a_batch_size_that_a_seed_did_not_finish_at_is_named_and_left_out() -> None:
    found = regimes([4, 1, 2, 8], [[25, 100, 50, math.inf], [25, 100, 50, 13]])
    assert found.censored == (8.0,)
    assert found.b_perfect == 4
    nothing = regimes([1, 2], [[math.nan, 10], [5, 10]])
    assert math.isnan(nothing.b_perfect)
    assert nothing.censored == (1.0,)


@pytest.mark.parametrize(
    ("batch", "steps", "message"),
    [([1, 2], [[1, 2, 3]], "different batch sizes"), ([1, 1], [[1, 2]], "different"), ([0, 1], [[1, 2]], "above 0")],
)
def test_tables_that_do_not_fit(batch: list[int], steps: list[list[int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        regimes(batch, steps)


def test_critical_batch_of_a_hyperbola_is_exact() -> None:
    batch = np.geomspace(4, 4096, 8)
    found = critical_batch(batch, 200 * (1 + 300 / batch))
    assert found.identified
    assert found.b_crit.estimate == pytest.approx(300, rel=1e-3)
    assert found.s_min == pytest.approx(200, rel=1e-3)
    assert found.rms < 1e-3


def test_critical_batch_is_scipys_least_squares_with_a_profile() -> None:
    batch = np.array(BATCH, dtype=float)
    logs = np.log(STEPS)

    def residuals(p: np.ndarray) -> np.ndarray:
        return np.asarray(p[0] + np.log1p(np.exp(p[1]) / batch) - logs)

    oracle = optimize.least_squares(residuals, [9, 6])
    found = critical_batch(BATCH, STEPS)
    assert found.b_crit.estimate == pytest.approx(math.exp(oracle.x[1]), rel=1e-3)
    assert found.s_min == pytest.approx(math.exp(oracle.x[0]), rel=1e-3)
    assert found.rms == pytest.approx(math.sqrt(np.mean(oracle.fun**2)), rel=1e-3)
    limit = 2 * oracle.cost * (1 + stats.f.ppf(0.95, 1, 3) / 3)
    for end in (found.b_crit.lo, found.b_crit.hi):
        offsets = logs - np.log1p(end / batch)
        assert np.var(offsets) * 5 == pytest.approx(limit, rel=0.01)


def test_the_hyperbola_does_not_fit_the_noisy_quadratic_model() -> None:
    """Off by 8 % rms from B = 4 to 16384, where the plateau is reached; by 3 % over the five sizes short of it."""
    model = NoisyQuadratic.harmonic()
    batch = [*BATCH, 4096, 16384]
    found = critical_batch(batch, [*STEPS, *(model.best_lr(size)[1] for size in batch[5:])])
    assert found.rms == pytest.approx(0.08, abs=0.005)
    assert found.identified
    assert critical_batch(BATCH, STEPS).rms == pytest.approx(0.031, abs=0.001)


@pytest.mark.parametrize(
    ("steps", "reason", "lo", "hi"),
    [(lambda b: 1e6 / b, "falls as 1/B", None, math.inf), (lambda b: 100 + 0 * b, "does not fall", 0.0, None)],
)
def test_what_the_batch_sizes_do_not_bound(steps, reason: str, lo: float | None, hi: float | None) -> None:
    batch = np.geomspace(4, 1024, 7)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.02, batch.size))
    found = critical_batch(batch, steps(batch) * noise)
    assert not found.identified
    assert reason in found.reason
    assert lo is None or found.b_crit.lo == lo
    assert hi is None or found.b_crit.hi == hi


def test_two_batch_sizes_give_no_critical_batch_but_a_reason() -> None:
    found = critical_batch([4, 16, 64], [100, math.inf, 30])
    assert not found.identified
    assert "at least 3" in found.reason
    assert math.isnan(found.b_crit.estimate)
