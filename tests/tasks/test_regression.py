"""Linear and logistic regression against their optima, Hessians and stability edges."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

from bench.errors import UsageError
from bench.tasks.problem import Problem, Split
from bench.tasks.regression import (
    linear_hessian,
    linear_optimum,
    logistic_hessian,
    logistic_optimum,
    stability_edge,
)
from tests.tasks.problems import descend, fresh, gradients, load, mean_loss, minimise


@pytest.fixture(scope="module")
def linear() -> Problem:
    return load("regression/linear")


@pytest.fixture(scope="module")
def logistic() -> Problem:
    return load("regression/logistic")


def flat(parameters: list[Tensor]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters])


def autograd_hessian(problem: Problem, at: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(
        lambda p: mean_loss(problem, [p[None, :-1], p[-1:]], problem.splits.train), at
    )


@pytest.mark.parametrize(
    ("name", "optimum_of", "rtol", "atol"),
    [("regression/linear", linear_optimum, 1e-7, 1e-7), ("regression/logistic", logistic_optimum, 1e-5, 1e-6)],
)
def test_the_gradient_at_the_optimum_is_zero_and_lbfgs_ends_there(
    name: str, optimum_of: Callable[[Split], list[Tensor]], rtol: float, atol: float
) -> None:
    problem = load(name)
    optimum = [p.requires_grad_() for p in optimum_of(problem.splits.train)]
    assert flat(list(gradients(problem, optimum, problem.splits.train))).abs().max().item() < 1e-12
    parameters = fresh(problem)
    minimise(problem, parameters, problem.splits.train)
    torch.testing.assert_close(flat(parameters), flat(optimum), rtol=rtol, atol=atol)
    assert mean_loss(problem, optimum, problem.splits.val).item() < problem.target


def test_the_linear_optimum_is_near_the_weights_the_labels_came_from(linear: Problem) -> None:
    """Unit weights, zero bias; within 5 standard errors, σ/√n over the smallest standard deviation of the inputs."""
    optimum = flat(linear_optimum(linear.splits.train))
    expected = torch.tensor([1.0] * 10 + [0.0], dtype=torch.float64)
    torch.testing.assert_close(optimum, expected, rtol=0, atol=5 * 0.1 / math.sqrt(512))
    exact = load("regression/linear", noise=0.0, examples=64)
    torch.testing.assert_close(flat(linear_optimum(exact.splits.train)), expected, rtol=0, atol=1e-6)


def test_the_linear_hessian_is_that_of_autograd_everywhere(linear: Problem) -> None:
    hessian = linear_hessian(linear.splits.train)
    for seed in (0, 1):
        at = torch.randn(11, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        torch.testing.assert_close(autograd_hessian(linear, at), hessian)
    assert torch.linalg.cond(load_hessian(condition=1000.0)).item() > 5 * torch.linalg.cond(hessian).item()


def load_hessian(**knobs: float) -> Tensor:
    return linear_hessian(load("regression/linear", **knobs).splits.train)


def test_gradient_descent_converges_below_two_over_lambda_max_and_diverges_above(linear: Problem) -> None:
    """At 0.99 and 1.01 of the edge, the error along the top eigenvector shrinks or grows by 2 % a step."""
    edge = stability_edge(linear_hessian(linear.splits.train))
    best = mean_loss(linear, linear_optimum(linear.splits.train), linear.splits.train).item()
    below, above = fresh(linear), fresh(linear)
    descend(linear, below, 0.99 * edge, 600)
    descend(linear, above, 1.01 * edge, 600)
    assert mean_loss(linear, below, linear.splits.train).item() == pytest.approx(best, rel=1e-3)
    assert mean_loss(linear, above, linear.splits.train).item() > 1e3
    top = torch.linalg.eigh(linear_hessian(linear.splits.train)).eigenvectors[:, -1]
    error = flat(above) - flat(linear_optimum(linear.splits.train))
    assert (error @ top).abs().item() == pytest.approx(error.norm().item(), rel=1e-3)


def test_the_untrained_linear_loss_is_half_the_mean_square_of_the_labels_near_its_expectation() -> None:
    """½ (Σ variances + σ²) in theory; within 4 %, three standard errors of 10 000 examples."""
    problem = load("regression/linear", examples=40_000, features=3, condition=4.0, noise=2.0)
    assert problem.untrained is not None
    assert problem.untrained.loss == pytest.approx((1 + 2 + 4 + 4) / 2, rel=0.04)


def test_the_untrained_logistic_loss_is_ln_2_and_no_example_is_called_class_1(logistic: Problem) -> None:
    parameters = fresh(logistic)
    assert mean_loss(logistic, parameters, logistic.splits.train).item() == pytest.approx(math.log(2), abs=1e-12)
    assert logistic.objective.correct is not None
    val = logistic.splits.val
    correct = logistic.objective.correct(
        logistic.model.forward(fresh(logistic, dtype=torch.float32), val.inputs), val.labels
    )
    assert torch.equal(correct, val.labels.squeeze(1) == 0)


def test_scipy_finds_the_same_logistic_optimum(logistic: Problem) -> None:
    """scipy.optimize.minimize (BFGS) on the loss written out in numpy; within 1e-4 of each parameter."""
    rows, labels = logistic.splits.train.inputs.double().numpy(), logistic.splits.train.labels.double().numpy()[:, 0]

    def loss(at: NDArray[np.float64]) -> float:
        logits = rows @ at[:-1] + at[-1]
        return float((np.logaddexp(0, logits) - labels * logits).mean())

    found = optimize.minimize(loss, [0.0] * 11, method="BFGS", options={"gtol": 1e-7})
    torch.testing.assert_close(
        torch.from_numpy(found.x), flat(logistic_optimum(logistic.splits.train)), rtol=0, atol=1e-4
    )


def test_the_logistic_hessian_is_that_of_autograd_and_positive_definite(logistic: Problem) -> None:
    at = torch.randn(11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hessian = logistic_hessian(logistic.splits.train, [at[None, :-1], at[-1:]])
    torch.testing.assert_close(autograd_hessian(logistic, at), hessian)
    assert torch.linalg.eigvalsh(hessian)[0].item() > 0


def test_the_logistic_optimum_is_near_the_rule_that_drew_the_classes() -> None:
    """Every weight separation/√features, zero bias: within .1, four standard errors for 40 000 examples."""
    optimum = flat(logistic_optimum(load("regression/logistic", examples=40_000, features=4).splits.train))
    expected = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(optimum, expected, rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("task", "knob", "given", "message"),
    [
        ("linear", "examples", 3, "examples=3: must be at least 4"),
        ("linear", "condition", 0.5, "condition=0.5: must be at least 1"),
        ("linear", "noise", -1.0, "noise=-1: must be at least 0"),
        ("logistic", "features", 0, "features=0: must be at least 1"),
        ("logistic", "separation", 0.0, "separation=0: must be greater than 0"),
    ],
)
def test_knobs_out_of_range_are_one_line(task: str, knob: str, given: float, message: str) -> None:
    with pytest.raises(UsageError, match=f"^task.knobs.{message}$"):
        load(f"regression/{task}", **{knob: given})
