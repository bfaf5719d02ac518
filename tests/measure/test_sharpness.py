"""Sharpness where the maximum over the neighbourhood is known."""

import math
from dataclasses import replace

import pytest
import torch

from bench.measure.curvature import largest_eigenvalue, trace
from bench.measure.paths import rescaled, same_function
from bench.measure.sharpness import _coordinates, asam, keskar, random_columns, sam
from tests.cases import toy_task
from tests.measure.points import at, dense_hessian, problem_task


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("epsilon", [1e-3, 5e-4])
def test_arxiv_1609_04836_a_diagonal_quadratic_is_highest_in_the_corner_of_the_box(epsilon: float) -> None:
    """½ Σ h θ² rises most to |θ| + ε(|θ| + 1) in every coordinate."""
    loss, vector = at(problem_task("nqm", dimension=20))
    h = 1 / torch.arange(1, 21, dtype=torch.float64)
    corner = vector.abs() + epsilon * (vector.abs() + 1)
    low, high = ((h * point.square()).sum().item() / 2 for point in (vector, corner))
    assert keskar(loss, vector, epsilon) == pytest.approx(100 * (high - low) / (1 + low), rel=1e-5)


def test_in_a_subspace_the_box_is_of_its_coordinates() -> None:
    """Along the first three axes alone, |y| ≤ ε(|θ| + 1) for those three."""
    loss, vector = at(problem_task("nqm", dimension=20))
    h, axes = 1 / torch.arange(1, 21, dtype=torch.float64), torch.eye(20, dtype=torch.float64)[:, :3]
    corner = vector.abs() + 1e-3 * (vector.abs() + 1) * axes.sum(1)
    low, high = ((h * point.square()).sum().item() / 2 for point in (vector, corner))
    assert keskar(loss, vector, 1e-3, axes) == pytest.approx(100 * (high - low) / (1 + low), rel=1e-5)


def test_coordinates_in_random_columns_are_those_of_the_pseudo_inverse() -> None:
    vector = torch.randn(300, generator=generator(), dtype=torch.float64)
    columns = random_columns(vector, generator(1))
    assert columns.shape == (300, 100)
    torch.testing.assert_close(_coordinates(columns, vector), torch.linalg.pinv(columns) @ vector)
    assert random_columns(vector[:7], generator()).shape == (7, 7)


def test_keskar_is_zero_where_nothing_rises_and_no_number_below_minus_one() -> None:
    loss, vector = at(toy_task("logreg"))
    level = replace(
        loss, task=replace(loss.task, objective=replace(loss.task.objective, mean=lambda o, _: 0 * o.mean()))
    )
    assert keskar(level, vector, 1e-3) == 0
    below = replace(
        loss, task=replace(loss.task, objective=replace(loss.task.objective, mean=lambda o, _: o.mean() - 2))
    )
    assert math.isnan(keskar(below, vector, 1e-3))


def test_arxiv_2010_01412_and_2102_11600_on_a_quadratic() -> None:
    """½θᵀHθ at θ + d rises by dᵀHθ + ½dᵀHd, with d = ρg/‖g‖ and d = ρθ²g/‖θg‖."""
    loss, vector = at(problem_task("nqm", dimension=20))
    h = 1 / torch.arange(1, 21, dtype=torch.float64)
    gradient = h * vector
    for found, step in (
        (sam(loss, vector, 0.05), 0.05 * gradient / gradient.norm()),
        (asam(loss, vector, 0.5), 0.5 * vector.square() * gradient / (vector * gradient).norm()),
    ):
        rise = (step * gradient).sum() + (h * step.square()).sum() / 2
        assert found == pytest.approx(rise.item(), rel=1e-6)


def test_without_a_slope_there_is_no_direction_to_rise_in() -> None:
    loss, vector = at(problem_task("nqm", dimension=5))
    assert sam(loss, 0 * vector) == 0
    assert asam(loss, 0 * vector) == 0


@pytest.mark.parametrize("factor", [5.0, 0.2])
def test_arxiv_1703_04933_rescaling_moves_every_measure_but_asam(factor: float) -> None:
    """(W₁, W₂) → (αW₁, W₂/α): function, loss and ASAM stay; λmax, trace, SAM and Keskar move by 10 % and more."""
    task = toy_task()
    loss, vector = at(task)
    moved = rescaled(loss.unflatten(vector), factor)
    there = torch.cat([part.flatten() for part in moved])
    assert same_function(task, loss.unflatten(vector), moved, task.test.inputs)
    assert loss.value(there) == pytest.approx(loss.value(vector), rel=1e-12)
    assert asam(loss, there) == pytest.approx(asam(loss, vector), rel=1e-9)

    def measured(at_: torch.Tensor) -> list[float]:
        product = loss.hessian(at_)
        eigenvalue = largest_eigenvalue(product, at_, generator(), tolerance=1e-8).value
        assert eigenvalue == pytest.approx(torch.linalg.eigvalsh(dense_hessian(loss, at_))[-1].item(), rel=1e-6)
        return [eigenvalue, trace(product, at_, generator(), 100).value, sam(loss, at_), keskar(loss, at_, 1e-3)]

    for before, after in zip(measured(vector), measured(there), strict=True):
        assert abs(math.log(after / before)) > 0.1
