"""Records as tables: the columns, their order and every value."""

import dataclasses
import math

import pandas as pd
import pytest

from bench.analysis.study import study
from bench.results.record import CellStatus, TrialStatus
from bench.results.tables import CELL_COLUMNS, CURVE_COLUMNS, TRIAL_COLUMNS, tables
from tests.results.records import CELL, METRICS, curves, record, trial

KEYS = {
    "sweep": "octaves",
    "cell": CELL,
    "task": "mnist5k/mlp",
    "model": "mlp",
    "optimizer": "sgd",
    "batch_size": 10,
    "device": "cpu",
    "precision": "float32",
}


def test_columns_are_the_documented_ones_in_their_order() -> None:
    # Append-only: whoever reads an export by position or name reads the next version's too.
    keys = list(KEYS)
    assert list(CELL_COLUMNS) == [
        *keys,
        "status",
        *(f"{name}{end}" for name in ("examples_per_second", "step_ms", "optimizer_step_ms") for end in ENDS),
        *("peak_allocated_mib", "peak_reserved_mib", "peak_rss_mib", "activation_bytes", "state_bytes"),
        *("threads", "hardware", "base_rss_mib", "parameter_bytes", "gradient_bytes", "implementation"),
        *("full_batch", "train_examples", "target_metric", "target", "reason", "digest", "test_examples"),
        *(f"{name}{end}" for name in ("data_ms", "forward_ms", "backward_ms", "control_ms") for end in ENDS),
        *("first_step_ms", "drift", "stacking", "stacked_trials"),
        *("peak_process_mib", "base_process_mib", "energy_mj_per_step", "energy_mj_per_example"),
        *("knobs", "method"),
        *("compiled", "cuda_graph", "compile_seconds", "capture_seconds", "engine_reason"),
        *("devices", "examples_per_second_per_device"),
    ]
    assert list(TRIAL_COLUMNS) == [
        *(*keys, "lr", "seed", "status", "steps", "epochs", "examples", "train_seconds"),
        *METRICS,
        *(f"{name}_at_best_val" for name in METRICS),
        *("steps_to_target", "examples_to_target", "seconds_to_target", "full_batch", "reason"),
        *("gradient_evaluations", "gradient_evaluations_to_target"),
        *("source_trial", "parameters"),
    ]
    assert list(CURVE_COLUMNS) == [
        *(*keys, "lr", "seed", "step", "epoch", "examples", "train_seconds", "split", "metric", "value"),
    ]


ENDS = ("", "_lo", "_hi", "_n")


def test_a_cell_as_a_row() -> None:
    made = tables([(record(), curves())])
    assert list(made.cells.columns) == list(CELL_COLUMNS)
    (row,) = made.cells.to_dict("records")
    assert row == KEYS | {
        "status": "complete",
        "examples_per_second": 1000.0,
        "examples_per_second_lo": 999.0,
        "examples_per_second_hi": 1001.0,
        "examples_per_second_n": 9,
        "step_ms": 10.0,
        "step_ms_lo": 9.0,
        "step_ms_hi": 11.0,
        "step_ms_n": 9,
        "optimizer_step_ms": 2.0,
        "optimizer_step_ms_lo": 1.0,
        "optimizer_step_ms_hi": 3.0,
        "optimizer_step_ms_n": 9,
        "peak_allocated_mib": None,
        "peak_reserved_mib": None,
        "peak_rss_mib": 310.5,
        "activation_bytes": 1234,
        "state_bytes": 0,
        "threads": 1,
        "hardware": "a processor",
        "base_rss_mib": 300.25,
        "parameter_bytes": 400,
        "gradient_bytes": 400,
        "implementation": "forloop",
        "full_batch": False,
        "train_examples": 4000,
        "target_metric": "val_accuracy",
        "target": 0.9,
        "reason": None,
        "digest": "cd" * 32,
        "test_examples": 500,
        **{
            f"{name}{end}": value
            for name, median in (("data_ms", 1.5), ("forward_ms", 3.0), ("backward_ms", 4.0), ("control_ms", 5.0))
            for end, value in zip(ENDS, (median, median - 1, median + 1, 9), strict=True)
        },
        "first_step_ms": 40.0,
        "drift": 0.01,
        "stacking": "native",
        "stacked_trials": 21,
        "peak_process_mib": 280.5,
        "base_process_mib": 270.25,
        "energy_mj_per_step": 3000.0,
        "energy_mj_per_example": 300.0,
        "knobs": "label_noise=0.4",
        "method": "clip_norm=1.0",
        "compiled": True,
        "compile_seconds": 2.5,
        "engine_reason": "a reason",
        "cuda_graph": True,
        "capture_seconds": 0.25,
        "devices": 1,
        "examples_per_second_per_device": 1000.0,
    }


def test_records_of_earlier_versions_leave_the_later_columns_empty() -> None:
    whole = record(stacking=None, engine=None, axes={"knobs": "", "method": ""})
    assert whole.speed is not None
    assert whole.memory is not None
    parts = dict.fromkeys(("first_step_ms", "data_ms", "forward_ms", "backward_ms", "control_ms", "drift"))
    energy = dict.fromkeys(("energy_mj_per_step", "energy_mj_per_example"))
    earlier = dataclasses.replace(
        whole,
        speed=dataclasses.replace(whole.speed, **parts, **energy),  # type: ignore[arg-type]
        memory=dataclasses.replace(whole.memory, peak_process_mib=None, base_process_mib=None),
    )
    (row,) = tables([(earlier, curves())]).cells.to_dict("records")
    later = CELL_COLUMNS[CELL_COLUMNS.index("data_ms") :]
    assert len(later) == 33
    assert {name: row[name] for name in later} == dict.fromkeys(later) | {"knobs": "", "method": ""}


