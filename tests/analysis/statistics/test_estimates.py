import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.analysis.statistics.differences import paired_difference, paired_estimator
from bench.analysis.statistics.estimates import Estimate, StudentT, p_value, t_estimate, two_way_estimate


@given(st.integers(2, 12), st.floats(-2, 2), st.integers(0, 1000))
def test_p_value_of_a_t_interval_is_scipys(n: int, null: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.5, 1, n)
    expected = stats.ttest_1samp(values, null).pvalue
    found = p_value(lambda confidence: paired_difference(values, confidence), null)
    assert found == pytest.approx(max(expected, 1e-9), rel=2e-3)


@given(
    st.integers(1, 12), st.floats(-2, 2), st.integers(0, 1000), st.sampled_from([1e-9, 1e-3, 1.0]), st.floats(0, 0.1)
)
def test_p_values_in_closed_form_are_those_of_the_interval_to_the_last_digit(
    n: int, null: float, seed: int, scale: float, sampling: float
) -> None:
    values = 0.5 + np.random.default_rng(seed).normal(0, scale, n)
    estimator = paired_estimator(values, sampling)
    slowly = p_value(lambda confidence: paired_difference(values, confidence, sampling), null)
    assert p_value(estimator, null) == pytest.approx(slowly, abs=0, rel=0, nan_ok=True)
    if not math.isnan(slowly) and slowly > 1e-9:
        assert estimator.p(null) == pytest.approx(slowly, rel=1.1e-3)


def test_a_difference_of_roundings_is_judged_by_the_interval() -> None:
    values = np.full(5, -1.0) + np.array([0, 1, 0, 2, 1]) * 2.0**-52
    assert p_value(paired_estimator(values), -1.0) == p_value(partial(paired_difference, values), -1.0)
    assert p_value(StudentT(1.0, 0.0, 4.0, 5), 1.0) == 1.0


def test_p_value_where_nothing_is_known_or_nothing_varies() -> None:
    assert math.isnan(p_value(lambda confidence: paired_difference([1.0], confidence)))
    assert p_value(partial(paired_difference, [0.3, 0.3, 0.3])) == 1e-9
    assert p_value(partial(paired_difference, [-1.0, 1.0])) == pytest.approx(1, rel=2e-3)


def test_an_estimate_moves_with_its_null() -> None:
    moved = Estimate(-0.8, -0.9, -0.7, 5).minus(-1)
    assert (moved.estimate, moved.lo, moved.hi) == pytest.approx((0.2, 0.1, 0.3))
    assert moved.excludes(0)
    assert not moved.excludes(0.15)


def test_no_degrees_of_freedom_give_no_interval_and_no_bound_an_unbounded_one() -> None:
    assert math.isnan(t_estimate(1.0, 0.1, 0.5, 1).lo)
    assert t_estimate(1.0, math.inf, 3, 4).hi == math.inf
    assert t_estimate(0.0, 1.0, math.inf, 4).hi == pytest.approx(1.959964, abs=1e-4)


def test_a_two_way_mean_takes_the_interaction_out_once() -> None:
    # Variances 4 + 3 − 1 = 6 with Satterthwaite's 36/(16/4 + 9/9 + 1/36) degrees of freedom.
    found = two_way_estimate(0.0, (4.0, 3.0, 1.0), (4, 9))
    degrees = 36 / (16 / 4 + 9 / 9 + 1 / 36)
    assert found.hi == pytest.approx(stats.t.ppf(0.975, degrees) * math.sqrt(6))
    assert found.n == 5


@pytest.mark.parametrize(
    ("variances", "variance", "degrees"),
    [((0.5, 0.5, 1.0), 1.0, 36), ((2.0, 0.5, 1.0), 2.0, 4), ((0.5, 2.0, 1.0), 2.0, 9)],
)
def test_a_part_not_above_the_interaction_is_none(variances: tuple, variance: float, degrees: int) -> None:
    found = two_way_estimate(0.0, variances, (4, 9))
    assert found.hi == pytest.approx(stats.t.ppf(0.975, degrees) * math.sqrt(variance))
