import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.analysis.statistics.aggregates import (
    improvement,
    interquartile_mean,
    interquartile_mean_interval,
    probability_of_improvement,
)
from bench.analysis.statistics.estimates import Estimate
from bench.errors import UsageError

scores = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


@given(scores)
def test_interquartile_mean_is_scipys_trimmed_mean(values: list[float]) -> None:
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-9)


def test_interquartile_mean_is_rliables() -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed")
    values = np.random.default_rng(0).normal(size=(5, 7))
    assert interquartile_mean(values) == pytest.approx(metrics.aggregate_iqm(values))
    others = np.random.default_rng(1).integers(0, 4, size=(6, 7)).astype(float)
    whole = values.round()
    found = probability_of_improvement(list(whole.T), list(others.T))
    assert found.estimate == pytest.approx(metrics.probability_of_improvement(whole, others))


def test_interquartile_mean_of_scores_with_a_failed_quarter() -> None:
    assert interquartile_mean([-math.inf, 1.0, 2.0, 30.0]) == 1.5
    assert interquartile_mean([-math.inf, -math.inf, 2.0, 30.0]) == -math.inf
    with pytest.raises(UsageError, match="scores are missing"):
        interquartile_mean([math.nan, 1.0])


def test_interval_of_tasks_without_spread_has_no_width_and_one_of_many_failures_no_bounds() -> None:
    still = interquartile_mean_interval(np.ones((3, 4)) * [1, 2, 3, 4])
    assert (still.estimate, still.lo, still.hi, still.n) == (2.5, 2.5, 2.5, 3)
    failed = np.array([[-math.inf, 1.0], [1.0, -math.inf], [1.0, 2.0]])
    assert interquartile_mean_interval(failed).hi == math.inf
    with pytest.raises(UsageError, match="at least 2 runs"):
        interquartile_mean_interval([[1.0, 2.0]])


def test_interval_repeats_and_widens_with_the_confidence() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6))
    one = interquartile_mean_interval(values)
    assert one == interquartile_mean_interval(values)
    wide = interquartile_mean_interval(values, 0.99)
    assert wide.lo < one.lo < one.estimate < one.hi < wide.hi


small = st.lists(st.integers(0, 3), min_size=1, max_size=6)


@given(small, small)
def test_probability_of_improvement_is_counted_and_scipys(a: list[int], b: list[int]) -> None:
    by_hand = np.mean([1.0 if x > y else 0.5 if x == y else 0.0 for x, y in itertools.product(a, b)])
    found = probability_of_improvement([a], [b])
    assert found.estimate == pytest.approx(by_hand)
    if len({*a, *b}) > 1:
        assert found.estimate == pytest.approx(stats.mannwhitneyu(a, b).statistic / len(a) / len(b))
    assert 0 <= found.lo <= found.estimate <= found.hi <= 1
    turned = probability_of_improvement([b], [a])
    assert (turned.lo, turned.hi) == pytest.approx((1 - found.hi, 1 - found.lo), abs=1e-9)


def test_every_run_better_is_still_uncertain() -> None:
    few, many = (probability_of_improvement([np.ones(n)], [np.zeros(n)]) for n in (3, 30))
    assert few.estimate == many.estimate == 1
    assert few.lo < many.lo < 1


def test_a_diverged_run_is_worse_than_all() -> None:
    assert probability_of_improvement([[-math.inf, 1.0]], [[0.0]]).estimate == 0.5
    with pytest.raises(UsageError, match="the same ones"):
        probability_of_improvement([[1.0]], [])


@pytest.mark.parametrize(
    ("lo", "hi", "expected"), [(0.45, 0.8, "no difference shown"), (0.51, 0.7, "too small"), (0.51, 0.8, "improvement")]
)
def test_what_a_probability_of_improvement_shows(lo: float, hi: float, expected: str) -> None:
    assert improvement(Estimate((lo + hi) / 2, lo, hi, 9)) == expected