def test_a_trial_as_a_row() -> None:
    diverged = trial(
        0.25,
        1,
        status=TrialStatus.DIVERGED,
        reason="too much",
        final={"train_loss": None},
        steps_to_target=None,
        examples_to_target=None,
        seconds_to_target=None,
    )
    made = tables([(record(trials=[trial(0.5, 0), diverged]), curves())]).trials
    assert list(made.columns) == list(TRIAL_COLUMNS)
    first, second = made.to_dict("records")
    assert first["lr"] == 0.25
    assert (first["status"], first["reason"]) == ("diverged", "too much")
    for name in (*METRICS, "steps_to_target", "examples_to_target", "seconds_to_target"):
        assert first[name] is None or math.isnan(first[name])
    assert {key: second[key] for key in KEYS} == KEYS
    assert {key: second[key] for key in list(TRIAL_COLUMNS)[8:15]} == {
        "lr": 0.5,
        "seed": 0,
        "status": "complete",
        "steps": 20,
        "epochs": 0.5,
        "examples": 200,
        "train_seconds": 0.25,
    }
    for number, name in enumerate(METRICS):
        assert second[name] == 0.5 + number
        assert second[f"{name}_at_best_val"] == 10.5 + number
    assert (second["steps_to_target"], second["examples_to_target"], second["seconds_to_target"]) == (10, 100, 0.125)
    assert second["full_batch"] is False


def test_a_cell_that_got_nowhere_is_a_row_all_the_same() -> None:
    nothing = record(
        status=CellStatus.UNAVAILABLE,
        reason="no CUDA device",
        implementation=None,
        audit=[],
        trials=[],
        speed=None,
        memory=None,
        digest=None,
        config={},
        environment={},
        stacking=None,
        engine=None,
    )
    made = tables([(nothing, curves().iloc[:0])])
    (row,) = made.cells.to_dict("records")
    assert {key: row[key] for key in KEYS} == KEYS
    assert (row["status"], row["reason"]) == ("unavailable", "no CUDA device")
    told = ("full_batch", "reason", "knobs", "method")
    assert all(row[name] is None for name in CELL_COLUMNS[9:] if name not in told)
    assert (len(made.trials), len(made.curves)) == (0, 0)
    assert list(made.trials.columns) == list(TRIAL_COLUMNS)
    assert list(made.curves.columns) == list(CURVE_COLUMNS)


def test_no_records_are_three_empty_tables() -> None:
    made = tables([])
    for frame, columns in ((made.cells, CELL_COLUMNS), (made.trials, TRIAL_COLUMNS), (made.curves, CURVE_COLUMNS)):
        assert len(frame) == 0
        assert list(frame.columns) == list(columns)


def test_curves_carry_the_keys_and_every_value() -> None:
    made = tables([(record(), curves(seeds=(0, 1)))]).curves
    assert list(made.columns) == list(CURVE_COLUMNS)
    assert len(made) == 2 * 2 * 2 * 6
    for key, value in KEYS.items():
        assert (made[key] == value).all()
    original = curves(seeds=(0, 1)).sort_values(["lr", "seed", "step"], kind="stable", ignore_index=True)
    texts = made[list(original.columns)].astype({"split": str, "metric": str})
    pd.testing.assert_frame_equal(texts, original)


@pytest.mark.parametrize("backwards", [False, True])
def test_rows_are_ordered(backwards: bool) -> None:
    """By task, optimizer, device, precision, batch size, then lr, seed, step, whatever order they come in."""
    grid = [
        {"task": task, "optimizer": optimizer, "device": device, "precision": precision, "batch_size": size}
        for task in ("a", "b")
        for optimizer in ("adam", "sgd")
        for device in ("cpu", "cuda")
        for precision in ("float32", "tf32")
        for size in (8, 16, 128)
    ]
    trials = [trial(lr, seed) for seed in (0, 1) for lr in (1.0, 0.5, 16.0)]
    records = [
        (record(f"{hash_of:016x}", axes, trials=trials), curves(lrs=(1.0, 0.5, 16.0), seeds=(0, 1)))
        for hash_of, axes in zip(range(len(grid), 0, -1), grid, strict=True)
    ]
    made = tables(records[::-1] if backwards else records)
    axes = ["task", "optimizer", "device", "precision", "batch_size"]
    assert made.cells[axes].to_dict("records") == [{key: cell[key] for key in axes} for cell in grid]
    for frame, more in ((made.cells, []), (made.trials, ["lr", "seed"]), (made.curves, ["lr", "seed", "step"])):
        rows = list(frame[[*axes, *more]].itertuples(index=False, name=None))
        assert rows == sorted(rows)
        assert list(frame.index) == list(range(len(frame)))


def test_tables_do_not_change_what_they_are_made_of() -> None:
    made, before = record(), curves()
    given = before.copy()
    tables([(made, given)])
    pd.testing.assert_frame_equal(given, before)
    assert made == dataclasses.replace(made)


def test_the_analysis_takes_the_text_of_every_column() -> None:
    made = tables([(record(), curves())])
    (cell,) = study(made.cells, made.trials, made.curves).cells.to_dict("records")
    assert cell["engine_reason"] == "a reason"
