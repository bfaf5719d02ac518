"""Newton's method on functions whose derivatives are known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.optimizers.newton import Newton, gradient_and_hessian, newton_direction
from tests.optimizers.quadratic import loss_of, start, take_step
from tests.optimizers.rules import STARTS, centre

NEEDS = frozenset({"closure", "gradient graph"})


@pytest.mark.parametrize("shape", STARTS)
@pytest.mark.parametrize("lr", [1.0, 0.25])
def test_one_step_lands_on_the_minimum_of_a_quadratic(shape: str, lr: float) -> None:
    x = start(STARTS[shape])
    take_step(Newton([x], lr=lr), x, NEEDS)
    expected = STARTS[shape] + lr * (centre(STARTS[shape]) - STARTS[shape])
    np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    assert loss_of(x) >= 0


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    return ((1 - x) ** 2 + 100 * (y - x**2) ** 2).sum()


def test_gradient_and_hessian_by_hand() -> None:
    x, y, unused = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (-1.2, 1.0, 5.0))
    parameters = [x, y, unused]
    found = torch.autograd.grad(rosenbrock(x, y), [x, y], create_graph=True)
    x.grad, y.grad = found
    gradient, hessian = gradient_and_hessian(parameters)
    # ∂x: −2(1 − x) − 400 x (y − x²); ∂y: 200 (y − x²); ∂xx: 2 − 400 y + 1200 x²; ∂xy: −400 x; ∂yy: 200.
    torch.testing.assert_close(gradient, torch.tensor([-215.6, -88.0, 0.0], dtype=torch.float64))
    expected = torch.tensor([[1330.0, 480.0, 0.0], [480.0, 200.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(hessian, expected)


def test_quadratic_convergence_on_rosenbrock() -> None:
    x, y = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (-1.2, 1.0))
    optimizer = Newton([x, y])

    def closure() -> Tensor:
        loss = rosenbrock(x, y)
        x.grad, y.grad = torch.autograd.grad(loss, [x, y], create_graph=True)
        return loss

    for _ in range(7):
        optimizer.step(closure)
    assert (x - 1).abs() + (y - 1).abs() < 1e-10


def test_beside_a_saddle_the_step_goes_downhill() -> None:
    # f = x² − y² at (1, .5): the plain Newton step would climb onto the saddle.
    gradient = torch.tensor([2.0, -1.0], dtype=torch.float64)
    hessian = torch.diag(torch.tensor([2.0, -2.0], dtype=torch.float64))
    direction = newton_direction(gradient, hessian, 0.0)
    assert direction @ gradient < 0
    assert direction[1] > 0, "away from the saddle"
    # Doubled from 1e-3 until above 2: 2.048.
    torch.testing.assert_close(direction, -gradient / torch.tensor([4.048, 0.048], dtype=torch.float64))


def test_damping_is_added_to_the_diagonal() -> None:
    gradient, hessian = torch.ones(2, dtype=torch.float64), torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(newton_direction(gradient, hessian, 1.0), -1 / torch.tensor([2.0, 4.0]).double())


def test_a_singular_hessian_needs_damping_and_gets_some() -> None:
    direction = newton_direction(torch.ones(2).double(), torch.zeros(2, 2).double(), 0.0)
    torch.testing.assert_close(direction, torch.full((2,), -1e3).double())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows(bad: float) -> None:
    direction = newton_direction(torch.ones(1).double(), torch.full((1, 1), bad).double(), 0.0)
    assert direction.isnan().all()
    assert newton_direction(torch.full((1,), bad).double(), torch.ones(1, 1).double(), 0.0).isnan().all()


def test_plain_gradients_are_refused() -> None:
    x = start(STARTS["vector"])
    with pytest.raises(RuntimeError, match="create_graph=True"):
        take_step(Newton([x]), x, frozenset({"closure"}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"lr": -1.0}, "learning rate: -1"), ({"damping": math.nan}, "damping: nan"), ({"lr": math.inf}, "rate: inf")],
)
def test_bad_values(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Newton([torch.zeros(1, requires_grad=True)], **arguments)


def test_size_and_groups() -> None:
    Newton([torch.zeros(1024, requires_grad=True)])
    with pytest.raises(ValueError, match="at most 1024 parameters, not 1025"):
        Newton([torch.zeros(1024, requires_grad=True), torch.zeros(1, requires_grad=True)])
    with pytest.raises(ValueError, match="one parameter group"):
        Newton([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}])
