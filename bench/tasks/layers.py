"""Layers of networks, for one trial or for many stacked trials: a network is written once, against either.

A stacked parameter holds one trial after the other: trials × its shape. Inputs are batch × … where all trials see the
same batch, which makes the first layer one wide product, and trials × batch × … where each sees its own. What the
layers of a stack hand on is trials × batch × units, or, between convolutions, batch × (trials · channels) × height ×
width. Every number of a trial is computed from that trial alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.tasks.batch_norm import batch_norm, training_batch_norm
from bench.tasks.problem import Model


@dataclass(frozen=True)
class Layers:
    """What networks are written in.

    Attributes:
        pixels: Images (batch × channels × height × width) → rows of pixels.
        features: Outputs of a convolution → rows of features.
        linear: Rows, weight (units × inputs) and bias (units) → rows.
        convolve: Images, weight (filters × channels × size × size), bias (filters) and padding → images.
        pool: Images, size and whether an odd edge is pooled too → images, the largest of each square.
        normalise: Batch normalisation as evaluated (`bench.tasks.batch_norm.batch_norm`).
        training_normalise: The same as trained (`training_batch_norm`).
        each: A parameter → what broadcasts against a batch of rows.
    """

    pixels: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], Tensor]
    linear: Callable[[Tensor, Tensor, Tensor], Tensor]
    convolve: Callable[[Tensor, Tensor, Tensor, int], Tensor]
    pool: Callable[[Tensor, int, bool], Tensor]
    normalise: Callable[..., Tensor]
    training_normalise: Callable[..., Tensor]
    each: Callable[[Tensor], Tensor]


Run = Callable[[Layers, Sequence[Tensor], Tensor], Tensor]


def layered(
    name: str, initialise: Callable[[Generator], list[Tensor]], run: Run, training_run: Run | None = None, **others: Any
) -> Model:
    """Return the model of a network written in layers, for one trial and for stacks.

    Args:
        name: As in `bench.tasks.problem.Model`.
        initialise: Likewise.
        run: Layers, weights and inputs → outputs, as evaluated.
        training_run: The same as trained; None where there is no difference.
        others: Further attributes of the model.
    """
    return Model(
        name,
        initialise,
        partial(run, ONE),
        training_forward=training_run and partial(training_run, ONE),
        stacked_forward=partial(run, STACKED),
        stacked_training_forward=training_run and partial(training_run, STACKED),
        **others,
    )


def _pool(images: Tensor, size: int, ceil: bool) -> Tensor:
    return F.max_pool2d(images, size, ceil_mode=ceil)


class _Linear(torch.autograd.Function):
    """Rows (trials × batch × inputs) through weights and biases of each trial.

    With a backward pass of its own, whose products have the operands of `F.linear`'s in the same places: baddbmm's own
    gradient of the weight is its transpose, which rounds otherwise.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return torch.baddbmm(bias.unsqueeze(1), rows, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (gradient,) = gradients
        rows, weight = ctx.saved_tensors
        of_rows = gradient.bmm(weight) if ctx.needs_input_grad[0] else None
        return of_rows, gradient.transpose(1, 2).bmm(rows), gradient.sum(1)


def _stacked_linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    trials, units, inputs = weight.shape
    if rows.dim() == 2:
        wide = F.linear(rows, weight.view(trials * units, inputs), bias.view(-1))
        return wide.view(len(rows), trials, units).transpose(0, 1)
    found: Tensor = _Linear.apply(_apart(rows, trials), weight, bias)
    return found


def _apart(rows: Tensor, trials: int) -> Tensor:
    """Return what convolutions hand on as trials × batch × features; rows as they are."""
    if rows.dim() == 3:
        return rows
    return rows.reshape(len(rows), trials, -1).transpose(0, 1)


def _stacked_convolve(images: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    if images.dim() == 5:
        images = images.transpose(0, 1).flatten(1, 2)
    shared = images.shape[1] == weight.shape[2]
    groups = 1 if shared else len(weight)
    return F.conv2d(images, weight.flatten(0, 1), bias.view(-1), padding=padding, groups=groups)


def _stacked_normalise(normalise: Callable[..., Tensor], rows: Tensor, *others: Tensor, **settings: Any) -> Tensor:
    """Normalise trials × batch × units: the units of all trials are channels of one batch."""
    trials, batch, units = rows.shape
    wide = rows.transpose(0, 1).reshape(batch, trials * units)
    wide = normalise(wide, *(other.view(-1) for other in others), **settings)
    return wide.view(batch, trials, units).transpose(0, 1)


ONE = Layers(
    pixels=lambda images: images.flatten(1),
    features=lambda images: images.flatten(1),
    linear=F.linear,
    convolve=lambda images, weight, bias, padding: F.conv2d(images, weight, bias, padding=padding),
    pool=_pool,
    normalise=batch_norm,
    training_normalise=training_batch_norm,
    each=lambda parameter: parameter,
)
STACKED = Layers(
    pixels=lambda images: images.flatten(-3),
    features=lambda images: images,
    linear=_stacked_linear,
    convolve=_stacked_convolve,
    pool=_pool,
    normalise=partial(_stacked_normalise, batch_norm),
    training_normalise=partial(_stacked_normalise, training_batch_norm),
    each=lambda parameter: parameter.unsqueeze(1),
)
