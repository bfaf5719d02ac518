"""Finding, checking, building and watching optimizers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.optimizers.registry import (
    IMPLEMENTATIONS,
    build_optimizer,
    check_optimizer,
    implementations,
    optimizer_classes,
    state_bytes,
    watch_implementation,
)
from bench.tasks.models import mlp
from tests.cases import OPTIMIZERS

CASES = [(name, implementation) for name in OPTIMIZERS for implementation in IMPLEMENTATIONS]
CASES = [case for case in CASES if case[1] in implementations(OPTIMIZERS[case[0]]["target"])]


def mlp_parameters() -> list[Tensor]:
    """The 101 770 parameters of mnist/mlp, with gradients."""
    generator = torch.Generator().manual_seed(0)
    parameters = [p.requires_grad_() for p in mlp((1, 28, 28), 10).initialise(generator)]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


def built(name: str, implementation: str, parameters: list[Tensor]) -> torch.optim.Optimizer:
    chosen = OPTIMIZERS[name]
    return build_optimizer(chosen["target"], implementation, chosen["arguments"], parameters, 0.01)


def test_classes_are_those_of_torch() -> None:
    classes = optimizer_classes()
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad"} <= set(classes)
    assert "Optimizer" not in classes
    for name, value in classes.items():
        assert getattr(torch.optim, name) is value


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("SGD", ("default", "forloop", "foreach", "fused")),
        ("Adam", ("default", "forloop", "foreach", "fused")),
        ("Adagrad", ("default", "forloop", "foreach", "fused")),
        ("RMSprop", ("default", "forloop", "foreach")),
        ("LBFGS", ("default",)),
    ],
)
def test_implementations_on_offer(target: str, expected: tuple[str, ...]) -> None:
    assert implementations(target) == expected


@pytest.mark.parametrize(("name", "implementation"), CASES)
def test_what_ran_is_what_was_asked_for(name: str, implementation: str) -> None:
    parameters = mlp_parameters()
    before = [p.detach().clone() for p in parameters]
    # On a CPU torch's own choice is the for-loop.
    expected = "forloop" if implementation == "default" else implementation
    assert watch_implementation(built(name, implementation, parameters)) == expected
    assert not any(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_implementations_agree(name: str) -> None:
    results = {}
    for implementation in implementations(OPTIMIZERS[name]["target"]):
        parameters = [p.detach().double().requires_grad_() for p in mlp_parameters()]
        optimizer = built(name, implementation, parameters)
        for step in range(3):
            for parameter, source in zip(parameters, mlp_parameters(), strict=True):
                assert source.grad is not None
                parameter.grad = source.grad.double() * (step - 0.5)
            optimizer.step()
        results[implementation] = torch.cat([p.detach().flatten() for p in parameters])
    for result in results.values():
        torch.testing.assert_close(result, results["default"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "words", "steps"),
    # Moments as large as the parameters, and a step count of 4 bytes for each of the 4 tensors.
    [
        ("sgd", 0, 0),
        ("momentum", 1, 0),
        ("nesterov", 1, 0),
        ("adam", 2, 4),
        ("adamw", 2, 4),
        ("rmsprop", 1, 4),
        ("adagrad", 1, 4),
    ],
)
def test_state_bytes(name: str, words: int, steps: int) -> None:
    for implementation in implementations(OPTIMIZERS[name]["target"]):
        optimizer = built(name, implementation, mlp_parameters())
        optimizer.step()
        assert state_bytes(optimizer) == words * 4 * 101_770 + 4 * steps
        optimizer.step()
        assert state_bytes(optimizer) == words * 4 * 101_770 + 4 * steps


def test_state_bytes_counts_a_shared_storage_once() -> None:
    optimizer = torch.optim.SGD([torch.zeros(2, requires_grad=True), torch.zeros(3, requires_grad=True)], lr=1.0)
    shared = torch.zeros(5)
    for parameter, piece in zip(optimizer.param_groups[0]["params"], shared.split([2, 3]), strict=True):
        optimizer.state[parameter] = {"piece": piece, "note": "no tensor", "none": None}
    assert state_bytes(optimizer) == 20


def test_the_real_object_is_built_with_what_was_given() -> None:
    parameters = mlp_parameters()
    adam = build_optimizer("Adam", "fused", {"betas": [0.8, 0.95], "weight_decay": 0.1}, parameters, 0.25)
    assert type(adam) is torch.optim.Adam
    (group,) = adam.param_groups
    assert all(a is b for a, b in zip(group["params"], parameters, strict=True))
    chosen = {key: group[key] for key in ("lr", "betas", "weight_decay", "fused", "foreach")}
    assert chosen == {"lr": 0.25, "betas": (0.8, 0.95), "weight_decay": 0.1, "fused": True, "foreach": None}
    (group,) = build_optimizer("SGD", "forloop", {}, iter(parameters), 1.0).param_groups
    assert (group["fused"], group["foreach"], len(group["params"])) == (False, False, 4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_file_can_be_used(name: str) -> None:
    chosen = OPTIMIZERS[name]
    assert chosen["name"] == name
    check_optimizer(chosen["target"], chosen["implementation"], chosen["arguments"])
    first, last = chosen["lr_log2"]
    assert first < last


@pytest.mark.parametrize(
    ("target", "implementation", "arguments", "words"),
    [
        ("sgd", "default", {}, ["unknown optimizer class (optimizer.target) 'sgd'", "did you mean 'SGD'", "AdamW"]),
        ("Optimizer", "default", {}, ["unknown optimizer class"]),
        ("SGD", "fusd", {}, ["unknown optimizer.implementation 'fusd'", "did you mean 'fused'", "foreach"]),
        ("RMSprop", "fused", {}, ["optimizer.implementation=fused", "RMSprop offers default, forloop, foreach"]),
        ("LBFGS", "forloop", {}, ["optimizer.implementation=forloop", "LBFGS offers default"]),
        ("SGD", "default", {"momentun": 0.9}, ["argument of torch.optim.SGD", "'momentun'", "did you mean 'momentum'"]),
        ("SGD", "default", {"lr": 0.9}, ["argument of torch.optim.SGD", "'lr'"]),
        ("SGD", "default", {"params": []}, ["argument of torch.optim.SGD", "'params'"]),
        ("SGD", "default", {"fused": True}, ["argument of torch.optim.SGD", "'fused'"]),
        ("SGD", "default", {"foreach": True}, ["argument of torch.optim.SGD", "'foreach'"]),
        ("SGD", "default", {"momentum": -1}, ["optimizer.arguments={'momentum': -1}", "Invalid momentum value: -1"]),
        ("SGD", "default", {"nesterov": True}, ["torch.optim.SGD says: Nesterov momentum requires a momentum"]),
        ("Adam", "default", {"betas": 0.9}, ["optimizer.arguments={'betas': 0.9}", "torch.optim.Adam says"]),
        ("LBFGS", "default", {}, ["torch.optim.LBFGS", "closure"]),
        ("SparseAdam", "default", {}, ["torch.optim.SparseAdam", "dense gradients"]),
        ("Muon", "default", {}, ["torch.optim.Muon says", "2D parameters"]),
    ],
)
def test_what_cannot_be_used_is_refused(
    target: str, implementation: str, arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        check_optimizer(target, implementation, arguments)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", sorted(set(optimizer_classes()) - {"LBFGS", "SparseAdam", "Muon"}))
def test_every_other_class_of_torch_is_accepted_and_trains(target: str) -> None:
    check_optimizer(target, "default", {})
    parameters = mlp_parameters()
    before = parameters[0].detach().clone()
    watch_implementation(build_optimizer(target, "default", {}, parameters, 0.01))
    assert not torch.equal(parameters[0], before)
