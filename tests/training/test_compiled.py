"""Compiled gradients are autograd's to rounding, are checked before they are used, and say why where they are not."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import EngineUnavailable
from bench.tasks.models import f1
from bench.tasks.problem import Split
from bench.tasks.task import Task
from bench.training import compiled as module
from bench.training.batches import batches_of
from bench.training.compiled import TOLERANCE, Compiled, CompiledGradients
from bench.training.gradients import relative_difference
from bench.training.loop import train_stack
from bench.training.seeds import Start
from bench.training.stack import Layout, Stack, stacked_batches
from bench.training.stepper import PLAIN, Method, Stepper
from tests.cases import TOY_CLASSES, TOY_SHAPE, builder, plan_of, toy_task

STARTS = [Start(lr, seed, seed, seed, seed) for lr in (0.05, 0.1) for seed in (0, 1)]
LAYOUT = Layout(views=False, groups=False, wide=True)
TASK = toy_task(dtype=torch.float32)
Kept = dict[tuple[Any, ...], Compiled]


def trained(method: Method, compiled: CompiledGradients | None) -> Stepper:
    """40 steps at batch size 8 of 50 examples: the last batch of an epoch has 2."""
    parameters = TASK.initialise(0)
    order = batches_of(TASK, 8, "keep", True, 0, 0)
    stepper = Stepper(TASK, parameters, builder("momentum")(parameters, 0.05), order, method, compiled)
    stepper.run(40, lambda: False)
    return stepper


@pytest.fixture(scope="module")
def first() -> tuple[Stepper, CompiledGradients]:
    """The first trial, for which both shapes of batch are compiled."""
    compiled = CompiledGradients(TASK, {})
    return trained(PLAIN, compiled), compiled


@pytest.fixture(scope="module")
def kept(first: tuple[Stepper, CompiledGradients]) -> Kept:
    """What was compiled for the task: compiling takes seconds."""
    return first[1]._kept


@pytest.mark.slow
@pytest.mark.parametrize("method", [PLAIN, Method(clip_norm=0.5, average=0.9, factor=lambda step: 0.9**step)])
def test_compiled_steps_are_eager_ones_to_rounding(method: Method, kept: Kept) -> None:
    compiled = CompiledGradients(TASK, kept)
    ours, eager = trained(method, compiled), trained(method, None)
    assert compiled.reason is None
    # A whole batch and what is left of an epoch, each with a gradient of its own.
    assert sorted(key[2][0] for key in compiled.used) == [2, 8]
    assert all(used.gradient is not None for used in compiled.used.values())
    assert relative_difference(ours.evaluated, eager.evaluated) < 1e-5
    assert ours.gradient_evaluations == eager.gradient_evaluations == ours.steps == 40


def test_compiling_is_not_on_the_training_clock(first: tuple[Stepper, CompiledGradients], kept: Kept) -> None:
    stepper, compiled = first
    assert 0 < stepper.seconds < compiled.seconds
    again = CompiledGradients(TASK, kept)
    trained(PLAIN, again)
    assert again.seconds == sum(kept[key].seconds for key in again.used) == compiled.seconds


def test_stacks_are_compiled(kept: Kept) -> None:
    ended = []
    compiled = CompiledGradients(TASK, kept)
    for gradients in (compiled, None):
        batches = stacked_batches(TASK, STARTS, 8, "keep", True)
        stack = Stack(TASK, builder("momentum"), STARTS, batches, PLAIN, LAYOUT, gradients)
        train_stack(stack, plan_of(), False, None)
        assert stack.steps == 20
        ended.append(stack.evaluated)
    assert {key[0] for key in compiled.used} == {"stacked_loss"}
    assert all(used.gradient is not None for used in compiled.used.values())
    assert relative_difference(*ended) < 1e-5


def test_buffers_move_as_they_do_alone() -> None:
    """Batch normalisation: running statistics are moved by the compiled gradient too."""
    split = Split(torch.randn(40, *TOY_SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 3)
    task = dataclasses.replace(TASK, model=f1(TOY_SHAPE, TOY_CLASSES), train=split, train_evaluation=split)
    ended = []
    for gradients in (CompiledGradients(task, {}), None):
        parameters = task.initialise(0)
        order = batches_of(task, 20, "keep", True, 0, 0)
        stepper = Stepper(task, parameters, builder("sgd")(parameters, 0.05), order, gradients=gradients)
        fresh = [b.clone() for b in stepper.weights[len(parameters) :]]
        stepper.run(6, lambda: False)
        ended.append(stepper.weights[len(parameters) :])
        assert not all(torch.equal(a, b) for a, b in zip(fresh, ended[-1], strict=True))
    assert relative_difference(*ended) < 1e-4


def test_a_compiled_gradient_that_is_not_autograds_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(gradient: Any, *given: Any) -> Any:
        return lambda *flat: [g * (1 + 2 * TOLERANCE) for g in torch.enable_grad()(gradient)(*flat)]

    monkeypatch.setattr(module, "_compiled", off)
    compiled = CompiledGradients(TASK, {})
    ours, eager = trained(PLAIN, compiled), trained(PLAIN, None)
    assert all(torch.equal(a, b) for a, b in zip(ours.evaluated, eager.evaluated, strict=True))
    assert compiled.reason == (
        "compiled, a gradient is 2.0e-04 off autograd's, shape (8, 1, 3, 4); "
        "compiled, a gradient is 2.0e-04 off autograd's, shape (2, 1, 3, 4)"
    )


def test_where_all_has_diverged_nothing_is_decided(monkeypatch: pytest.MonkeyPatch, kept: Kept) -> None:
    monkeypatch.setattr(module, "_compiled", lambda gradient, *given: torch.enable_grad()(gradient))
    compiled, before = CompiledGradients(TASK, kept), dict(kept)
    weights = [torch.full_like(p, torch.nan) for p in TASK.initialise(0)]
    inputs, labels = TASK.train.inputs[:5], TASK.train.labels[:5]
    assert compiled.of(TASK.loss, weights, len(weights), inputs, labels) is None
    assert kept == before
    assert not compiled.used


def test_what_cannot_be_compiled_says_so_in_a_line() -> None:
    own = dataclasses.replace(TASK, model=dataclasses.replace(TASK.model, stacked_forward=None))
    batch = TASK.train.inputs[:8], TASK.train.labels[:8]
    with pytest.raises(EngineUnavailable, match=r"only models written in bench\.tasks\.layers are compiled"):
        CompiledGradients(own, {}).of(own.loss, own.initialise(0), 4, *batch)

    class Looking(Task):
        def loss(self, weights: Any, inputs: Tensor, labels: Tensor) -> Tensor:
            return super().loss(weights, inputs, labels) * float(inputs.sum())

    looking = Looking(**{name: getattr(TASK, name) for name in TASK.__dataclass_fields__})
    with pytest.raises(EngineUnavailable, match=r"^training.compile=on: \S.*\S$") as raised:
        CompiledGradients(looking, {}).of(looking.loss, looking.initialise(0), 4, *batch)
    assert len(str(raised.value).splitlines()) == 1


NO_COMPILER = """
from bench.launching.cell import run_cell
from tests.small import small_cell
record = run_cell(small_cell("training.compile=on", "measure.speed=false", "measure.memory=false")).record
print([str(record.status), record.reason, record.traceback, record.trials])
"""


@pytest.mark.slow
def test_without_a_compiler_a_cell_is_unavailable(tmp_path: Path) -> None:
    """In a process of its own: what this one has compiled is kept in many places."""
    changed = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", NO_COMPILER],
        env=os.environ | changed | {"PYTHONPATH": path},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    reason = "training.compile=on: no C++ compiler found (one is taken from the variable CXX or from PATH)"
    assert done.stdout.splitlines()[-1] == str(["unavailable", reason, None, []])
