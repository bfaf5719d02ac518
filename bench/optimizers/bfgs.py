"""BFGS as scipy has it, as an optimizer of torch."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.optim import Optimizer

Array = NDArray[np.float64]


class BFGS(Optimizer):
    """Each step minimises the loss of its batch by `scipy.optimize.minimize(method="BFGS")`, for a few iterations.

    The inverse Hessian of one step is where the next one starts. scipy computes in double precision on the CPU; the
    loss is evaluated at the parameters in their own precision, on their device. The parameters move by lr × (where
    scipy ends − where it began): 1 is scipy exactly.

    Args:
        params: Leaf tensors, in one group.
        lr: Factor on the step, ≥ 0.
        max_iter: Iterations of a step, ≥ 1; each evaluates the loss as often as its line search asks.
        tolerance_grad: Largest entry of the gradient at which a step ends early, ≥ 0.

    Raises:
        ValueError: A value out of range, several groups, or more than `most_parameters` parameters.
    """

    #: The inverse Hessian is dense and updated at every iteration: at this size a step of 20 takes seconds.
    most_parameters = 1024

    def __init__(
        self, params: Iterable[Any], lr: float = 1.0, max_iter: int = 20, tolerance_grad: float = 1e-7
    ) -> None:
        for name, value in (("learning rate", lr), ("tolerance_grad", tolerance_grad)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"Invalid {name}: {value}")
        if max_iter < 1:
            raise ValueError(f"Invalid max_iter: {max_iter}")
        super().__init__(params, {"lr": lr, "max_iter": max_iter, "tolerance_grad": tolerance_grad})
        if len(self.param_groups) != 1:
            raise ValueError("BFGS takes one parameter group")
        count = sum(p.numel() for p in self.param_groups[0]["params"])
        if count > self.most_parameters:
            raise ValueError(f"BFGS takes at most {self.most_parameters} parameters, not {count}")

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take a step.

        Args:
            closure: Evaluates the loss, puts gradients into `.grad` and returns the loss.

        Returns:
            The loss at the first evaluation, before anything has moved.
        """
        group = self.param_groups[0]
        parameters: list[Tensor] = group["params"]
        state = self.state[parameters[0]]
        first: list[Tensor] = []

        def value_and_gradient(point: Array) -> tuple[float, Array]:
            _put(parameters, point)
            with torch.enable_grad():
                loss = closure()
            first.append(loss.detach()) if not first else None
            return loss.item(), _flat([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])

        start = _flat(parameters)
        result = minimize(
            value_and_gradient,
            start,
            jac=True,
            method="BFGS",
            options={
                "maxiter": group["max_iter"],
                "gtol": group["tolerance_grad"],
                "hess_inv0": _usable(state.get("inverse_hessian")),
            },
        )
        state["inverse_hessian"] = torch.from_numpy(np.array(result.hess_inv, dtype=np.float64))
        end = np.array(result.x, dtype=np.float64)
        _put(parameters, end if group["lr"] == 1 else start + group["lr"] * (end - start))
        return first[0]


def _usable(inverse_hessian: Tensor | None) -> Array | None:
    """Return a carried inverse Hessian, None (the identity) where rounding has cost it its definiteness."""
    if inverse_hessian is None or not bool(inverse_hessian.isfinite().all()):
        return None
    symmetric = (inverse_hessian + inverse_hessian.T) / 2
    if int(torch.linalg.cholesky_ex(symmetric).info):
        return None
    array: Array = symmetric.numpy()
    return array


def _flat(tensors: Iterable[Tensor]) -> Array:
    array: Array = torch.cat([t.detach().reshape(-1).double().cpu() for t in tensors]).numpy()
    return array


def _put(parameters: list[Tensor], point: Array) -> None:
    with torch.no_grad():
        parts = torch.from_numpy(np.array(point, dtype=np.float64)).split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))
