"""Networks for images, as functions of their parameters.

Initialisation follows the layers of `torch.nn` unless a network's source has its own, drawn from a generator of its own
so that it depends on the init seed alone.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from bench.tasks.image_knobs import BatchNormKnobs
from bench.tasks.layers import Layers, layered
from bench.tasks.problem import Model

Shape = tuple[int, int, int]

#: Hidden layers of f1 and their width.
F1_LAYERS, F1_WIDTH = 5, 512


def logreg(shape: Shape, classes: int) -> Model:
    """Multinomial logistic regression with zero initialisation. Parameters: classes × pixels, classes."""
    pixels = math.prod(shape)

    def initialise(generator: Generator) -> list[Tensor]:
        return [torch.zeros(classes, pixels), torch.zeros(classes)]

    def run(layers: Layers, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        weight, bias = parameters
        return layers.linear(layers.pixels(inputs), weight, bias)

    return layered("logreg", initialise, run, uniform_at_start=True)


def mlp(shape: Shape, classes: int, hidden: int = 128) -> Model:
    """One hidden layer of 128 ReLU units. Parameters: hidden × pixels, hidden, classes × hidden, classes."""
    pixels = math.prod(shape)

    def initialise(generator: Generator) -> list[Tensor]:
        return [*linear(pixels, hidden, generator), *linear(hidden, classes, generator)]

    def run(layers: Layers, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        weight1, bias1, weight2, bias2 = parameters
        return layers.linear(layers.linear(layers.pixels(inputs), weight1, bias1).relu(), weight2, bias2)

    return layered("mlp", initialise, run)


def lenet5(shape: Shape, classes: int) -> Model:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling: 6 and 16 5×5 filters, then 120-84-classes.

    The first convolution pads 28 × 28 images to the original's 32 × 32.
    """
    channels, height, width = shape
    flat = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)

    def initialise(generator: Generator) -> list[Tensor]:
        return [
            *convolution(channels, 6, 5, generator),
            *convolution(6, 16, 5, generator),
            *linear(flat, 120, generator),
            *linear(120, 84, generator),
            *linear(84, classes, generator),
        ]

    def run(layers: Layers, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
        # ReLU and max-pooling commute exactly; pooling first leaves ReLU a quarter of the work.
        features = layers.pool(layers.convolve(inputs, w1, b1, 2), 2, False).relu()
        features = layers.pool(layers.convolve(features, w2, b2, 0), 2, False).relu()
        hidden = layers.linear(layers.features(features), w3, b3).relu()
        return layers.linear(layers.linear(hidden, w4, b4).relu(), w5, b5)

    return layered("lenet5", initialise, run)


def mlp_deepobs(shape: Shape, classes: int) -> Model:
    """The multilayer perceptron of DeepOBS (arXiv 1903.05499): 1000-500-100-classes, ReLU.

    Weights from a normal distribution of σ .03 cut at 2σ, biases zero; its pixels are 0 … 1 (`inputs: unit`).
    """
    widths = (math.prod(shape), 1000, 500, 100, classes)

    def initialise(generator: Generator) -> list[Tensor]:
        parameters = []
        for inputs, outputs in itertools.pairwise(widths):
            parameters += [truncated_normal((outputs, inputs), 0.03, generator), torch.zeros(outputs)]
        return parameters

    def run(layers: Layers, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        w1, b1, w2, b2, w3, b3, w4, b4 = parameters
        hidden = layers.linear(layers.pixels(inputs), w1, b1).relu()
        hidden = layers.linear(layers.linear(hidden, w2, b2).relu(), w3, b3).relu()
        return layers.linear(hidden, w4, b4)

    return layered("mlp_deepobs", initialise, run)


def two_c_two_d(shape: Shape, classes: int) -> Model:
    """The 2c2d network of DeepOBS (arXiv 1903.05499): two 5×5 convolutions with max-pooling, 1024-classes, ReLU.

    Weights from a normal distribution of σ .05 cut at 2σ, biases .05; its pixels are 0 … 1 (`inputs: unit`).
    """

    def initialise(generator: Generator) -> list[Tensor]:
        parameters = []
        for weight in _conv_shapes(shape, classes):
            parameters += [truncated_normal(weight, 0.05, generator), torch.full(weight[:1], 0.05)]
        return parameters

    return layered("2c2d", initialise, _run_convolutions)


def simple_cnn(shape: Shape, classes: int) -> Model:
    """The layers of "Simple CNN" in Shallue et al. (arXiv 1811.03600), which are those of 2c2d.

    Two 5×5 convolutions of 32 and 64 filters, each with max-pooling, then 1024-classes, ReLU; no dropout. Unlike 2c2d
    it is initialised as `torch.nn` does.
    """
    shapes = _conv_shapes(shape, classes)

    def initialise(generator: Generator) -> list[Tensor]:
        (f1, c1, size, _), (f2, c2, _, _), (hidden, flat), _ = shapes
        return [
            *convolution(c1, f1, size, generator),
            *convolution(c2, f2, size, generator),
            *linear(flat, hidden, generator),
            *linear(hidden, classes, generator),
        ]

    return layered("simple_cnn", initialise, _run_convolutions)


def _conv_shapes(shape: Shape, classes: int) -> list[tuple[int, ...]]:
    """Return the weight shapes of 2c2d and simple_cnn."""
    channels, height, width = shape
    flat = 64 * -(-height // 4) * -(-width // 4)
    return [(32, channels, 5, 5), (64, 32, 5, 5), (1024, flat), (classes, 1024)]


def _run_convolutions(layers: Layers, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    w1, b1, w2, b2, w3, b3, w4, b4 = parameters
    # Both pad as TensorFlow's SAME does, so an odd edge is pooled too. ReLU after pooling: see lenet5.
    features = layers.pool(layers.convolve(inputs, w1, b1, 2), 2, True).relu()
    features = layers.pool(layers.convolve(features, w2, b2, 2), 2, True).relu()
    return layers.linear(layers.linear(layers.features(features), w3, b3).relu(), w4, b4)


def f1(shape: Shape, classes: int, knobs: BatchNormKnobs | None = None) -> Model:
    """F1 of Keskar et al. (arXiv 1609.04836): five hidden layers of 512 units, each linear, batch norm, ReLU.

    Parameters: weight, bias, scale, shift of each hidden layer, then weight and bias. Buffers: running mean and
    variance of each hidden layer.

    Args:
        shape: Channels × height × width.
        classes: Number of classes.
        knobs: Ghost batch normalisation; None for the defaults.
    """
    chunk = (knobs or BatchNormKnobs()).ghost_batch
    widths = (math.prod(shape), *[F1_WIDTH] * F1_LAYERS)

    def initialise(generator: Generator) -> list[Tensor]:
        parameters = []
        for inputs, outputs in itertools.pairwise(widths):
            parameters += [*linear(inputs, outputs, generator), torch.ones(outputs), torch.zeros(outputs)]
        return [*parameters, *linear(F1_WIDTH, classes, generator)]

    def buffers() -> list[Tensor]:
        return [statistic for _ in range(F1_LAYERS) for statistic in (torch.zeros(F1_WIDTH), torch.ones(F1_WIDTH))]

    def through(layers: Layers, weights: Sequence[Tensor], inputs: Tensor, normalise: Callable[..., Tensor]) -> Tensor:
        *hidden_layers, weight, bias = weights[: 4 * F1_LAYERS + 2]
        statistics = weights[4 * F1_LAYERS + 2 :]
        hidden = layers.pixels(inputs)
        for layer in range(F1_LAYERS):
            w, b, *affine = hidden_layers[4 * layer : 4 * layer + 4]
            hidden = normalise(layers.linear(hidden, w, b), *affine, *statistics[2 * layer : 2 * layer + 2]).relu()
        return layers.linear(hidden, weight, bias)

    def run(layers: Layers, weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return through(layers, weights, inputs, layers.normalise)

    def training_run(layers: Layers, weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return through(layers, weights, inputs, functools.partial(layers.training_normalise, chunk=chunk))

    return layered("f1", initialise, run, training_run, buffers=buffers)


def linear(inputs: int, outputs: int, generator: Generator) -> list[Tensor]:
    """Draw weight (outputs × inputs) and bias (outputs) as `torch.nn.Linear` does: U(−1/√inputs, 1/√inputs)."""
    bound = 1 / math.sqrt(inputs)
    return [
        torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator),
        torch.empty(outputs).uniform_(-bound, bound, generator=generator),
    ]


def convolution(inputs: int, outputs: int, size: int, generator: Generator) -> list[Tensor]:
    """Draw weight (outputs × inputs × size × size) and bias (outputs) as `torch.nn.Conv2d` does."""
    bound = 1 / math.sqrt(inputs * size * size)
    return [
        torch.empty(outputs, inputs, size, size).uniform_(-bound, bound, generator=generator),
        torch.empty(outputs).uniform_(-bound, bound, generator=generator),
    ]


def truncated_normal(shape: tuple[int, ...], std: float, generator: Generator) -> Tensor:
    """Draw from a normal distribution of mean 0 cut at two standard deviations, as TensorFlow's `truncated_normal`.

    `std` is that of the uncut distribution; what is drawn has 0.8796 of it.
    """
    drawn = torch.empty(shape)
    torch.nn.init.trunc_normal_(drawn, 0.0, std, -2 * std, 2 * std, generator=generator)
    return drawn
