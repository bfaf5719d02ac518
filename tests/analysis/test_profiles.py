import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.profiles import (
    COSTS,
    gradients_per_step,
    is_enough,
    performance_ratios,
    profile,
    profile_scores,
    score,
)
from bench.analysis.study import SETTING

INF = float("inf")
ratio_lists = st.lists(st.one_of(st.floats(1, 50), st.just(INF)), min_size=1, max_size=20)


def sweep(
    steps: dict[str, dict[str, float | None]], statuses: dict[tuple[str, str], str] | None = None
) -> pd.DataFrame:
    """Ratios of a sweep whose steps to target are given per task and optimizer; None is never."""
    keys = {"model": "m", "device": "cpu", "precision": "float32", "batch_size": 16}
    names = [(task, optimizer) for task, per in steps.items() for optimizer in per]
    cells = pd.DataFrame(
        [
            keys
            | {"task": task, "optimizer": optimizer, "target": 0.9}
            | {"status": (statuses or {}).get((task, optimizer), "complete")}
            for task, optimizer in names
        ]
    )
    targets = pd.DataFrame(
        [
            keys | {"task": task, "optimizer": optimizer, "measure": cost, "median": steps[task][optimizer]}
            for task, optimizer in names
            for cost in COSTS
            if (statuses or {}).get((task, optimizer), "complete") == "complete"
        ]
    )
    return performance_ratios(cells, targets)


def of(ratios: pd.DataFrame, task: str, optimizer: str) -> float:
    rows = ratios[(ratios["task"] == task) & (ratios["optimizer"] == optimizer) & (ratios["cost"] == "steps")]
    return float(rows["ratio"].iloc[0])


def test_profile_by_hand() -> None:
    # Four problems: best, 1.5 times the best, 3 times, never.
    ratios = [1.0, 1.5, 3.0, INF]
    assert profile(ratios, [1, 1.49, 1.5, 2.9, 3, 1e9]).tolist() == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    # ∫ = .25·.5 + .5·1.5 + .75·1 over a length of 3.
    assert score(ratios) == pytest.approx((0.125 + 0.75 + 0.75) / 3)
    assert score([1, 1]) == 1
    assert score([4, INF]) == 0
    assert np.isnan(score([]))
    assert np.isnan(profile([], [1.0])).all()


@given(ratio_lists)
def test_score_is_the_integral_of_the_profile(ratios: list[float]) -> None:
    taus = np.linspace(1, 4, 30_001)
    middles = (taus[1:] + taus[:-1]) / 2
    assert score(ratios) == pytest.approx(profile(ratios, middles).mean(), abs=1e-3)


@given(ratio_lists)
def test_profile_grows_and_stays_a_fraction(ratios: list[float]) -> None:
    rho = profile(ratios, np.linspace(1, 60, 200))
    assert (np.diff(rho) >= 0).all()
    assert rho[0] >= 0
    assert rho[-1] == pytest.approx(np.isfinite(ratios).mean())


def test_ratios_by_hand() -> None:
    ratios = sweep({"a": {"sgd": 100, "adam": 50}, "b": {"sgd": 30, "adam": None}, "c": {"sgd": None, "adam": None}})
    assert (of(ratios, "a", "sgd"), of(ratios, "a", "adam")) == (2, 1)
    assert (of(ratios, "b", "sgd"), of(ratios, "b", "adam")) == (1, INF)
    assert np.isnan(of(ratios, "c", "sgd"))
    scores = profile_scores(ratios)
    assert scores["cost"].unique().tolist() == list(COSTS)
    steps = scores[scores["cost"] == "steps"].set_index("optimizer")
    # sgd: (4 − 2)/3 and 1; adam: 1 and 0.
    assert steps["score"].to_dict() == pytest.approx({"sgd": 5 / 6, "adam": 1 / 2})
    assert steps.loc["sgd", ["best", "within_2", "within_4", "solved"]].tolist() == [0.5, 1, 1, 1]
    assert steps.loc["adam", ["best", "within_2", "solved"]].tolist() == [0.5, 0.5, 0.5]
    assert steps["problems"].tolist() == [2, 2]
    assert steps["unsolved"].tolist() == [1, 1]
    assert list(steps.index) == ["sgd", "adam"]


def test_what_was_not_run_or_failed_has_not_solved_its_problem() -> None:
    # Nor is there a problem where one alone was run.
    ran = {"a": {"sgd": 10, "adam": 20}, "b": {"sgd": 10, "lion": 20}, "c": {"sgd": 10}}
    ratios = sweep(ran, {("a", "sgd"): "failed"})
    assert set(ratios["task"]) == {"a", "b"}
    assert (of(ratios, "a", "sgd"), of(ratios, "a", "adam"), of(ratios, "b", "adam")) == (INF, 1, INF)
    steps = profile_scores(ratios).query("cost == 'steps'").set_index("optimizer")
    assert steps["incomplete"].to_dict() == {"sgd": 1, "adam": 1, "lion": 1}


def test_a_target_passed_before_the_first_step_costs_nothing() -> None:
    ratios = sweep({"a": {"sgd": 0, "adam": 3, "lion": 0}})
    assert [of(ratios, "a", name) for name in ("sgd", "adam", "lion")] == [1, INF, 1]


def test_problems_without_a_target_are_none() -> None:
    cells = pd.DataFrame(columns=[*SETTING, "batch_size", "optimizer", "status", "target"])
    targets = pd.DataFrame(columns=[*SETTING, "batch_size", "optimizer", "measure", "median"])
    ratios = performance_ratios(cells, targets)
    assert ratios.empty
    assert profile_scores(ratios).empty
    assert not is_enough(ratios)


def test_three_tasks_and_two_optimizers_are_enough() -> None:
    per = {"sgd": 10.0, "adam": 20.0}
    assert is_enough(sweep({name: dict(per) for name in "abc"}))
    assert not is_enough(sweep({name: dict(per) for name in "ab"}))
    assert not is_enough(sweep({name: {"sgd": 10.0} for name in "abc"}))
    assert not is_enough(sweep({name: {"sgd": None, "adam": None} for name in "abc"}))


def test_gradients_per_step_where_records_say() -> None:
    trials = pd.DataFrame({"optimizer": ["sgd", "lbfgs", "lbfgs", "old"], "steps": [10, 10, 20, 5]})
    assert gradients_per_step(trials).empty
    counted = gradients_per_step(trials.assign(gradient_evaluations=[10, 40, 50, None]))
    assert counted.to_dict() == {"lbfgs": 3, "sgd": 1}
