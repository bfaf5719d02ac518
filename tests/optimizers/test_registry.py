"""Watching optimizers: what ran, and what they keep."""

import pytest
import torch
from torch import Tensor

from bench.optimizers.registry import (
    CLOSURE,
    GRADIENT_GRAPH,
    IMPLEMENTATIONS,
    SPARSE,
    implementations,
    state_bytes,
    watch_implementation,
)
from bench.tasks.models import mlp
from tests.cases import OPTIMIZERS, builder, needs_of

#: Those whose steps take a plain gradient.
PLAIN = [name for name in OPTIMIZERS if not needs_of(name) & {CLOSURE, SPARSE}]
CASES = [(n, way) for n in PLAIN for way in IMPLEMENTATIONS if way in implementations(OPTIMIZERS[n]["target"])]
FLOAT = 4


def mlp_parameters() -> list[Tensor]:
    """The 101 770 parameters of mnist/mlp, with gradients."""
    generator = torch.Generator().manual_seed(0)
    parameters = [p.requires_grad_() for p in mlp((1, 28, 28), 10).initialise(generator)]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


@pytest.mark.parametrize(("name", "implementation"), CASES)
def test_what_ran_is_what_was_asked_for(name: str, implementation: str) -> None:
    parameters = mlp_parameters()
    before = [p.detach().clone() for p in parameters]
    # On a CPU torch's own choice is the for-loop.
    expected = "forloop" if implementation == "default" else implementation
    assert watch_implementation(builder(name, implementation)(parameters, 0.01)) == expected
    assert not any(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs_wolfe", "newton", "bfgs"])
def test_a_step_with_a_closure_can_be_watched(name: str) -> None:
    x = torch.ones(3, requires_grad=True)

    def closure() -> Tensor:
        with torch.enable_grad():
            loss = x.pow(4).sum()
            (x.grad,) = torch.autograd.grad(loss, [x], create_graph=GRADIENT_GRAPH in needs_of(name))
        return loss

    assert watch_implementation(builder(name)([x], 0.5), closure) == "forloop"
    assert not torch.equal(x, torch.ones(3))


@pytest.mark.parametrize("name", PLAIN)
def test_implementations_agree(name: str) -> None:
    results = {}
    for implementation in implementations(OPTIMIZERS[name]["target"]):
        parameters = [p.detach().double().requires_grad_() for p in mlp_parameters()]
        optimizer = builder(name, implementation)(parameters, 0.01)
        for step in range(3):
            for parameter, source in zip(parameters, mlp_parameters(), strict=True):
                assert source.grad is not None
                parameter.grad = source.grad.double() * (step - 0.5)
            optimizer.step()
        results[implementation] = torch.cat([p.detach().flatten() for p in parameters])
    # ASGD keeps its step in single precision, which its foreach implementation computes with.
    tolerance = 1e-8 if name == "asgd" else 1e-12
    for result in results.values():
        torch.testing.assert_close(result, results["default"], rtol=tolerance, atol=tolerance)


MLP_SIZES = [(128, 784), (128,), (10, 128), (10,)]


@pytest.mark.parametrize(
    ("name", "words", "scalars"),
    # Moments as large as the parameters, and step counts and other numbers of 4 bytes for each of the 4 tensors.
    [
        ("sgd", 0, 0),
        ("gradient_descent", 0, 0),
        ("stochastic", 0, 0),
        ("mini_batch", 0, 0),
        ("momentum", 1, 0),
        ("nesterov", 1, 0),
        ("adam", 2, 1),
        ("adamw", 2, 1),
        ("adamax", 2, 1),
        ("radam", 2, 1),
        ("nadam", 2, 2),
        ("rmsprop", 1, 1),
        ("adagrad", 1, 1),
        ("adadelta", 2, 1),
        ("asgd", 1, 3),
        ("rprop", 2, 1),
    ],
)
def test_state_bytes(name: str, words: int, scalars: int) -> None:
    for implementation in implementations(OPTIMIZERS[name]["target"]):
        optimizer = builder(name, implementation)(mlp_parameters(), 0.01)
        for _ in range(2):
            optimizer.step()
            assert state_bytes(optimizer) == FLOAT * (words * 101_770 + scalars * 4)


def test_state_bytes_of_factored_moments() -> None:
    optimizer = builder("adafactor")(mlp_parameters(), 0.01)
    optimizer.step()
    # A row and a column for a matrix, all of a vector; a step count each.
    assert state_bytes(optimizer) == FLOAT * (128 + 784 + 128 + 10 + 128 + 10 + 4)


def test_state_bytes_of_two_optimizers() -> None:
    optimizer = builder("muon")(mlp_parameters(), 0.01)
    optimizer.step()
    # One momentum for the matrices; two moments and a step count for each of the two vectors.
    assert state_bytes(optimizer) == FLOAT * (128 * 784 + 10 * 128 + 2 * 138 + 2)


def test_state_bytes_of_a_history() -> None:
    x = torch.linspace(1, 2, 50, requires_grad=True)

    def closure() -> Tensor:
        loss = (x.pow(4) * torch.arange(1, 51)).sum()
        (x.grad,) = torch.autograd.grad(loss, [x])
        return loss

    optimizer = builder("lbfgs_wolfe")([x], 1.0)
    optimizer.step(closure)  # type: ignore[arg-type]
    state = optimizer.state[x]
    pairs = len(state["old_dirs"])
    assert pairs > 3
    # Pairs of vectors with their products; direction, gradient before; the scale; scalars of the recursion.
    least = FLOAT * 50 * (2 * pairs + 2)
    assert least <= state_bytes(optimizer) <= least + FLOAT * (2 * pairs + 102)


def test_state_bytes_counts_a_shared_storage_once() -> None:
    optimizer = torch.optim.SGD([torch.zeros(2, requires_grad=True), torch.zeros(3, requires_grad=True)], lr=1.0)
    shared = torch.zeros(5)
    for parameter, piece in zip(optimizer.param_groups[0]["params"], shared.split([2, 3]), strict=True):
        optimizer.state[parameter] = {"piece": piece, "note": "no tensor", "none": None}
    assert state_bytes(optimizer) == 20


def test_state_bytes_looks_into_what_is_kept() -> None:
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    sparse = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1), (2,), check_invariants=True)
    optimizer.state[parameter] = {
        "list": [torch.zeros(3), (torch.zeros(1),)],
        "map": {"a": torch.zeros(2)},
        "s": sparse,
    }
    assert state_bytes(optimizer) == FLOAT * (3 + 1 + 2) + 8 + FLOAT
