import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.launching import cell as cell_module
from bench.launching.cell import audit_cell, run_cell, trial_plan
from bench.results.curves import COLUMNS
from bench.results.record import AuditCheck, Engine, Stacking
from bench.training import trials as trials_module
from tests.small import small_cell
from tests.training.recordings import Tape


def test_a_complete_cell_holds_everything() -> None:
    record, curves, _ = run_cell(small_cell("optimizer=adam", "seeds=2"))
    assert record.status == "complete", record.traceback
    assert record.reason is None
    assert record.implementation == "forloop"
    assert [(t.lr, t.seed) for t in record.trials] == [(0.01, 0), (0.1, 0), (0.01, 1), (0.1, 1)]
    assert all(check.passed for check in record.audit)
    assert len(record.audit) == 11
    assert record.memory is not None
    assert record.memory.state_bytes == 2 * record.memory.parameter_bytes + 2 * 4
    assert record.speed is not None
    assert record.speed.step_ms.n == 1
    assert set(record.seconds) == {"data", "audit", "memory", "speed", "stacking", "training"}
    assert record.environment["threads"] == 1
    assert list(curves.columns) == list(COLUMNS)
    assert set(curves["split"]) == {"train", "val", "test"}


def test_summaries_follow_from_the_curves() -> None:
    record, curves, _ = run_cell(small_cell("lr=[0.1]", "budget.epochs=2", "task.target=0.7"))
    (trial,) = record.trials
    assert trial.steps == curves["step"].max() == 126
    assert trial.examples == 8000
    assert trial.epochs == 2.0
    wide = curves.pivot_table(index="step", columns=["split", "metric"], values="value")
    for split in ("train", "val", "test"):
        for metric in ("loss", "accuracy"):
            assert trial.final[f"{split}_{metric}"] == wide[(split, metric)].iloc[-1]
    best = wide[("val", "accuracy")].idxmax()
    assert trial.at_best_validation["test_accuracy"] == wide.loc[best, ("test", "accuracy")]
    past = wide.index[wide[("val", "accuracy")] > 0.7][0]
    assert trial.steps_to_target == past
    assert trial.examples_to_target == past * 64
    assert trial.seconds_to_target is not None
    assert 0 < trial.seconds_to_target <= trial.train_seconds


def test_a_cell_repeats_bit_for_bit_and_seeds_are_independent_of_the_grid() -> None:
    first, _, _ = run_cell(small_cell("seeds=2"))
    again, _, _ = run_cell(small_cell("seeds=2"))
    assert first.digest == again.digest
    alone, _, _ = run_cell(small_cell("seeds=[1]", "lr=[0.1]"))
    by_name = {(t.lr, t.seed): t.parameters_sha256 for t in first.trials}
    assert alone.trials[0].parameters_sha256 == by_name[(0.1, 1)]


def test_named_seeds_fix_one_source_of_variation() -> None:
    free, _, _ = run_cell(small_cell("seeds=2", "lr=[0.1]", "task=mnist5k/mlp"))
    fixed, _, _ = run_cell(small_cell("seeds=2", "lr=[0.1]", "task=mnist5k/mlp", "seed.init=7", "seed.order=7"))
    assert len({t.parameters_sha256 for t in free.trials}) == 2
    assert len({t.parameters_sha256 for t in fixed.trials}) == 1


def test_a_diverged_trial_is_data() -> None:
    record, curves, _ = run_cell(small_cell("lr=[0.1,1e30]"))
    assert record.status == "complete"
    assert [str(t.status) for t in record.trials] == ["complete", "diverged"]
    diverged = record.trials[1]
    assert diverged.reason is not None
    assert "training loss" in diverged.reason
    assert diverged.steps < record.trials[0].steps
    assert diverged.final["train_loss"] is None or diverged.final["train_loss"] > 100 * math.log(10)
    assert not curves[curves["lr"] == 1e30].empty


def test_out_of_memory_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore lines")

    monkeypatch.setattr(trials_module, "train_trial", exhausted)
    record, curves, _ = run_cell(small_cell())
    assert record.status == "oom"
    assert record.reason == "OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB"
    assert record.digest is None
    assert curves.empty


def test_the_cpu_allocator_saying_no_is_out_of_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*arguments: object) -> None:
        # Asked for in earnest: the allocator's own words are what is recognised.
        torch.empty(2**60)

    monkeypatch.setattr(trials_module, "train_trial", exhausted)
    record, _, _ = run_cell(small_cell())
    assert record.status == "oom"


def test_a_defect_is_a_failed_cell_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(trials_module, "train_trial", broken)
    record, _, _ = run_cell(small_cell())
    assert record.status == "failed"
    assert record.reason == "ZeroDivisionError: planted"
    assert record.traceback is not None
    assert 'raise ZeroDivisionError("planted")' in record.traceback
    assert record.speed is not None, "what was measured before the failure stays in the record"


