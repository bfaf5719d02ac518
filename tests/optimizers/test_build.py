"""Checking configured optimizers against tasks, and building them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import UsageError
from bench.optimizers.composite import Composite
from bench.optimizers.registry import (
    IMPLEMENTATIONS,
    build,
    build_optimizer,
    check_optimizer,
    implementations,
    optimizer_classes,
    watch_implementation,
)
from bench.schema import FallbackConfig, OptimizerConfig
from bench.tasks.registry import TaskFacts
from tests.cases import OPTIMIZERS, needs_of, optimizer_config

HERE = f"{Path(__file__)}:"


class Rateless(torch.optim.SGD):
    def __init__(self, params: Any) -> None:
        super().__init__(params, 0.1)


class Open(torch.optim.SGD):
    def __init__(self, params: Any, **rest: Any) -> None:
        super().__init__(params, **rest)


class Marked(torch.optim.SGD):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        if any("use_muon" not in group for group in params):
            raise ValueError("groups must say use_muon")
        super().__init__(params, lr)


def facts(*shapes: tuple[int, ...], sparse: bool = False) -> TaskFacts:
    return TaskFacts("toys", "toy", 50, 20, 30, 3, True, shapes, sparse)


MLP = facts((5, 12), (5,), (3, 5), (3,))
TABLE = facts((9, 4), sparse=True)
VECTORS = facts((5,), (3, 2, 2))


def config(target: str, **changes: Any) -> OptimizerConfig:
    return OptimizerConfig(**({"name": "x", "target": target, "lr_log2": [-4, 0]} | changes))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_file_can_be_used(name: str) -> None:
    chosen = optimizer_config(name)
    assert chosen.name == name
    assert set(OPTIMIZERS[name]) == {f for f in OptimizerConfig.__dataclass_fields__ if f != "source_sha256"}
    check_optimizer(chosen, TABLE if "sparse gradients" in needs_of(name) else MLP)
    first, last = chosen.lr_log2
    assert first < last


@pytest.mark.parametrize("target", sorted(set(optimizer_classes()) - {"SparseAdam", "Muon"}))
def test_every_class_of_torch_can_be_used(target: str) -> None:
    check_optimizer(config(target), MLP)


MUON = {"fallback": FallbackConfig("AdamW")}


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    [
        ("sgd", {}, ["unknown optimizer class (optimizer.target) 'sgd'", "did you mean 'SGD'", "AdamW"]),
        ("Optimizer", {}, ["unknown optimizer class"]),
        ("SGD", {"implementation": "fusd"}, ["unknown optimizer.implementation 'fusd'", "mean 'fused'", "foreach"]),
        (
            "RMSprop",
            {"implementation": "fused"},
            ["optimizer.implementation=fused", "offers default, forloop, foreach"],
        ),
        ("LBFGS", {"implementation": "forloop"}, ["optimizer.implementation=forloop", "LBFGS offers default"]),
        ("SGD", {"arguments": {"momentun": 0.9}}, ["argument of torch.optim.SGD", "'momentun'", "mean 'momentum'"]),
        ("SGD", {"arguments": {"lr": 0.9}}, ["argument of torch.optim.SGD", "'lr'"]),
        ("SGD", {"arguments": {"params": []}}, ["argument of torch.optim.SGD", "'params'"]),
        ("SGD", {"arguments": {"fused": True}}, ["argument of torch.optim.SGD", "'fused'"]),
        ("SGD", {"arguments": {"foreach": True}}, ["argument of torch.optim.SGD", "'foreach'"]),
        (HERE + "Open", {"arguments": {"lr": 1}}, ["'lr'"]),
        (
            "SGD",
            {"arguments": {"momentum": -1}},
            ["optimizer.arguments={'momentum': -1}", "Invalid momentum value: -1"],
        ),
        ("SGD", {"arguments": {"nesterov": True}}, ["torch.optim.SGD says: Nesterov momentum requires a momentum"]),
        ("Adam", {"arguments": {"betas": 0.9}}, ["optimizer.arguments={'betas': 0.9}", "torch.optim.Adam says"]),
        ("SGD", {"weight_decay": -0.5}, ["optimizer.weight_decay=-0.5: must be a finite number from 0"]),
        ("SGD", {"weight_decay": float("nan")}, ["optimizer.weight_decay=nan: must be a finite number"]),
        (
            "Rprop",
            {"weight_decay": 0.1},
            ["optimizer.weight_decay=0.1: torch.optim.Rprop has no argument weight_decay"],
        ),
        (
            "SGD",
            {"weight_decay": 0.1, "arguments": {"weight_decay": 0.2}},
            ["optimizer.arguments has weight_decay too"],
        ),
        ("SGD", MUON, ["optimizer.fallback.target=AdamW: torch.optim.SGD takes parameters of every shape"]),
        (
            "Muon",
            {},
            ["optimizer.target=Muon: takes matrices alone, and 2 of the 4 parameters of toys with toy are none"],
        ),
        ("Muon", {"fallback": FallbackConfig("AdmW")}, ["(optimizer.fallback.target) 'AdmW'", "did you mean 'AdamW'"]),
        (
            "Muon",
            {"fallback": FallbackConfig("Adam", {"beta": 1})},
            ["torch.optim.Adam (optimizer.fallback.arguments)"],
        ),
        ("Muon", {"fallback": FallbackConfig("LBFGS")}, ["optimizer.fallback.target=LBFGS: requires closure"]),
        ("SparseAdam", {}, ["requires sparse gradients, which toys with toy does not give"]),
        (HERE + "Rateless", {}, ["optimizer.lr_log2=[-4, 0]", "Rateless has no learning rate; give one value twice"]),
        (HERE + "Nothing", {}, ["optimizer.target=", "unknown class in test_build.py 'Nothing'"]),
        ("no_such_package:Lion", {}, ["optimizer.target=no_such_package:Lion: no module no_such_package"]),
    ],
)
def test_what_cannot_be_used_is_refused(target: str, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        check_optimizer(config(target, **changes), MLP)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "changes", "task", "words"),
    [
        ("Muon", MUON, VECTORS, "is made for matrices, of which toys with toy has none"),
        (HERE + "Marked", {}, VECTORS, "is made for matrices, of which toys with toy has none"),
        ("bench.optimizers.newton:Newton", {}, facts((61_706,)), "at most 1 024 parameters; toys with toy has 61 706"),
        ("bench.optimizers.bfgs:BFGS", {}, facts((1025,)), "at most 1 024 parameters; toys with toy has 1 025"),
    ],
)
def test_what_the_task_does_not_have(target: str, changes: dict[str, Any], task: TaskFacts, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_optimizer(config(target, **changes), task)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"optimizer.target={target}: ")


def test_what_the_task_has() -> None:
    check_optimizer(config("SparseAdam"), TABLE)
    check_optimizer(config("Muon"), facts((2, 3), (3, 4)))
    check_optimizer(config("Muon", **MUON), MLP)
    check_optimizer(config(HERE + "Marked"), MLP)
    check_optimizer(config("bench.optimizers.newton:Newton"), facts((1024,)))
    check_optimizer(config(HERE + "Rateless", lr_log2=[0, 0]), MLP)
    check_optimizer(config(HERE + "Open", arguments={"momentum": 0.5}), MLP)


def leaves() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(s, generator=generator).requires_grad_() for s in MLP.shapes]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)
    return parameters


def test_the_real_object_is_built_with_what_was_given() -> None:
    parameters = leaves()
    adam = build_optimizer("Adam", "fused", {"betas": [0.8, 0.95], "weight_decay": 0.1}, parameters, 0.25)
    assert type(adam) is torch.optim.Adam
    (group,) = adam.param_groups
    assert all(a is b for a, b in zip(group["params"], parameters, strict=True))
    chosen = {key: group[key] for key in ("lr", "betas", "weight_decay", "fused", "foreach")}
    assert chosen == {"lr": 0.25, "betas": (0.8, 0.95), "weight_decay": 0.1, "fused": True, "foreach": None}
    (group,) = build_optimizer("SGD", "forloop", {}, iter(parameters), 1.0).param_groups
    assert (group["fused"], group["foreach"], len(group["params"])) == (False, False, 4)


def test_a_configuration_is_built() -> None:
    chosen = config("SGD", arguments={"momentum": 0.5}, weight_decay=0.25, implementation="foreach")
    (group,) = build(chosen, leaves(), 0.125).param_groups
    wanted = {"lr": 0.125, "momentum": 0.5, "weight_decay": 0.25, "foreach": True}
    assert {key: group[key] for key in wanted} == wanted
    assert build(chosen, leaves(), 0.125, "forloop").param_groups[0]["foreach"] is False


def test_a_fallback_takes_what_is_no_matrix() -> None:
    parameters = leaves()
    optimizer = build(optimizer_config("muon"), iter(parameters), 0.5)
    assert isinstance(optimizer, Composite)
    assert [type(part) for part, _ in optimizer.parts] == [torch.optim.Muon, torch.optim.AdamW]
    matrices, rest = optimizer.param_groups
    assert [id(p) for p in matrices["params"]] == [id(parameters[0]), id(parameters[2])]
    assert [id(p) for p in rest["params"]] == [id(parameters[1]), id(parameters[3])]
    assert (matrices["lr"], rest["lr"]) == (0.5, 0.5)
    only = build(optimizer_config("muon"), parameters[::2], 0.5)
    assert type(only) is torch.optim.Muon, "where all are matrices, there is nothing to fall back on"


def test_a_gradient_is_there_before_the_closure_moves_the_parameters() -> None:
    x = torch.full((2,), 3.0, requires_grad=True)
    optimizer = build(config("tests.optimizers.test_requirements:Ahead"), [x], 0.5)
    asked = []

    def closure() -> torch.Tensor:
        with torch.enable_grad():
            loss = x.square().sum() / 2
            (x.grad,) = torch.autograd.grad(loss, [x])
        asked.append(x[0].item())
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    # The gradient is x itself: asked at 3 and, .01 × 3 up, at 3.03; then half of 3.03 down from 3.
    assert asked == pytest.approx([3.0, 3.03])
    assert x[0].item() == pytest.approx(3 - 0.5 * 3.03)


def test_groups_are_made_for_classes_that_mark_them() -> None:
    groups = build(config(HERE + "Marked"), leaves(), 0.5).param_groups
    assert [(group["use_muon"], len(group["params"]), group["lr"]) for group in groups] == [
        (True, 2, 0.5),
        (False, 2, 0.5),
    ]


def test_a_class_without_a_learning_rate_keeps_its_own() -> None:
    assert build(config(HERE + "Rateless"), leaves(), 0.5).param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("target", sorted(set(optimizer_classes()) - {"LBFGS", "SparseAdam", "Muon"}))
def test_every_class_moves_every_parameter(target: str) -> None:
    for implementation in set(implementations(target)) & set(IMPLEMENTATIONS):
        parameters = leaves()
        before = [p.detach().clone() for p in parameters]
        watch_implementation(build(config(target, implementation=implementation), parameters, 0.01))
        assert not any(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
