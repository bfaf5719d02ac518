"""Optimizers of torch beside those of optax, an implementation in JAX by other people, on the same quadratic.

Where the two have other conventions, both are given arguments at which they agree: an epsilon that stands elsewhere is
0, a momentum schedule that one of them lacks is switched off, a matrix is factored however small it is. No pair are
Rprop (optax 0.2.8 applies the update of the step before) and AMSGrad (the largest second moment is taken before the
bias correction here, after it there).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bench.optimizers.registry import build_optimizer, known_answer, optimizer_classes
from tests.optimizers.quadratic import start, take_step
from tests.optimizers.rules import STARTS, Array, gradient

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

STEPS = 40
#: Class and arguments here, the same method there as a function of the learning rate, relative tolerance.
Pair = tuple[str, dict[str, Any], Callable[[float], Any], float]
PAIRS: dict[str, Pair] = {
    "sgd": ("SGD", {}, optax.sgd, 1e-12),
    "momentum": ("SGD", {"momentum": 0.9}, lambda lr: optax.sgd(lr, momentum=0.9), 1e-12),
    "nesterov": (
        "SGD",
        {"momentum": 0.9, "nesterov": True},
        lambda lr: optax.sgd(lr, momentum=0.9, nesterov=True),
        1e-12,
    ),
    "weight decay": (
        "SGD",
        {"weight_decay": 0.1},
        lambda lr: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(lr)),
        1e-12,
    ),
    "adam": ("Adam", {}, lambda lr: optax.adam(lr, eps=1e-8), 1e-10),
    "adamw": ("AdamW", {}, lambda lr: optax.adamw(lr, eps=1e-8, weight_decay=0.01), 1e-10),
    "adamax": ("Adamax", {}, lambda lr: optax.adamax(lr, eps=1e-8), 1e-10),
    # optax has no momentum schedule; so long a decay is none. torch keeps a product in single precision.
    "nadam": ("NAdam", {"momentum_decay": 1e6}, lambda lr: optax.nadam(lr, eps=1e-8), 1e-6),
    # torch adds epsilon before the bias correction, optax after it.
    "radam": ("RAdam", {"eps": 0.0}, lambda lr: optax.radam(lr, eps=0.0), 1e-10),
    "rmsprop": ("RMSprop", {}, lambda lr: optax.rmsprop(lr, decay=0.99, eps=1e-8, eps_in_sqrt=False), 1e-10),
    "centered rmsprop": (
        "RMSprop",
        {"centered": True},
        lambda lr: optax.rmsprop(lr, decay=0.99, eps=1e-8, eps_in_sqrt=False, centered=True),
        1e-10,
    ),
    # torch adds epsilon to the root, optax under it.
    "adagrad": ("Adagrad", {"eps": 0.0}, lambda lr: optax.adagrad(lr, initial_accumulator_value=0.0, eps=0.0), 1e-10),
    "adadelta": ("Adadelta", {}, lambda lr: optax.adadelta(lr, rho=0.9, eps=1e-6), 1e-10),
    # optax keeps the decay in single precision.
    "adafactor": ("Adafactor", {}, lambda lr: optax.adafactor(lr, min_dim_size_to_factor=1, eps=0.0), 1e-7),
}


@pytest.fixture
def _double() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def there(method: Any, x: Array) -> Iterator[Array]:
    """Yield the parameters after one step, two, three … of an optimizer of optax."""
    parameters = jax.numpy.asarray(x)
    state = method.init(parameters)
    while True:
        updates, state = method.update(jax.numpy.asarray(gradient(np.asarray(parameters))), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        assert parameters.dtype == np.float64
        yield np.asarray(parameters)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("shape", STARTS)
@pytest.mark.parametrize("name", PAIRS)
def test_steps_are_those_of_optax(name: str, shape: str) -> None:
    target, arguments, method, tolerance = PAIRS[name]
    x = start(STARTS[shape])
    optimizer = build_optimizer(target, "default", arguments, [x], 0.125)
    for _, expected in zip(range(STEPS), there(method(0.125), STARTS[shape]), strict=False):
        take_step(optimizer, x, frozenset())
        np.testing.assert_allclose(x.detach().numpy(), expected, rtol=tolerance, atol=tolerance)
    assert np.abs(expected - STARTS[shape]).max() > 0.01


def test_what_is_said_to_be_compared_with_optax_is() -> None:
    compared = {target for target, *_ in PAIRS.values()}
    assert compared == {target for target in optimizer_classes() if "optax" in known_answer(target)}
