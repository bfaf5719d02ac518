"""Changes of level are found where they are, seldom where there are none, and never across machines."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.speed.history import table
from bench.speed.result import CheckResult, Side
from bench.speed.trend import SHORTEST, change_points, find_changes, noise, series, summary
from tests.speed.checks import MACHINE, STEP, case, check

NOISES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "Student's t, 3 degrees": lambda rng, n: rng.standard_t(3, n),
    "skewed": lambda rng, n: np.exp(rng.normal(size=n)),
}


def _levels(rng: np.random.Generator, *levels: tuple[int, float], spread: float = 0.01) -> np.ndarray:
    return np.concatenate([level + spread * rng.normal(size=count) for count, level in levels])


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("count", [6, 12, 30, 100])
def test_noise_alone_seldom_changes(kind: str, count: int) -> None:
    """At most 3 % of series: over 1 000 series each, 1.2 % was the most in any of these twelve."""
    rng = np.random.default_rng(count)
    alarms = sum(bool(find_changes(0.01 * NOISES[kind](rng, count))) for _ in range(300))
    assert alarms <= 9


@pytest.mark.parametrize("levels", [((10, 0.0), (10, 0.08)), ((20, 0.0), (4, -0.1)), ((6, 0.1), (8, 0.0), (7, 0.1))])
def test_changes_of_eight_deviations_are_found_where_they_are(levels: tuple[tuple[int, float], ...]) -> None:
    true = list(np.cumsum([count for count, _ in levels])[:-1])
    found = [find_changes(_levels(np.random.default_rng(seed), *levels)) for seed in range(100)]
    assert sum(changes == true for changes in found) >= 97


def test_without_noise_a_change_is_found_to_the_value() -> None:
    assert find_changes([0.0] * 3 + [0.02] * 3) == [3]
    assert find_changes([0.0] * 10 + [0.5] * 5 + [0.25] * 8) == [10, 15]


def test_one_or_two_slow_checks_are_no_level() -> None:
    rng = np.random.default_rng(0)
    for width in (1, 2):
        values = _levels(rng, (30, 0.0))
        values[12 : 12 + width] += 0.5
        assert find_changes(values) == []


def test_too_few_values_have_no_change() -> None:
    for count in range(2 * SHORTEST):
        assert find_changes(np.arange(count)) == []


@given(st.lists(st.floats(-5, 5, width=32), max_size=40), st.sampled_from([0.5, 2.0, 8.0]))
def test_changes_depend_neither_on_scale_nor_on_direction(values: list[float], scale: float) -> None:
    data = np.array(values)
    found = find_changes(data, 0.01)
    assert all(b - a >= SHORTEST for a, b in zip([0, *found], [*found, len(data)], strict=True) if found)
    # Powers of two keep every digit.
    assert find_changes(data * scale, 0.01 * scale) == found
    assert find_changes(-data, 0.01) == found


def test_noise_is_that_around_the_levels() -> None:
    rng = np.random.default_rng(3)
    for spread in (0.003, 0.05):
        estimate = noise(_levels(rng, (400, 0.0), (400, 1.0), (400, 0.2), spread=spread))
        assert estimate == pytest.approx(spread, rel=0.15)
    outliers = 0.01 * rng.normal(size=500)
    outliers[::20] += 1
    assert noise(outliers) == pytest.approx(0.01, rel=0.3)


def _history(
    seconds: Sequence[float],
    changes: Sequence[float] | None = None,
    machine: Sequence[int] | None = None,
    commits: Sequence[tuple[str | None, str | None]] | None = None,
) -> list[CheckResult]:
    """Return a check a day; by default the head of each is the base of the next."""
    checks = []
    for number, now in enumerate(seconds):
        base, head = commits[number] if commits else (f"c{number}", f"c{number + 1}")
        made = case(heads=(now,), change=changes[number] if changes else 0.0)
        where = MACHINE | {"cores": machine[number] if machine else 2}
        checks.append(check(number + 1, base, head, cases=(made,), fingerprint=where))
    return checks


def _points(checks: Sequence[CheckResult]) -> list[dict[str, object]]:
    return change_points(series(table(checks))).to_dict("records")


SLOWER = [1e-3] * 5 + [1.2e-3] * 5
STEP_CHANGES = [0.0] * 5 + [math.log(1.2)] + [0.0] * 4


def test_a_change_that_pairs_saw_is_the_codes() -> None:
    (point,) = _points(_history(SLOWER, STEP_CHANGES))
    assert point["case"] == STEP
    assert (point["before_commit"], point["commit"], point["check"]) == ("c5", "c6", 6)
    assert (point["checks_before"], point["checks_after"]) == (5, 5)
    assert point["change"] == pytest.approx(0.2)
    assert point["paired"] == pytest.approx(0.2)
    assert point["cause"] == "code"


def test_a_change_that_pairs_did_not_see_is_the_machines() -> None:
    (point,) = _points(_history(SLOWER))
    assert point["change"] == pytest.approx(0.2)
    assert point["paired"] == pytest.approx(0, abs=1e-9)
    assert point["cause"] == "machine"


@pytest.mark.parametrize("lost", ["commits", "dirty", "environments"])
def test_without_a_chain_of_commits_the_cause_is_unknown(lost: str) -> None:
    commits = [(None, None)] * 10 if lost == "commits" else [("c0+", "c1+")] * 10 if lost == "dirty" else None
    checks = _history(SLOWER, STEP_CHANGES, commits=commits)
    if lost == "environments":
        # Arms that differ in torch say nothing of commits.
        other = Side("old", None, "3.11.9", "2.10.0")
        checks = [
            dataclasses.replace(made, base=dataclasses.replace(other, commit=made.base.commit)) for made in checks
        ]
    (point,) = _points(checks)
    assert math.isnan(float(str(point["paired"])))
    assert point["cause"] == "unknown"


def test_checks_against_one_release_are_a_chain_too() -> None:
    commits = [("release", f"c{number}") for number in range(10)]
    (code,) = _points(_history(SLOWER, [0.01] * 5 + [0.01 + math.log(1.2)] * 5, commits=commits))
    assert (code["paired"], code["cause"]) == (pytest.approx(0.2), "code")
    (machine,) = _points(_history(SLOWER, [0.01] * 10, commits=commits))
    assert (machine["paired"], machine["cause"]) == (pytest.approx(0, abs=1e-9), "machine")
    dirty = [("release", "c0+")] * 10
    (edited,) = _points(_history(SLOWER, [0.01] * 5 + [0.01 + math.log(1.2)] * 5, commits=dirty))
    assert (edited["paired"], edited["cause"]) == (pytest.approx(0.2), "code")


def test_a_chain_is_the_sum_of_its_ratios_and_agrees_with_itself() -> None:
    changes = [0.02, -0.01, 0.03, 0.0, 0.05, -0.02]
    places = series(table(_history([1e-3] * 6, changes)))["paired"].to_numpy(dtype=float)
    assert np.diff(places) == pytest.approx(changes[1:])
    # c0 → c1 → c2 measured as .02 and .02, c0 → c2 as .01: least squares spreads the .03 evenly over the three.
    triangle = [("c0", "c1"), ("c1", "c2"), ("c0", "c2")]
    rows = series(table(_history([1e-3] * 3, [0.02, 0.02, 0.01], commits=triangle)))
    assert rows["paired"].tolist() == pytest.approx([0.01, 0.02, 0.02])


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=25), st.integers(1, 8))
def test_places_on_consistent_ratios_are_those_of_the_code(speeds: list[float], back: int) -> None:
    speeds = [0.0, *speeds]
    pairs = [(max(0, number - back), number) for number in range(1, len(speeds))]
    commits = [(f"c{base}", f"c{head}") for base, head in pairs]
    changes = [speeds[head] - speeds[base] for base, head in pairs]
    rows = series(table(_history([1e-3] * len(pairs), changes, commits=commits)))
    for _, chain in rows.groupby("chain"):
        true = np.array([speeds[int(commit[1:])] for commit in chain["head_commit"]])
        assert chain["paired"].to_numpy() - chain["paired"].iloc[0] == pytest.approx(true - true[0], abs=1e-7)


def test_nothing_is_joined_across_machines() -> None:
    apart = [1e-3] * 6 + [2e-3] * 6
    assert _points(_history(apart, machine=[2] * 6 + [4] * 6)) == []
    assert len(_points(_history(apart))) == 1
    # Taking turns on two machines: the change shows on each.
    turns = [(2.0 if n % 2 else 1.0) * 1e-3 * (1.3 if n >= 12 else 1) for n in range(24)]
    points = _points(_history(turns, machine=[2 + n % 2 for n in range(24)]))
    assert [point["check"] for point in points] == [13, 14]
    assert [point["change"] for point in points] == pytest.approx([0.3, 0.3])


def test_a_change_smaller_than_the_checks_own_noise_is_none() -> None:
    checks = _history([1e-3] * 5 + [1.01e-3] * 5)
    assert len(_points(checks)) == 1
    loud = [check(n + 1, cases=made.cases, noise=0.02) for n, made in enumerate(checks)]
    assert _points(loud) == []


def test_a_summary_says_where_a_case_stands() -> None:
    gone = check(20, "c10", "c11", cases=(case(heads=()),))
    rows = table([*_history(SLOWER, STEP_CHANGES), gone])
    (row,) = summary(rows, series(rows)).to_dict("records")
    assert (row["checks"], row["fingerprints"], row["changes"], row["commit"]) == (11, 1, 1, "c11")
    assert math.isnan(row["change"])
    assert (row["seconds"], row["level"]) == pytest.approx((1.2e-3, 1.2e-3))
    assert (row["since_commit"], row["since"].day, row["time"].day) == ("c6", 6, 20)
    assert row["total"] == pytest.approx(0.2)


def test_nothing_in_is_nothing_out() -> None:
    rows = table([check(1, cases=(case(heads=()),))])
    line = series(rows)
    assert line.empty
    assert change_points(line).empty
    (row,) = summary(rows, line).to_dict("records")
    assert row["changes"] == 0
    assert pd.isna(row["seconds"])
    assert pd.isna(row["since"])
    assert summary(table([]), series(table([]))).empty
