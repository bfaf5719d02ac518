"""Every interval on a few hundred simulated studies; scripts/coverage runs 2000 of each."""

import pytest

from bench.analysis.statistics.power import verdict_probabilities
from tests.analysis.planted import families
from tests.analysis.simulated import NOMINAL, Case, cases, coverage, decisions

STUDIES = 200

#: One case of every method, the one with the fewest seeds, trials or points.
FIRST = {case.method: case for case in reversed(cases())}


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())
def test_intervals_cover(case: Case) -> None:
    found = coverage(case, STUDIES)
    if case.expected == "too rarely":
        assert found.covered < NOMINAL[0], found
    else:
        assert found.verdict(STUDIES) in {"95 %", case.expected}, found


def test_planted_effects_are_found_and_none_is_where_none_was_planted() -> None:
    outcomes = [outcome for family in families(10) for outcome in family]
    results = [outcome.result for outcome in outcomes]
    # 5 % of 300 and three standard errors.
    assert results.count("wrong") <= 26
    assert all(outcome.result == "right" for outcome in outcomes if outcome.size == 3)
    assert {"right", "inconclusive"} <= set(results)


@pytest.mark.parametrize(("size", "pairs"), [(0.0, 16), (2.0, 8)])
def test_verdicts_fall_as_the_power_says(size: float, pairs: int) -> None:
    found = decisions(size, pairs, 1.0, 1000)
    expected = verdict_probabilities(size, 1.0, pairs, 1.0)
    assert found == pytest.approx(expected, abs=0.05)
