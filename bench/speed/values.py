"""How far apart the numbers are that two arms ended with."""

from pathlib import Path

import torch


def largest_difference(base: Path, head: Path) -> float | None:
    """Return the largest difference of two lists of tensors, relative to the largest number of each tensor.

    Args:
        base: File that the base arm wrote.
        head: File that the head arm wrote.

    Returns:
        None where their shapes differ; infinity where one holds a number that is not finite and the other another.
    """
    a, b = (torch.load(path, weights_only=True) for path in (base, head))
    if [t.shape for t in a] != [t.shape for t in b]:
        return None
    largest = 0.0
    for one, other in zip(a, b, strict=True):
        x, y = _numbers(one), _numbers(other)
        finite = x.isfinite() & y.isfinite()
        if not torch.equal(x[~finite].nan_to_num(), y[~finite].nan_to_num()) or not torch.equal(x.isnan(), y.isnan()):
            return float("inf")
        x, y = x[finite], y[finite]
        if not x.numel():
            continue
        scale = max(float(x.abs().max()), float(y.abs().max()))
        largest = max(largest, float((x - y).abs().max()) / scale if scale else 0.0)
    return largest


def _numbers(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's numbers in double precision; of complex numbers both parts."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double()
