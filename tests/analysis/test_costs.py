import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import words
from bench.analysis.findings import findings
from bench.analysis.speed import step_parts, step_time_model, throughput
from bench.analysis.targets import regimes, seeds_to_target, to_target
from bench.report.answer import short_answer
from bench.report.axes import spread
from bench.report.descriptions import trend
from bench.report.headline import headlines
from bench.report.messages import messages
from bench.results.csv import csv_safe, write_csv
from tests.analysis.hand_made import KEYS, target_trials


def steps_of(best: pd.DataFrame) -> pd.DataFrame:
    return best[best["measure"] == "steps"].set_index("batch_size")


def test_the_rate_with_the_smallest_median_is_chosen_and_censored_trials_count_as_infinite() -> None:
    trials = target_trials(
        {
            (16, 0.5): [100, 110, 120],
            (16, 1.0): [10, None, None],
            (64, 0.5): [40, 50, None],
            (64, 1.0): [60, 60, 60],
            (256, 0.5): [None, None, 5],
            (256, 1.0): [None, None, None],
        }
    )
    best = steps_of(to_target(trials))
    assert best["median"].tolist()[:2] == [110, 50]
    assert best.loc[64, "reached"] == 2
    assert math.isnan(best.loc[256, "median"])
    # Of two rates that both fail, the one that got a seed there stands for the cell.
    assert best.loc[256, "lr"] == 0.5
    assert best.loc[256, "reached"] == 1
    assert not best.loc[256, "edge"]
    assert best.loc[16, "edge"]
    seeds = seeds_to_target(trials, to_target(trials))
    assert len(seeds) == 3 * 3 * 3
    assert seeds["value"].notna().sum() == 3 * (3 + 2 + 1)


def test_half_of_an_even_number_of_seeds_is_not_enough() -> None:
    best = steps_of(to_target(target_trials({(16, 0.5): [10, 20, None, None]})))
    assert math.isnan(best.loc[16, "median"])


def test_regimes_of_a_hyperbola() -> None:
    sizes = np.array([2.0**k for k in range(1, 15)])
    steps = pd.DataFrame({"batch_size": sizes, "median": 100 * (1 + 256 / sizes)})
    found = regimes(steps["batch_size"], steps["median"])
    # S(B) ≤ 1.2·S(B0)·B0/B with B0 = 2: B + 256 ≤ 1.2·258, so B ≤ 53.6.
    # S(B) ≤ 1.1·S(2¹⁴): 1 + 256/B ≤ 1.117, so B ≥ 2185.
    assert found == {"b_perfect": 32, "b_max": 4096}
    assert regimes([2.0], [12900.0]) == {"b_perfect": None, "b_max": None}


@given(st.floats(0.01, 10), st.floats(1e-5, 1e-2))
def test_step_time_model_recovers_what_made_the_times(fixed: float, slope: float) -> None:
    sizes = np.array([1, 8, 64, 512, 4096])
    found = step_time_model(sizes, fixed + slope * sizes)
    assert found == pytest.approx((fixed, slope), rel=1e-6)


def test_step_time_model_has_no_negative_parts() -> None:
    assert step_time_model([1, 2, 4], [1.0, 2.5, 6.0])[0] == 0  # type: ignore[index]
    assert step_time_model([1, 2, 4], [3.0, 2.0, 1.0])[1] == 0  # type: ignore[index]
    assert step_time_model([1, 2], [1.0, 2.0]) is None


def cell(batch_size: int, drift: float, parts: tuple[float | None, ...]) -> dict[str, object]:
    columns = ("data_ms", "forward_ms", "backward_ms", "optimizer_step_ms", "step_ms", "examples_per_second")
    row: dict[str, object] = KEYS | {"batch_size": batch_size, "full_batch": False, "drift": drift}
    for name, value in zip(columns, (*parts, 10.0, 1e5), strict=True):
        row |= {f"{name}{end}": value for end in ("", "_lo", "_hi")} | {f"{name}_n": 9}
    return row


def test_parts_of_a_step_are_shares_of_their_sum_and_a_step_without_parts_is_left_out() -> None:
    cells = pd.DataFrame([cell(64, 0.0, (1.0, 2.0, 4.0, 1.0)), cell(16, 0.0, (1.0, 2.0, None, 1.0))])
    found = step_parts(cells)
    assert list(found["part"]) == ["data", "forward", "backward", "update"]
    assert list(found["share"]) == [1 / 8, 2 / 8, 4 / 8, 1 / 8]
    assert set(found["parts_over_step"]) == {0.8}
    assert set(found["batch_size"]) == {64}


def test_a_cell_whose_control_moved_either_way_is_marked() -> None:
    cells = pd.DataFrame([cell(2**k, drift, (1.0,) * 4) for k, drift in enumerate((0.019, -0.03, 0.05, math.nan))])
    assert list(throughput(cells)["unsteady"]) == [False, True, True, False]


