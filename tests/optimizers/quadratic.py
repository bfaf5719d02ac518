"""The quadratic of `tests.optimizers.rules` for torch, and the steps of a real optimizer on it."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.optimizers.registry import GRADIENT_GRAPH, SPARSE
from tests.cases import builder, needs_of, step_as_required
from tests.optimizers.rules import Array, Q, centre


def start(x: Array) -> Tensor:
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


def loss_of(x: Tensor) -> Tensor:
    away = x - torch.from_numpy(centre(x.detach().numpy()))
    return 0.5 * (away * (torch.from_numpy(Q) @ away)).sum()


def take_step(optimizer: torch.optim.Optimizer, x: Tensor, needs: frozenset[str]) -> None:
    """Take one step, giving the optimizer what it requires."""

    def closure() -> Tensor:
        with torch.enable_grad():
            loss = loss_of(x)
            (found,) = torch.autograd.grad(loss, [x], create_graph=GRADIENT_GRAPH in needs)
        x.grad = found.to_sparse(1) if SPARSE in needs else found
        return loss

    step_as_required(optimizer, closure, needs)


def trajectory(name: str, implementation: str, x: Array, lr: float) -> Iterator[Array]:
    """Yield the parameters after one step, two, three … of an optimizer of conf/optimizer."""
    parameter = start(x)
    optimizer = builder(name, implementation)([parameter], lr)
    while True:
        take_step(optimizer, parameter, needs_of(name))
        yield np.array(parameter.detach().numpy())
