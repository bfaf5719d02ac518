import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.analysis.intervals import log2_slope, mean_interval, seeds_needed, t_factors, t_quantile, verdict

finite = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 30, 200])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.995])
def test_t_quantile_is_scipys(probability: float, degrees: int) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-9)
    assert t_quantile(1 - probability, degrees) == pytest.approx(-t_quantile(probability, degrees))


@pytest.mark.parametrize(("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_t_quantile_refuses_what_has_no_quantile(probability: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="t_quantile"):
        t_quantile(probability, degrees)


@given(st.lists(finite, min_size=2, max_size=12))
def test_mean_interval_is_scipys(values: list[float]) -> None:
    found = mean_interval(values)
    error = stats.sem(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-6)
    if error > 1e-9:
        lo, hi = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert (found.lo, found.hi) == pytest.approx((lo, hi), rel=1e-6, abs=1e-6)


def test_mean_interval_of_one_seed_or_none_has_no_ends() -> None:
    assert math.isnan(mean_interval([0.5]).lo)
    assert mean_interval([0.5, math.nan]).n == 1
    assert mean_interval([]).n == 0
    assert np.isnan(t_factors([0, 1])).all()
    assert t_factors([3])[0] == pytest.approx(4.302653, rel=1e-6)


def test_mean_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(4000, 3))
    covered = np.mean([found.lo <= 0 <= found.hi for found in map(mean_interval, draws)])
    assert 0.94 < covered < 0.96


@given(st.integers(3, 10), st.floats(-2, 2), st.integers(0, 1000))
def test_log2_slope_is_scipys(n: int, slope: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = 2.0 ** np.arange(n)
    y = 2.0 ** (slope * np.arange(n) + rng.normal(0, 0.3, n))
    fit, oracle = log2_slope(x, y), stats.linregress(np.log2(x), np.log2(y))
    assert fit is not None
    half = oracle.stderr * stats.t.ppf(0.975, n - 2)
    assert fit.slope == pytest.approx(oracle.slope, abs=1e-9)
    assert (fit.lo, fit.hi) == pytest.approx((oracle.slope - half, oracle.slope + half), abs=1e-7)


def test_log2_slope_of_perfect_scaling_is_minus_one() -> None:
    fit = log2_slope([4, 16, 64, 256], [6400, 1600, 400, math.nan])
    assert fit is not None
    assert fit.slope == pytest.approx(-1)
    assert fit.n == 3
    assert log2_slope([4, 4], [1, 2]) is None


@pytest.mark.parametrize(
    ("estimate", "lo", "hi", "expected"),
    [
        (-0.02, -0.03, -0.01, "supported"),
        (0.02, 0.01, 0.03, "refuted"),
        (0.001, -0.002, 0.004, "equivalent"),
        (-0.003, -0.004, -0.002, "equivalent"),
        (-0.02, -0.05, 0.01, "inconclusive"),
        (-0.004, -0.006, -0.002, "inconclusive"),
        (-0.02, math.nan, math.nan, "inconclusive"),
    ],
)
def test_verdict_on_a_claim_that_the_effect_is_negative(estimate: float, lo: float, hi: float, expected: str) -> None:
    assert verdict(estimate, lo, hi, 0.005, -1) == expected


@given(finite, st.floats(0, 1e6), st.floats(1e-3, 1e3))
def test_verdict_turns_with_the_claim(estimate: float, half: float, margin: float) -> None:
    other = {"supported": "refuted", "refuted": "supported"}
    lo, hi = estimate - half, estimate + half
    one = verdict(estimate, lo, hi, margin, +1)
    assert verdict(estimate, lo, hi, margin, -1) == other.get(one, one)
    assert verdict(-estimate, -hi, -lo, margin, -1) == one


def test_seeds_needed_for_a_tenth_of_a_point() -> None:
    # A standard deviation of .17 points and a margin of .1 points: (1.96 · .17 / .1)² = 11.1.
    assert seeds_needed(0.0017, 0.001) == 12
    assert seeds_needed(0.0, 0.001) == 2
    assert math.isnan(seeds_needed(math.nan, 0.001))
