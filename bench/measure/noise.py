"""Noise of the gradient: exact by per-example gradients, estimated by batches of two sizes, and what batches see of it.

Batch sharpness, the curvature of a batch's loss along its own gradient, is as much noise as it is curvature.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import grad, vmap
from torch.overrides import TorchFunctionMode

from bench.measure.estimates import Estimate, mean_interval, ratio_interval
from bench.measure.fixed_loss import PASS_EXAMPLES, FixedLoss, flat
from bench.tasks.problem import Split
from bench.tasks.task import Task

#: Numbers that per-example gradients may take at once: 64 MiB in float32.
MOST_NUMBERS = 2**24


class GradientNoise(NamedTuple):
    """The noise of the gradient at a point.

    Attributes:
        trace: tr Σ: the variance of one example's gradient, summed over parameters; in units of the gradient squared.
        norm2: |G|²: the squared norm of the gradient without noise.
    """

    trace: float
    norm2: float

    @property
    def scale(self) -> float:
        """B_simple = tr Σ/|G|², in examples (McCandlish et al. 2018, arXiv 1812.06162, equation 2.9); inf at G = 0."""
        if self.norm2 > 0:
            return self.trace / self.norm2
        return math.inf if self.trace > 0 else math.nan


def gradient_noise(task: Task, weights: Sequence[Tensor], exact: Split, examples: Split) -> GradientNoise:
    """Return the exact noise of the gradient: tr Σ as the mean of ‖g − G‖² over examples.

    Args:
        task: What is measured (`bench.measure.fixed_loss.measured_task`). As trained, its loss is the mean over
            examples of what each has alone: no batch normalisation by the batch.
        weights: Parameters, then buffers.
        exact: Examples whose mean gradient is G: all of the training split.
        examples: Examples that the noise is taken of: the same, or some of them.

    Raises:
        ValueError: An example's gradient depends on the others that it goes through with.
    """
    if task.model.training_forward is not None:
        raise ValueError("an example has no gradient of its own where the batch is normalised together")
    count = len(weights) - len(task.model.buffers())
    parameters, parts = list(weights[:count]), list(_parts(examples, PASS_EXAMPLES))
    linear = _linear_sums(task, weights, count, parts)
    if linear is not None and exact is examples:
        gradient = [total / len(examples) for total in linear[1]]
    else:
        loss = FixedLoss(task, [p.shape for p in parameters], weights[count:], exact)
        gradient = loss.unflatten(loss.gradient(flat(parameters))[1])
    norm2 = math.fsum(float(g.double().square().sum()) for g in gradient)
    if linear is not None:
        squares, summed = linear
        along = math.fsum(float((s.double() * g).sum()) for s, g in zip(summed, gradient, strict=True))
        total = squares - 2 * along + len(examples) * norm2
    else:
        total = math.fsum(_squared_distances(task, weights, count, gradient, part) for part in parts)
    return GradientNoise(total / len(examples), norm2)


def _squared_distances(
    task: Task, weights: Sequence[Tensor], parameters: int, gradient: Sequence[Tensor], part: Split
) -> float:
    """Return Σ ‖g − G‖² over examples, each of whose gradients is formed."""
    at, buffers = [p.detach() for p in weights[:parameters]], list(weights[parameters:])

    def loss(own: list[Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        return task.loss([*own, *buffers], inputs.unsqueeze(0), labels.unsqueeze(0))

    each, total = vmap(grad(loss), in_dims=(None, 0, 0)), 0.0
    for some in _parts(part, max(1, MOST_NUMBERS // sum(p.numel() for p in at))):
        found = each(at, some.inputs, some.labels)
        total += sum(float((f - g).double().square().sum()) for f, g in zip(found, gradient, strict=True))
    return total


def _linear_sums(
    task: Task, weights: Sequence[Tensor], parameters: int, parts: Sequence[Split]
) -> tuple[float, list[Tensor]] | None:
    """Return Σ ‖g‖² and Σ g over the examples of all parts; None where `_linear_norms` has none."""
    squares, summed = 0.0, [torch.zeros_like(p) for p in weights[:parameters]]
    for part in parts:
        found = _linear_norms(task, weights, parameters, part)
        if found is None:
            return None
        squares += found[0]
        summed = [a + b for a, b in zip(summed, found[1], strict=True)]
    return squares, summed


class _LinearCalls(TorchFunctionMode):
    """Watches which parameters are weights and biases of linear layers, and nothing else."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self._own = {id(parameter) for parameter in parameters}
        self.calls: list[tuple[Tensor, Tensor, bool]] = []
        self.used: list[int] = []
        self.others = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = [id(tensor) for tensor in _tensors([args, kwargs or {}]) if id(tensor) in self._own]
        if func is F.linear and given and not kwargs and args[0].dim() == 2 and id(args[0]) not in self._own:
            self.used += given
            self.calls.append((args[0].detach(), found, len(args) > 2 and args[2] is not None))
        elif given:
            self.others = True
        return found


