"""The median's interval against the binomial distribution, and by counting."""

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from bench.measure.intervals import median_interval

numbers = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(samples=st.lists(numbers, min_size=1, max_size=60), confidence=st.floats(0.5, 0.9999))
def test_the_interval_is_the_narrowest_that_covers(samples: list[float], confidence: float) -> None:
    n, ordered = len(samples), sorted(samples)
    result = median_interval(samples, confidence)
    # Coverage of the interval between the k-th smallest and the k-th largest, from scipy.
    coverage = {k: 1 - 2 * binom.cdf(k - 1, n, 0.5) for k in range(1, n // 2 + 1)}
    enough = [k for k, value in coverage.items() if value >= confidence]
    k = max(enough, default=1)
    assert (result.lo, result.hi) == (ordered[k - 1], ordered[n - k])
    assert result.confidence == pytest.approx(coverage.get(k, 0.0), abs=1e-12)
    assert result.median == pytest.approx(statistics.median(samples))
    assert result.lo <= result.median <= result.hi
    assert result.n == n


@pytest.mark.parametrize("n", range(1, 13))
def test_coverage_by_counting_all_outcomes(n: int) -> None:
    # Each sample lies below the true median with probability ½: count the 2^n sign patterns that are covered.
    result = median_interval([float(i) for i in range(n)])
    rank = int(result.lo) + 1
    covered = sum(rank <= sum(below) <= n - rank for below in itertools.product((0, 1), repeat=n))
    assert result.confidence == covered / 2**n


@pytest.mark.parametrize(
    ("n", "rank", "confidence"),
    # Textbook values: 6 samples are the fewest whose extremes cover 95 %.
    [(1, 1, 0.0), (2, 1, 0.5), (5, 1, 0.9375), (6, 1, 0.96875), (8, 1, 0.9921875), (9, 2, 0.9609375), (20, 6, 0.9586)],
)
def test_known_ranks(n: int, rank: int, confidence: float) -> None:
    result = median_interval([float(i) for i in range(1, n + 1)][::-1])
    assert (result.lo, result.hi) == (rank, n + 1 - rank)
    assert result.confidence == pytest.approx(confidence, abs=1e-4)
    assert result.median == (n + 1) / 2


@pytest.mark.parametrize("n", [1000, 5000])
def test_many_samples(n: int) -> None:
    result = median_interval([float(i) for i in range(n)])
    assert 0.95 <= result.confidence < 0.96
    # The normal approximation: 1.96 standard deviations of √n/2 on each side.
    assert result.hi - result.lo == pytest.approx(1.96 * math.sqrt(n), rel=0.05)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        median_interval([])
