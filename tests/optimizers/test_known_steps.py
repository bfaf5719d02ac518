"""Every optimizer of conf/optimizer against its published update rule, written out here in NumPy, on a quadratic.

The rules follow the papers and torch's documented conventions (weight decay, where epsilon stands, bias correction).
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.optimizers.registry import build_optimizer, implementations
from tests.cases import OPTIMIZERS

Vector = NDArray[np.float64]
Gradient = Callable[[Vector], Vector]

#: f(x) = ½ (x − c)ᵀ Q (x − c).
Q = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, -0.5], [0.0, -0.5, 0.25]])
C = np.array([1.0, -2.0, 0.5])
START = np.array([-1.0, 0.5, 3.0])
STEPS = 25


def gradient(x: Vector) -> Vector:
    return Q @ (x - C)


def sgd(x: Vector, lr: float) -> Iterator[Vector]:
    while True:
        x = x - lr * gradient(x)
        yield x


def momentum(x: Vector, lr: float) -> Iterator[Vector]:
    """Heavy ball: v ← .9 v + g, x ← x − η v."""
    v = np.zeros_like(x)
    while True:
        v = 0.9 * v + gradient(x)
        x = x - lr * v
        yield x


def nesterov(x: Vector, lr: float) -> Iterator[Vector]:
    """Sutskever's form in torch's variables: x ← x − η (g + .9 v) with v already updated."""
    v = np.zeros_like(x)
    while True:
        g = gradient(x)
        v = 0.9 * v + g
        x = x - lr * (g + 0.9 * v)
        yield x


def adam(x: Vector, lr: float, decay: float = 0.0) -> Iterator[Vector]:
    """Kingma and Ba 2014, algorithm 1, with Loshchilov and Hutter's decoupled decay where one is given."""
    m, v, t = np.zeros_like(x), np.zeros_like(x), 0
    while True:
        t += 1
        g = gradient(x)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        x = x - lr * decay * x - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        yield x


def adamw(x: Vector, lr: float) -> Iterator[Vector]:
    return adam(x, lr, decay=0.01)


def rmsprop(x: Vector, lr: float) -> Iterator[Vector]:
    """Hinton's lecture 6e, epsilon outside the root as torch has it, smoothing .99."""
    v = np.zeros_like(x)
    while True:
        g = gradient(x)
        v = 0.99 * v + 0.01 * g**2
        x = x - lr * g / (np.sqrt(v) + 1e-8)
        yield x


def adagrad(x: Vector, lr: float) -> Iterator[Vector]:
    """Duchi et al. 2011, diagonal."""
    s = np.zeros_like(x)
    while True:
        g = gradient(x)
        s = s + g**2
        x = x - lr * g / (np.sqrt(s) + 1e-10)
        yield x


RULES: dict[str, Callable[[Vector, float], Iterator[Vector]]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
}


def test_every_optimizer_file_has_its_rule_here() -> None:
    assert set(RULES) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("name", "implementation"),
    [(name, way) for name in OPTIMIZERS for way in implementations(OPTIMIZERS[name]["target"])],
)
@pytest.mark.parametrize("lr", [0.125, 0.001])
def test_steps_follow_the_published_rule(name: str, implementation: str, lr: float) -> None:
    chosen = OPTIMIZERS[name]
    x = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = build_optimizer(chosen["target"], implementation, chosen["arguments"], [x], lr)
    q, c = torch.from_numpy(Q), torch.from_numpy(C)
    moved = False
    for _, expected in zip(range(STEPS), RULES[name](START, lr), strict=False):
        loss = 0.5 * (x - c) @ q @ (x - c)
        (x.grad,) = torch.autograd.grad(loss, [x])
        optimizer.step()
        np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
        moved = moved or bool(np.abs(expected - START).max() > lr / 2)
    assert moved