TASK = """
from torch import nn
import torch
from bench.tasks import own

def task(seed):
    points = torch.randn(300, 2, generator=torch.Generator().manual_seed(seed))
    parts = [(points[i::3], (points[i::3, 0] > 0).long()) for i in range(3)]
    return own.problem(train=parts[0], val=parts[1], test=parts[2], model=lambda: nn.Linear(2, 2), target=0.9)
"""
OPTIMIZER = "import torch\nclass Mine(torch.optim.SGD):\n    pass\n"


@pytest.mark.parametrize("key", ["task.module", "optimizer.target", "optimizer.fallback.target"])
def test_code_that_changed_since_the_cell_was_checked_is_not_trained(tmp_path: Path, key: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(TASK if key == "task.module" else OPTIMIZER, encoding="utf-8")
    reference = f"{path}:{'task' if key == 'task.module' else 'Mine'}"
    overrides = {
        "task.module": ["task=custom", f"task.module={reference}", "evaluation.train_examples=null"],
        "optimizer.target": [f"optimizer.target={reference}"],
        "optimizer.fallback.target": ["optimizer=muon", f"optimizer.fallback.target={reference}"],
    }[key]
    cell = small_cell(*overrides)
    assert run_cell(cell)[0].status == "complete"
    path.write_text(path.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    record, _, _ = run_cell(cell)
    assert record.status == "failed"
    assert record.reason == f"{key}={reference}: the file has changed since the sweep was checked"
    assert (record.trials, record.audit, record.traceback) == ([], [], None)
    assert small_cell(*overrides).id != cell.id
    path.unlink()
    assert f"{key}={reference}: no file " in str(run_cell(cell)[0].reason)


def test_an_optimizer_edited_while_its_cell_trains_ends_it_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OPTIMIZER, encoding="utf-8")
    train_trial = trials_module.train_trial

    def train_and_edit(*arguments: Any) -> Any:
        trial = train_trial(*arguments)
        path.write_text(OPTIMIZER + "# edited\n", encoding="utf-8")
        return trial

    monkeypatch.setattr(trials_module, "train_trial", train_and_edit)
    record, _, _ = run_cell(small_cell(f"optimizer.target={path}:Mine"))
    assert record.status == "failed"
    assert record.reason == f"optimizer.target={path}:Mine: the file has changed since the sweep was checked"


def test_a_failed_audit_keeps_the_cell_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = AuditCheck("planted", False, "3", "4")
    monkeypatch.setattr(cell_module, "audit_training", lambda subject: [planted])
    record, _, _ = run_cell(small_cell())
    assert record.status == "failed"
    assert record.reason == "audit: planted: 3, not 4"
    assert record.trials == []
    assert planted in record.audit


def test_a_stop_is_an_interrupted_cell_with_what_it_has() -> None:
    calls = iter(range(10_000))
    record, curves, _ = run_cell(small_cell("budget.epochs=20"), stop=lambda: next(calls) > 300)
    assert record.status == "interrupted"
    assert record.reason == "stopped before it was done"
    assert {str(t.status) for t in record.trials} == {"interrupted"}
    assert record.digest is None
    assert isinstance(curves, pd.DataFrame)
    assert len(curves) > 0


def test_a_missing_device_is_unavailable() -> None:
    cell = small_cell("device=mps")
    if torch.backends.mps.is_available():
        pytest.skip("this machine has an MPS device")
    record, _, _ = run_cell(cell)
    assert record.status == "unavailable"
    assert record.reason == "device mps: no MPS device on this machine"


def test_stacked_or_one_by_one_a_cell_has_the_same_digest() -> None:
    words = ("task=mnist5k/mlp", "optimizer=momentum", "lr=[0.01,0.1,1e30]", "seeds=2", "budget.epochs=4")
    ways = {stack: run_cell(small_cell(*words, f"training.stack={stack}"))[0] for stack in ("off", "6", "2")}
    assert {way: (r.stacking.path, r.stacking.trials) for way, r in ways.items() if r.stacking} == {
        "off": ("one by one", 1),
        "6": ("native", 6),
        "2": ("native", 2),
    }
    assert len({record.digest for record in ways.values()}) == 1
    assert [(t.lr, t.seed) for t in ways["6"].trials] == [(t.lr, t.seed) for t in ways["off"].trials]
    assert "diverged" in {str(t.status) for t in ways["6"].trials}


def test_measures_can_be_switched_off() -> None:
    record, _, _ = run_cell(small_cell("measure.speed=false", "measure.memory=false"))
    assert record.speed is None
    assert record.memory is None
    assert record.status == "complete"


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precisions(precision: str) -> None:
    record, _, _ = run_cell(small_cell(f"precision={precision}", "task=mnist5k/mlp"))
    assert record.status == "complete", record.reason
    assert record.memory is not None
    assert record.memory.parameter_bytes == 101_770 * (8 if precision == "float64" else 4)


def test_audit_passes_on_every_first_order_optimizer() -> None:
    for optimizer in ("momentum", "nesterov", "adamw", "rmsprop", "adagrad"):
        checks = audit_cell(small_cell("task=mnist5k/mlp", f"optimizer={optimizer}", "lr=null"))
        assert [c for c in checks if not c.passed] == []


def test_the_plan_follows_the_configuration() -> None:
    plan = trial_plan(small_cell("batch_size=100", "training.remainder=drop", "budget.seconds=1.5"))
    assert (plan.batch_size, plan.per_epoch, plan.steps, plan.seconds) == (100, 40, 40, 1.5)
    assert plan.remainder == "drop"


@pytest.mark.slow
def test_a_compiled_cell_repeats_and_is_the_eager_one_to_rounding() -> None:
    cell = small_cell("training.compile=on", "measure.memory=false")
    record, again = run_cell(cell).record, run_cell(cell).record
    assert (record.status, again.status) == ("complete", "complete"), record.reason
    assert record.digest == again.digest
    assert record.engine is not None
    assert (record.engine.compiled, record.engine.reason) == (True, None)
    assert record.engine == again.engine
    assert record.engine.compile_seconds > sum(trial.train_seconds for trial in record.trials)
    eager = run_cell(small_cell("measure.memory=false")).record
    assert eager.cell != record.cell
    assert eager.engine == Engine(False, False, 0.0, 0.0, None)
    for one, other in zip(record.trials, eager.trials, strict=True):
        assert one.final["test_loss"] == pytest.approx(other.final["test_loss"], rel=1e-4)


@pytest.mark.slow
def test_a_compiled_cell_of_a_tiny_model_is_stacked() -> None:
    """By a rule, not by timing: the digest repeats."""
    given = ("task=regression/linear", "seeds=2", "batch_size=4", "budget.epochs=null", "budget.steps=100")
    cell = small_cell("training.compile=on", "measure.speed=false", *given)
    record = run_cell(cell).record
    assert record.stacking == Stacking("native", 4, False, None), record.reason
    assert record.engine is not None
    assert record.engine.compiled
    alone = run_cell(small_cell("training.compile=on", "measure.speed=false", "training.stack=off", *given)).record
    for one, other in zip(record.trials, alone.trials, strict=True):
        assert one.final["test_loss"] == pytest.approx(other.final["test_loss"], rel=1e-4)


@pytest.mark.parametrize("stack", ["off", "4"])
def test_a_cell_whose_steps_are_replayed(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tape of operations in place of a CUDA graph: the bits are those of eager steps."""
    given = ("optimizer=momentum", "seeds=2", f"training.stack={stack}", "measure.memory=false")
    eager = run_cell(small_cell(*given)).record
    assert eager.engine == Engine(False, False, 0.0, 0.0, None)
    monkeypatch.setattr(cell_module, "recording_of", lambda device: Tape())
    record = run_cell(small_cell(*given)).record
    assert record.status == "complete", record.traceback
    assert record.stacking == eager.stacking
    assert (record.cell, record.digest) == (eager.cell, eager.digest)
    assert record.engine is not None
    assert (record.engine.cuda_graph, record.engine.reason) == (True, None)
    assert record.engine.capture_seconds > 0
    off = run_cell(small_cell(*given, "training.cuda_graph=off")).record
    assert off.engine == Engine(False, False, 0.0, 0.0, None)
    # Which counts its steps on the host.
    adam = run_cell(small_cell("optimizer=adam")).record
    assert adam.status == "complete", adam.traceback
    assert adam.engine is not None
    assert (adam.engine.cuda_graph, adam.engine.capture_seconds) == (False, 0.0)
    assert (adam.engine.reason or "").startswith("training.cuda_graph: a step cannot be recorded: RuntimeError")


@pytest.mark.cuda
def test_a_cell_on_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    record, _, _ = run_cell(small_cell("device=cuda", "task=mnist5k/lenet5", "optimizer=adam"))
    again, _, _ = run_cell(small_cell("device=cuda", "task=mnist5k/lenet5", "optimizer=adam"))
    assert record.status == "complete", record.reason
    assert record.digest == again.digest
    assert record.implementation == "foreach"
    assert record.memory is not None
    assert record.memory.peak_allocated_mib is not None
    assert record.memory.peak_allocated_mib > 0
