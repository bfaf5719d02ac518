import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.analysis.statistics.differences import (
    binomial_error,
    difference_over_seeds_and_examples,
    equivalence_test,
    paired_difference,
    sign_flip_interval,
    sign_flip_test,
)
from bench.errors import UsageError

some = st.lists(st.integers(-9, 9), min_size=1, max_size=9)


@given(st.integers(2, 20), st.integers(0, 1000))
def test_paired_difference_is_scipys_paired_t(n: int, seed: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = paired_difference(a - b)
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high))


def test_a_finite_test_split_widens_it_and_stays_as_a_floor() -> None:
    differences = [0.001, 0.002, 0.003]
    alone, with_split = paired_difference(differences), paired_difference(differences, sampling=0.004)
    assert with_split.floor == 0.004
    assert with_split.hi - with_split.lo > 2 * 1.96 * 0.004
    # Seeds that all agree leave the split's normal interval.
    same = paired_difference([0.1, 0.1], sampling=0.004)
    assert same.hi - same.estimate == pytest.approx(1.959964 * 0.004, rel=1e-4)
    assert paired_difference(differences, sampling=0.0) == alone
    assert math.isnan(paired_difference([0.1]).lo)
    with pytest.raises(UsageError, match="diverged"):
        paired_difference([0.1, math.inf])


def test_binomial_error_of_mnist() -> None:
    # An accuracy of 98.3 % on 10 000 examples has a standard error of .13 points; two of them, √2 times that.
    assert binomial_error(0.983, 0.983, 10_000) == pytest.approx(math.sqrt(2) * 0.0013, rel=0.01)
    with pytest.raises(UsageError, match=r"0 … 1"):
        binomial_error(98.3, 0.9, 100)


def test_two_ways_is_the_pigeonhole_bootstrap_without_what_it_counts_thrice() -> None:
    rng = np.random.default_rng(0)
    seeds, examples = 6, 60
    probability = np.clip(0.8 + rng.normal(0, 0.15, (seeds, 1)) + rng.normal(0, 0.2, examples), 0, 1)
    first, second = rng.random((2, seeds, examples)) < probability
    difference = first.astype(float) - second + rng.normal(0, 0.3, (seeds, 1)) + rng.normal(0, 0.3, examples)
    found = difference_over_seeds_and_examples(difference, np.zeros_like(difference))
    rows, columns = rng.integers(seeds, size=(4000, seeds)), rng.integers(examples, size=(4000, examples))
    drawn = np.array([difference[np.ix_(r, c)].mean() for r, c in zip(rows, columns, strict=True)])
    by_seed, by_example = difference.mean(axis=1).var(ddof=1) / seeds, difference.mean(axis=0).var(ddof=1) / examples
    rest = difference - difference.mean(axis=1, keepdims=True) - difference.mean(axis=0) + difference.mean()
    both = (rest**2).sum() / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    bootstrap = by_seed * (seeds - 1) / seeds + by_example * (examples - 1) / examples + both
    assert drawn.var() == pytest.approx(bootstrap, rel=0.08)
    degrees = (by_seed + by_example - both) ** 2
    degrees /= by_seed**2 / (seeds - 1) + by_example**2 / (examples - 1) + both**2 / ((seeds - 1) * (examples - 1))
    half = stats.t.ppf(0.975, max(degrees, seeds - 1)) * math.sqrt(by_seed + by_example - both)
    assert found.hi - found.estimate == pytest.approx(half)
    assert found.floor == pytest.approx(math.sqrt(by_example - both))


def test_two_ways_needs_two_of_each() -> None:
    with pytest.raises(UsageError, match="seeds × examples"):
        difference_over_seeds_and_examples(np.ones((1, 5)), np.ones((1, 5)))
    same = difference_over_seeds_and_examples(np.ones((3, 5)), np.ones((3, 5)))
    assert (same.estimate, same.lo, same.hi) == (0, 0, 0)


def _flipped(values: np.ndarray, null: float) -> float:
    centred = np.asarray(values) - null
    sums = [np.dot(signs, centred) for signs in itertools.product((1, -1), repeat=centred.size)]
    observed = abs(centred.sum()) - 1e-9
    return float(np.mean([abs(total) >= observed for total in sums]))


@given(some, st.sampled_from([0.0, 0.5]))
def test_sign_flip_test_is_brute_force(values: list[int], null: float) -> None:
    assert sign_flip_test(values, null) == pytest.approx(min(1, _flipped(np.array(values), null)))


def test_sign_flip_test_is_scipys_permutation_test() -> None:
    values = np.random.default_rng(3).normal(0.6, 1, 9)
    oracle = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(values) == pytest.approx(oracle.pvalue)


def test_five_pairs_cannot_reach_a_twentieth() -> None:
    assert sign_flip_test([1.0] * 5) == 2 / 2**5
    assert sign_flip_interval([1.0, 1.1, 1.2, 1.3, 1.4]).lo == -math.inf
    six = sign_flip_interval([1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    assert (six.lo, six.hi) == (1.0, 1.5)


@pytest.mark.parametrize("n", [8, 20])
def test_sign_flip_interval_is_the_test_turned_round(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)
    found = sign_flip_interval(values)
    step = 1e-6
    for end, inside in ((found.lo, step), (found.hi, -step)):
        assert sign_flip_test(values, end + inside) > 0.05
        assert sign_flip_test(values, end - inside) <= 0.05


def test_random_flips_are_near_all_flips() -> None:
    values = np.random.default_rng(0).normal(0.55, 1, 16)
    oracle = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=99_999, rng=np.random.default_rng(1)
    )
    assert sign_flip_test(values) == pytest.approx(oracle.pvalue, abs=0.008)
    assert sign_flip_test(values) == sign_flip_test(values)


def test_equivalence_test_is_two_one_sided_t_tests() -> None:
    values = np.random.default_rng(1).normal(0.02, 0.1, 12)
    low = stats.ttest_1samp(values, -0.1, alternative="greater").pvalue
    high = stats.ttest_1samp(values, 0.1, alternative="less").pvalue
    found = equivalence_test(values, 0.1)
    assert found.p == pytest.approx(max(low, high))
    assert found.equivalent == (found.p < 0.05) == (found.lo > -0.1 and found.hi < 0.1)


def test_equivalence_test_is_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason="statsmodels is not installed")
    a, b = np.random.default_rng(2).normal(0, 0.1, (2, 10))
    p, _, _ = weightstats.ttost_paired(a, b, -0.1, 0.1)
    assert equivalence_test(a - b, 0.1).p == pytest.approx(p)


def test_equivalence_without_spread_or_margin() -> None:
    assert equivalence_test([0.0, 0.0], 0.1).equivalent
    assert not equivalence_test([0.2, 0.2], 0.1).equivalent
    assert not equivalence_test([0.0], 0.1).equivalent
    with pytest.raises(UsageError, match="margin"):
        equivalence_test([0.0, 0.1], 0)


def test_at_the_margin_equivalence_is_found_in_a_twentieth_of_studies() -> None:
    rng = np.random.default_rng(4)
    found = [equivalence_test(rng.normal(1.0, 0.5, 8), 1.0).equivalent for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.015)
