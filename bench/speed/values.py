"""How far apart the numbers are that two arms ended with."""

from pathlib import Path

import torch


def largest_difference(base: Path, head: Path) -> float | None:
    """Return the largest difference of two lists of tensors, relative to the largest number of each tensor.

    Args:
        base: File that the base arm wrote.
        head: File that the head arm wrote.

    Returns:
        None where their shapes differ; infinity where one holds a number that is not finite and the other does not.
    """
    a, b = (torch.load(path, weights_only=True) for path in (base, head))
    if [t.shape for t in a] != [t.shape for t in b]:
        return None
    largest = 0.0
    for one, other in zip(a, b, strict=True):
        x, y = one.double(), other.double()
        if not x.numel():
            continue
        if not torch.equal(x.isfinite(), y.isfinite()):
            return float("inf")
        scale = max(float(x.abs().max()), float(y.abs().max()))
        gap = float((x - y).nan_to_num().abs().max())
        largest = max(largest, gap / scale if scale else 0.0)
    return largest
