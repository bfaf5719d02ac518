"""Tasks at points, as measures are taken of them."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from bench.measure.fixed_loss import FixedLoss, flat, measured_task
from bench.tasks.batch_norm import batch_norm, training_batch_norm
from bench.tasks.problem import HALF_SQUARED_ERROR, Model, Split
from bench.tasks.task import Task, build_task
from tests.tasks.problems import load


def problem_task(name: str, **knobs: object) -> Task:
    """Return a problem of the catalogue in float64."""
    return build_task(name, load(name, **knobs), torch.device("cpu"), "float64", None, 0)


def loss_of(task: Task, weights: Sequence[Tensor], split: Split | None = None, mode: str = "train") -> FixedLoss:
    """Return the loss of a task on a split, the training split if none is given."""
    count = len(weights) - len(task.model.buffers())
    shapes = [weight.shape for weight in weights[:count]]
    return FixedLoss(measured_task(task, mode), shapes, weights[count:], split or task.train)


def at(task: Task, seed: int = 0) -> tuple[FixedLoss, Tensor]:
    """Return the training loss of a task and its fresh parameters as a vector."""
    parameters = task.initialise(seed)
    return loss_of(task, [*parameters, *task.buffers()]), flat(parameters)


def dense_hessian(loss: FixedLoss, vector: Tensor) -> Tensor:
    """Return the Hessian as torch computes it whole, from the task's own loss on the whole split."""

    def whole(parameters: Tensor) -> Tensor:
        weights = [*loss.unflatten(parameters), *(buffer.clone() for buffer in loss.buffers)]
        return loss.task.loss(weights, loss.split.inputs, loss.split.labels)

    found: Tensor = torch.autograd.functional.hessian(whole, vector)  # type: ignore[no-untyped-call]
    return found


def normalised_task(examples: int = 24) -> Task:
    """A network 3-4-1 with batch normalisation, in float64."""

    def initialise(generator: Generator) -> list[Tensor]:
        shapes = [(4, 3), (4,), (4,), (1, 4)]
        return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    def through(trained: bool, weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        first, scale, shift, last, mean, variance = weights
        hidden = inputs @ first.T
        if trained:
            hidden = training_batch_norm(hidden, scale, shift, mean, variance, None)
        else:
            hidden = batch_norm(hidden, scale, shift, mean, variance)
        return hidden.relu() @ last.T

    model = Model(
        "normalised",
        initialise,
        lambda weights, inputs: through(False, weights, inputs),
        training_forward=lambda weights, inputs: through(True, weights, inputs),
        buffers=lambda: [torch.zeros(4), torch.ones(4)],
    )
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(examples, 3, generator=generator, dtype=torch.float64)
    split = Split(inputs, inputs.sin().sum(1, keepdim=True))
    return Task("normalised", model, split, split, split, split, None, HALF_SQUARED_ERROR)
