"""Timing cases: optimizer.step() of every optimizer and implementation on the parameters of mnist/mlp.

Run once, as tests, unless pytest-benchmark is switched on with --benchmark-enable.
"""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.optimizers.registry import implementations, watch_implementation
from bench.tasks.models import mlp
from tests.cases import OPTIMIZERS, builder

CASES = [
    (name, implementation)
    for name, chosen in OPTIMIZERS.items()
    for implementation in implementations(chosen["target"])
    if implementation != "default"
]


@pytest.mark.parametrize(("name", "implementation"), CASES, ids=["-".join(case) for case in CASES])
def test_step(benchmark: BenchmarkFixture, name: str, implementation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = [p.requires_grad_() for p in mlp((1, 28, 28), 10).initialise(generator)]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    before = [p.detach().clone() for p in parameters]
    # So small that however many steps are timed, the parameters stay finite.
    optimizer = builder(name, implementation)(parameters, 2.0**-13)
    assert watch_implementation(optimizer) == implementation
    benchmark(optimizer.step)
    assert not any(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    assert all(p.isfinite().all() for p in parameters)
