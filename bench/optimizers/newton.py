"""Newton's method with the exact Hessian, for models of up to two thousand parameters."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

#: Least damping that is tried where the Hessian is not positive definite.
LEAST_DAMPING = 1e-3


class Newton(Optimizer):
    """θ ← θ − lr (H + λI)⁻¹ g, with gradient g and Hessian H of the step's own batch.

    Where H + λI is not positive definite (beside a saddle), λ is doubled, from at least 10⁻³, until it is: the step
    then goes downhill (Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 3.3). On a quadratic bowl
    one step with lr 1 and no damping lands on the minimum. The Hessian is taken in the parameters' own precision and
    solved with in double precision; it costs one backward pass per parameter.

    Args:
        params: Leaf tensors, in one group.
        lr: Factor on the step, ≥ 0.
        damping: λ, ≥ 0. What a singular Hessian (a softmax has one) or a small batch needs.

    Raises:
        ValueError: A value out of range, several groups, or more than `most_parameters` parameters.
    """

    #: The Hessian has this many rows, each a backward pass, and its factorisation costs their cube.
    most_parameters = 1024

    def __init__(self, params: Iterable[Any], lr: float = 1.0, damping: float = 0.0) -> None:
        for name, value in (("learning rate", lr), ("damping", damping)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"Invalid {name}: {value}")
        super().__init__(params, {"lr": lr, "damping": damping})
        if len(self.param_groups) != 1:
            raise ValueError("Newton takes one parameter group")
        count = sum(p.numel() for p in self.param_groups[0]["params"])
        if count > self.most_parameters:
            raise ValueError(f"Newton takes at most {self.most_parameters} parameters, not {count}")
        #: What a step costs beyond the gradient it asks for: a backward pass for each row of the Hessian.
        self.extra_gradients = count

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step.

        Args:
            closure: Evaluates the loss, puts gradients that can be differentiated into `.grad` and returns the loss.
        """
        with torch.enable_grad():
            loss = closure()
        group = self.param_groups[0]
        parameters: list[Tensor] = group["params"]
        gradient, hessian = gradient_and_hessian(parameters)
        direction = newton_direction(gradient.double(), hessian.double(), group["damping"])
        with torch.no_grad():
            sizes = [p.numel() for p in parameters]
            for parameter, part in zip(parameters, direction.split(sizes), strict=True):
                parameter.add_(part.view_as(parameter).to(parameter.dtype), alpha=group["lr"])
                # Its graph holds the whole backward pass of the batch.
                parameter.grad = None if parameter.grad is None else parameter.grad.detach()
        return loss


def gradient_and_hessian(parameters: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return gradient (n) and Hessian (n × n) of the loss whose differentiable gradients are in `.grad`.

    A parameter without a gradient has zeros, and so has a row whose gradient depends on no parameter.

    Raises:
        RuntimeError: No gradient can be differentiated.
    """
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    if not flat.requires_grad:
        raise RuntimeError("gradients that can be differentiated are required (create_graph=True, no linear loss)")

    def row(entry: Tensor) -> Tensor:
        parts = torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])

    return flat.detach(), torch.stack([row(entry) for entry in flat.unbind()]).detach()


def newton_direction(gradient: Tensor, hessian: Tensor, damping: float) -> Tensor:
    """Return −(H + λI)⁻¹ g with the least λ tried, from `damping` on, at which the matrix is positive definite.

    Args:
        gradient: n.
        hessian: n × n; its rounding errors are evened out.
        damping: Where λ starts, ≥ 0.

    Returns:
        n numbers, NaN where gradient or Hessian are not finite: a trial that has diverged has to show it.
    """
    if not (hessian.isfinite().all() and gradient.isfinite().all()):
        return torch.full_like(gradient, math.nan)
    symmetric = (hessian + hessian.T) / 2
    identity = torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)
    while True:
        factor, failed = torch.linalg.cholesky_ex(symmetric + damping * identity)
        if not failed.item():
            return -torch.cholesky_solve(gradient.unsqueeze(1), factor).squeeze(1)
        damping = max(2 * damping, LEAST_DAMPING)
