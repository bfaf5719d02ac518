"""Gradients of a batch without autograd's bookkeeping.

The operations of a loss and its backward pass are traced once for each shape of a batch and then played back, the same
kernels on the same operands in the same order, so not a bit differs; what is saved is recording a graph at every step
and computing the loss itself, which is most of the time of a small one.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from bench.tasks.task import Task
from bench.training.traces import folded, lean, playable

#: Parameters and buffers, inputs, labels → loss.
Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
#: Parameters and buffers, then inputs and labels, each an argument → the gradient of each parameter.
Gradient = Callable[..., Sequence[Tensor]]


class Gradients:
    """Traced gradients of a task, kept by the shapes that they were traced for.

    Only models written in `bench.tasks.layers` are traced: their forward pass is a function of its arguments alone. A
    module of a user's own may count its calls or look at its values, and its trace would not.

    Args:
        task: What is trained.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._traced: dict[tuple[Any, ...], Gradient | None] = {}

    def of(
        self, loss: Loss, weights: Sequence[Tensor], parameters: int, inputs: Tensor, labels: Tensor
    ) -> Gradient | None:
        """Return the traced gradient of a loss at the shapes of these arguments; None where it cannot be traced.

        Args:
            loss: A method of the task: its loss or its stacked loss.
            weights: Parameters, then buffers.
            parameters: How many of them are parameters.
            inputs: A batch.
            labels: Its labels.
        """
        task = self._task
        if task.model.stacked_forward is None or task.autocast or task.sparse:
            return None
        key = shapes(loss, weights, inputs, labels)
        if key not in self._traced:
            self._traced[key] = _checked(loss, weights, parameters, inputs, labels)
        return self._traced[key]


class Player:
    """Computes gradients of one trial or stack, traced where that is possible.

    Args:
        loss: A method of the task: its loss or its stacked loss.
        weights: Parameters, then buffers.
        parameters: How many of them are parameters.
        gradients: What was traced for the task; None to let autograd record every step.

    Attributes:
        tracing_seconds: Seconds spent on tracing so far, for whoever keeps a clock.
    """

    def __init__(self, loss: Loss, weights: Sequence[Tensor], parameters: int, gradients: Gradients | None) -> None:
        self.tracing_seconds = 0.0
        self._loss = loss
        self._weights = list(weights)
        self._parameters = self._weights[:parameters]
        self._gradients = gradients
        self._played: dict[torch.Size, Gradient | None] = {}

    def __call__(self, inputs: Tensor, labels: Tensor) -> Sequence[Tensor]:
        """Return the gradient of each parameter on a batch."""
        if self._gradients is not None:
            shape = labels.shape
            if shape not in self._played:
                self.prepare(inputs, labels)
            played = self._played[shape]
            if played is not None:
                with torch.no_grad():
                    return played(*self._weights, inputs, labels)
        return torch.autograd.grad(self._loss(self._weights, inputs, labels), self._parameters)

    def prepare(self, inputs: Tensor, labels: Tensor) -> None:
        """Trace for batches of this shape, unless that has been done."""
        if self._gradients is None or labels.shape in self._played:
            return
        start = time.perf_counter()
        found = self._gradients.of(self._loss, self._weights, len(self._parameters), inputs, labels)
        self._played[labels.shape] = found
        self.tracing_seconds += time.perf_counter() - start


def shapes(loss: Loss, weights: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> tuple[Any, ...]:
    """Return what the operations of a task's loss depend on beyond the task; arguments as for `Gradients.of`."""
    return loss.__name__, weights[0].shape, inputs.shape, inputs.stride(), labels.shape, labels.stride()


def copies(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of weights that require no gradient, for what may move them."""
    return [weight.detach().clone() for weight in weights]


def recorded(loss: Loss, parameters: int) -> Gradient:
    """Return the gradient of a loss as autograd records it; arguments as for `Gradients.of`."""

    def gradient(*flat: Tensor) -> Sequence[Tensor]:
        leaves = [weight.detach().requires_grad_() for weight in flat[:parameters]]
        return torch.autograd.grad(loss([*leaves, *flat[parameters:-2]], *flat[-2:]), leaves)

    return gradient


def traced(gradient: Gradient, weights: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> fx.GraphModule:
    """Trace a gradient on copies, without operations that change nothing.

    Raises:
        RuntimeError: An operation cannot be traced.
    """
    # Imported late: it takes a while, and cells that trace nothing need none of it.
    from torch.fx.experimental.proxy_tensor import make_fx

    return lean(make_fx(gradient)(*copies(weights), inputs, labels))


def _checked(loss: Loss, weights: Sequence[Tensor], parameters: int, inputs: Tensor, labels: Tensor) -> Gradient | None:
    """Trace on copies, and keep the trace only if it repeats autograd to the last bit, buffers included."""
    gradient = recorded(loss, parameters)
    try:
        played = playable(folded(traced(gradient, weights, inputs, labels)))
    except RuntimeError:
        # An operation that cannot be traced: autograd goes on doing it.
        return None
    ours, theirs = copies(weights), copies(weights)
    with torch.no_grad():
        found = played(*ours, inputs, labels)
    expected = gradient(*theirs, inputs, labels)
    same = all(
        torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
        for a, b in zip([*found, *ours], [*expected, *theirs], strict=True)
    )
    return played if same else None


def relative_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the norm of what two lists of tensors differ by over that of the second, all of a list together.

    Numbers that are not finite in either are left out: a trial that diverges says nothing of the rest.

    Returns:
        The ratio; 0 where both are 0, infinity where only the second is, NaN where no number is finite.
    """
    if not found:
        return 0.0
    a, b = (torch.cat([tensor.detach().double().flatten() for tensor in some]) for some in (found, expected))
    finite = a.isfinite() & b.isfinite()
    if not finite.any():
        return math.nan
    difference, norm = float((a - b)[finite].norm()), float(b[finite].norm())
    return difference / norm if norm else (math.inf if difference else 0.0)
