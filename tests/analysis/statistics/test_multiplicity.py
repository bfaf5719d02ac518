import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.statistics.differences import paired_difference
from bench.analysis.statistics.multiplicity import adjusted, holm, holm_confidences
from bench.errors import UsageError

p_values = st.lists(st.floats(1e-6, 1), min_size=1, max_size=12)


def test_holm_by_hand() -> None:
    # 4 × .005, 3 × .01, 2 × .03, 1 × .04, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])


def test_a_claim_without_a_test_counts_as_a_claim() -> None:
    found = holm([0.02, math.nan])
    assert found[0] == 0.04
    assert math.isnan(found[1])
    assert holm_confidences([0.02, math.nan]) == pytest.approx([0.975, 0.95])


@pytest.mark.parametrize("count", [1, 4, 15])
def test_holm_is_statsmodels(count: int) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    given = np.random.default_rng(count).uniform(size=count) ** 3
    assert holm(given) == pytest.approx(multitest.multipletests(given, method="holm")[1])


@given(p_values)
def test_an_interval_at_its_confidence_decides_as_holm(given: list[float]) -> None:
    levels = 1 - holm_confidences(given)
    rejected = holm(given) <= 0.05
    assert [p <= level * (1 + 1e-9) for p, level in zip(given, levels, strict=True)] == pytest.approx(rejected)


def test_p_values_outside_their_range() -> None:
    with pytest.raises(UsageError, match=r"0 … 1"):
        holm([1.2])


def test_a_family_of_claims() -> None:
    rng = np.random.default_rng(0)
    data = {"none": rng.normal(0, 1, 10), "large": rng.normal(3, 1, 10), "one": rng.normal(2, 1, 10)}
    found = adjusted({name: partial(paired_difference, values) for name, values in data.items()}, {"one": 1.0})
    assert found["large"].p_adjusted < 0.05
    assert found["large"].holm == paired_difference(data["large"], 1 - 0.05 / 3)
    for name, null in (("none", 0), ("large", 0), ("one", 1)):
        one = found[name]
        assert one.holm.excludes(null) == (one.p_adjusted <= 0.05)
        assert one.simultaneous.lo <= one.holm.lo <= one.alone.lo


def test_holm_and_simultaneous_intervals_keep_their_word() -> None:
    rng = np.random.default_rng(1)
    truths = np.array([0.0, 0.0, 0.0, 1.0, 5.0])
    false, missed = 0, 0
    for _ in range(300):
        claims = {str(i): partial(paired_difference, rng.normal(truth, 1, 8)) for i, truth in enumerate(truths)}
        found = list(adjusted(claims).values())
        false += any(one.holm.excludes(0) for one, truth in zip(found, truths, strict=True) if truth == 0)
        missed += any(
            not one.simultaneous.lo <= truth <= one.simultaneous.hi for one, truth in zip(found, truths, strict=True)
        )
    # 5 % and three standard errors of 300 draws.
    assert false / 300 < 0.088
    assert missed / 300 < 0.088
