"""Sharpness: how far the loss rises within a neighbourhood of the parameters, by three definitions of one."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Generator, Tensor

from bench.measure.fixed_loss import FixedLoss

#: Half-widths of Keskar's box, and the iterations of the search in it.
EPSILONS, ITERATIONS = (1e-3, 5e-4), 10
#: Columns of Keskar's random subspace.
COLUMNS = 100
#: Radii of the neighbourhoods of SAM and ASAM, the defaults of their sources.
SAM_RADIUS, ASAM_RADIUS = 0.05, 0.5

Vector = npt.NDArray[np.float64]


def keskar(loss: FixedLoss, at: Tensor, epsilon: float, columns: Tensor | None = None) -> float:
    """Return φ = 100 (max f(x + Ay) − f(x))/(1 + f(x)) over the box |y_i| ≤ ε(|(A⁺x)_i| + 1), in percent.

    The maximum is what ten iterations of L-BFGS-B find from y = 0 (Keskar et al. 2017, arXiv 1609.04836, metric 2.1).
    Its stopping rules are off: at a minimum the gradient is small, and the search would end before it began.

    Args:
        loss: f.
        at: x.
        epsilon: ε.
        columns: A, parameters × columns, a random subspace; None for the whole space, A = I.

    Returns:
        φ ≥ 0; NaN where 1 + f(x) ≤ 0, as a loss with noise of any sign may have it.
    """
    start = loss.value(at)
    if not 1 + start > 0:
        return math.nan
    inside = at.double() if columns is None else _coordinates(columns, at)
    half = (epsilon * (inside.abs() + 1)).cpu().numpy()
    to_space: Callable[[Tensor], Tensor] = (lambda y: y) if columns is None else columns.matmul
    from_space: Callable[[Tensor], Tensor] = (lambda g: g) if columns is None else columns.T.matmul

    def downhill(y: Vector) -> tuple[float, Vector]:
        step = to_space(torch.from_numpy(y).to(at.device, at.dtype))
        value, gradient = loss.gradient(at + step)
        return -value, -from_space(gradient).double().cpu().numpy()

    found = minimize(
        downhill,
        np.zeros_like(half),
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([-half, half], 1),
        options={"maxiter": ITERATIONS, "gtol": 0.0, "ftol": 0.0},
    )
    # The search is monotone but for rounding; NaN stays NaN.
    rise = -float(found.fun) - start
    return 100 * (0.0 if rise < 0 else rise) / (1 + start)


def random_columns(at: Tensor, generator: Generator) -> Tensor:
    """Draw the matrix A of Keskar's subspace: parameters × columns, standard normal; at most as many as parameters.

    It takes a hundred times the memory of the parameters.
    """
    shape = (len(at), min(COLUMNS, len(at)))
    return torch.randn(shape, generator=generator, dtype=at.dtype).to(at.device)


def _coordinates(columns: Tensor, at: Tensor) -> Tensor:
    """Return A⁺x by the normal equations: random columns are as good as orthogonal."""
    gram = (columns.T @ columns).double()
    found: Tensor = torch.linalg.solve(gram, (columns.T @ at).double())
    return found


def sam(loss: FixedLoss, at: Tensor, radius: float = SAM_RADIUS) -> float:
    """Return f(x + ρ g/‖g‖) − f(x): the rise of the loss within a ball, to first order.

    Foret et al. 2021, arXiv 2010.01412, equation 2. In the unit of the loss.

    Args:
        loss: f.
        at: x.
        radius: ρ.
    """
    value, gradient = loss.gradient(at)
    norm = float(gradient.norm())
    return loss.value(at + gradient * (radius / norm)) - value if norm > 0 else 0.0


def asam(loss: FixedLoss, at: Tensor, radius: float = ASAM_RADIUS) -> float:
    """Return f(x + ρ T²g/‖Tg‖) − f(x) with T = diag |x|: the rise within a ball that scales with the parameters.

    Kwon et al. 2021, arXiv 2102.11600, equation 5; with nothing added to T, so that no rescaling of parameters which
    leaves the function alone changes it. In the unit of the loss.

    Args:
        loss: f.
        at: x.
        radius: ρ.
    """
    value, gradient = loss.gradient(at)
    norm = float((at * gradient).norm())
    return loss.value(at + at.square() * gradient * (radius / norm)) - value if norm > 0 else 0.0
