import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.analysis.censoring import expected_best, restricted_mean, right_censored, survival
from bench.errors import UsageError

trials = st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=15)


@given(trials)
def test_survival_is_scipys(given: list[tuple[int, bool]]) -> None:
    times, reached = np.array([t for t, _ in given], dtype=float), np.array([r for _, r in given])
    found = survival(times, reached)
    oracle = stats.ecdf(stats.CensoredData(uncensored=times[reached], right=times[~reached])).sf
    assert found.share == pytest.approx(oracle.evaluate(found.times), abs=1e-12)
    assert (found.n, found.reached, found.end) == (len(given), reached.sum(), times.max())
    assert (np.diff(found.share) <= 0).all()


def test_greenwoods_error_by_hand() -> None:
    # Of four, one arrives at 1; of three one at 2 (one is lost between); of one, none is left: S = ¾, ½.
    found = survival([1, 2, 2.5, 3], [True, True, False, False])
    assert found.share.tolist() == [0.75, 0.5]
    assert found.error == pytest.approx([0.75 * math.sqrt(1 / 12), 0.5 * math.sqrt(1 / 12 + 1 / 6)])
    assert found.median() == 2
    assert survival([1, 2, 3], [True, False, False]).median() == math.inf


def test_a_diverged_trial_is_watched_to_the_end_and_an_interrupted_one_until_then() -> None:
    times, reached = right_censored([40, math.nan, math.inf], [100, 7, 30], [False, False, True], 100)
    assert times.tolist() == [40, 100, 30]
    assert reached.tolist() == [True, False, False]


@given(st.integers(5, 20), st.integers(0, 100))
def test_restricted_mean_without_interruptions_is_a_t_interval(n: int, seed: int) -> None:
    steps = np.random.default_rng(seed).lognormal(3, 0.4, n)
    horizon = float(np.quantile(steps, 0.8))
    cut = np.minimum(steps, horizon)
    found = restricted_mean(cut, steps < horizon, horizon)
    expected = stats.ttest_1samp(cut, 0).confidence_interval()
    assert found.estimate == pytest.approx(cut.mean())
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high))


def test_restricted_mean_by_hand() -> None:
    # S is 1 up to 10, ⅘ up to 20, then 8/15 (one of three at risk, as one was interrupted at 15): 10 + 8 + 16/3.
    found = restricted_mean([10, 15, 20, 40, 40], [True, False, True, False, False], 30)
    assert found.estimate == pytest.approx(10 + 8 + 10 * 0.8 * 2 / 3)
    assert found.lo < found.estimate < found.hi


def test_restricted_mean_of_none_that_arrived_and_of_few() -> None:
    none = restricted_mean([50] * 5, [False] * 5, 50)
    assert (none.estimate, none.lo, none.hi) == (50, 50, 50)
    assert math.isnan(restricted_mean([10, 20, 30], [True] * 3, 30).lo)
    with pytest.raises(UsageError, match="watched until 40"):
        restricted_mean([10, 40], [True, False], 50)
    with pytest.raises(UsageError, match="not finite"):
        survival([math.inf], [False])


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=7), st.data())
def test_expected_best_is_brute_force(values: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    for direction, pick in ((1, max), (-1, min)):
        brute = np.mean([pick(chosen) for chosen in itertools.combinations(values, k)])
        assert expected_best(values, k, direction) == pytest.approx(brute, abs=1e-9)


def test_failed_trials_are_the_worst() -> None:
    assert expected_best([100, math.nan, 300], 1, -1) == math.inf
    # Of the pairs (100, failed), (100, 300), (failed, 300) the best are 100, 100, 300.
    assert expected_best([100, math.nan, 300], 2, -1) == pytest.approx(500 / 3)
    assert expected_best([0.9, math.nan], 1) == -math.inf
    with pytest.raises(UsageError, match="best of 4 out of 3"):
        expected_best([1, 2, 3], 4)
    with pytest.raises(UsageError, match="direction"):
        expected_best([1, 2, 3], 1, 0)
