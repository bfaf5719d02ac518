"""Two optimizers that act as one."""

import copy

import pytest
import torch
from torch import Tensor

from bench.optimizers.composite import Composite
from bench.optimizers.registry import state_bytes


def parts() -> tuple[list[Tensor], Composite, torch.optim.Adam, torch.optim.SGD]:
    a, b = (torch.full((3,), v, dtype=torch.float64, requires_grad=True) for v in (1.0, 2.0))
    adam, sgd = torch.optim.Adam([a], lr=0.1), torch.optim.SGD([b], lr=0.1, momentum=0.9)
    return [a, b], Composite([(adam, False), (sgd, False)]), adam, sgd


def set_gradients(parameters: list[Tensor]) -> Tensor:
    with torch.enable_grad():
        loss = torch.stack([p.pow(4).sum() for p in parameters]).sum()
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        p.grad = g
    return loss


def test_each_part_steps_its_own_parameters() -> None:
    together, composite, *_ = parts()
    apart, _, adam, sgd = parts()
    for _ in range(3):
        set_gradients(together)
        composite.step()
        set_gradients(apart)
        adam.step()
        sgd.step()
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))
    assert not torch.equal(together[0], torch.ones(3, dtype=torch.float64))


def test_groups_and_state_are_those_of_the_parts() -> None:
    parameters, composite, adam, sgd = parts()
    assert composite.param_groups[0] is adam.param_groups[0]
    assert composite.param_groups[1] is sgd.param_groups[0]
    for group in composite.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in parameters]
    set_gradients(parameters)
    composite.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    assert composite.state[parameters[0]] is adam.state[parameters[0]]
    assert state_bytes(composite) == state_bytes(adam) + state_bytes(sgd) > 0
    composite.zero_grad()
    assert all(p.grad is None for p in parameters)


def test_a_closure_is_called_once_for_all_that_take_gradients() -> None:
    parameters, composite, *_ = parts()
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        return set_gradients(parameters)

    assert composite.step(closure).item() == pytest.approx(3 * (1 + 16))
    assert len(calls) == 1


def test_a_part_that_asks_for_the_loss_gets_it() -> None:
    a, b = (torch.full((3,), v, dtype=torch.float64, requires_grad=True) for v in (1.0, 2.0))
    lbfgs, sgd = torch.optim.LBFGS([a], line_search_fn="strong_wolfe"), torch.optim.SGD([b], lr=0.0)
    composite = Composite([(lbfgs, True), (sgd, False)])
    composite.step(lambda: set_gradients([a, b]))
    assert a.abs().max() < 0.1
    assert torch.equal(b, torch.full_like(b, 2.0))


def test_state_can_be_saved_and_restored() -> None:
    parameters, composite, *_ = parts()
    set_gradients(parameters)
    composite.step()
    others, restored, *_ = parts()
    restored.load_state_dict(copy.deepcopy(composite.state_dict()))
    with torch.no_grad():
        for p, q in zip(parameters, others, strict=True):
            q.copy_(p)
    for some, optimizer in ((parameters, composite), (others, restored)):
        set_gradients(some)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))
    assert restored.param_groups[0] is restored.parts[0][0].param_groups[0]
    assert len(restored.state) == 2
