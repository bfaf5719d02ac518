"""Published update rules, written out in NumPy, on a quadratic whose coordinates differ in scale and are coupled.

The rules follow the papers and torch's documented conventions (weight decay, where epsilon stands, bias correction).
Each yields the parameters after one step, two, three … from a vector, or a matrix, and a learning rate.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]
Rule = Callable[[Array, float], Iterator[Array]]

#: f(x) = ½ (x − c)ᵀ Q (x − c), summed over the columns of a matrix. Condition number 20.
Q = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, -0.5], [0.0, -0.5, 0.25]])
CENTRE = np.array([[1.0, 0.5], [-2.0, 1.0], [0.5, -1.5]])
STARTS = {
    "vector": np.array([-1.0, 0.5, 3.0]),
    "matrix": np.array([[-1.0, 2.0], [0.5, -0.25], [3.0, 1.0]]),
}


def centre(x: Array) -> Array:
    return CENTRE[:, 0] if x.ndim == 1 else CENTRE


def value(x: Array) -> float:
    away = x - centre(x)
    return float(0.5 * (away * (Q @ away)).sum())


def gradient(x: Array) -> Array:
    return Q @ (x - centre(x))


def sgd(x: Array, lr: float) -> Iterator[Array]:
    while True:
        x = x - lr * gradient(x)
        yield x


def momentum(x: Array, lr: float) -> Iterator[Array]:
    """Heavy ball: v ← .9 v + g, x ← x − η v."""
    v = np.zeros_like(x)
    while True:
        v = 0.9 * v + gradient(x)
        x = x - lr * v
        yield x


def nesterov(x: Array, lr: float) -> Iterator[Array]:
    """Sutskever's form in torch's variables: x ← x − η (g + .9 v) with v already updated."""
    v = np.zeros_like(x)
    while True:
        g = gradient(x)
        v = 0.9 * v + g
        x = x - lr * (g + 0.9 * v)
        yield x


def adam(x: Array, lr: float, decay: float = 0.0) -> Iterator[Array]:
    """Kingma and Ba 2014, algorithm 1, with Loshchilov and Hutter's decoupled decay where one is given."""
    m, v, t = np.zeros_like(x), np.zeros_like(x), 0
    while True:
        t += 1
        g = gradient(x)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        x = x - lr * decay * x - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        yield x


def adamw(x: Array, lr: float) -> Iterator[Array]:
    return adam(x, lr, decay=0.01)


def sparse_adam(x: Array, lr: float) -> Iterator[Array]:
    """Adam with the bias corrections in the learning rate, as in the last lines of section 2 of its paper."""
    m, v, t = np.zeros_like(x), np.zeros_like(x), 0
    while True:
        t += 1
        g = gradient(x)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        x = x - lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
        yield x


def adamax(x: Array, lr: float) -> Iterator[Array]:
    """Kingma and Ba 2014, algorithm 2, with torch's epsilon inside the maximum."""
    m, u, t = np.zeros_like(x), np.zeros_like(x), 0
    while True:
        t += 1
        g = gradient(x)
        m = 0.9 * m + 0.1 * g
        u = np.maximum(0.999 * u, np.abs(g) + 1e-8)
        x = x - lr / (1 - 0.9**t) * m / u
        yield x


def nadam(x: Array, lr: float) -> Iterator[Array]:
    """Dozat 2016, with the momentum schedule of its section on warming up."""
    m, v, t, product = np.zeros_like(x), np.zeros_like(x), 0, np.float32(1)
    while True:
        t += 1
        g = gradient(x)
        mu, following = (0.9 * (1 - 0.5 * 0.96 ** (s * 0.004)) for s in (t, t + 1))
        # torch keeps the product in single precision.
        product = product * np.float32(mu)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        ahead = following * m / (1 - float(product) * following) + (1 - mu) * g / (1 - float(product))
        x = x - lr * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        yield x


def radam(x: Array, lr: float) -> Iterator[Array]:
    """Liu et al. 2019, algorithm 2; torch rectifies from ρ > 5 instead of 4, and adds epsilon before the correction."""
    m, v, t, limit = np.zeros_like(x), np.zeros_like(x), 0, 2 / 0.001 - 1
    while True:
        t += 1
        g = gradient(x)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.9**t)
        rho = limit - 2 * t * 0.999**t / (1 - 0.999**t)
        if rho > 5:
            rectified = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
            step = step * rectified * np.sqrt(1 - 0.999**t) / (np.sqrt(v) + 1e-8)
        x = x - lr * step
        yield x


def rmsprop(x: Array, lr: float) -> Iterator[Array]:
    """Hinton's lecture 6e, epsilon outside the root as torch has it, smoothing .99."""
    v = np.zeros_like(x)
    while True:
        g = gradient(x)
        v = 0.99 * v + 0.01 * g**2
        x = x - lr * g / (np.sqrt(v) + 1e-8)
        yield x


