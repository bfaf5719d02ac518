"""Curvature of the loss from products with its Hessian: the largest eigenvalue by Lanczos, the trace by Hutchinson."""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Generator, Tensor

from bench.measure.estimates import standard_error
from bench.measure.fixed_loss import Product

#: Relative residual at which Lanczos stops, and products at most.
TOLERANCE, MOST_PRODUCTS = 1e-4, 100


class Eigenvalue(NamedTuple):
    """The largest eigenvalue of a symmetric matrix.

    Attributes:
        value: The eigenvalue; NaN where a product is not finite.
        residual: How far a true eigenvalue may be from it, relative to its size.
        products: Products with the matrix that it took.
    """

    value: float
    residual: float
    products: int


def largest_eigenvalue(
    product: Product, like: Tensor, generator: Generator, tolerance: float = TOLERANCE, most: int = MOST_PRODUCTS
) -> Eigenvalue:
    """Return the largest (most positive) eigenvalue of a symmetric matrix by Lanczos's method.

    Three vectors are kept, and nothing is orthogonalised again: what that costs is copies of eigenvalues that have
    converged already, which leave the largest where it is (Paige 1976, Journal of the Institute of Mathematics and its
    Applications 18, 341-349).

    Args:
        product: Product with the matrix.
        like: A vector of the matrix's length, type and device.
        generator: Where the first direction comes from, on the CPU.
        tolerance: Relative residual at which it ends.
        most: Products at most; the residual then says how good the value is.
    """
    now = _draw(like, generator)
    now = now / now.norm()
    before, beta = torch.zeros_like(now), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    limit = min(most, len(like))
    value, residual = 0.0, 0.0
    while True:
        image = product(now) - beta * before
        alpha = float(image.dot(now))
        image = image - alpha * now
        diagonal.append(alpha)
        beta = float(image.norm())
        last = len(diagonal) - 1
        if not math.isfinite(alpha + beta):
            return Eigenvalue(math.nan, math.nan, last + 1)
        values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside), select="i", select_range=(last, last))
        value, left = float(values[0]), beta * abs(float(vectors[-1, 0]))
        residual = left / abs(value) if value else left
        if residual <= tolerance or last + 1 >= limit:
            return Eigenvalue(value, residual, last + 1)
        beside.append(beta)
        before, now = now, image / beta


class Trace(NamedTuple):
    """The trace of a matrix, estimated.

    Attributes:
        value: The estimate.
        error: Its standard error.
    """

    value: float
    error: float


def trace(product: Product, like: Tensor, generator: Generator, probes: int) -> Trace:
    """Estimate the trace of a symmetric matrix: the mean of zᵀHz over vectors z of random signs.

    Unbiased; its variance comes from off-diagonal elements alone (Hutchinson 1990, Communications in Statistics 19,
    433-450).

    Args:
        product: Product with the matrix.
        like: A vector of the matrix's length, type and device.
        generator: Where signs come from, on the CPU.
        probes: Vectors, ≥ 2.
    """
    found = []
    for _ in range(probes):
        signs = (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like.device, like.dtype)
        found.append(float(signs.dot(product(signs))))
    return Trace(sum(found) / probes, standard_error(found))


def _draw(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
