import math

import pandas as pd
import pytest

from bench.analysis.overview import overview
from bench.analysis.study import CONDITION, Study, study
from bench.report.headline import Headline
from bench.report.messages import messages
from bench.report.summary import summarise
from bench.results.tables import CELL_COLUMNS, CURVE_COLUMNS, TRIAL_COLUMNS

Entry = tuple[str, float | None, float, int]
SETTING = {"model": "m", "device": "cpu", "precision": "float32", "batch_size": 16}


def seen(entries: dict[tuple[str, str], Entry], target: float | None = 0.1, metric: str = "val_loss") -> pd.DataFrame:
    """The overview of cells given as (status, median steps to target, mean test loss, diverged of 2 trials)."""
    cells, targets, means = [], [], []
    for number, ((task, optimizer), (status, steps, loss, diverged)) in enumerate(entries.items()):
        keys = SETTING | {"task": task, "optimizer": optimizer}
        facts = {"cell": str(number), "status": status, "target_metric": metric, "target": target, "full_batch": False}
        cells.append(keys | facts)
        if status == "complete":
            targets.append(keys | {"measure": "steps", "median": steps, "reached": 2, "n": 2})
            outcome = {"rule": "re-tuned", "budget": "end", "n": 2, "n_diverged": diverged}
            means.append(keys | outcome | {"test_loss": loss, "test_accuracy": math.nan})
    data: Study = study(
        pd.DataFrame(cells).reindex(columns=list(CELL_COLUMNS)),
        pd.DataFrame(columns=list(TRIAL_COLUMNS)),
        pd.DataFrame(columns=list(CURVE_COLUMNS)),
    )
    table = overview(data, pd.DataFrame(means), pd.DataFrame(targets).astype({"median": float}))
    return table.set_index(["task", "optimizer"])


def test_those_that_reached_the_target_are_ranked_by_steps_and_equals_share_a_rank() -> None:
    found = seen(
        {
            ("a", "adam"): ("complete", 10, 0.05, 0),
            ("a", "lion"): ("complete", 10, 0.09, 0),
            ("a", "sgd"): ("complete", 30, 0.01, 0),
            ("a", "slow"): ("complete", None, 0.001, 0),
        }
    )
    assert found["outcome"].tolist() == ["reached", "reached", "reached", "never"]
    assert found["rank"].tolist()[:3] == [1, 1, 3]
    assert math.isnan(found.loc[("a", "slow"), "rank"])
    assert set(found["ranked"]) == {3}
    assert set(found["ranked_by"]) == {"target"}


def test_where_nobody_got_there_the_final_loss_ranks_and_a_lost_seed_is_no_merit() -> None:
    found = seen(
        {
            ("a", "adam"): ("complete", None, 0.5, 0),
            ("a", "lion"): ("complete", None, 0.2, 1),
            ("a", "sgd"): ("complete", None, 0.3, 0),
            ("a", "wild"): ("complete", None, math.nan, 2),
        }
    )
    assert found["rank"].fillna(0).tolist() == [2, 0, 1, 0]
    assert found["outcome"].tolist() == ["never", "never", "never", "diverged"]
    assert set(found["ranked_by"]) == {"test"}


def test_no_place_of_the_grid_is_left_out() -> None:
    found = seen(
        {
            ("a", "adam"): ("failed", None, math.nan, 0),
            ("a", "sgd"): ("complete", 5, 0.05, 0),
            ("b", "sgd"): ("unavailable", None, math.nan, 0),
        }
    )
    assert found["outcome"].to_dict() == {
        ("a", "adam"): "failed",
        ("a", "sgd"): "reached",
        ("b", "adam"): "not run",
        ("b", "sgd"): "unavailable",
    }


def test_without_a_target_results_are_ranked() -> None:
    found = seen({("a", "adam"): ("complete", None, 2.0, 0), ("a", "sgd"): ("complete", None, -1.0, 0)}, target=None)
    assert found["outcome"].tolist() == ["no target"] * 2
    assert found["rank"].tolist() == [2, 1]


def headline(task: str, answer: str) -> Headline:
    return Headline(SETTING | {"task": task}, answer, "", "", ())  # type: ignore[arg-type]


def found(task: str, topic: str, *verdicts: str) -> list[dict[str, object]]:
    keys = dict.fromkeys(CONDITION, "x") | {"task": task}
    return [
        keys
        | {"optimizer": str(number), "topic": topic, "claim": f"{topic} claim", "verdict": verdict, "source": "s.csv"}
        for number, verdict in enumerate(verdicts)
    ]


def test_answers_of_many_tasks_are_counted() -> None:
    rows = found("a", "time", "refuted", "supported") + found("b", "time", "supported", "inconclusive")
    rows += found("c", "time", "supported", "supported") + found("a", "speed", "supported", "outside the grid")
    summary = summarise(
        [headline("a", "No."), headline("b", "Not settled."), headline("c", "Here, yes:")],
        pd.DataFrame(rows),
        messages("en"),
    )
    assert summary.answer == "No, not in 1 of 3 tasks."
    assert summary.reason == "In 1 task a smaller batch reached the target first, each with at least one optimizer."
    assert summary.unsettled == (
        "In 1 nothing that was settled speaks against the largest batch and in 1 nothing measured but memory speaks "
        "against the largest batch."
    )
    speed, time = summary.statements
    assert speed.text == "Of 1 comparison (task × optimizer), this holds in 1."
    assert speed.verdict == "supported"
    assert (
        time.text == "Of 6 comparisons (task × optimizer), this holds in 4, does not hold in 1 and is not settled in 1."
    )
    assert time.verdict == "differs"
    assert any("c (2 of 2)" in detail for detail in time.details)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["No.", "No."], "No, in none of 2 tasks."),
        (["Not settled.", "Here, yes:"], "Not settled."),
        (["Here, yes:", "Here, yes:"], "Here, yes:"),
        (["Not answered:", "Not answered:"], "Not answered:"),
        (["Not answered:"], "Not answered:"),
    ],
)
def test_answer_over_all(answers: list[str], expected: str) -> None:
    headlines = [headline(str(number), answer) for number, answer in enumerate(answers)]
    summary = summarise(headlines, pd.DataFrame(found("0", "time", "inconclusive")), messages("en"))
    assert summary.answer == expected
    if answers == ["Here, yes:"] * 2:
        assert summary.text == "Here, yes: in all 2 tasks nothing measured but memory speaks against the largest batch."
