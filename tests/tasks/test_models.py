"""The functional models are the modules people know, in value, gradient and initialisation."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional

from bench.tasks.models import f1, lenet5, logreg, mlp, mlp_deepobs, simple_cnn, two_c_two_d
from bench.tasks.problem import Model

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


def mlp_deepobs_module() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 1000),
        nn.ReLU(),
        nn.Linear(1000, 500),
        nn.ReLU(),
        nn.Linear(500, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def two_c_two_d_module() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )


def f1_module() -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for width in (784, 512, 512, 512, 512):
        layers += [nn.Linear(width, 512), nn.BatchNorm1d(512), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(512, 10))


PAIRS = [
    pytest.param(logreg(SHAPE, 10), logreg_module, id="logreg"),
    pytest.param(mlp(SHAPE, 10), mlp_module, id="mlp"),
    pytest.param(lenet5(SHAPE, 10), lenet5_module, id="lenet5"),
    pytest.param(simple_cnn(SHAPE, 10), two_c_two_d_module, id="simple_cnn"),
    pytest.param(f1(SHAPE, 10), f1_module, id="f1"),
    pytest.param(mlp_deepobs(SHAPE, 10), mlp_deepobs_module, id="mlp_deepobs"),
    pytest.param(two_c_two_d(SHAPE, 10), two_c_two_d_module, id="2c2d"),
]
#: Those initialised as torch's layers are, with something drawn.
AS_TORCH = PAIRS[1:5]
BUILDERS = [logreg, mlp, lenet5, mlp_deepobs, two_c_two_d, f1, simple_cnn]


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
    buffers = [b.double() for b in model.buffers()]
    logits = (model.training_forward or model.forward)([*parameters, *buffers], inputs)
    expected = network(inputs)
    assert logits.shape == (9, 10)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    functional.cross_entropy(expected, labels).backward()
    gradients = torch.autograd.grad(functional.cross_entropy(logits, labels), parameters)
    for ours, theirs in zip(gradients, network.parameters(), strict=True):
        assert theirs.grad is not None
        assert theirs.grad.abs().max() > 0
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-10, atol=1e-13)
    # Trained once, then evaluated: the running statistics are torch's too.
    statistics = [b for b in network.buffers() if b.is_floating_point()]
    for ours, theirs in zip(buffers, statistics, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    network.eval()
    evaluated = model.forward([*parameters, *buffers], inputs)
    torch.testing.assert_close(evaluated, network(inputs), rtol=1e-12, atol=1e-12)
    assert torch.equal(evaluated, logits) == (not buffers)


@pytest.mark.parametrize(("model", "module"), AS_TORCH)
@pytest.mark.parametrize("seed", [0, 7])
def test_initialisation_is_torchs_draw_for_draw(model: Model, module: Callable[[], nn.Module], seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = list(module().parameters())
    for ours, theirs in zip(model.initialise(Generator().manual_seed(seed)), expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("model", [mlp(SHAPE, 10), lenet5(SHAPE, 10), simple_cnn(SHAPE, 10)], ids=lambda m: m.name)
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
    [
        (logreg(SHAPE, 10), 784 * 10 + 10),
        (mlp(SHAPE, 10), 784 * 128 + 128 + 128 * 10 + 10),
        # LeNet-5 as counted everywhere: 156 + 2416 + 48120 + 10164 + 850.
        (lenet5(SHAPE, 10), 61_706),
        (mlp_deepobs(SHAPE, 10), 785_000 + 500_500 + 50_100 + 1_010),
        (two_c_two_d(SHAPE, 10), 3_274_634),
        (simple_cnn(SHAPE, 10), 832 + 51_264 + 3_136 * 1_024 + 1_024 + 10_250),
        (f1(SHAPE, 10), 785 * 512 + 4 * 513 * 512 + 5 * 2 * 512 + 5_130),
        # 16 × 16 pixels and 47 classes.
        (two_c_two_d((1, 16, 16), 47), 832 + 51_264 + 1_024 * 1_024 + 1_024 + 1_025 * 47),
        (lenet5((1, 16, 16), 10), 156 + 2_416 + 65 * 120 + 10_164 + 850),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_parameter_counts(model: Model, count: int) -> None:
    assert sum(p.numel() for p in model.initialise(Generator())) == count


def test_logistic_regression_starts_uniform() -> None:
    model = logreg(SHAPE, 10)
    parameters = model.initialise(Generator())
    assert model.uniform_at_start
    assert not any(build(SHAPE, 10).uniform_at_start for build in BUILDERS[1:])
    assert all(not p.any() for p in parameters)
    assert not model.forward(parameters, torch.randn(4, *SHAPE)).any()


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 16), (1, 13, 15)], ids=str)
def test_other_shapes_and_class_counts(build: Callable[..., Model], shape: tuple[int, int, int]) -> None:
    model = build(shape, 7)
    weights = [*model.initialise(Generator().manual_seed(0)), *model.buffers()]
    inputs = torch.randn(5, *shape, generator=Generator().manual_seed(1))
    for forward in (model.forward, model.training_forward or model.forward):
        assert forward(weights, inputs).shape == (5, 7)
        assert forward(weights, inputs[:1]).isfinite().all()


@pytest.mark.parametrize(
    ("model", "std", "bias"), [(mlp_deepobs(SHAPE, 10), 0.03, 0.0), (two_c_two_d(SHAPE, 10), 0.05, 0.05)]
)
def test_truncated_normal_initialisation(model: Model, std: float, bias: float) -> None:
    parameters = model.initialise(Generator().manual_seed(2))
    for weight, shift in zip(parameters[::2], parameters[1::2], strict=True):
        assert weight.abs().max() <= 2 * std
        assert (shift == bias).all()
    drawn = torch.cat([weight.flatten().double() for weight in parameters[::2]]) / std
    # Over a million draws. With φ the normal density and Φ its distribution, cut at ±2: variance
    # 1 − 4 φ(2)/(2Φ(2) − 1), and (2Φ(1) − 1)/(2Φ(2) − 1) of the draws within one σ.
    inside = math.erf(2 / math.sqrt(2))
    variance = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / inside
    assert math.sqrt(variance) == pytest.approx(0.8796, abs=1e-4)
    assert drawn.mean().item() == pytest.approx(0, abs=5 * math.sqrt(variance / len(drawn)))
    assert drawn.square().mean().item() == pytest.approx(variance, abs=5 * math.sqrt(1 / len(drawn)))
    assert (drawn.abs() < 1).double().mean().item() == pytest.approx(
        math.erf(1 / math.sqrt(2)) / inside, abs=5 * 0.5 / math.sqrt(len(drawn))
    )
    again, other = (model.initialise(Generator().manual_seed(seed)) for seed in (2, 3))
    assert all(torch.equal(a, b) for a, b in zip(parameters, again, strict=True))
    assert not torch.equal(parameters[0], other[0])


def test_pooling_pads_odd_edges_as_tensorflow_does() -> None:
    # A single bright pixel in the last row and column of a 13 × 13 image still reaches the output.
    model = two_c_two_d((1, 13, 13), 3)
    parameters = model.initialise(Generator().manual_seed(0))
    image = torch.zeros(1, 1, 13, 13)
    dark = model.forward(parameters, image)
    image[0, 0, 12, 12] = 9
    assert not torch.equal(model.forward(parameters, image), dark)


@pytest.mark.parametrize(("model", "module"), PAIRS)
def test_initialisation_leaves_the_global_generator_alone(model: Model, module: Callable[[], nn.Module]) -> None:
    before = torch.get_rng_state()
    model.initialise(Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    module()
    assert not torch.equal(torch.get_rng_state(), before)