def _linear_norms(
    task: Task, weights: Sequence[Tensor], parameters: int, part: Split
) -> tuple[float, list[Tensor]] | None:
    """Return Σ ‖g‖² and Σ g over examples without forming any g; None where that cannot be.

    The gradient of a linear layer's weight on one example is δaᵀ, with squared norm ‖δ‖²‖a‖² (Goodfellow 2015, arXiv
    1510.01799). It can be where each parameter is a weight or bias of one linear layer.
    """
    leaves = [p.detach().requires_grad_() for p in weights[:parameters]]
    with _LinearCalls(leaves) as watched:
        loss = task.loss([*leaves, *weights[parameters:]], part.inputs, part.labels) * len(part)
    if watched.others or sorted(watched.used) != sorted(map(id, leaves)):
        return None
    outputs = [output for _, output, _ in watched.calls]
    found = torch.autograd.grad(loss, [*outputs, *leaves])
    squares = 0.0
    for (rows, _, biased), delta in zip(watched.calls, found, strict=False):
        of_rows = rows.double().square().sum(1) + biased
        squares += float((delta.double().square().sum(1) * of_rows).sum())
    return squares, list(found[len(outputs) :])


@dataclass(frozen=True)
class Sampler:
    """Draws batches as training does, from a generator of its own.

    Attributes:
        task: What is trained.
        generator: Where the draws come from, on the CPU.
    """

    task: Task
    generator: Generator

    def draw(self, size: int, replacement: bool) -> Split:
        """Return a batch; from a stream it is one of that many examples' noise."""
        task, train = self.task, self.task.train
        if task.stream is not None:
            return Split(*task.stream.draw(size, self.generator)).to(task.device, task.dtype)
        if replacement:
            chosen = torch.randint(len(train), (size,), generator=self.generator)
        else:
            chosen = torch.randperm(len(train), generator=self.generator)[:size]
        chosen = chosen.to(task.device)
        return Split(train.inputs[chosen], train.labels[chosen])


def two_batch_estimate(
    small: Sequence[float], big: Sequence[float], small_size: int, big_size: int
) -> tuple[Estimate, float, float]:
    """Estimate B_simple from squared norms of gradients of two batch sizes.

    |𝒢|² = (B_big |G_big|² − B_small |G_small|²)/(B_big − B_small) and 𝒮 = (|G_small|² − |G_big|²)/(1/B_small − 1/B_big)
    are unbiased for |G|² and tr Σ where batches are drawn independently; each is averaged over repeats before they are
    divided (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1).

    Args:
        small: |G_small|², one a repeat.
        big: |G_big|² of the same repeats.
        small_size: B_small, examples.
        big_size: B_big > B_small.

    Returns:
        B_simple with its interval, then the means of 𝒮 and |𝒢|².
    """
    traces = [(s - b) / (1 / small_size - 1 / big_size) for s, b in zip(small, big, strict=True)]
    norms = [(big_size * b - small_size * s) / (big_size - small_size) for s, b in zip(small, big, strict=True)]
    n = len(traces)
    return ratio_interval(traces, norms), math.fsum(traces) / n, math.fsum(norms) / n


def two_batch_noise(
    loss_on: Callable[[Split], FixedLoss], at: Tensor, sampler: Sampler, size: int, pieces: int, repeats: int
) -> tuple[Estimate, float, float]:
    """Estimate B_simple as workers that share a batch can: each has a small batch, together they have the big one.

    Args:
        loss_on: Batch → its loss.
        at: Parameters.
        sampler: Where batches are drawn, with replacement, so that the estimate is of the whole training split.
        size: Examples of a small batch.
        pieces: Small batches that make a big one, ≥ 2.
        repeats: Big batches, ≥ 1.

    Returns:
        As `two_batch_estimate`.
    """
    small, big = [], []
    for _ in range(repeats):
        found = [loss_on(sampler.draw(size, True)).gradient(at)[1].double() for _ in range(pieces)]
        small.append(sum(float(g.square().sum()) for g in found) / pieces)
        big.append(float((sum(found[1:], found[0]) / pieces).square().sum()))
    return two_batch_estimate(small, big, size, pieces * size)


def batch_sharpness(
    loss_on: Callable[[Split], FixedLoss], at: Tensor, sampler: Sampler, size: int, batches: int
) -> Estimate:
    """Return E[g_Bᵀ H_B g_B/‖g_B‖²], the curvature of a batch's loss along the batch's own gradient.

    What stochastic gradient descent brings to 2/η, where full-batch gradient descent brings the largest eigenvalue
    (Andreyev and Beneventano 2024, arXiv 2412.20553).

    Args:
        loss_on: Batch → its loss.
        at: Parameters.
        sampler: Where batches are drawn, without replacement.
        size: Examples of a batch.
        batches: How many are drawn; one is enough where a batch is the whole split.
    """
    if size >= sampler.task.examples:
        batches = 1
    found = []
    for _ in range(batches):
        loss = loss_on(sampler.draw(size, False))
        _, gradient = loss.gradient(at)
        norm2 = float(gradient.square().sum())
        if norm2 > 0:
            found.append(float(gradient.dot(loss.hessian(at)(gradient))) / norm2)
    return mean_interval(found) if found else Estimate(math.nan, math.nan, math.nan)


def _parts(split: Split, size: int) -> Iterator[Split]:
    for inputs, labels in zip(split.inputs.split(size), split.labels.split(size), strict=True):
        yield Split(inputs, labels)


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        yield from _tensors(list(found.values()))
    elif isinstance(found, list | tuple):
        for item in found:
            yield from _tensors(item)
