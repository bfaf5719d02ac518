"""Timing cases: optimizer.step() of every optimizer and implementation on the parameters of mnist/mlp.

Run once, as tests, unless pytest-benchmark is switched on with --benchmark-enable. Steps that require a closure are
timed with it: half the squared distance to a point, so hardly more than the step itself. Where a class keeps a matrix
of parameters × parameters, the model is a smaller one.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from bench.optimizers.registry import (
    CLOSURE,
    GRADIENT_GRAPH,
    SPARSE,
    implementations,
    optimizer_class,
    watch_implementation,
)
from bench.tasks.models import mlp
from tests.cases import OPTIMIZERS, builder, needs_of

CASES = [
    (name, implementation)
    for name, chosen in OPTIMIZERS.items()
    for implementation in implementations(chosen["target"])
    if implementation != "default" or implementations(chosen["target"]) == ("default",)
]


@pytest.mark.parametrize(("name", "implementation"), CASES, ids=["-".join(case) for case in CASES])
def test_step(benchmark: BenchmarkFixture, name: str, implementation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    small = hasattr(optimizer_class(OPTIMIZERS[name]["target"]), "most_parameters")
    model = mlp((1, 4, 4), 10, hidden=8) if small else mlp((1, 28, 28), 10)
    parameters = [p.requires_grad_() for p in model.initialise(generator)]
    goals = [p.detach() - torch.randn(p.shape, generator=generator) for p in parameters]
    before = [p.detach().clone() for p in parameters]
    # So small that however many steps are timed, the parameters stay finite.
    optimizer = builder(name, implementation)(parameters, 2.0**-13)
    expected = "forloop" if implementation == "default" else implementation
    needs = needs_of(name)

    def closure() -> Tensor:
        with torch.enable_grad():
            loss = torch.stack([(p - goal).square().sum() / 2 for p, goal in zip(parameters, goals, strict=True)]).sum()
            gradients = torch.autograd.grad(loss, parameters, create_graph=GRADIENT_GRAPH in needs)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.to_sparse(1) if SPARSE in needs else gradient
        return loss

    closure()
    asked: tuple[Callable[[], Any], ...] = (closure,) if CLOSURE in needs else ()
    assert watch_implementation(optimizer, *asked) == expected
    benchmark(optimizer.step, *asked)
    assert not any(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    assert all(p.isfinite().all() for p in parameters)
