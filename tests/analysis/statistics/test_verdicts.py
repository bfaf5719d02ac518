import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.statistics.estimates import Estimate
from bench.analysis.statistics.power import pairs_for_verdict
from bench.analysis.statistics.verdicts import DIRECTIONS, n_needed, verdict
from bench.errors import UsageError

finite = st.floats(-1e3, 1e3)


def _word(estimate: float, lo: float, hi: float, direction: str) -> str:
    return verdict(Estimate(estimate, lo, hi, 5), 0.5, direction).word


@pytest.mark.parametrize(
    ("estimate", "lo", "hi", "greater", "less", "different", "equal"),
    [
        (0.1, -0.2, 0.4, "equivalent", "equivalent", "refuted", "supported"),
        (0.3, 0.2, 0.4, "equivalent", "equivalent", "refuted", "supported"),
        (2.0, 1.0, 3.0, "supported", "refuted", "supported", "refuted"),
        (-2.0, -3.0, -1.0, "refuted", "supported", "supported", "refuted"),
        (0.4, 0.1, 0.7, "inconclusive", "refuted", "inconclusive", "inconclusive"),
        (-0.4, -0.7, -0.1, "refuted", "inconclusive", "inconclusive", "inconclusive"),
        (2.0, -1.0, 5.0, *("inconclusive",) * 4),
        (2.0, math.nan, math.nan, *("inconclusive",) * 4),
        (2.0, -math.inf, math.inf, *("inconclusive",) * 4),
        (2.0, 1.0, math.inf, "supported", "refuted", "supported", "refuted"),
    ],
)
def test_the_table_of_verdicts(
    estimate: float, lo: float, hi: float, greater: str, less: str, different: str, equal: str
) -> None:
    assert [_word(estimate, lo, hi, name) for name in DIRECTIONS] == [greater, less, different, equal]


@given(finite, st.floats(0, 1e3), st.sampled_from(DIRECTIONS))
def test_a_verdict_turns_with_the_effect(estimate: float, half: float, direction: str) -> None:
    turned = {"greater": "less", "less": "greater"}.get(direction, direction)
    lo, hi = estimate - half, estimate + half
    assert _word(estimate, lo, hi, direction) == _word(-estimate, -hi, -lo, turned)


def test_a_slope_is_held_against_minus_one() -> None:
    slope = Estimate(-0.8, -0.85, -0.75, 5)
    assert verdict(slope, 0.1, "greater", null=-1).word == "supported"
    assert verdict(slope, 0.3, "equal", null=-1).word == "supported"


def test_the_seeds_needed_are_of_the_deviation_seen() -> None:
    # A half width of t(.975; 4) · 1/√5 is a deviation of 1.
    half = 2.776445 / math.sqrt(5)
    found = verdict(Estimate(0.2, 0.2 - half, 0.2 + half, 5), 1.0, "greater")
    assert found.word == "inconclusive"
    assert found.n_needed == pairs_for_verdict(1.0, 1.0)
    assert math.isnan(verdict(Estimate(2.0, 1.0, 3.0, 5), 0.5, "greater").n_needed)
    assert math.isnan(n_needed(Estimate(1.0, -math.inf, math.inf, 5), 0.5))
    # A test split too small for the margin.
    assert n_needed(Estimate(0.2, 0.2 - half, 0.2 + half, 5, floor=0.4), 1.0) == math.inf


def test_directions_and_margins_that_are_none() -> None:
    with pytest.raises(UsageError, match="did you mean 'greater'"):
        verdict(Estimate(0, 0, 0, 5), 0.1, "great")
    with pytest.raises(UsageError, match="margin"):
        verdict(Estimate(0, 0, 0, 5), 0.0, "greater")
