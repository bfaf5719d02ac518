"""Distances, barriers and rescaling by hand."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bench.measure.paths import barrier, distance, rescaled, same_function
from bench.tasks.landscape import EXCESS_LOSS
from bench.tasks.problem import Model, Split
from bench.tasks.task import Task
from tests.cases import toy_task
from tests.measure.points import problem_task


def two_wells() -> Task:
    """(θ² − 1)²: minima at ∓1, and a barrier of 1 between them."""
    split = Split(torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))

    def forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return (weights[0].square() - 1).square().expand(len(inputs))

    model = Model("wells", lambda _: [torch.ones(1, dtype=torch.float64)], forward)
    return Task("wells", model, split, split, split, split, None, EXCESS_LOSS)


def test_arxiv_2110_06296_the_barrier_between_two_wells_is_its_height() -> None:
    task, one = two_wells(), torch.ones(1, dtype=torch.float64)
    assert barrier(task, [-one], [one], task.train, 10) == pytest.approx(1)
    assert barrier(task, [one], [one], task.train, 10) == 0
    # From the top down to a well, the line between the ends is what counts.
    assert barrier(task, [0 * one], [one], task.train, 10) == pytest.approx(
        max((t * t - 1) ** 2 - (1 - t) for t in (i / 10 for i in range(11)))
    )


def test_a_convex_loss_has_no_barrier() -> None:
    task = problem_task("regression/linear")
    a, b = (
        [torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)).double() for p in task.initialise(0)]
        for seed in (0, 1)
    )
    assert barrier(task, a, b, task.train, 100) == pytest.approx(0, abs=1e-12)


def test_distance_by_hand() -> None:
    assert distance([torch.zeros(2), torch.zeros(1)], [torch.tensor([1.0, 2.0]), torch.tensor([2.0])]) == 3


def test_what_is_no_two_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no two layers"):
        rescaled(toy_task("logreg").initialise(0), 2.0)
    with pytest.raises(ValueError, match="do not begin with"):
        rescaled([torch.zeros(2, 2), torch.zeros(3), torch.zeros(2, 2)], 2.0)


def test_another_function_is_told_apart() -> None:
    task = problem_task("chebyshev", hidden=4)
    parameters = task.initialise(0)
    # tanh is not a ReLU.
    assert not same_function(task, parameters, rescaled(parameters, 3.0), task.train.inputs)
