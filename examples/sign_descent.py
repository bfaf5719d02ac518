"""An optimizer of one's own: every parameter moves by the learning rate, along the sign of its averaged gradient.

bench run optimizer.target=examples/sign_descent.py:SignDescent optimizer.name=sign_descent
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class SignDescent(torch.optim.Optimizer):
    """Sign descent with momentum (signum, arXiv 1802.04434).

    Args:
        params: Parameters to optimise.
        lr: How far each number moves in a step.
        momentum: Share of the average that stays, 0 ≤ momentum < 1.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.9) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1, not {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step; gradients are in `.grad`."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                # What is kept between steps goes into `state`: it is counted as the optimizer's memory.
                state = self.state[parameter]
                if "average" not in state:
                    state["average"] = torch.zeros_like(parameter)
                state["average"].lerp_(parameter.grad, 1 - group["momentum"])
                parameter.add_(state["average"].sign(), alpha=-group["lr"])