def test_a_reason_that_is_not_settled_is_not_used() -> None:
    def row(topic: str, verdict: str, **more: object) -> dict[str, object]:
        return {
            "topic": topic,
            "verdict": verdict,
            "optimizer": "sgd",
            "effect": 4.0,
            "batch_from": 64,
        } | more

    def batch(size: float) -> str:
        return f"batch {size:.0f}"

    fast, say = row("speed", "supported"), messages("en")
    answer, reason, unsettled = short_answer(
        [fast, row("epochs", "supported", effect=-0.031)], batch, "90 %", messages("en")
    )
    assert answer == "No."
    assert "4 times as many examples per second" in reason
    assert "3.1 points of test accuracy below" in reason
    assert unsettled == ""
    answer, reason, unsettled = short_answer([fast, row("epochs", "inconclusive")], batch, "90 %", say)
    assert answer == "Not settled."
    assert "which generalises better at equal epochs" in unsettled
    lost = [row("time", "refuted") | {"batch_from": size} for size in (256, 16, 64, 16)]
    assert short_answer([fast, lost[2]], batch, "90 %", say)[1].endswith("batch 64 reached 90 % first.")
    assert short_answer([fast, *lost], batch, "90 %", say)[1].endswith("batch 16, 64 or 256 reached 90 % first.")
    assert short_answer([fast, row("time", "supported")], batch, "90 %", say)[0] == "Here, yes:"
    assert short_answer([], batch, "90 %", say)[0] == "Not answered:"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.number(12345), "12.3k"),
        (words.number(9999.6), "10k"),
        (words.number(0.012345), "0.0123"),
        (words.number(-4.0), "−4"),
        (words.number(math.nan), "–"),
        (words.percent(0.934), "93.4 %"),
        (words.percentage_points(-0.0123), "−1.2 pp"),
        (words.points_interval(-0.019, 0.004), "[−1.9, +0.4]"),
        (words.seconds(0.0456), "46 ms"),
        (words.seconds(600), "10 min"),
        (words.mebibytes(0.5), "512 KiB"),
        (words.mebibytes(2048), "2 GiB"),
        (words.mebibytes(1 / 1024 / 2), "512 B"),
        (words.learning_rate(0.0625), "2⁻⁴"),
        (words.learning_rate(0.1), "0.1"),
        (words.listing(["a", "b", "c"]), "a, b and c"),
        (words.count(55000), "55 000"),
    ],
)
def test_numbers_in_words(written: str, expected: str) -> None:
    assert written == expected


@given(st.floats(1e-6, 1e8))
def test_written_numbers_are_within_half_of_the_last_digit(value: float) -> None:
    text = words.number(value)
    scale = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1.0)
    assert float(text.rstrip("kMG")) * scale == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.9, 0.8, 0.5], "x falls from 90.0 % at batch 1 to 50.0 % at batch 3"),
        (
            [0.5, 0.9, 0.6],
            "x goes from 50.0 % at batch 1 to 60.0 % at batch 3, with a highest value of 90.0 % at batch 2",
        ),
        ([0.9, 0.9, 0.9], "x stays level, from 90.0 % at batch 1 to 90.0 % at batch 3"),
        ([math.nan, 0.7, math.nan], "x has 70.0 % at batch 2 alone"),
        ([math.nan] * 3, "x has no value"),
    ],
)
def test_trend_in_words(values: list[float], expected: str) -> None:
    assert trend("x", ["1", "2", "3"], values, words.percent, messages("en")) == expected


@given(st.lists(st.integers(1, 2**20), min_size=1, max_size=30, unique=True).map(sorted), st.integers(2, 12))
def test_labels_keep_both_ends_and_their_distance(sizes: list[int], most: int) -> None:
    shown = spread(sizes, most)
    assert (shown[0], shown[-1]) == (sizes[0], sizes[-1])
    assert len(shown) <= most + 1
    assert shown == sorted(set(shown))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_text_that_a_spreadsheet_would_run_is_defused(text: str) -> None:
    assert csv_safe(text) == f"'{text}"


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_csv_gives_back_every_digit(tmp_path_factory: pytest.TempPathFactory, values: list[float | None]) -> None:
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    frame = pd.DataFrame(
        {"value": pd.Series(values, dtype=float), "text": "x", "steps": pd.Series(1.0, range(len(values)))}
    )
    write_csv(frame, path)
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    back = [line.split(",")[0] for line in lines]
    assert [None if text == "" else float(text) for text in back] == values
    assert {line.split(",")[2] for line in lines} == {"1"}


def test_csv_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    frame = pd.DataFrame(
        {"=name": ["=x", "y"], "flag": [True, False], "steps": [3.0, None], "seed": [1.5, 2.0], "n": [-1, 2]}
    )
    write_csv(frame, path)
    assert path.read_bytes() == b"'=name,flag,steps,seed,n\n'=x,true,3,1.5,-1\ny,false,,2.0,2\n"


def test_a_batch_size_that_alone_reached_the_target_is_compared_with_no_other() -> None:
    trials = target_trials({(16, 0.5): [None, None, 30], (256, 0.5): [10, 10, 10]})
    best = to_target(trials)
    found = findings(
        pd.DataFrame(columns=["task"]),
        best,
        seeds_to_target(trials, best),
        pd.DataFrame(columns=["rule", "budget"]),
    ).set_index("topic")
    row = found.loc["time"]
    assert (row["verdict"], row["note"], row["batch_from"]) == ("supported", "largest alone", 16)
    assert math.isnan(row["effect"])
    cells = pd.DataFrame([KEYS | {"measure": "accuracy", "target": 0.9, "target_metric": "val_accuracy"}])
    cells = cells.assign(full_batch=False, batch_size=256, test_examples=500.0)
    (headline,) = headlines(found.reset_index(), cells, messages("en"))
    (told,) = [statement.text for statement in headline.statements if statement.topic == "time"]
    assert told == (
        "Only the largest batch, 256, reached 90 % validation accuracy with more than half of its seeds, "
        "in 1 s of training."
    )
