"""Largest eigenvalue and trace against dense Hessians and published spectra."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.curvature import largest_eigenvalue, trace
from bench.measure.fixed_loss import flat
from tests.cases import toy_task
from tests.measure.points import at, dense_hessian, loss_of, normalised_task, problem_task


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_lanczos_finds_the_largest_eigenvalue_of_any_matrix(size: int, seed: int) -> None:
    drawn = torch.randn(size, size, generator=generator(seed), dtype=torch.float64)
    matrix = drawn + drawn.T
    exact = torch.linalg.eigvalsh(matrix)[-1].item()
    found = largest_eigenvalue(matrix.mv, matrix[0], generator(seed), tolerance=1e-8)
    assert found.value == pytest.approx(exact, rel=1e-6, abs=1e-9)
    assert found.products <= size


def test_lanczos_does_not_take_the_most_negative_for_the_largest() -> None:
    diagonal = torch.tensor([-100.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    assert largest_eigenvalue(diagonal.mul, diagonal, generator()).value == pytest.approx(3, rel=1e-4)


def test_lanczos_ends_on_zero_on_a_single_number_and_where_nothing_is_finite() -> None:
    zero = torch.zeros(7, dtype=torch.float64)
    assert largest_eigenvalue(zero.mul, zero, generator()).value == 0
    assert largest_eigenvalue((zero[:1] - 2).mul, zero[:1], generator()).value == pytest.approx(-2)
    assert math.isnan(largest_eigenvalue((zero / 0).mul, zero, generator()).value)


def test_the_residual_says_how_far_lanczos_got() -> None:
    diagonal = torch.linspace(0, 1, 500, dtype=torch.float64)
    cut, whole = (largest_eigenvalue(diagonal.mul, diagonal, generator(), most=most) for most in (5, 400))
    assert cut.products == 5
    assert cut.residual > 1e-2
    assert abs(cut.value - 1) <= cut.residual * cut.value
    assert whole.residual <= 1e-4
    assert whole.value == pytest.approx(1, abs=1e-4)


def test_deepobs_1_1_2_quadratic_deep_has_its_published_spectrum() -> None:
    """λmax 53.12902, and tr 477.6123 with the error that 200 probes have: √(2(‖Q‖² − ‖diag Q‖²)/200), within 20 %."""
    loss, vector = at(problem_task("quadratic/deep"))
    product = loss.hessian(vector)
    assert largest_eigenvalue(product, vector, generator(), tolerance=1e-6).value == pytest.approx(53.12902, rel=1e-6)
    found = trace(product, vector, generator(), 200)
    assert abs(found.value - 477.6123) < 4 * found.error
    (q,) = loss.buffers
    variance = 2 * (q.square().sum() - q.diagonal().square().sum()).item()
    assert found.error == pytest.approx(math.sqrt(variance / 200), rel=0.2)


def test_arxiv_1907_04164_nqm_is_diagonal_so_its_trace_needs_one_pair_of_probes() -> None:
    """Off the diagonal there is nothing, so every probe gives Σ 1/i."""
    loss, vector = at(problem_task("nqm", dimension=60))
    found = trace(loss.hessian(vector), vector, generator(), 2)
    assert found.value == pytest.approx(sum(1 / i for i in range(1, 61)), rel=1e-6)
    assert found.error == pytest.approx(0, abs=1e-12)
    assert largest_eigenvalue(loss.hessian(vector), vector, generator()).value == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", ["mlp", "logreg", "chebyshev", "normalised"])
def test_networks_against_their_dense_hessian(name: str) -> None:
    """To 1e-6 for λmax; the trace within four standard errors."""
    task = toy_task(name) if name in ("mlp", "logreg") else None
    task = task or (normalised_task() if name == "normalised" else problem_task("chebyshev", hidden=4))
    weights = [*task.initialise(3), *task.buffers()]
    loss, vector = loss_of(task, weights), flat(weights[: len(weights) - len(task.buffers())])
    exact = dense_hessian(loss, vector)
    found = largest_eigenvalue(loss.hessian(vector), vector, generator(), tolerance=1e-8)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-6)
    estimated = trace(loss.hessian(vector), vector, generator(), 200)
    assert abs(estimated.value - exact.trace().item()) < 4 * estimated.error
