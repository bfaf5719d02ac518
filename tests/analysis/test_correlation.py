import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.analysis.correlation import spearman, stratified_spearman
from bench.errors import UsageError

some = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=6, max_size=20)


@given(some)
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    found = spearman(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(found.estimate)
        return
    expected = stats.spearmanr(x, y).statistic
    # A perfect order is reported as the largest correlation that has an interval.
    assert found.estimate == pytest.approx(np.clip(expected, -1 + 1 / x.size**2, 1 - 1 / x.size**2))
    assert -1 <= found.lo <= found.estimate <= found.hi <= 1


def test_interval_of_bonett_and_wright() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 30)) + np.arange(30) / 10
    r = stats.spearmanr(x, y).statistic
    half = stats.norm.ppf(0.975) * math.sqrt((1 + r**2 / 2) / 27)
    found = spearman(x, y)
    assert (found.lo, found.hi) == pytest.approx((math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)))


def test_what_strata_explain_is_not_correlated_inside_them() -> None:
    rng = np.random.default_rng(1)
    strata = [(shift + rng.normal(size=30), shift + rng.normal(size=30)) for shift in (0, 5, 10, 15)]
    x, y = (np.concatenate(side) for side in zip(*strata, strict=True))
    assert spearman(x, y).lo > 0.8
    inside = stratified_spearman(strata)
    assert inside.lo < 0 < inside.hi
    assert inside.n == 120


def test_a_constant_stratum_has_no_say() -> None:
    order = np.arange(8)
    found = stratified_spearman([(order, order), (np.ones(8), order)])
    assert found.n == 8
    assert found == spearman(order, order)


@pytest.mark.parametrize(
    ("strata", "message"),
    [([], "no stratum"), ([([1, 2], [1, 2])], "at least 6"), ([(range(6), [math.nan] * 6)], "without nan")],
)
def test_strata_that_say_nothing(strata: list, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stratified_spearman(strata)
