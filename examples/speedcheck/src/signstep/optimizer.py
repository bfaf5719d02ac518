"""Sign descent with momentum, one tensor at a time or all of them at once."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class SignMomentum(torch.optim.Optimizer):
    """Sign descent with momentum (signum, arXiv 1802.04434): m ← βm + (1 − β)g, θ ← θ − lr · sign(m).

    Args:
        params: Parameters to optimise.
        lr: How far each number moves in a step, > 0.
        momentum: β, 0 ≤ β < 1.
        foreach: Whether a step hands all tensors to each operation at once, which costs a call of an operation
            instead of one for every tensor.

    Raises:
        ValueError: A value out of range.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.9, foreach: bool = True) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be above 0, not {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1, not {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "foreach": foreach})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take a step; gradients are in `.grad`. Returns the loss of the closure, None without one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters]
            averages = [self._average(p) for p in parameters]
            if parameters:
                update = _all_at_once if group["foreach"] else _one_by_one
                update(parameters, gradients, averages, group["lr"], group["momentum"])
        return loss

    def _average(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "average" not in state:
            state["average"] = torch.zeros_like(parameter)
        average: Tensor = state["average"]
        return average


def _one_by_one(
    parameters: list[Tensor], gradients: list[Tensor], averages: list[Tensor], lr: float, momentum: float
) -> None:
    for parameter, gradient, average in zip(parameters, gradients, averages, strict=True):
        average.lerp_(gradient, 1 - momentum)
        parameter.add_(average.sign(), alpha=-lr)


def _all_at_once(
    parameters: list[Tensor], gradients: list[Tensor], averages: list[Tensor], lr: float, momentum: float
) -> None:
    torch._foreach_lerp_(averages, gradients, 1 - momentum)
    torch._foreach_add_(parameters, torch._foreach_sign(averages), alpha=-lr)
