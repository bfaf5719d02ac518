"""The loss as a function of one vector: its gradient and Hessian, in one pass or many, with and without batch norm."""

import warnings

import pytest
import torch

from bench.measure import fixed_loss as module
from bench.measure.fixed_loss import flat
from tests.cases import toy_task
from tests.measure.points import at, dense_hessian, loss_of, normalised_task


def direction_like(vector: torch.Tensor) -> torch.Tensor:
    return torch.randn(vector.shape, generator=torch.Generator().manual_seed(5), dtype=vector.dtype)


@pytest.mark.parametrize("most", [1000, 50, 16])
def test_products_are_those_of_the_dense_hessian_in_one_pass_or_many(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, vector = at(toy_task())
    exact = dense_hessian(loss, vector)
    monkeypatch.setattr(module, "PASS_EXAMPLES", most)
    assert loss._passes() == -(-50 // most)
    product = loss.hessian(vector)
    for _ in range(2):
        torch.testing.assert_close(product(direction_like(vector)), exact @ direction_like(vector))
    parameters = [p.requires_grad_() for p in loss.unflatten(vector)]
    expected = loss.task.loss(parameters, loss.split.inputs, loss.split.labels)
    value, gradient = loss.gradient(vector)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    assert loss.value(vector) == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(gradient, flat(torch.autograd.grad(expected, parameters)))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_batch_normalisation_is_taken_as_the_mode_says_and_buffers_stay(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = normalised_task()
    weights = [*task.initialise(0), *task.buffers()]
    loss, vector = loss_of(task, weights, mode=mode), flat(weights[:4])
    # As trained, it is one batch whatever its size.
    monkeypatch.setattr(module, "PASS_EXAMPLES", 10)
    assert loss._passes() == (1 if mode == "train" else 3)
    forward = task.model.training_forward if mode == "train" else task.model.forward
    assert forward is not None
    outputs = forward([*task.initialise(0), *task.buffers()], task.train.inputs)
    assert loss.value(vector) == pytest.approx(task.objective.losses(outputs, task.train.labels).mean().item())
    exact = dense_hessian(loss, vector)
    torch.testing.assert_close(loss.hessian(vector)(direction_like(vector)), exact @ direction_like(vector))
    assert all(torch.equal(a, b) for a, b in zip(weights[4:], task.buffers(), strict=True))


def test_a_loss_without_curvature_has_zero_products() -> None:
    """Of a linear function the gradient does not depend on the parameters."""
    task = toy_task("logreg")
    loss, vector = at(task)
    flat_task = module.replace(task, objective=module.replace(task.objective, mean=lambda outputs, _: outputs.mean()))
    plane = module.replace(loss, task=flat_task)
    assert not plane.hessian(vector)(direction_like(vector)).any()


def test_curvlinops_agrees() -> None:
    """curvlinops' Hessian of the same network as torch modules; skipped without it, since it brings much along."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curvlinops = pytest.importorskip("curvlinops", reason="curvlinops is not installed")
        loss, vector = at(toy_task())
        network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
        ).double()
        torch.nn.utils.vector_to_parameters(vector, network.parameters())
        operator = curvlinops.HessianLinearOperator(
            network,
            torch.nn.CrossEntropyLoss(),
            list(network.parameters()),
            [(loss.split.inputs, loss.split.labels)],
        )
        theirs = operator @ direction_like(vector)
    torch.testing.assert_close(loss.hessian(vector)(direction_like(vector)), theirs)
