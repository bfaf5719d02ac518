"""The Chebyshev task: its points, and the edge of stability."""

import pytest
import torch
from torch import Generator

from bench.errors import UsageError
from bench.measure.curvature import largest_eigenvalue
from bench.measure.fixed_loss import FixedLoss, flat
from bench.tasks.problem import Problem
from bench.tasks.task import build_task
from bench.training.batches import batches_of
from bench.training.stepper import Stepper
from tests.tasks.problems import load, mean_loss


def sharpness(problem: Problem, lr: float, steps: int, every: int, seed: int) -> list[float]:
    """Train by full-batch gradient descent in float64 and return λmax · η/2 at every so many steps."""
    task = build_task("chebyshev", problem, torch.device("cpu"), "float64", None, 0)
    parameters = task.initialise(seed)
    batches = batches_of(task, len(task.train), "keep", True, 0, 0)
    stepper = Stepper(task, parameters, torch.optim.SGD(parameters, lr), batches)
    loss = FixedLoss(task, [p.shape for p in parameters], [], task.train)
    found = []
    for _ in range(steps // every):
        stepper.run(every, lambda: False)
        vector = flat(parameters)
        eigenvalue = largest_eigenvalue(loss.hessian(vector), vector, Generator().manual_seed(seed), tolerance=1e-2)
        found.append(eigenvalue.value * lr / 2)
    return found


@pytest.mark.slow
def test_arxiv_2103_00065_the_curvature_rises_to_the_edge_of_stability_and_settles_there() -> None:
    """λmax over 2/η: below a half at step 100; mean of steps 2000 … 3000 within .1 of 1, of the last 10 000 within .01.

    Chebyshev degree 4, 20 points, tanh 1-32-32-1, float64, η = .1. Seen in the end: .999. Cost: 5 to 20 s.
    """
    found = sharpness(load("chebyshev"), 0.1, 20_000, 100, seed=0)
    assert found[0] < 0.5
    assert sum(found[20:30]) / 10 == pytest.approx(1, abs=0.1)
    assert sum(found[100:]) / 100 == pytest.approx(1, abs=0.01)


def test_the_points_and_the_polynomial() -> None:
    """T₄ = 8x⁴ − 8x² + 1, and T₁ = x; no point in two splits."""
    problem = load("chebyshev")
    splits = problem.splits
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [20, 19, 38]
    for split in (splits.train, splits.val, splits.test):
        x = split.inputs
        torch.testing.assert_close(split.labels, 8 * x**4 - 8 * x**2 + 1)
        assert x.min() >= -1
        assert x.max() <= 1
    points = torch.cat([splits.train.inputs, splits.val.inputs, splits.test.inputs]).flatten()
    assert len(points.unique()) == 77
    assert (points.sort().values.diff() > 0.02).all()
    line = load("chebyshev", degree=1).splits.train
    assert torch.equal(line.inputs, line.labels)


def test_full_batch_gradient_descent_gets_past_the_target() -> None:
    problem = load("chebyshev")
    task = build_task("chebyshev", problem, torch.device("cpu"), "float64", None, 0)
    parameters = task.initialise(0)
    batches = batches_of(task, 20, "keep", True, 0, 0)
    stepper = Stepper(task, parameters, torch.optim.SGD(parameters, 0.1), batches)
    assert mean_loss(problem, parameters, problem.splits.val).item() > 10 * problem.target
    stepper.run(3000, lambda: False)
    assert mean_loss(problem, parameters, problem.splits.val).item() < problem.target


@pytest.mark.parametrize(
    ("knob", "given", "message"),
    [
        ("degree", -1, "degree=-1: must be at least 0"),
        ("points", 1, "points=1: must be at least 2"),
        ("hidden", 0, "hidden=0: must be at least 1"),
    ],
)
def test_knobs_out_of_range_are_one_line(knob: str, given: int, message: str) -> None:
    with pytest.raises(UsageError, match=f"^task.knobs.{message}$"):
        load("chebyshev", **{knob: given})
