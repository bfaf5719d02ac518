"""A task's loss and metrics, beside the plain way of computing them."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from bench.tasks.problem import EXAMPLES_INNERMOST, Model, Problem, Split, Splits, mean_cross_entropy
from bench.tasks.registry import TaskSpec, load_problem, task_spec
from bench.tasks.task import SPLITS, Task, build_task, load_task
from tests.cases import toy_task

CPU = torch.device("cpu")


def constant_model(logits: list[list[float]]) -> Model:
    """A model whose outputs are given, example by example, as the inputs' index says."""
    table = torch.tensor(logits, dtype=torch.float64)
    return Model("constant", lambda _: [torch.zeros(1)], lambda _, inputs: table[inputs.flatten().long()])


def test_loss_and_accuracy_by_hand() -> None:
    # Softmax of (0, ln 3) is (¼, ¾); of (0, 0) is (½, ½).
    model = constant_model([[0.0, math.log(3)], [0.0, 0.0], [math.log(3), 0.0]])
    split = Split(torch.arange(3.0, dtype=torch.float64), torch.tensor([1, 0, 1]))
    task = Task("hand", model, split, split, split, split, 2)
    loss, accuracy = task.evaluate([], split, 2).tolist()
    assert loss == pytest.approx((math.log(4 / 3) + math.log(2) + math.log(4)) / 3, rel=1e-12)
    assert accuracy == pytest.approx(2 / 3)
    assert task.loss([], split.inputs, split.labels).item() == pytest.approx(loss, rel=1e-12)


@given(batch_size=st.integers(1, 60))
def test_evaluation_does_not_depend_on_its_batch_size(batch_size: int) -> None:
    task = toy_task()
    parameters = task.initialise(0)
    logits = task.model.forward(parameters, task.train.inputs)
    expected = torch.stack(
        [
            functional.cross_entropy(logits, task.train.labels).detach(),
            (logits.argmax(1) == task.train.labels).double().mean(),
        ]
    )
    result = task.evaluate(parameters, task.train, batch_size)
    assert result.dtype == torch.float64
    torch.testing.assert_close(result.clone(), expected, rtol=1e-13, atol=0)


def test_evaluation_keeps_no_graph_and_changes_nothing(task: Task) -> None:
    parameters = task.initialise(0)
    before = [p.detach().clone() for p in parameters]
    assert not task.evaluate(parameters, task.val, 100).requires_grad
    assert all(torch.equal(a, b) and a.grad is None for a, b in zip(parameters, before, strict=True))


@pytest.mark.parametrize("model", ["logreg", "mlp", "lenet5"])
def test_untrained_loss_is_that_of_guessing(tasks: dict[str, Task], model: str) -> None:
    task = tasks[model]
    for name in SPLITS:
        loss, accuracy = task.evaluate(task.initialise(0), task.split(name), 500).tolist()
        assert loss == pytest.approx(math.log(10), abs=1e-6 if model == "logreg" else 0.1)
        assert accuracy < 0.25


def test_parameters_are_fresh_leaves_drawn_by_the_init_seed(problems: dict[str, Problem], task: Task) -> None:
    first, again, other = task.initialise(4), task.initialise(4), task.initialise(5)
    assert all(p.is_leaf and p.requires_grad and p.dtype == torch.float32 for p in first)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()
        assert not torch.equal(a, c)
    wide = build_task("mnist5k/mlp", problems["mlp"], CPU, "float64", None, 0)
    assert wide.dtype == torch.float64
    for a, b in zip(first, wide.initialise(4), strict=True):
        assert b.dtype == torch.float64
        assert torch.equal(a.double(), b)


def test_bfloat16_runs_the_forward_pass_in_bfloat16_alone(problems: dict[str, Problem], task: Task) -> None:
    half = build_task("mnist5k/mlp", problems["mlp"], CPU, "bfloat16", None, 0)
    assert half.autocast
    assert half.dtype == torch.float32
    parameters = half.initialise(0)
    assert all(p.dtype == torch.float32 for p in parameters)
    inputs, labels = half.val.inputs[:32], half.val.labels[:32]
    logits = half.outputs(parameters, inputs)
    assert logits.dtype == torch.bfloat16
    exact = task.outputs(parameters, inputs)
    assert exact.dtype == torch.float32
    torch.testing.assert_close(logits.float(), exact, rtol=0.05, atol=0.02)
    assert not torch.equal(logits.float(), exact)
    gradients = torch.autograd.grad(half.loss(parameters, inputs, labels), parameters)
    assert all(g.dtype == torch.float32 for g in gradients)


