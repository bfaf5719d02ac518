import numpy as np
import pytest
from scipy import stats

from bench.analysis.statistics.resampling import cluster_bootstrap
from bench.errors import UsageError


def test_of_a_mean_it_is_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=6)
    found = cluster_bootstrap(values, lambda drawn: drawn.mean(axis=1), resamples=20_000)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.estimate == pytest.approx(values.mean())


def test_clusters_stay_whole() -> None:
    # Within a cluster the two columns differ by 1 whichever clusters are drawn.
    clusters = np.random.default_rng(1).normal(size=(5, 1)) + np.array([0.0, 1.0])
    found = cluster_bootstrap(clusters, lambda drawn: (drawn[..., 1] - drawn[..., 0]).mean(axis=1))
    assert (found.lo, found.hi) == pytest.approx((1, 1))


def test_a_statistic_that_is_infinite_for_some_resamples_bounds_nothing() -> None:
    found = cluster_bootstrap(
        [0.0, 1.0, 2.0], lambda drawn: np.where((drawn == 0).all(axis=1), np.inf, drawn.mean(axis=1))
    )
    assert (found.lo, found.hi) == (-np.inf, np.inf)
    with pytest.raises(UsageError, match="at least 2"):
        cluster_bootstrap([1.0], lambda drawn: drawn.mean(axis=1))
