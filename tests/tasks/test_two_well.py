"""Two wells: minima, depths, curvature, edge of stability, spread, and who escapes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.tasks.two_well import NARROW, WIDE, TwoWellKnobs, well_of, wells
from tests.tasks.problems import descend, fresh, load, mean_loss

SHAPES: list[dict[str, Any]] = [
    {},
    {"dimension": 2},
    {"narrow_depth": 3.0, "narrow_width": 0.5, "wide_depth": 0.25, "wide_width": 4.0},
    {"dimension": 2, "narrow_depth": 0.1, "narrow_width": 0.2, "wide_depth": 2.0, "wide_width": 0.3},
]


def loss_at(position: Tensor, **knobs: Any) -> Tensor:
    problem = load("two_well", **knobs)
    return mean_loss(problem, [position], problem.splits.val)


def padded(x: float, dimension: int) -> Tensor:
    return torch.tensor([x, 0.0][:dimension], dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_minima_lie_where_width_says_as_deep_as_depth_says(shape: dict[str, Any]) -> None:
    """Gradient zero, loss of the deeper one zero, pass at the origin higher by each depth; within 1e-6 (labels are
    float32)."""
    knobs = TwoWellKnobs(**shape)
    top = loss_at(padded(0.0, knobs.dimension), **shape).item()
    for centre, depth in ((-knobs.narrow_width, knobs.narrow_depth), (knobs.wide_width, knobs.wide_depth)):
        point = padded(centre, knobs.dimension).requires_grad_()
        loss = loss_at(point, **shape)
        assert torch.autograd.grad(loss, point)[0].abs().max().item() < 1e-12
        assert top - loss.item() == pytest.approx(depth, abs=1e-6)
    assert top == pytest.approx(max(knobs.narrow_depth, knobs.wide_depth), abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_curvature_is_twice_depth_over_width_squared(shape: dict[str, Any]) -> None:
    knobs = TwoWellKnobs(**shape)
    for well in wells(knobs):
        hessian = torch.autograd.functional.hessian(
            lambda point: loss_at(point, **shape), padded(well.centre, knobs.dimension)
        )
        expected = 2 * well.depth / well.width**2
        torch.testing.assert_close(hessian, expected * torch.eye(knobs.dimension, dtype=torch.float64))


@pytest.mark.parametrize("dimension", [1, 2])
def test_no_other_place_is_lower_than_the_minima(dimension: int) -> None:
    knobs = TwoWellKnobs(dimension=dimension)
    problem = load("two_well", dimension=dimension)
    assert problem.picture is not None
    assert min(problem.picture.cell["landscape"]) >= 0
    x = torch.linspace(-3, 4, 2001, dtype=torch.float64)
    line = torch.stack([x, 0 * x][:dimension])
    narrow, wide = wells(knobs)
    heights = torch.minimum(narrow.height(line), wide.height(line))
    minima = (heights[1:-1] < heights[:-2]) & (heights[1:-1] < heights[2:])
    torch.testing.assert_close(x[1:-1][minima], torch.tensor([-0.25, 1.0], dtype=torch.float64), rtol=0, atol=0.004)


@pytest.mark.parametrize("dimension", [1, 2])
def test_which_well_a_position_belongs_to(dimension: int) -> None:
    knobs = TwoWellKnobs(dimension=dimension)
    for x, well in ((-0.25, NARROW), (-0.01, NARROW), (0.01, WIDE), (1.0, WIDE), (-0.9, WIDE)):
        assert well_of(padded(x, dimension), knobs).item() == well
    problem = load("two_well", dimension=dimension)
    assert problem.objective.correct is not None
    for x, escaped in ((-0.25, False), (1.0, True)):
        val = problem.splits.val.to(torch.device("cpu"), torch.float64)
        outputs = problem.model.forward([padded(x, dimension)], val.inputs)
        assert problem.objective.correct(outputs, val.labels).tolist() == [escaped]


@pytest.mark.parametrize("dimension", [1, 2])
def test_without_noise_the_narrow_well_is_left_beyond_two_over_its_curvature_alone(dimension: int) -> None:
    """From its own start, a tenth of the width beside the minimum: the curvature is 16, the edge 1/8."""
    for lr, well in ((0.9 / 8, NARROW), (1.1 / 8, WIDE)):
        problem = load("two_well", dimension=dimension, noise=0.0)
        parameters = fresh(problem)
        assert parameters[0].tolist() == pytest.approx([-0.225, 0.0][:dimension])
        descend(problem, parameters, lr, 100)
        assert well_of(parameters[0].detach(), TwoWellKnobs(dimension=dimension)).item() == well


def test_the_spread_of_stochastic_gradient_descent_in_a_well_is_the_stationary_one() -> None:
    """Variance η σ² / (B h (2 − η h)) of independent draws, within 10 %: 40 000 steps, correlated over about eight."""
    problem = load("two_well", noise=0.2)
    noise = problem.splits.train.inputs.squeeze(1)
    lr, batch, curvature = 1 / 64, 4, 16.0
    draws = noise[torch.randint(0, 256, (40_000, batch), generator=torch.Generator().manual_seed(0))].mean(1)
    position, visited = torch.tensor(0.0, dtype=torch.float64), []
    for draw in draws:
        position = position - lr * (curvature * position + draw)
        visited.append(position)
    expected = lr * 0.2**2 / (batch * curvature * (2 - lr * curvature))
    assert torch.stack(visited).var().item() == pytest.approx(expected, rel=0.1)


def test_small_batches_escape_and_the_full_batch_does_not() -> None:
    """8 trials of 100 steps at half the edge of stability in the narrow well: at B = 1 all come out, at N none."""
    problem, knobs = load("two_well"), TwoWellKnobs()
    train = problem.splits.train
    escaped = {1: 0, 256: 0}
    for batch in escaped:
        for seed in range(8):
            position = fresh(problem)[0]
            generator = torch.Generator().manual_seed(seed)
            visited = set()
            for _ in range(100):
                noise = train.inputs[torch.randperm(256, generator=generator)[:batch]].mean(0)
                (slope,) = torch.autograd.grad(mean_loss(problem, [position], problem.splits.val), position)
                position = (position - (slope + noise) / 16).detach().requires_grad_()
                visited.add(well_of(position, knobs).item())
            escaped[batch] += WIDE in visited
    assert escaped == {1: 8, 256: 0}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"dimension": 3}, "dimension=3: must be 1 or 2"),
        ({"narrow_depth": 0.0}, "narrow_depth=0: must be greater than 0"),
        ({"wide_width": 0.2}, "wide_width=0.2: must be greater than narrow_width=0.25"),
        ({"start": [1.0, 2.0]}, r"start=\[1.0, 2.0\]: must have 1 numbers, or be null"),
        ({"noise": -1.0}, "noise=-1: must be at least 0"),
    ],
)
def test_knobs_out_of_range_are_one_line(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^task.knobs.{message}$"):
        load("two_well", **knobs)