def adagrad(x: Array, lr: float) -> Iterator[Array]:
    """Duchi et al. 2011, diagonal."""
    s = np.zeros_like(x)
    while True:
        g = gradient(x)
        s = s + g**2
        x = x - lr * g / (np.sqrt(s) + 1e-10)
        yield x


def adadelta(x: Array, lr: float) -> Iterator[Array]:
    """Zeiler 2012, algorithm 1, with a learning rate on top; smoothing .9, epsilon 1e-6."""
    squares, steps = np.zeros_like(x), np.zeros_like(x)
    while True:
        g = gradient(x)
        squares = 0.9 * squares + 0.1 * g**2
        step = np.sqrt(steps + 1e-6) / np.sqrt(squares + 1e-6) * g
        steps = 0.9 * steps + 0.1 * step**2
        x = x - lr * step
        yield x


def adafactor(x: Array, lr: float) -> Iterator[Array]:
    """Shazeer and Stern 2018, algorithms 4 (matrices) and 5 (vectors), with ρ = min(lr, 1/√t) as torch has it."""
    rows, columns, squares, t = np.zeros((len(x), 1)), np.zeros((1, x.size // len(x))), np.zeros_like(x), 0
    tiny = np.finfo(np.float64).eps
    while True:
        t += 1
        g = gradient(x)
        new = t**-0.8
        if x.ndim == 2:
            rows = (1 - new) * rows + new * (g**2).mean(1, keepdims=True)
            columns = (1 - new) * columns + new * (g**2).mean(0, keepdims=True)
            second = rows * columns / max(rows.mean(), tiny)
        else:
            second = squares = (1 - new) * squares + new * g**2
        update = g / np.sqrt(np.maximum(second, tiny**2))
        size = max(1e-3, np.sqrt((x**2).mean())) * min(lr, t**-0.5)
        x = x - size * update / max(1.0, np.sqrt((update**2).mean()))
        yield x


def asgd(x: Array, lr: float) -> Iterator[Array]:
    """Polyak and Juditsky's parameters (not their average), with Bottou's step η/(1 + λ η t)^¾, λ = 1e-4."""
    eta, t = np.float32(lr), 0
    while True:
        t += 1
        # torch keeps the step in single precision, and uses that of the step before.
        x = x - float(eta) * (gradient(x) + 1e-4 * x)
        eta = np.float32(lr / (1 + 1e-4 * lr * t) ** 0.75)
        yield x


def rprop(x: Array, lr: float) -> Iterator[Array]:
    """Riedmiller and Braun 1993 without weight backtracking (iRprop−): factors ½ and 1.2, steps 1e-6 … 50."""
    size, before = np.full_like(x, lr), np.zeros_like(x)
    while True:
        g = gradient(x)
        agreement = np.sign(g * before)
        size = np.clip(size * np.where(agreement > 0, 1.2, np.where(agreement < 0, 0.5, 1.0)), 1e-6, 50)
        before = np.where(agreement < 0, 0.0, g)
        x = x - np.sign(before) * size
        yield x


def two_loop(g: Array, history: list[tuple[Array, Array]]) -> Array:
    """Return −H g with the inverse Hessian that pairs of moves and gradient changes make: algorithm 7.4."""
    q, alphas = g, []
    for s, y in reversed(history):
        alphas.append((s * q).sum() / (s * y).sum())
        q = q - alphas[-1] * y
    if history:
        s, y = history[-1]
        q = q * (s * y).sum() / (y * y).sum()
    for (s, y), alpha in zip(history, reversed(alphas), strict=True):
        q = q + s * (alpha - (y * q).sum() / (s * y).sum())
    return -q


def newton(x: Array, lr: float) -> Iterator[Array]:
    """The Hessian is Q, once for each column."""
    while True:
        x = x - lr * np.linalg.solve(Q + 0.001 * np.eye(3), gradient(x))
        yield x


def bfgs(x: Array, lr: float) -> Iterator[Array]:
    """scipy itself, 20 iterations a step, the inverse Hessian carried over."""
    shape, inverse = x.shape, None
    while True:
        found = minimize(
            lambda flat: (value(flat.reshape(shape)), gradient(flat.reshape(shape)).ravel()),
            x.ravel(),
            jac=True,
            method="BFGS",
            options={"maxiter": 20, "gtol": 1e-7, "hess_inv0": inverse},
        )
        inverse = (found.hess_inv + found.hess_inv.T) / 2
        x = x + lr * (found.x.reshape(shape) - x)
        yield x


RULES: dict[str, Rule] = {
    "adadelta": adadelta,
    "adafactor": adafactor,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamw": adamw,
    "asgd": asgd,
    "bfgs": bfgs,
    "gradient_descent": sgd,
    "mini_batch": sgd,
    "momentum": momentum,
    "nadam": nadam,
    "nesterov": nesterov,
    "newton": newton,
    "radam": radam,
    "rmsprop": rmsprop,
    "rprop": rprop,
    "sgd": sgd,
    "sparse_adam": sparse_adam,
    "stochastic": sgd,
}
