"""Evaluation points."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.training.evaluations import evaluation_points


def test_points_by_hand() -> None:
    # 2^(i/2) rounded: 1 1.41 2 2.83 4 5.66 8 11.3 16 22.6; epoch ends at 10 and 20, the third is not asked for.
    assert list(evaluation_points(35, 2, 10, 2)) == [0, 1, 2, 3, 4, 6, 8, 10, 11, 16, 20, 23, 32, 35]


@pytest.mark.parametrize(("last", "points"), [(0, [0]), (1, [0, 1]), (2, [0, 1, 2]), (5, [0, 1, 2, 4, 5])])
def test_short_trials(last: int, points: list[int]) -> None:
    assert list(evaluation_points(last, 1, 100, 50)) == points


@given(
    last=st.integers(0, 5000),
    per_octave=st.integers(1, 12),
    per_epoch=st.integers(1, 700),
    epochs=st.integers(0, 60),
)
def test_points_are_the_octave_grid_the_epoch_ends_and_both_ends(
    last: int, per_octave: int, per_epoch: int, epochs: int
) -> None:
    points = list(evaluation_points(last, per_octave, per_epoch, epochs))
    assert all(a < b for a, b in pairwise(points))
    grid = {round(2 ** (i / per_octave)) for i in range(14 * per_octave)}
    ends = {per_epoch * epoch for epoch in range(1, epochs + 1)}
    assert set(points) == {0, last} | {step for step in grid | ends if step <= last}
    power = 1
    while 2 * power <= last:
        inside = sum(power < point <= 2 * power for point in points)
        # Where points fall less than a step apart, every step is one.
        assert inside >= (per_octave if power >= 1.5 * per_octave else min(per_octave, power) - 1)
        power *= 2


@given(last=st.integers(0, 3000), per_octave=st.integers(1, 8), per_epoch=st.integers(1, 300))
def test_without_an_end_the_same_points_go_on(last: int, per_octave: int, per_epoch: int) -> None:
    finite = list(evaluation_points(last, per_octave, per_epoch, 5))
    endless = list(islice(evaluation_points(None, per_octave, per_epoch, 5), len(finite) + 3))
    assert endless[: len(finite) - 1] == finite[:-1]
    assert endless[len(finite) - 1] >= last
    assert all(a < b for a, b in pairwise(endless))