def test_training_metrics_may_be_taken_on_a_part_drawn_by_the_data_seed(problems: dict[str, Problem]) -> None:
    def part(examples: int | None, seed: int) -> Task:
        return build_task("mnist5k/mlp", problems["mlp"], CPU, "float32", examples, seed)

    splits = problems["mlp"].splits
    first, again, other = part(300, 0), part(300, 0), part(300, 1)
    assert len(first.split("train")) == 300
    assert len(first.train) == 4000
    assert torch.equal(first.train_evaluation.inputs, again.train_evaluation.inputs)
    assert not torch.equal(first.train_evaluation.inputs, other.train_evaluation.inputs)
    rows = {tuple(row) for row in torch.cat([splits.train.inputs.flatten(1), splits.train.labels[:, None]], 1).tolist()}
    chosen = torch.cat([first.train_evaluation.inputs.flatten(1), first.train_evaluation.labels[:, None]], 1).tolist()
    assert {tuple(row) for row in chosen} <= rows
    for everything in (None, 4000, 5000):
        assert torch.equal(part(everything, 0).train_evaluation.inputs, splits.train.inputs)


def test_splits_by_name(task: Task) -> None:
    part = dataclasses.replace(task, train_evaluation=task.val)
    assert part.split("train") is task.val
    assert part.split("val") is task.val
    assert part.split("test") is task.test
    with pytest.raises(KeyError):
        task.split("validation")


def test_load_task_loads_and_builds(splits: Splits) -> None:
    spec = TaskSpec("mnist5k/logreg", "mnist5k", "logreg")
    loaded = load_task(spec, "nowhere", False, CPU, "float64", 100, 0)
    assert (loaded.name, loaded.model.name, loaded.classes, loaded.device) == ("mnist5k/logreg", "logreg", 10, CPU)
    assert torch.equal(loaded.train.inputs, splits.train.inputs.double())
    assert torch.equal(loaded.test.labels, splits.test.labels)
    assert len(loaded.train_evaluation) == 100


@pytest.mark.parametrize("size", [EXAMPLES_INNERMOST - 1, EXAMPLES_INNERMOST, 3000])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_the_loss_of_large_batches_is_the_same_loss(size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(size)
    logits = (torch.randn(size, 10, generator=generator) * scale).requires_grad_()
    labels = torch.randint(0, 10, (size,), generator=generator)
    loss, expected = mean_cross_entropy(logits, labels), torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(loss, logits)
    (wanted,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-9)


@pytest.fixture(scope="module")
def normalised() -> dict[str, Task]:
    """mnist5k/f1 by precision."""
    spec, _ = task_spec("mnist5k/f1", "mnist5k", "f1", None, {"subset": 64})
    problem = load_problem(spec, "", False, 0)
    return {p: build_task(spec.name, problem, CPU, p, None, 0) for p in ("float32", "float64", "bfloat16")}


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_training_moves_buffers_and_evaluation_does_not(normalised: dict[str, Task], precision: str) -> None:
    task = normalised[precision]
    parameters, buffers = task.initialise(0), task.buffers()
    assert {b.dtype for b in buffers} == {task.dtype}
    fresh = [b.clone() for b in buffers]
    task.evaluate([*parameters, *buffers], task.val, 100)
    assert all(torch.equal(a, b) for a, b in zip(buffers, fresh, strict=True))
    loss = task.loss([*parameters, *buffers], task.train.inputs, task.train.labels)
    assert not any(torch.equal(a, b) for a, b in zip(buffers, fresh, strict=True))
    assert not any(b.requires_grad for b in buffers)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, parameters))
    if precision == "bfloat16":
        exact = normalised["float32"]
        theirs = exact.buffers()
        exact.loss([*parameters, *theirs], exact.train.inputs, exact.train.labels)
        for a, b in zip(buffers, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)
    again = task.buffers()
    assert all(torch.equal(a, b) for a, b in zip(again, fresh, strict=True))
