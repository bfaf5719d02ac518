"""BFGS beside scipy's own, on the Rosenbrock valley."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der
from torch import Tensor

from bench.optimizers.bfgs import BFGS
from bench.optimizers.registry import state_bytes
from tests.optimizers.rules import Array

START = np.array([-1.2, 1.0, 0.7])


def problem(dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Callable[[], Tensor], list[Array]]:
    """Two parameters that hold the three coordinates, the closure of scipy's own function, and where it was asked."""
    parameters = [torch.tensor(part, dtype=dtype, requires_grad=True) for part in (START[:1], START[1:])]
    asked: list[Array] = []

    def closure() -> Tensor:
        point = torch.cat([p.detach() for p in parameters]).double().numpy()
        asked.append(point)
        for p, g in zip(parameters, np.split(rosen_der(point), [1]), strict=True):
            p.grad = torch.tensor(g, dtype=dtype)
        return torch.tensor(rosen(point), dtype=dtype)

    return parameters, closure, asked


def position(parameters: list[Tensor]) -> Array:
    return torch.cat([p.detach().double() for p in parameters]).numpy()


@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_a_step_is_scipys_own_path(iterations: int) -> None:
    parameters, closure, asked = problem()
    loss = BFGS(parameters, max_iter=iterations).step(closure)
    expected = minimize(rosen, START, jac=rosen_der, method="BFGS", options={"maxiter": iterations, "gtol": 1e-7})
    assert np.array_equal(position(parameters), expected.x)
    assert (loss.item(), len(asked)) == (rosen(START), expected.nfev)


def test_the_inverse_hessian_is_carried_over() -> None:
    parameters, closure, _ = problem()
    optimizer = BFGS(parameters, max_iter=4)
    inverse, x = None, START
    for _ in range(4):
        optimizer.step(closure)
        options = {"maxiter": 4, "gtol": 1e-7, "hess_inv0": inverse}
        expected = minimize(rosen, x, jac=rosen_der, method="BFGS", options=options)
        inverse, x = (expected.hess_inv + expected.hess_inv.T) / 2, expected.x
        assert np.array_equal(position(parameters), x)
        assert state_bytes(optimizer) == 3 * 3 * 8
    fresh, closure, _ = problem()
    for _ in range(4):
        BFGS(fresh, max_iter=4).step(closure)
    assert rosen(position(parameters)) < rosen(position(fresh)), "what is carried over helps"


def test_the_learning_rate_scales_the_move() -> None:
    ends = {}
    for lr in (0.0, 0.25, 1.0):
        parameters, closure, _ = problem()
        BFGS(parameters, lr=lr, max_iter=5).step(closure)
        ends[lr] = position(parameters)
    assert np.array_equal(ends[0.0], START)
    np.testing.assert_allclose(ends[0.25], START + 0.25 * (ends[1.0] - START), rtol=1e-15)


def test_it_gets_to_the_minimum_in_single_precision_too() -> None:
    parameters, closure, _ = problem(torch.float32)
    optimizer = BFGS(parameters)
    for _ in range(5):
        optimizer.step(closure)
    np.testing.assert_allclose(position(parameters), 1, atol=1e-3)


def test_a_spoilt_inverse_hessian_is_dropped() -> None:
    paths = []
    for spoilt in (None, -torch.eye(3).double(), torch.full((3, 3), float("nan")).double()):
        parameters, closure, _ = problem()
        optimizer = BFGS(parameters, max_iter=3)
        if spoilt is not None:
            optimizer.state[parameters[0]]["inverse_hessian"] = spoilt
        optimizer.step(closure)
        paths.append(position(parameters))
    assert np.array_equal(paths[0], paths[1])
    assert np.array_equal(paths[0], paths[2])


def test_a_parameter_without_a_gradient_stays() -> None:
    parameters, closure, _ = problem()
    idle = torch.ones(1, dtype=torch.float64, requires_grad=True)
    BFGS([*parameters, idle], max_iter=3).step(closure)
    assert idle.item() == 1
    assert not np.array_equal(position(parameters), START)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"lr": -1.0}, "learning rate"), ({"max_iter": 0}, "max_iter: 0"), ({"tolerance_grad": -1.0}, "tolerance_grad")],
)
def test_bad_values(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BFGS([torch.zeros(1, requires_grad=True)], **arguments)


def test_size_and_groups() -> None:
    with pytest.raises(ValueError, match="at most 1024 parameters, not 1025"):
        BFGS([torch.zeros(1025, requires_grad=True)])
    with pytest.raises(ValueError, match="one parameter group"):
        BFGS([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}])
