"""What a run says about a record."""

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bench.errors import UsageError
from bench.results.curves import empty_curves
from bench.results.record import CellStatus
from bench.tracking import TrackerConfig, content
from bench.tracking.confinement import child_environment, one_line
from bench.tracking.worker import seal_found
from tests.tracking.sweeps import METRICS, STEPS, TRIALS, curves, made_up, record

CONF = Path(__file__).parents[2] / "conf" / "tracker"


def test_names_and_tags() -> None:
    whole = record("octaves", 64)
    assert content.run_name(whole) == "mnist5k/mlp adam B=64 cpu"
    assert content.run_name(record("octaves", 4000)) == "mnist5k/mlp adam B=full cpu"
    assert content.tags(whole) == [
        "task:mnist5k/mlp",
        "optimizer:adam",
        "batch_size:64",
        "device:cpu",
        "precision:float32",
        "status:complete",
    ]
    long = [content.tags(record("octaves", 64, optimizer="package.module:" + "x" * 80 + end))[1] for end in "ab"]
    assert [len(tag) for tag in long] == [64, 64]
    assert long[0] != long[1]


def test_a_summary_without_a_step_of_the_optimizer_alone() -> None:
    whole = record("octaves", 64)
    assert whole.speed is not None
    told = content.summary(whole)
    closure = dataclasses.replace(whole, speed=dataclasses.replace(whole.speed, optimizer_step_ms=None))
    missing = {"optimizer_step_ms", "optimizer_step_ms_lo", "optimizer_step_ms_hi"}
    assert content.summary(closure) == {name: value for name, value in told.items() if name not in missing}


def test_run_id_depends_on_sweep_cell_and_record() -> None:
    ids = {content.run_id(*parts) for parts in (("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"))}
    assert len(ids) == 4
    assert content.run_id("a", "b", "c") in ids


@pytest.mark.parametrize(
    ("lr", "written"),
    [(0.0625, "2^-4"), (1.0, "2^0"), (4.0, "2^2"), (0.001, "1e-3"), (0.0, "0"), (2.5e-5, "25e-6")],
)
def test_learning_rates_have_no_dot(lr: float, written: str) -> None:
    assert content.trial_key("val_loss", lr, 3) == f"val_loss/lr={written}/seed=3"


@given(st.floats(min_value=0, max_value=1e6))
def test_written_learning_rate_is_exact(lr: float) -> None:
    written = content.trial_key("m", lr, 0).split("/")[1].removeprefix("lr=")
    base, _, exponent = written.partition("^")
    assert (float(base) ** int(exponent) if exponent else float(written)) == lr
    assert "." not in written


def test_history_holds_every_value_once() -> None:
    rows = content.history(record("octaves", 64), curves(64))
    assert [step for step, _ in rows] == list(STEPS)
    for step, row in rows:
        assert row["examples"] == 64 * step
        for lr, seed in TRIALS:
            for metric in METRICS:
                assert row[content.trial_key(metric, lr, seed)] == made_up(lr, seed, step, metric)
        assert len(row) == 2 + (len(TRIALS) + 1) * (len(METRICS) + 1)


def test_best_trial_is_chosen_on_validation() -> None:
    whole = record("octaves", 64)
    best = content.best_trial(whole)
    assert best is not None
    assert best.at_best_validation["val_accuracy"] == max(made_up(lr, seed, 10, "val_accuracy") for lr, seed in TRIALS)
    assert content.summary(whole)["best_test_accuracy"] == best.at_best_validation["test_accuracy"]
    without = [dataclasses.replace(t, at_best_validation={"val_loss": float(t.lr)}) for t in whole.trials]
    lowest = content.best_trial(dataclasses.replace(whole, trials=without))
    assert lowest is not None
    assert lowest.lr == 1e-05


def test_cell_that_never_trained() -> None:
    empty = record("octaves", 64, status=CellStatus.INTERRUPTED)
    assert content.best_trial(empty) is None
    assert content.history(empty, empty_curves()) == []
    assert content.trials_table(empty, empty_curves())[1] == []
    assert content.summary(empty)["reason"] == "stopped by hand"


def test_table_has_no_nan() -> None:
    columns, rows = content.trials_table(record("octaves", 64), curves(64))
    assert len(rows) == len(TRIALS)
    diverged = dict(zip(columns, rows[-1], strict=True))
    assert diverged["lr"] == 4.0
    assert diverged["steps_to_target"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for row in rows for value in row)


def test_seal_across_blocks(tmp_path: Path) -> None:
    seal, log = "ab" * 32, tmp_path / "log"
    for before in (100, 32768 - 30, 3 * 32768 - 30):
        body = bytearray(before) + seal.encode()
        # As the log is written: every block but the first begins with a header of 7 bytes.
        framed, rest = bytes(body[:32768]), bytes(body[32768:])
        while rest:
            framed, rest = framed + b"header!" + rest[: 32768 - 7], rest[32768 - 7 :]
        log.write_bytes(framed)
        assert seal_found(log, seal)
        log.write_bytes(framed[:-1])
        assert not seal_found(log, seal)


def test_environment_takes_nothing_from_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE", "WANDB_SERVICE", "WANDB_RUN_ID"):
        monkeypatch.setenv(name, "of the person")
    offline = child_environment(tmp_path, "offline", tmp_path / "mirror")
    assert "of the person" not in offline.values()
    assert offline["WANDB_MODE"] == "offline"
    online = child_environment(tmp_path, "online", tmp_path / "mirror")
    assert {name for name, value in online.items() if value == "of the person"} == {
        "WANDB_API_KEY",
        "WANDB_BASE_URL",
    }
    assert one_line("said:\n of the person ") == "said: ***"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "wandbb", "unknown tracker 'wandbb'; did you mean 'wandb'"),
        ("mode", "on", "unknown tracker.mode 'on'; did you mean 'online'"),
        ("project", "a/b", "tracker.project 'a/b' cannot be used"),
        ("entity", "", "tracker.entity '' cannot be used"),
        ("dir", "", "tracker.dir is empty"),
    ],
)
def test_config_names_what_is_wrong(field: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        dataclasses.replace(TrackerConfig(), **{field: value}).validate()
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("name", ["wandb", "none"])
def test_config_files(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrackerConfig), OmegaConf.create(text)))
    assert isinstance(merged, TrackerConfig)
    merged.validate()
    assert merged == TrackerConfig(name=name, mode="offline" if name == "wandb" else "disabled")
    keys = {field.name for field in dataclasses.fields(TrackerConfig)}
    assert {line.partition(":")[0] for line in text.splitlines() if not line.startswith("#")} == keys
