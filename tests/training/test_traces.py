"""Traces lose what changes nothing and what is the same at every step, and nothing else."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from bench.tasks.registry import TaskSpec
from bench.tasks.task import load_task
from bench.training.gradients import Gradients, recorded, traced
from bench.training.traces import MOST_BYTES, folded

aten = torch.ops.aten


def targets(module: fx.GraphModule) -> list[object]:
    return [node.target for node in module.graph.nodes if node.op == "call_function"]


def folded_trace(function: Callable[..., Sequence[Tensor]], *arguments: Tensor) -> fx.GraphModule:
    """Return the folded trace of a function, having seen that it gives what the function gives, twice."""
    module = folded(make_fx(function)(*arguments))
    for _ in range(2):
        expected = function(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(module.forward(*arguments), expected, strict=True))
    return module


def test_the_loss_itself_is_not_computed() -> None:
    task = load_task(
        TaskSpec("regression/linear", "regression/linear"), "", False, torch.device("cpu"), "float32", None, 0
    )
    parameters = task.initialise(0)
    batch = task.train.inputs[:8], task.train.labels[:8]
    module = folded(traced(recorded(task.loss, len(parameters)), parameters, *batch))
    computed = targets(module)
    # Neither the square, nor its mean, nor the mean's share of each example.
    assert aten.pow.Tensor_Scalar not in computed
    assert aten.mean.default not in computed
    assert aten.expand.default not in computed
    expected = torch.autograd.grad(task.loss(parameters, *batch), parameters)
    with torch.no_grad():
        found = module.forward(*parameters, *batch)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_gradient_that_is_constant_is_computed_at_every_step() -> None:
    def gradient(weight: Tensor) -> Sequence[Tensor]:
        leaf = weight.detach().requires_grad_()
        return torch.autograd.grad((leaf * 3).sum(), [leaf])

    module = folded_trace(gradient, torch.randn(4))
    first, second = module.forward(torch.randn(4))[0], module.forward(torch.randn(4))[0]
    # An optimizer may scale it in place.
    first.mul_(2)
    assert torch.equal(second, torch.full((4,), 3.0))
    assert torch.equal(module.forward(torch.randn(4))[0], second)


def test_what_is_changed_in_place_stays_as_it_is() -> None:
    def gradient(weight: Tensor) -> Sequence[Tensor]:
        count = torch.ones_like(weight.sum())
        twice = count * 2
        count.add_(weight[0])
        return [weight * count * twice]

    module = make_fx(gradient)(torch.randn(4))
    before = targets(module)
    assert targets(folded(module)) == before
    weight = torch.randn(4)
    for _ in range(2):
        assert torch.equal(module.forward(weight)[0], gradient(weight)[0])


def test_random_numbers_are_drawn_at_every_step() -> None:
    def gradient(weight: Tensor) -> Sequence[Tensor]:
        ones = torch.ones_like(weight.sum()).expand(64)
        return [weight * torch.rand_like(ones)]

    module = folded(make_fx(gradient)(torch.ones(64)))
    assert not torch.equal(module.forward(torch.ones(64))[0], module.forward(torch.ones(64))[0])


def test_large_constants_are_not_kept() -> None:
    def gradient(weight: Tensor) -> Sequence[Tensor]:
        ones = torch.ones_like(weight.sum())
        return [weight * (ones.expand(weight.shape) / 3)]

    small, large = torch.randn(8), torch.randn(MOST_BYTES)
    assert targets(folded_trace(gradient, small)) == [aten.mul.Tensor]
    assert aten.div.Tensor in targets(folded_trace(gradient, large))


def test_what_is_played_is_folded() -> None:
    task = load_task(TaskSpec("quadratic/deep", "quadratic/deep"), "", False, torch.device("cpu"), "float32", None, 0)
    parameters = task.initialise(0)
    weights = [*parameters, *task.buffers()]
    played = Gradients(task).of(task.loss, weights, 1, task.train.inputs[:8], task.train.labels[:8])
    assert played is not None
    assert aten.mean.default not in targets(played.__self__)  # type: ignore[attr-defined]
