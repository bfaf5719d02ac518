"""Traced gradients are autograd's, to the last bit, and are used only where that is so."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.tasks.models import f1, lenet5, logreg, mlp
from bench.tasks.problem import EXAMPLES_INNERMOST, Model, Split
from bench.tasks.registry import TaskSpec
from bench.tasks.task import Task, load_task
from bench.training import gradients as gradients_module
from bench.training.batches import BatchOrder
from bench.training.gradients import Gradients, Player
from bench.training.stepper import Stepper
from tests.cases import builder, toy_task

MODELS = {"mlp": mlp, "lenet5": lenet5, "f1": f1, "logreg": logreg}


def image_task(model: Model) -> Task:
    inputs = torch.randn(2000, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    split = Split(inputs, torch.arange(2000) % 10)
    return Task("images", model, split, split, split, split, 10)


@pytest.mark.parametrize("size", [1, 3, 64, EXAMPLES_INNERMOST])
@pytest.mark.parametrize("name", MODELS)
def test_traced_is_autograd_bit_for_bit(name: str, size: int) -> None:
    task = image_task(MODELS[name]((1, 28, 28), 10))
    weights = [*task.initialise(0), *task.buffers()]
    count = len(task.initialise(0))
    traced, recorded = (
        Player(task.loss, [w.detach().clone().requires_grad_(i < count) for i, w in enumerate(weights)], count, g)
        for g in (Gradients(task), None)
    )
    for start in (0, 5, 40):
        inputs, labels = task.train.inputs[start : start + size], task.train.labels[start : start + size]
        found, expected = traced(inputs, labels), recorded(inputs, labels)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert traced.tracing_seconds > 0
    assert recorded.tracing_seconds == 0
    assert traced._played[torch.Size([size])] is not None
    # Running statistics have moved alike.
    assert all(torch.equal(a, b) for a, b in zip(traced._weights, recorded._weights, strict=True))


@pytest.mark.parametrize("name", ["playground/spiral", "regression/linear", "regression/logistic", "quadratic/deep"])
def test_tasks_written_in_layers_are_traced(name: str) -> None:
    task = load_task(TaskSpec(name, name), "", False, torch.device("cpu"), "float32", None, 0)
    parameters = task.initialise(0)
    weights = [*parameters, *task.buffers()]
    batch = task.train.inputs[:8], task.train.labels[:8]
    played = Gradients(task).of(task.loss, weights, len(parameters), *batch)
    assert played is not None
    expected = torch.autograd.grad(task.loss(weights, *batch), parameters)
    assert all(torch.equal(a, b) for a, b in zip(played(*weights, *batch), expected, strict=True))


def test_what_is_not_written_in_layers_is_left_to_autograd() -> None:
    task = toy_task()
    plain = dataclasses.replace(task, model=dataclasses.replace(task.model, stacked_forward=None))
    batch = task.train.inputs[:8], task.train.labels[:8]
    for other in (plain, dataclasses.replace(task, autocast=True), dataclasses.replace(task, sparse=True)):
        assert Gradients(other).of(other.loss, other.initialise(0), 4, *batch) is None
    assert Gradients(task).of(task.loss, task.initialise(0), 4, *batch) is not None


def test_a_trace_that_does_not_repeat_autograd_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(10**6))
    loss = Task.loss

    def counting(task: Task, weights: Any, inputs: Tensor, labels: Tensor) -> Tensor:
        return loss(task, weights, inputs, labels) * (1 + next(calls))

    counting.__name__ = "loss"
    monkeypatch.setattr(Task, "loss", counting)
    task = toy_task()
    assert Gradients(task).of(task.loss, task.initialise(0), 4, task.train.inputs[:8], task.train.labels[:8]) is None


def test_steps_are_the_same_and_tracing_is_not_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    task = toy_task(dtype=torch.float32)
    for gradients in (None, Gradients(task)):
        parameters = task.initialise(0)
        # 50 examples in batches of 8: the last of an epoch has 2.
        order = BatchOrder(task.train.inputs, task.train.labels, 8, "keep", True, 0)
        stepper = Stepper(task, parameters, builder("adam")(parameters, 0.1), order, gradients=gradients)
        stepper.run(20, lambda: False)
        ended.append([p.detach() for p in parameters])
        assert stepper.seconds > 0
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))
    assert stepper._player is not None
    assert set(stepper._player._played) == {torch.Size([8]), torch.Size([2])}

    def traced_again(*arguments: Any) -> None:
        raise AssertionError("what was traced is kept for the next trial")

    monkeypatch.setattr(gradients_module, "_checked", traced_again)
    Stepper(task, parameters, builder("adam")(parameters, 0.1), order, gradients=gradients).run(20, lambda: False)
