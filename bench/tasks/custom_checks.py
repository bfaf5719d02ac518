"""What a problem has to be before anything is trained on it, each failure in one line that names the field."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from bench.errors import UsageError, unknown
from bench.tasks.problem import Model, Problem, Split
from bench.tasks.registry import TARGET_METRICS
from bench.tasks.task import SPLITS

#: Examples that model and loss are tried on.
PROBE_EXAMPLES = 64


def check_problem(problem: Problem) -> None:
    """Check a problem that somebody wrote.

    Raises:
        UsageError: The first thing that is wrong, by the name of its field.
    """
    for name in SPLITS:
        _check_split(name, getattr(problem.splits, name))
    shapes = {name: tuple(getattr(problem.splits, name).inputs.shape[1:]) for name in SPLITS}
    for name in ("val", "test"):
        if shapes[name] != shapes["train"]:
            raise UsageError(f"{name}: an example has the shape {shapes[name]}, one of train {shapes['train']}")
    _check_target(problem)
    weights = _weights(problem.model)
    _check_labels(problem, weights)
    for name in SPLITS:
        _check_outputs(problem, weights, name)
    _check_gradient(problem)
    if problem.stream is not None and problem.stream.epoch < 1:
        raise UsageError(f"stream: epoch={problem.stream.epoch}, must be at least 1 example")


def check_repeats(first: Problem, second: Problem) -> None:
    """Check that two problems of one seed are one problem.

    Raises:
        UsageError: Data or initial parameters differ.
    """
    for name in SPLITS:
        a, b = getattr(first.splits, name), getattr(second.splits, name)
        if not (torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels)):
            raise UsageError(f"{name}: two calls with one seed gave different data; draw everything from the seed")
    a, b = _weights(first.model), _weights(second.model)
    if len(a) != len(b) or not all(torch.equal(x, y) for x, y in zip(a, b, strict=True)):
        raise UsageError("model: one seed gave different initial parameters; draw them from torch alone")


def _check_split(name: str, split: Split) -> None:
    if not isinstance(split, Split):
        raise UsageError(f"{name}: is of type {type(split).__name__}, must be a Split")
    for part in ("inputs", "labels"):
        tensor = getattr(split, part)
        if not isinstance(tensor, Tensor) or tensor.ndim == 0:
            raise UsageError(f"{name}: {part} must be a tensor with one entry for each example")
        if tensor.device.type != "cpu":
            raise UsageError(f"{name}: {part} are on {tensor.device}, must be on cpu; the suite moves them")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            row = int((~tensor.isfinite()).flatten(1).any(1).nonzero()[0]) if tensor.ndim > 1 else _first(tensor)
            raise UsageError(f"{name}: {part} hold NaN or infinity, first in example {row}")
    if len(split.inputs) != len(split.labels):
        raise UsageError(f"{name}: {len(split.inputs)} inputs and {len(split.labels)} labels, must be as many")
    if len(split.labels) == 0:
        raise UsageError(f"{name}: has no examples")


def _first(tensor: Tensor) -> int:
    return int((~tensor.isfinite()).nonzero()[0])


def _check_target(problem: Problem) -> None:
    if problem.target_metric not in TARGET_METRICS:
        raise unknown("target_metric", problem.target_metric, TARGET_METRICS)
    if problem.target_metric == "val_accuracy" and problem.objective.correct is None:
        raise UsageError(
            f"target_metric=val_accuracy: {problem.objective.name} has no accuracy; "
            "give one (correct=…) or take val_loss"
        )
    target = problem.target
    if isinstance(target, bool) or not isinstance(target, int | float) or not math.isfinite(target):
        raise UsageError(f"target={target}: must be a finite number")
    if problem.target_metric == "val_accuracy" and not 0 <= target < 1:
        raise UsageError(f"target={target}: an accuracy to get past must be from 0 to below 1")


def _weights(model: Model) -> list[Tensor]:
    drawn = [model.initialise(Generator().manual_seed(0)) for _ in range(2)]
    for parameters in drawn:
        if not parameters:
            raise UsageError("model: has no parameters to train")
        for index, parameter in enumerate(parameters):
            if not isinstance(parameter, Tensor) or parameter.dtype != torch.float32 or parameter.device.type != "cpu":
                raise UsageError(f"model: initial parameter {index} must be a float32 tensor on cpu")
            if not parameter.isfinite().all():
                raise UsageError(f"model: initial parameter {index} holds NaN or infinity")
    if not all(torch.equal(a, b) for a, b in zip(*drawn, strict=True)):
        raise UsageError("model: one seed gave different initial parameters; draw them from torch alone")
    return [*drawn[0], *model.buffers()]


def _check_labels(problem: Problem, weights: Sequence[Tensor]) -> None:
    """Check that the labels of a cross-entropy are indices of its classes."""
    if not problem.objective.of_logits:
        return
    outputs = _outputs(problem, weights, "train")
    if outputs.ndim != 2:
        raise UsageError(f"model: outputs {_shape(outputs)}, cross-entropy takes batch × classes")
    classes = outputs.shape[1]
    if problem.classes not in (None, classes):
        raise UsageError(f"classes={problem.classes}: the model has {classes} outputs")
    for name in SPLITS:
        labels: Tensor = getattr(problem.splits, name).labels
        if labels.dtype != torch.int64:
            kind = str(labels.dtype).removeprefix("torch.")
            raise UsageError(f"{name}: labels are {kind}, cross-entropy takes integers (class indices)")
        if labels.ndim != 1:
            raise UsageError(f"{name}: labels are {_shape(labels)}, cross-entropy takes one per example")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            raise UsageError(f"{name}: label {wrong} is no class; the model has {classes} outputs (0 … {classes - 1})")


@torch.no_grad()
def _check_outputs(problem: Problem, weights: Sequence[Tensor], name: str) -> None:
    split: Split = getattr(problem.splits, name)
    outputs = _outputs(problem, weights, name)
    objective, labels = problem.objective, split.labels[: len(outputs)]
    losses = attempt("loss", objective.losses, outputs, labels)
    if not isinstance(losses, Tensor) or tuple(losses.shape) != (len(labels),):
        found = _shape(losses) if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
        raise UsageError(
            f"loss: {found} for {len(labels)} examples ({name}), must be one for each (reduction='none', "
            "and summed over an example's outputs)"
        )
    if not losses.isfinite().all():
        raise UsageError(f"loss: untrained it is NaN or infinite on {name}")
    if objective.mean is not None and objective.mean(outputs, labels).ndim:
        raise UsageError(f"loss: its mean is {_shape(objective.mean(outputs, labels))}, must be a scalar")
    if objective.correct is not None:
        right = attempt("correct", objective.correct, outputs, labels)
        if not isinstance(right, Tensor) or tuple(right.shape) != (len(labels),):
            found = _shape(right) if isinstance(right, Tensor) else f"a {type(right).__name__}"
            raise UsageError(f"correct: {found} for {len(labels)} examples ({name}), must be one for each")


def _check_gradient(problem: Problem) -> None:
    """Check that a training step has a gradient for every parameter."""
    model, split = problem.model, problem.splits.train
    parameters = [p.clone().requires_grad_() for p in model.initialise(Generator().manual_seed(0))]
    forward = model.training_forward or model.forward
    outputs = attempt("model", forward, [*parameters, *model.buffers()], split.inputs[:PROBE_EXAMPLES])
    loss: Tensor = attempt("loss", problem.objective.losses, outputs, split.labels[:PROBE_EXAMPLES]).mean()
    if not loss.requires_grad:
        raise UsageError("loss: has no gradient; it must be differentiable in the model's outputs")
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        which = f"parameter {index} ({_shape(parameter)})"
        if gradient is None:
            raise UsageError(f"model: {which} plays no part in the loss")
        if not gradient.isfinite().all():
            raise UsageError(f"loss: its untrained gradient by {which} holds NaN or infinity")


@torch.no_grad()
def _outputs(problem: Problem, weights: Sequence[Tensor], name: str) -> Tensor:
    inputs: Tensor = getattr(problem.splits, name).inputs[:PROBE_EXAMPLES]
    outputs = attempt("model", problem.model.forward, weights, inputs)
    if not isinstance(outputs, Tensor):
        raise UsageError(f"model: returns a {type(outputs).__name__}, must return a tensor")
    if outputs.ndim == 0 or len(outputs) != len(inputs):
        raise UsageError(f"model: outputs {_shape(outputs)} for {len(inputs)} examples, must be batch × …")
    if not outputs.isfinite().all():
        raise UsageError(f"model: untrained outputs are NaN or infinite on {name}")
    return outputs


def attempt(field: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what somebody wrote; name the field and the shapes it was given where that raises.

    Raises:
        UsageError: It raised something.
    """
    try:
        return function(*arguments)
    except UsageError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(a.shape)) for a in arguments if isinstance(a, Tensor))
        text = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
        raise UsageError(f"{field}: cannot take {shapes}: {said}") from error


def _shape(tensor: Tensor) -> str:
    return f"of shape {tuple(tensor.shape)}"
