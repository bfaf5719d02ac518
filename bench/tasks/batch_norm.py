"""Batch normalisation (arXiv 1502.03167) as a function, over the whole batch or over chunks of it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import UsageError

#: Weight of the newest statistics in the running ones, as in `torch.nn`.
MOMENTUM = 0.1
EPSILON = 1e-5


@dataclass(frozen=True)
class BatchNormKnobs:
    """What can be turned at every network with batch normalisation.

    Attributes:
        ghost_batch: Training statistics are taken over consecutive chunks of this many examples instead of the whole
            batch, ≥ 2 (arXiv 1705.08741); the last chunk of a batch that is no multiple of it is smaller. Null for the
            whole batch.
    """

    ghost_batch: int | None = None

    def __post_init__(self) -> None:
        if self.ghost_batch is not None and self.ghost_batch < 2:
            raise UsageError(
                f"task.knobs.ghost_batch={self.ghost_batch}: must be at least 2 (one example has no variance), "
                "or null for the whole batch"
            )


def batch_norm(inputs: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Normalise by the running statistics, as evaluated.

    Args:
        inputs: Batch × channels × ….
        scale: Channels.
        shift: Channels.
        mean: Running mean, channels.
        variance: Running variance, channels.
    """
    return F.batch_norm(inputs, mean, variance, scale, shift, False, MOMENTUM, EPSILON)


def training_batch_norm(
    inputs: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, chunk: int | None
) -> Tensor:
    """Normalise by the batch's own statistics, as trained, and move the running ones towards them in place.

    Chunks move the running statistics one after the other: a batch in chunks is what the same chunks are as batches
    of their own. A chunk with a single value per channel has no variance; it is normalised by the running statistics
    and leaves them as they are.

    Args:
        inputs: Batch × channels × ….
        scale: Channels.
        shift: Channels.
        mean: Running mean, channels; changed in place.
        variance: Running variance (unbiased), channels; changed in place.
        chunk: Examples per chunk; None for the whole batch.
    """
    if chunk is None or len(inputs) <= chunk:
        several = inputs.numel() > inputs.shape[1]
        return F.batch_norm(inputs, mean, variance, scale, shift, several, MOMENTUM, EPSILON)
    chunks = inputs.split(chunk)
    return torch.cat([training_batch_norm(part, scale, shift, mean, variance, None) for part in chunks])
