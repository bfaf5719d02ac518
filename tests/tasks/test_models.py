"""The functional models are the modules people know, in value, gradient and initialisation."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional

from bench.tasks.models import Model, lenet5, logreg, mlp

SHAPE = (1, 28, 28)


def logreg_module() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def mlp_module() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def lenet5_module() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


PAIRS = [
    pytest.param(logreg(SHAPE, 10), logreg_module, id="logreg"),
    pytest.param(mlp(SHAPE, 10), mlp_module, id="mlp"),
    pytest.param(lenet5(SHAPE, 10), lenet5_module, id="lenet5"),
]


@pytest.mark.parametrize(("model", "module"), PAIRS)
def test_values_and_gradients_are_those_of_the_module(model: Model, module: Callable[[], nn.Module]) -> None:
    network = module().double()
    generator = Generator().manual_seed(3)
    # Random parameters, so that the zero start of logreg is no blind spot.
    parameters = [
        (torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.1).requires_grad_()
        for p in model.initialise(Generator().manual_seed(0))
    ]
    with torch.no_grad():
        for theirs, ours in zip(network.parameters(), parameters, strict=True):
            theirs.copy_(ours)
    inputs = torch.randn(9, *SHAPE, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (9,), generator=generator)
    logits, expected = model.forward(parameters, inputs), network(inputs)
    assert logits.shape == (9, 10)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    functional.cross_entropy(expected, labels).backward()
    gradients = torch.autograd.grad(functional.cross_entropy(logits, labels), parameters)
    for ours, theirs in zip(gradients, network.parameters(), strict=True):
        assert theirs.grad is not None
        assert theirs.grad.abs().max() > 0
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("model", "module"), PAIRS[1:])
@pytest.mark.parametrize("seed", [0, 7])
def test_initialisation_is_torchs_draw_for_draw(model: Model, module: Callable[[], nn.Module], seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = list(module().parameters())
    for ours, theirs in zip(model.initialise(Generator().manual_seed(seed)), expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("model", [mlp(SHAPE, 10), lenet5(SHAPE, 10)], ids=lambda m: m.name)
def test_initial_values_fill_their_bounds(model: Model) -> None:
    parameters = model.initialise(Generator().manual_seed(1))
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        bound = 1 / math.sqrt(weight[0].numel())
        for drawn in (weight, bias):
            assert drawn.abs().max() <= bound
            # Of n uniform draws all lie below .3 of the bound with probability .3^n, at most 6e-6 here.
            assert drawn.abs().max() >= 0.3 * bound
        # Standard deviation of U(−b, b) is b/√3; the smallest weight here has 150 draws.
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)


@pytest.mark.parametrize(
    ("model", "count"),
    # 784·10+10; 784·128+128+128·10+10; 156+2416+48120+10164+850.
    [(logreg(SHAPE, 10), 7_850), (mlp(SHAPE, 10), 101_770), (lenet5(SHAPE, 10), 61_706)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_parameter_counts(model: Model, count: int) -> None:
    assert sum(p.numel() for p in model.initialise(Generator())) == count


def test_logistic_regression_starts_uniform() -> None:
    model = logreg(SHAPE, 10)
    parameters = model.initialise(Generator())
    assert model.uniform_at_start
    assert not mlp(SHAPE, 10).uniform_at_start
    assert not lenet5(SHAPE, 10).uniform_at_start
    assert all(not p.any() for p in parameters)
    assert not model.forward(parameters, torch.randn(4, *SHAPE)).any()


@pytest.mark.parametrize("build", [logreg, mlp, lenet5])
def test_other_shapes_and_class_counts(build: Callable[..., Model]) -> None:
    model = build((3, 32, 32), 7)
    parameters = model.initialise(Generator().manual_seed(0))
    assert model.forward(parameters, torch.randn(5, 3, 32, 32)).shape == (5, 7)


@pytest.mark.parametrize(("model", "module"), PAIRS)
def test_initialisation_leaves_the_global_generator_alone(model: Model, module: Callable[[], nn.Module]) -> None:
    before = torch.get_rng_state()
    model.initialise(Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    module()
    assert model.name == "logreg" or not torch.equal(torch.get_rng_state(), before)
