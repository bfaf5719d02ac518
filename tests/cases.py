"""Small tasks, plans and optimizers that tests of several rooms build on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from bench.optimizers.registry import CLOSURE, all_arguments, build, requirements
from bench.schema import OptimizerConfig
from bench.tasks.models import logreg, mlp
from bench.tasks.problem import Model, Split
from bench.tasks.task import Task
from bench.training.loop import Plan

CONF = Path(__file__).resolve().parents[1] / "conf"

#: conf/optimizer, by name, as in the files.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    path.stem: OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[misc]
    for path in sorted((CONF / "optimizer").glob("*.yaml"))
}

TOY_SHAPE = (1, 3, 4)
TOY_CLASSES = 3


def toy_split(examples: int, seed: int, dtype: torch.dtype = torch.float64) -> Split:
    """Noisy examples of a linear rule, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, *TOY_SHAPE, generator=generator, dtype=torch.float64)
    rule = torch.randn(12, TOY_CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(examples, TOY_CLASSES, generator=generator, dtype=torch.float64)
    return Split(inputs.to(dtype), (inputs.flatten(1) @ rule + noise).argmax(1))


def toy_model(name: str) -> Model:
    return logreg(TOY_SHAPE, TOY_CLASSES) if name == "logreg" else mlp(TOY_SHAPE, TOY_CLASSES, hidden=5)


def toy_task(model: str = "mlp", examples: int = 50, dtype: torch.dtype = torch.float64) -> Task:
    train = toy_split(examples, 1, dtype)
    return Task(
        name=f"toy/{model}",
        model=toy_model(model),
        train=train,
        train_evaluation=train,
        val=toy_split(20, 2, dtype),
        test=toy_split(30, 3, dtype),
        classes=TOY_CLASSES,
    )


def plan_of(examples: int = 50, **changes: Any) -> Plan:
    """A plan of 20 steps at batch size 8; keyword arguments replace its fields."""
    values: dict[str, Any] = {
        "batch_size": 8,
        "steps": 20,
        "seconds": None,
        "until_largest": True,
        "remainder": "keep",
        "reshuffle": True,
        "per_octave": 2,
        "every_epoch": 2,
        "evaluation_batch_size": 7,
        "divergence_factor": 100.0,
        "target_metric": "val_accuracy",
        "target": 2.0,
    } | changes
    size = values["batch_size"]
    values.setdefault("per_epoch", -(-examples // size) if values["remainder"] == "keep" else examples // size)
    return Plan(**values)


def builder(name: str, implementation: str = "default") -> Callable[[list[Tensor], float], torch.optim.Optimizer]:
    """Return the function that builds an optimizer of conf/optimizer."""
    return lambda parameters, lr: build(optimizer_config(name), parameters, lr, implementation)


def optimizer_config(name: str, **changes: Any) -> OptimizerConfig:
    """Return an optimizer of conf/optimizer, typed; keyword arguments replace its fields."""
    merged = OmegaConf.merge(OmegaConf.structured(OptimizerConfig), OPTIMIZERS[name], changes)
    typed = OmegaConf.to_object(merged)
    assert isinstance(typed, OptimizerConfig)
    return typed


def step_as_required(optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor], needs: frozenset[str]) -> None:
    """Take one step as the optimizer requires: it calls the closure itself, or finds gradients that it left."""
    if CLOSURE in needs:
        optimizer.step(closure)  # type: ignore[arg-type]
    else:
        closure()
        optimizer.step()


def needs_of(name: str) -> frozenset[str]:
    """Return what a step of an optimizer of conf/optimizer requires."""
    chosen = optimizer_config(name)
    return requirements(chosen.target, all_arguments(chosen))
