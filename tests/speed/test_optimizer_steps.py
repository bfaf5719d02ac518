"""Timing cases: optimizer.step() of every optimizer and implementation; what is timed on what, see speed_cases.py.

Run once, as tests, unless pytest-benchmark is switched on with --benchmark-enable. Steps that ask for the loss are
timed with it, a bowl that costs hardly more than the step itself, and from the same start each time: they would arrive
and stop early otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from speed_cases import CONFIGURATIONS, SHAPES, STEPS, Case, drawn, each, synchronise
from torch import Tensor

from bench.optimizers.registry import (
    CLOSURE,
    GRADIENT_GRAPH,
    SPARSE,
    all_arguments,
    build,
    requirements,
    watch_implementation,
)

#: Learning rate so small that however many steps are timed, the parameters stay finite.
TINY = 2.0**-13
#: Steps before the clock: RAdam takes its first five another way than all later ones.
WARM_UP = 5
#: Iterations of a step where it takes several; the usual 20 take ten times as long as a step of anything else.
ITERATIONS = 4


@dataclass(frozen=True)
class Step:
    """A step that can be taken as often as wanted.

    Attributes:
        parameters: What it moves.
        call: Takes it.
        implementation: What it ran as when it was watched.
    """

    parameters: list[Tensor]
    call: Callable[[], Any]
    implementation: str


def bowl(parameters: list[Tensor], needs: frozenset[str]) -> Callable[[], Tensor]:
    """Return the closure of Σ curvature · distance² / 2 with curvatures 1 … 100: no few iterations arrive."""
    device, count = parameters[0].device.type, sum(p.numel() for p in parameters)
    (goal,) = drawn([(count,)], 1, device)
    curvatures = torch.logspace(0, 2, count, device=device)

    def closure() -> Tensor:
        with torch.enable_grad():
            away = torch.cat([p.flatten() for p in parameters]) - goal
            loss = torch.dot(curvatures * away, away) / 2
            gradients = torch.autograd.grad(loss, parameters, create_graph=GRADIENT_GRAPH in needs)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.to_sparse(1) if SPARSE in needs else gradient
        return loss

    return closure


def built(case: Case) -> Step:
    chosen = CONFIGURATIONS[case.optimizer]
    needs = requirements(chosen.target, all_arguments(chosen))
    parameters = [p.requires_grad_() for p in drawn(SHAPES[case.parameters], 0, case.device)]
    start = [p.detach().clone() for p in parameters]
    # The rate is no danger to what starts again each time, and too small a one leaves L-BFGS no curvature to see.
    lr = 1.0 if CLOSURE in needs else TINY
    optimizer = build(chosen, parameters, lr, case.implementation)
    for group in optimizer.param_groups:
        if "max_iter" in group:
            group["max_iter"] = ITERATIONS
    closure = bowl(parameters, needs)
    closure()
    step: Callable[..., Any] = optimizer.step

    def again() -> None:
        with torch.no_grad():
            torch._foreach_copy_(parameters, start)
        optimizer.state.clear()
        step(closure)

    implementation = watch_implementation(optimizer, closure if CLOSURE in needs else None)
    take = again if CLOSURE in needs else step
    for _ in range(WARM_UP if take is step else 1):
        take()

    def synchronised() -> None:
        take()
        synchronise(case.device)

    return Step(parameters, take if case.device == "cpu" else synchronised, implementation)


@each(STEPS)
def test_step(benchmark: BenchmarkFixture, case: Case) -> None:
    step = built(case)
    if case.implementation != "default":
        assert step.implementation == case.implementation
    elif case.device == "cpu":
        # Elsewhere torch picks, for the fallback of Muon, what suits the device.
        assert step.implementation == "forloop"
    before = drawn(SHAPES[case.parameters], 0, case.device)
    benchmark.group = f"step on {case.parameters}, {case.device}"
    benchmark(step.call)
    assert not any(torch.equal(a, b) for a, b in zip(step.parameters, before, strict=True))
    assert all(p.isfinite().all() for p in step.parameters)


@pytest.mark.parametrize("name", ["bfgs", "lbfgs", "lbfgs_wolfe", "newton"])
def test_steps_that_ask_for_the_loss_repeat(name: str) -> None:
    parameters = "small" if name in ("bfgs", "newton") else "lenet"
    step = built(Case("", "cpu", name, parameters=parameters))
    first = [p.detach().clone() for p in step.parameters]
    step.call()
    assert all(torch.equal(a, b) for a, b in zip(step.parameters, first, strict=True))
