import math

import numpy as np
import pytest
from scipy import stats

from bench.analysis.statistics.differences import paired_difference
from bench.analysis.statistics.power import (
    _fewest,
    paired_power,
    pairs_for_verdict,
    pairs_needed,
    runs_for_improvement,
    verdict_probabilities,
)
from bench.errors import UsageError


@pytest.mark.parametrize("effect", [0.3, 1.0, -1.2])
@pytest.mark.parametrize("pairs", [2, 5, 30])
def test_paired_power_is_statsmodels(effect: float, pairs: int) -> None:
    power = pytest.importorskip("statsmodels.stats.power", reason="statsmodels is not installed")
    expected = power.TTestPower().power(abs(effect), pairs, 0.05, alternative="two-sided")
    assert paired_power(effect, 1.0, pairs) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("effect", "pairs"), [(0.5, 10), (1.0, 5)])
def test_paired_power_is_what_happens(effect: float, pairs: int) -> None:
    draws = np.random.default_rng(0).normal(effect, 1, (4000, pairs))
    rejected = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert paired_power(effect, 1.0, pairs) == pytest.approx(rejected, abs=0.025)


@pytest.mark.parametrize("pairs", [2, 3, 5, 30, 1000])
def test_paired_power_grows_to_one_without_a_gap(pairs: int) -> None:
    found = [paired_power(effect, 1.0, pairs) for effect in np.geomspace(0.01, 200, 60)]
    assert np.isfinite(found).all()
    assert (np.diff(found) >= -1e-9).all()
    assert found[-1] == pytest.approx(1)
    # The tiniest margin makes a verdict of every interval beyond 0.
    regions = verdict_probabilities(0.7, 1.0, pairs, 1e-9)
    assert paired_power(0.7, 1.0, pairs) == pytest.approx(regions["above"] + regions["below"], abs=1e-3)


def test_pairs_needed_for_textbook_effects() -> None:
    # Cohen's paired t test, two-sided 5 %: 13 pairs for d = 1 and 44 for d = .5 at 90 % power.
    assert pairs_needed(1.0, 1.0) == 13
    assert pairs_needed(1.0, 0.5) == 44
    assert paired_power(0.5, 1, 44) >= 0.9 > paired_power(0.5, 1, 43)


def test_an_eleventh_seed_for_a_tenth_of_a_point() -> None:
    # A difference of .1 points is found with 11 seeds at 90 % power if seeds differ by just over .09 points.
    assert pairs_needed(0.0009, 0.001) == 11


def test_nothing_needed_nothing_known_and_too_much() -> None:
    assert pairs_needed(0.0, 1.0) == pairs_for_verdict(0.0, 1.0) == 2
    assert math.isnan(pairs_needed(math.nan, 1.0))
    assert pairs_needed(1.0, 1e-6) == math.inf
    assert pairs_for_verdict(0.01, 0.001, floor=0.001) == math.inf
    with pytest.raises(UsageError, match="power"):
        paired_power(1.0, 0.0, 5)


def test_pairs_for_verdict_is_the_fewest_and_a_floor_asks_for_more() -> None:
    pairs = int(pairs_for_verdict(1.0, 1.0))
    assert verdict_probabilities(0, 1.0, pairs, 1.0)["inside"] >= 0.9
    assert verdict_probabilities(0, 1.0, pairs - 1, 1.0)["inside"] < 0.9
    assert pairs_for_verdict(1.0, 0.1, floor=0.01) > pairs_for_verdict(1.0, 0.1)
    # With a floor of next to nothing the normal approximation is near.
    assert pairs_for_verdict(1.0, 0.1, floor=1e-9) == pytest.approx(pairs_for_verdict(1.0, 0.1), rel=0.01)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 1 - 0.05 / 300, 1 - 0.05 / 20_000])
def test_pairs_for_verdict_are_those_that_trying_finds(confidence: float) -> None:
    """Doubling and halving tries up to forty numbers of pairs for each of these deviations, which is slow and sure."""
    for sd in np.exp(np.random.default_rng(round(1 / (1 - confidence))).uniform(-2, 4.5, 12)):

        def enough(pairs: int, sd: float = float(sd)) -> bool:
            return verdict_probabilities(0.0, sd, pairs, 1.0, confidence)["inside"] >= 0.9

        assert pairs_for_verdict(float(sd), 1.0, confidence=confidence) == _fewest(enough, float(sd))


def test_more_pairs_than_anybody_trains_are_endless() -> None:
    assert pairs_for_verdict(1.0, 1e-4) == math.inf
    assert pairs_for_verdict(1e-9, 1.0) == 2.0


@pytest.mark.parametrize(("effect", "pairs"), [(0.0, 16), (1.0, 8), (2.0, 5), (-1.5, 10)])
def test_verdict_probabilities_are_what_happens(effect: float, pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    found = [paired_difference(rng.normal(effect, 1, pairs)) for _ in range(3000)]
    expected = verdict_probabilities(effect, 1.0, pairs, 1.0)
    inside = np.mean([one.lo > -1 and one.hi < 1 for one in found])
    above = np.mean([one.lo > 0 and one.estimate >= 1 for one in found])
    below = np.mean([one.hi < 0 and one.estimate <= -1 for one in found])
    assert [expected["inside"], expected["above"], expected["below"]] == pytest.approx([inside, above, below], abs=0.03)
    assert sum(expected.values()) == pytest.approx(1)


def test_an_effect_of_one_margin_stays_undecided_with_any_number() -> None:
    assert verdict_probabilities(1.0, 1.0, 10_000, 1.0)["above"] == pytest.approx(0.5, abs=0.01)


def test_twenty_nine_runs_for_an_improvement() -> None:
    assert runs_for_improvement() == 29
    with pytest.raises(UsageError, match="above ½"):
        runs_for_improvement(0.5)
