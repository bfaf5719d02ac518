import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from bench.analysis.curves import against_prediction, distance_growth, fit_line, knee, late_over_early
from bench.errors import UsageError

STEPS = np.arange(0, 101, 10)


def test_late_over_early_by_hand() -> None:
    values = np.where(STEPS <= 20, 50.0, np.where(STEPS >= 80, 900.0, np.nan))
    found = late_over_early(STEPS, [values, 2 * values, values])
    assert (found.estimate, found.lo, found.hi) == pytest.approx((18, 18, 18))
    ratios = np.array([2.0, 3.0, 5.0])
    found = late_over_early(STEPS, np.where(STEPS < 50, 1.0, ratios[:, None]))
    expected = stats.ttest_1samp(np.log(ratios), 0).confidence_interval()
    assert (found.lo, found.hi) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))


def test_a_window_without_values_and_a_mean_below_zero() -> None:
    values = np.ones((2, STEPS.size))
    values[0, STEPS >= 80] = np.nan
    with pytest.raises(UsageError, match="late window"):
        late_over_early(STEPS, values)
    # The two-batch estimator of a noise scale can be negative.
    values[0, STEPS >= 80] = -3
    assert math.isnan(late_over_early(STEPS, values).estimate)


def test_fit_line_is_scipys_curve_fit() -> None:
    x = np.geomspace(8, 4096, 9)
    y = (3 + 0.02 * x) * np.exp(np.random.default_rng(0).normal(0, 0.03, x.size))
    found = fit_line(x, y)
    fitted = found.intercept.estimate + found.slope.estimate * x
    best, covariance = optimize.curve_fit(lambda x, a, b: a + b * x, x, y, p0=[3, 0.02], sigma=fitted)
    half = stats.t.ppf(0.975, 7) * np.sqrt(np.diag(covariance))
    assert (found.intercept.estimate, found.slope.estimate) == pytest.approx(best, rel=1e-3)
    assert found.slope.hi - found.slope.estimate == pytest.approx(half[1], rel=1e-3)
    assert found.intercept.hi - found.intercept.estimate == pytest.approx(half[0], rel=1e-3)


def test_memory_on_its_predicted_line() -> None:
    batch = np.array([1, 16, 256, 1024])
    found = against_prediction(batch, 100 + 0.5 * batch, 100, 0.5)
    assert (found.slope_ratio.estimate, found.worst) == pytest.approx((1, 0), abs=1e-9)
    assert found.intercept_difference.estimate == pytest.approx(0, abs=1e-9)
    more = against_prediction(batch, 110 + 0.55 * batch, 100, 0.5)
    assert (more.slope_ratio.estimate, more.worst) == pytest.approx((1.1, 0.1))
    assert math.isnan(fit_line([1, 2], [1, 2]).slope.lo)


@pytest.mark.parametrize(
    ("x", "y", "message"), [([1, 1], [1, 2], "two different x"), ([1, 2], [1, 0], "positive"), ([1, 2], [1], "as many")]
)
def test_lines_that_are_none(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit_line(x, y)
    with pytest.raises(UsageError, match="predicted"):
        against_prediction([1, 2], [1, 2], 1, 0)


@given(st.floats(0.1, 10), st.floats(0.001, 1))
def test_knee_of_a_line_is_exact(fixed: float, per_example: float) -> None:
    batch = np.array([1.0, 8, 64, 512])
    found = knee(batch, fixed + per_example * batch)
    assert found.estimate == pytest.approx(fixed / per_example, rel=1e-6)
    assert found.lo == pytest.approx(found.hi, rel=1e-3)


def test_knee_is_all_that_are_not_rejected() -> None:
    # Fieller: K is inside where t0 − K t1 is within t standard errors of 0.
    batch = np.geomspace(8, 4096, 7)
    time = (1 + 0.01 * batch) * np.exp(np.random.default_rng(1).normal(0, 0.05, batch.size))
    found, line = knee(batch, time), fit_line(batch, time)
    fitted = line.intercept.estimate + line.slope.estimate * batch
    _, covariance = optimize.curve_fit(lambda x, a, b: a + b * x, batch, time, p0=[1, 0.01], sigma=fitted)
    for end in (found.lo, found.hi):
        gradient = np.array([1, -end])
        distance = line.intercept.estimate - end * line.slope.estimate
        assert abs(distance) == pytest.approx(
            stats.t.ppf(0.975, 5) * math.sqrt(gradient @ covariance @ gradient), rel=0.01
        )
    assert found.lo < 100 < found.hi


def test_a_step_that_takes_no_longer_has_no_knee_in_reach() -> None:
    rng = np.random.default_rng(0)
    found = knee([1, 2, 4, 8, 16], np.exp(rng.normal(0, 0.05, 5)))
    assert found.hi == math.inf
    assert 0 <= found.lo <= found.estimate
    none = knee([8, 64, 512, 4096], 0.01 * np.array([8, 64, 512, 4096]))
    assert none.estimate == pytest.approx(0, abs=1e-6)
    with pytest.raises(UsageError, match="at least 3"):
        knee([1, 2], [1, 2])


def test_distances_by_the_logarithm_and_by_the_root() -> None:
    at = 2.0 ** np.arange(1, 13)
    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(0, 0.02, (5, at.size)))
    logarithm = distance_growth(at, (1 + np.log(at)) * noise)
    assert logarithm.advantage.lo > 0
    assert logarithm.log_rms < logarithm.sqrt_rms
    walk = distance_growth(at, np.sqrt(at) * noise)
    assert walk.advantage.hi < 0
    assert walk.exponent.lo < 0.5 < walk.exponent.hi
    with pytest.raises(UsageError, match="positive"):
        distance_growth(at, 0 * noise)
    with pytest.raises(UsageError, match="at least 4"):
        distance_growth(at[:3], noise[:, :3])
