"""The registry of timing cases names what it should: every optimizer and implementation, and a default suite."""

from collections.abc import Callable

import pytest
import torch
from speed_cases import BATCHES, CONFIGURATIONS, DEFAULT, NOT_LARGE, SHAPES, SMALL_ONLY, STEPS, TRAINING, offered
from torch import Generator

from bench.optimizers.registry import all_arguments, implementations, optimizer_class
from bench.tasks.models import lenet5, mlp
from bench.tasks.problem import Model
from tests.cases import OPTIMIZERS, optimizer_config

CASES = (*STEPS, *TRAINING, *BATCHES)


def test_names() -> None:
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names)
    assert set(names) >= DEFAULT
    assert {f"{name.rpartition('-')[0]}-cuda" for name in names} <= set(names)
    assert {case.device for case in CASES if not case.extended} == {"cpu"}


def test_the_default_suite_has_each_class_in_its_last_named_implementation() -> None:
    steps = {(case.optimizer, case.implementation) for case in STEPS if not case.extended}
    assert 28 <= len(DEFAULT) <= 34
    for target in {chosen["target"] for chosen in OPTIMIZERS.values()}:
        assert any(CONFIGURATIONS[name].target == target and way == offered(name)[-1] for name, way in steps), target
    for name in ("sgd", "momentum", "adam", "adamw"):
        assert {way for other, way in steps if other == name} == {"forloop", "foreach", "fused"}


def test_every_optimizer_is_timed_or_steps_as_one_that_is() -> None:
    def step(name: str) -> tuple[object, ...]:
        chosen = optimizer_config(name)
        return chosen.target, all_arguments(chosen), chosen.fallback

    timed = sorted({case.optimizer for case in STEPS})
    assert set(timed) <= set(OPTIMIZERS)
    assert len({str(step(name)) for name in timed}) == len(timed)
    for name in OPTIMIZERS:
        assert any(step(name) == step(other) for other in timed), name
    assert {"sgd", *SMALL_ONLY, *NOT_LARGE} <= set(timed)


@pytest.mark.parametrize("name", sorted({case.optimizer for case in STEPS}))
def test_every_implementation_on_every_set_of_parameters(name: str) -> None:
    kind = optimizer_class(OPTIMIZERS[name]["target"])
    assert hasattr(kind, "most_parameters") == (name in SMALL_ONLY)
    ways = [way for way in implementations(OPTIMIZERS[name]["target"]) if way != "default"] or ["default"]
    found = {(case.implementation, case.parameters) for case in STEPS if case.optimizer == name}
    sets = {"small"} if name in SMALL_ONLY else {"mlp", "lenet"} if name in NOT_LARGE else {"mlp", "lenet", "mlp4m"}
    assert found == {(way, parameters) for way in ways for parameters in sets}


@pytest.mark.parametrize(("name", "model"), [("mlp", mlp), ("lenet", lenet5)])
def test_parameters_are_those_of_the_networks(name: str, model: Callable[..., Model]) -> None:
    drawn = model((1, 28, 28), 10).initialise(Generator().manual_seed(0))
    assert tuple(tuple(p.shape) for p in drawn) == SHAPES[name]


@pytest.mark.parametrize(("name", "count"), [("mlp", 101_770), ("lenet", 61_706), ("mlp4m", 3_962_634), ("small", 23)])
def test_counts_of_parameters(name: str, count: int) -> None:
    assert sum(torch.Size(shape).numel() for shape in SHAPES[name]) == count
