"""Batch normalisation (arXiv 1502.03167) as a function, over the whole batch or over chunks of it."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Weight of the newest statistics in the running ones, as in `torch.nn`.
MOMENTUM = 0.1
EPSILON = 1e-5


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
