"""Ways through parameter space: distance, the barrier between two minima, a rescaling that keeps the function."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.tasks.problem import Split
from bench.tasks.task import Task

#: Points of a line between two trials, both ends included.
POINTS = 11
#: Relative difference of outputs that is taken for rounding.
SAME_FUNCTION = 1e-3


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the Euclidean distance of two lists of parameters."""
    with torch.no_grad():
        return math.sqrt(sum(float((p.double() - q).square().sum()) for p, q in zip(a, b, strict=True)))


def barrier(task: Task, a: Sequence[Tensor], b: Sequence[Tensor], split: Split, size: int) -> float:
    """Return how far the loss rises on the straight line between two points above what lies between its ends.

    The largest L((1 − t)a + tb) − (1 − t)L(a) − tL(b) (Entezari et al. 2022, arXiv 2110.06296, equation 1): where it is
    0, both lie in one basin, as every two points of a convex loss do. In the unit of the loss, evaluated as metrics
    are; running statistics of batch normalisation are interpolated too.

    Args:
        task: What is trained.
        a: Parameters, then buffers.
        b: Likewise.
        split: Examples.
        size: Examples per evaluation batch.

    Returns:
        The largest of `POINTS` evenly spaced points, ends included, so at least 0.
    """
    losses = []
    shares = [number / (POINTS - 1) for number in range(POINTS)]
    for share in shares:
        weights = [torch.lerp(p, q, share) if p.is_floating_point() else p for p, q in zip(a, b, strict=True)]
        losses.append(float(task.evaluate(weights, split, size)[0]))
    first, last = losses[0], losses[-1]
    rises = [loss - (1 - t) * first - t * last for t, loss in zip(shares, losses, strict=True)]
    return max(0.0, *rises[1:-1])


def rescaled(parameters: Sequence[Tensor], factor: float) -> list[Tensor]:
    """Return (αW₁, αb₁, W₂/α …): the same function of a ReLU network, at another place.

    Dinh et al. 2017, arXiv 1703.04933: what moves with it is no property of the function.

    Args:
        parameters: Weight and bias of the first layer, weight of the second, anything.
        factor: α > 0.

    Raises:
        ValueError: They do not begin like that.
    """
    if len(parameters) < 3:
        raise ValueError("no two layers to rescale")
    first, bias, second, *others = (p.detach() for p in parameters)
    matrices = first.dim() == second.dim() == 2
    if not (matrices and bias.shape == first.shape[:1] and second.shape[1] == len(first)):
        raise ValueError("parameters do not begin with weight, bias and the next layer's weight")
    return [factor * first, factor * bias, second / factor, *others]


def same_function(task: Task, a: Sequence[Tensor], b: Sequence[Tensor], inputs: Tensor) -> bool:
    """Tell whether two lists of weights are the same function on some inputs, but for rounding."""
    with torch.inference_mode():
        ours, theirs = task.outputs(a, inputs), task.outputs(b, inputs)
    return float((ours - theirs).norm()) <= SAME_FUNCTION * float(ours.norm())
