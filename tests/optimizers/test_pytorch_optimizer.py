"""Every optimizer of the package pytorch-optimizer: it trains, or it is listed here with what it requires."""

import math
from typing import Any

import pytest
import torch

from bench.errors import UsageError
from bench.optimizers.classes import constructor, learning_rate_argument, optimizer_class
from bench.optimizers.registry import (
    CLOSURE,
    GRADIENT_FIRST,
    GRADIENT_GRAPH,
    GROUPS,
    MATRICES,
    all_arguments,
    build,
    check_optimizer,
    requirements,
)
from bench.schema import FallbackConfig, OptimizerConfig
from bench.tasks.registry import TaskSpec, load_problem, task_facts
from bench.tasks.task import Task, build_task
from bench.training.loop import train_trial
from bench.training.stepper import Method
from tests.cases import plan_of

CLASSES: dict[str, Any] = pytest.importorskip("pytorch_optimizer.optimizer").OPTIMIZERS

SPEC = TaskSpec("regression/linear", "regression/linear")

#: Arguments without a default, as the task at hand has them. bSAM's own ascent and prior are made for networks.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "bsam": {"num_data": 512, "rho": 1e-4, "weight_decay": 1.0},
    "ranger21": {"num_iterations": 64},
}
#: What steps require beyond a plain gradient, and are given.
NEEDS: dict[str, set[str]] = {
    **{key: {GROUPS} for key in ("adago", "adamuon", "muon", "muonclip", "normuon")},
    **{key: {GRADIENT_GRAPH} for key in ("adahessian", "sophiah")},
    **{key: {CLOSURE} for key in ("alig", "lbfgs")},
    **{key: {MATRICES} for key in ("spectralsphere", "lorarite")},
    "bsam": {CLOSURE, GRADIENT_FIRST},
}
#: What cannot be given, in the words in which it is refused.
REFUSED: dict[str, str] = {
    **dict.fromkeys(("adalomo", "adammini", "lomo"), "requires 'model', where an optimizer takes parameters"),
    "magma": "requires 'optimizer', where an optimizer takes parameters",
    "demo": "You need to install `einops`",
    "distributedmuon": "Default process group has not been initialized",
}
#: What takes a step, and requires something that shows in its results alone.
OTHERWISE: dict[str, str] = {"lorarite": "pairs of low-rank factors in turn; leaves a matrix that is none as it is"}
#: Steps, where the usual ones are too few to come below the start.
STEPS = {"ranger": 512}
#: Multiples of a class's own learning rate, for a network, that are tried on the line until one trains.
MULTIPLES = (16, 1, 256, 1 / 16)


@pytest.fixture(scope="module")
def line() -> Task:
    return build_task(SPEC.name, load_problem(SPEC, "", False, 0), torch.device("cpu"), "float32", None, 0)


def config(name: str) -> OptimizerConfig:
    target = f"pytorch_optimizer:{CLASSES[name].__name__}"
    return OptimizerConfig(name=name, target=target, arguments=ARGUMENTS.get(name, {}), lr_log2=[0, 0])


def test_the_lists_name_what_there_is() -> None:
    assert len(CLASSES) >= 100
    assert {*ARGUMENTS, *NEEDS, *REFUSED, *OTHERWISE, *STEPS} <= set(CLASSES)
    assert not {*NEEDS, *ARGUMENTS} & set(REFUSED)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - set(REFUSED)))
def test_it_trains(line: Task, name: str) -> None:
    chosen = config(name)
    kind = optimizer_class(chosen.target)
    assert kind is CLASSES[name]
    needs = requirements(chosen.target, all_arguments(chosen))
    assert needs == NEEDS.get(name, set())
    if MATRICES in needs:
        chosen.fallback = FallbackConfig("AdamW")
    check_optimizer(chosen, task_facts(SPEC))
    method = Method(closure=CLOSURE in needs, gradient_graph=GRADIENT_GRAPH in needs)
    plan = plan_of(len(line.train), batch_size=64, steps=STEPS.get(name, 64), per_octave=1, method=method)
    own = constructor(kind)[learning_rate_argument(kind) or "lr"].default or 0.1
    ratios = []
    for multiple in MULTIPLES:
        trial = train_trial(line, lambda parameters, lr: build(chosen, parameters, lr), plan, multiple * own, 0, 1, 2)
        first, last = (trial.evaluations[index].metrics["train_loss"] for index in (0, -1))
        ratios.append(last / first if trial.status == "complete" else math.inf)
        if ratios[-1] < 0.9:
            break
    assert min(ratios) < 1, ratios
    if name in OTHERWISE:
        assert min(ratios) > 0.9, "trains after all: take it off the list"


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_what_it_requires(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_optimizer(config(name), task_facts(SPEC))
    assert REFUSED[name] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "argument"), [("bsam", "num_data"), ("ranger21", "num_iterations")])
def test_arguments_without_a_default_are_named(name: str, argument: str) -> None:
    chosen = config(name)
    chosen.arguments = {}
    with pytest.raises(UsageError, match=f"requires optimizer.arguments without a default: {argument}$"):
        check_optimizer(chosen, task_facts(SPEC))
