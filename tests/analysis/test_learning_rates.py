import math

import numpy as np
import pytest

from bench.analysis.learning_rates import best_learning_rates, octaves_per_seed, tolerated_octaves
from bench.errors import UsageError

RATES = 2.0 ** np.arange(-10, 1)
BATCH = 2.0 ** np.arange(2, 8)


def parabola(slope: float, start: float = -8.0, seeds: int = 3) -> np.ndarray:
    best = start + slope * np.log2(BATCH / 4)
    return np.tile(-((np.log2(RATES) - best[:, None]) ** 2), (seeds, 1, 1))


@pytest.mark.parametrize(("slope", "rule"), [(1.0, "linear"), (0.5, "sqrt"), (0.0, "constant")])
def test_a_planted_rule_is_found_to_the_digit(slope: float, rule: str) -> None:
    found = best_learning_rates(BATCH, RATES, parabola(slope, -8.3))
    assert found.slope.estimate == pytest.approx(slope, abs=1e-9)
    np.testing.assert_allclose(np.log2(found.refined), -8.3 + slope * np.log2(BATCH / 4), atol=1e-9)
    assert not any(found.edge)
    noisy = parabola(slope, -8.3) + np.random.default_rng(0).normal(0, 0.05, (3, 6, 11))
    assert best_learning_rates(BATCH, RATES, noisy).rules == (rule,)


def test_batch_sizes_whose_best_is_at_the_edge_are_flagged_and_have_no_say() -> None:
    # From B = 32 on the true best is 2^1 and beyond, outside the grid.
    scores = parabola(1.0, -2.0)
    found = best_learning_rates(BATCH, RATES, scores)
    assert found.edge == (False, False, True, True, True, True)
    assert found.rates[2:] == (1.0,) * 4
    assert math.isnan(found.refined[-1])
    assert found.slope.estimate == pytest.approx(1)
    assert math.isnan(found.slope.lo)
    assert found.rules == ()


def test_a_diverged_trial_makes_its_rate_lose() -> None:
    scores = parabola(0.0, -5.0)
    scores[0, :, 5] = math.nan
    found = best_learning_rates(BATCH, RATES, scores)
    assert set(found.rates) == {2.0**-6}
    # Where every rate has a diverged trial, those with the fewest are compared by the others.
    scores[1] = -math.inf
    assert set(best_learning_rates(BATCH, RATES, scores).rates) == {2.0**-6}


def test_scores_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="seeds × batch sizes × learning rates"):
        best_learning_rates(BATCH, RATES, np.ones((3, 6)))
    with pytest.raises(UsageError, match="ascend"):
        best_learning_rates(BATCH[::-1], RATES, parabola(0))


def test_octaves_of_a_parabola() -> None:
    # −(x − x0)² is within 4 of its best for 4 octaves; grid points lie on both ends.
    found = tolerated_octaves(RATES, parabola(0.0, -5.0)[:, 0], 4.0)
    assert (found.octaves.estimate, found.octaves.lo, found.truncated) == (4.0, 4.0, 0)
    # Between grid points: from −1 to −4, one octave, the level −2.5 is half the way.
    assert tolerated_octaves(RATES, parabola(0.0, -5.0)[:, 0], 2.5).octaves.estimate == 3.0


def test_octaves_end_at_divergence_and_at_the_grid() -> None:
    flat = np.zeros((2, 11))
    widths, truncated, diverged = octaves_per_seed(RATES, flat, 0.1)
    assert widths.tolist() == [10, 10]
    assert truncated.all()
    assert not diverged.any()
    flat[0, 8:] = math.nan
    flat[1] = -math.inf
    widths, _, diverged = octaves_per_seed(RATES, flat, 0.1)
    assert widths.tolist() == [7, 0]
    assert diverged.tolist() == [False, True]
    with pytest.raises(UsageError, match="margin"):
        tolerated_octaves(RATES, flat, 0.0)
