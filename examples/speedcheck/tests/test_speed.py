"""Timing cases, for pytest-benchmark and for `bench speed check` alike.

What a case has to be: seeded, so that two versions can be seen to compute the same; callable thousands of times at
the same cost, so gradients are fixed and the learning rate is tiny; and named the same everywhere.
"""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from signstep import SignMomentum

SHAPES = {
    # 784-128-10, a classifier of digits: the numbers count.
    "mlp": [(128, 784), (128,), (10, 128), (10,)],
    # 60 small tensors: the calls count.
    "narrow": [(16, 16), (16,)] * 30,
}


@pytest.mark.parametrize("parameters", SHAPES)
@pytest.mark.parametrize("foreach", [False, True], ids=["forloop", "foreach"])
def test_step(benchmark: BenchmarkFixture, foreach: bool, parameters: str) -> None:
    """A step of each implementation on each set of parameters."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES[parameters]]
    for parameter in drawn:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    before = [parameter.detach().clone() for parameter in drawn]
    optimizer = SignMomentum(drawn, lr=2.0**-13, foreach=foreach)
    benchmark(optimizer.step)
    assert not any(torch.equal(a, b) for a, b in zip(drawn, before, strict=True))
    assert all(parameter.isfinite().all() for parameter in drawn)
