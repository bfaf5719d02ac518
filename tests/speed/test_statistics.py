"""The rule that decides: known sequences, what must hold for all of them, and what it can see."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.speed.statistics import (
    DEFAULT_GATE,
    EVERY_PAIR,
    FALSE_ALARMS,
    PAIRS,
    POWER,
    Step,
    alarm_probability,
    alarms,
    decide,
    detectable,
    noise,
    pair_change,
    tightest_gate,
)

GATE = 0.03
MIRRORED = {Step.PASS: Step.PASS, Step.ANOTHER: Step.ANOTHER, Step.SLOWER: Step.FASTER, Step.FASTER: Step.SLOWER}
CHANGES = st.floats(-0.2, 0.2).filter(lambda change: change != 0)
GATES = st.floats(0.01, 0.3)


def logs(*percents: float) -> list[float]:
    return [math.log1p(percent / 100) for percent in percents]


@pytest.mark.parametrize("slowdown", [-0.3, 0.0, 0.05, 2.0])
def test_change_of_a_pair_is_exact_where_every_round_has_it(slowdown: float) -> None:
    base = np.random.default_rng(0).uniform(1e-4, 2e-4, (31, 3))
    assert pair_change(base, base * (1 + slowdown)) == pytest.approx(math.log1p(slowdown), abs=1e-12)


def test_change_of_a_pair_compares_the_fastest_block_of_each_side() -> None:
    base = np.array([[5.0, 1.0, 9.0]] * 3)
    head = np.array([[2.0, 8.0, 3.0]] * 3)
    assert pair_change(base, head) == pytest.approx(math.log(2))


def test_change_of_a_pair_is_the_median_of_the_averages_of_any_two_rounds() -> None:
    # Of log ratios 0, 1, 5 the averages are 0, .5, 1, 2.5, 3, 5.
    assert pair_change(np.ones((3, 1)), np.exp([[0.0], [1.0], [5.0]])) == pytest.approx(1.75)


@pytest.mark.parametrize("disturbed", [1, 5, 14])
@pytest.mark.parametrize("side", [0, 1])
def test_change_of_a_pair_is_untouched_by_disturbed_rounds(disturbed: int, side: int) -> None:
    sides = [np.full((50, 3), 1e-4), np.full((50, 3), 1.04e-4)]
    sides[side][:disturbed] *= 100
    assert pair_change(*sides) == pytest.approx(math.log(1.04), abs=1e-12)


@given(st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)), min_size=1, max_size=20))
def test_change_of_a_pair_changes_its_sign_with_the_sides(rounds: list[tuple[float, float]]) -> None:
    base, head = (np.array(side)[:, None] for side in zip(*rounds, strict=True))
    assert pair_change(base, head) == pytest.approx(-pair_change(head, base), abs=1e-12)


@pytest.mark.parametrize(
    ("percents", "step"),
    [
        ((0.0,), Step.PASS),
        ((1.4,), Step.PASS),
        ((1.6,), Step.ANOTHER),
        ((50,), Step.ANOTHER),
        ((50, 0.9), Step.PASS),
        ((50, -50), Step.PASS),
        ((1.6, 1.1), Step.ANOTHER),
        ((50, 50, 0.9), Step.PASS),
        ((50, 50, -50), Step.PASS),
        ((4, 4, 4), Step.SLOWER),
        ((1.6, 3.1, 3.1), Step.SLOWER),
        ((3.1, 1.1, 3.1), Step.SLOWER),
        ((9, 1.1, 2.9), Step.PASS),
        ((2.9, 2.9, 50), Step.PASS),
        ((-1.4,), Step.PASS),
        ((-2,), Step.ANOTHER),
        ((-4, -4, -4), Step.FASTER),
        ((-4, -4, 4), Step.PASS),
    ],
)
def test_known_sequences_are_decided(percents: tuple[float, ...], step: Step) -> None:
    assert decide(logs(*percents), GATE) is step


@pytest.mark.parametrize(
    ("percents", "step"),
    [
        ((4, 4, 4), Step.SLOWER),
        ((1.1, 4, 4), Step.SLOWER),  # unlike at first sight, the first pair is one like the others
        ((0.9, 4, 4), Step.PASS),
        ((1.1, 2.9, 4), Step.PASS),
        ((4, -4, 4), Step.PASS),
        ((-4, -4, -4), Step.FASTER),
        ((0, 0, 0), Step.PASS),
    ],
)
def test_known_confirmations_are_decided(percents: tuple[float, ...], step: Step) -> None:
    assert alarms(logs(*percents), GATE) is step


@given(st.lists(CHANGES, min_size=1, max_size=3), GATES)
def test_faster_is_slower_mirrored(changes: list[float], gate: float) -> None:
    mirrored = [-change for change in changes]
    assert decide(mirrored, gate) is MIRRORED[decide(changes, gate)]
    if len(changes) == PAIRS:
        assert alarms(mirrored, gate) is MIRRORED[alarms(changes, gate)]


@given(st.lists(st.floats(0.016, 0.2), min_size=1, max_size=3), GATES)
def test_only_passing_stops_early(changes: list[float], gate: float) -> None:
    step = decide(changes, gate)
    assert (step is Step.ANOTHER) == (len(changes) < PAIRS)


@given(st.lists(CHANGES, min_size=3, max_size=3), GATES)
def test_what_passed_early_would_not_have_alarmed_at_the_end(changes: list[float], gate: float) -> None:
    if decide(changes[:1], gate) is Step.PASS or decide(changes[:2], gate) is Step.PASS:
        assert decide(changes, gate) is Step.PASS


@given(st.lists(CHANGES, min_size=3, max_size=3), GATES)
def test_a_first_alarm_would_be_confirmed_by_the_same_pairs(changes: list[float], gate: float) -> None:
    if (step := decide(changes, gate)) is not Step.PASS:
        assert alarms(changes, gate) is step


@given(st.lists(CHANGES, min_size=3, max_size=3), GATES, GATES)
def test_a_wider_gate_never_adds_an_alarm(changes: list[float], one: float, other: float) -> None:
    for rule in (decide, alarms):
        if rule(changes, min(one, other)) is Step.PASS:
            assert rule(changes, max(one, other)) is Step.PASS


@given(st.lists(st.floats(0.016, 0.2), min_size=3, max_size=3), GATES, st.floats(0, 0.1), st.integers(0, 2))
def test_a_slower_pair_never_takes_an_alarm_away(changes: list[float], gate: float, more: float, which: int) -> None:
    slower = [change + more * (number == which) for number, change in enumerate(changes)]
    for rule in (decide, alarms):
        if rule(changes, gate) is Step.SLOWER:
            assert rule(slower, gate) is Step.SLOWER


def test_noise_is_the_root_mean_square_around_no_change() -> None:
    assert noise([]) is None
    assert noise([0.03, -0.04]) == pytest.approx(math.sqrt(0.00125))
    assert noise([0.02, 0.02]) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("slowdown", "deviation", "gate"),
    [
        (0.0, 0.02, 0.01),
        (0.0, 0.04, 0.025),
        (0.02, 0.02, 0.025),
        (0.03, 0.01, 0.025),
        (0.03, 0.01, 0.012),
        (0.08, 0.04, 0.05),
    ],
)
def test_probability_of_an_alarm_is_that_of_the_rule_itself(slowdown: float, deviation: float, gate: float) -> None:
    checks = 20_000
    pairs = np.random.default_rng(1).normal(math.log1p(slowdown), deviation, (checks, 2, PAIRS))
    found = 0
    for first, again in pairs.tolist():
        # As a check does: look after every pair, confirm what alarmed.
        steps = [decide(first[:seen], gate) for seen in range(1, PAIRS + 1)]
        if steps[:-1] == [Step.ANOTHER] * (PAIRS - 1) and steps[-1] is Step.SLOWER:
            found += alarms(again, gate) is Step.SLOWER
    expected = alarm_probability(slowdown, deviation, gate)
    assert found / checks == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / checks) + 1e-4)


def test_probability_of_an_alarm_at_its_ends() -> None:
    assert alarm_probability(0.0, 0.001, DEFAULT_GATE) == pytest.approx(0, abs=1e-12)
    assert alarm_probability(0.5, 0.001, DEFAULT_GATE) == pytest.approx(1, abs=1e-12)


@given(st.floats(0, 0.2), st.floats(0.001, 0.1), GATES, st.floats(0, 0.1))
def test_probability_of_an_alarm_grows_with_the_slowdown_and_falls_with_the_gate(
    slowdown: float, deviation: float, gate: float, more: float
) -> None:
    here = alarm_probability(slowdown, deviation, gate)
    assert 0 <= here <= 1
    assert alarm_probability(slowdown + more, deviation, gate) >= here - 1e-12
    assert alarm_probability(slowdown, deviation, gate + more) <= here + 1e-12


@given(st.floats(0.0005, 0.1), GATES)
def test_detectable_is_the_smallest_slowdown_with_the_power(deviation: float, gate: float) -> None:
    found = detectable(deviation, gate)
    assert math.log1p(found) > max(EVERY_PAIR, math.log1p(gate))
    assert alarm_probability(found, deviation, gate) >= POWER
    assert alarm_probability(found * (1 - 1e-6), deviation, gate) < POWER


@given(st.floats(0.01, 0.1), st.integers(1, 100))
def test_tightest_gate_is_the_smallest_that_keeps_the_promise(deviation: float, cases: int) -> None:
    found = tightest_gate(deviation, cases)
    assert alarm_probability(0.0, deviation, found) * cases <= FALSE_ALARMS * (1 + 1e-9)
    if found > 0.011:
        assert alarm_probability(0.0, deviation, found * (1 - 1e-3)) * cases > FALSE_ALARMS
    assert tightest_gate(deviation, cases + 10) >= found
    assert tightest_gate(2 * deviation, cases) >= found


def test_without_noise_every_gate_holds_and_what_is_beyond_it_is_seen() -> None:
    assert tightest_gate(0.0, 1000) < 1e-9
    assert detectable(0.0, 0.05) == pytest.approx(0.05, abs=1e-6)
