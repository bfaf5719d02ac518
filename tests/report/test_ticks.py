"""Labels of axes are round numbers, a few of them, and where they should be."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.report.figures_claims import _tick, _ticks
from bench.report.ticks import LINEAR, MOST, round_ratios, round_values


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0.4, 11), [0.5, 1, 2, 5, 10]),
        ((0.04, 25), [0.1, 0.3, 1, 3, 10]),
        ((0.8, 1.25), [0.8, 0.9, 1, 1.1, 1.2]),
        ((1e-6, 1e6), [1e-6, 1e-3, 1, 1e3, 1e6]),
        ((0.3, 0.95), [0.4, 0.6, 0.8]),
        ((0.58, 1.65), [0.75, 1, 1.25, 1.5]),
    ],
)
def test_round_ratios(ends: tuple[float, float], expected: list[float]) -> None:
    assert round_ratios(*ends) == pytest.approx(expected)


@given(st.floats(1e-6, 1e5), st.floats(1.0005, 1e6))
def test_ratios_are_round_and_few_and_between_the_ends(low: float, times: float) -> None:
    found = round_ratios(low, low * times)
    assert 2 <= len(found) <= MOST
    assert found == sorted(set(found))
    assert all(low <= ratio <= low * times for ratio in found)
    if times > 2 * LINEAR:
        assert all(round(ratio / 10 ** math.floor(math.log10(ratio) + 1e-9), 6) % 1 == 0 for ratio in found)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_values_are_few_and_equally_far_apart(low: float, width: float) -> None:
    assume(low + width > low)
    found = round_values(low, low + width)
    assert 2 <= len(found) <= MOST
    steps = [later - earlier for earlier, later in itertools.pairwise(found)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert round(steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9), 6) in (1, 2, 2.5, 5)


def test_estimates_are_labelled_in_what_they_are_written_in() -> None:
    def labels(low: float, high: float, unit: str) -> list[str]:
        return [_tick(value, unit) for value in _ticks(low, high, unit)]

    assert labels(-3.3, 3.3, "log2 ratio") == ["×0.2", "×0.5", "×1", "×2", "×5"]
    assert labels(-0.06, 0.06, "log ratio") == ["×0.95", "×1", "×1.05"]
    assert labels(-99, 99, "log ratio") == ["×0.000001", "×0.001", "×1", "×1000", "×1M"]
    assert labels(-0.03, 0.03, "fraction") == ["−2", "0", "+2"]
    assert labels(-1.3, 0.4, "slope") == ["−1", "−0.5", "0"]
