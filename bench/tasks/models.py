"""Networks for images, as functions of their parameters.

Initialisation follows the layers of `torch.nn`, drawn from a generator of its own so that it depends on the init seed
alone.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.tasks.problem import Model

Shape = tuple[int, int, int]


def logreg(shape: Shape, classes: int) -> Model:
    """Multinomial logistic regression with zero initialisation. Parameters: classes × pixels, classes."""
    pixels = math.prod(shape)

    def initialise(generator: Generator) -> list[Tensor]:
        return [torch.zeros(classes, pixels), torch.zeros(classes)]

    def forward(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        weight, bias = parameters
        return F.linear(inputs.flatten(1), weight, bias)

    return Model("logreg", initialise, forward, uniform_at_start=True)


def mlp(shape: Shape, classes: int, hidden: int = 128) -> Model:
    """One hidden layer of 128 ReLU units. Parameters: hidden × pixels, hidden, classes × hidden, classes."""
    pixels = math.prod(shape)

    def initialise(generator: Generator) -> list[Tensor]:
        return [*linear(pixels, hidden, generator), *linear(hidden, classes, generator)]

    def forward(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        weight1, bias1, weight2, bias2 = parameters
        return F.linear(F.linear(inputs.flatten(1), weight1, bias1).relu(), weight2, bias2)

    return Model("mlp", initialise, forward)


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

    def forward(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
        # ReLU and max-pooling commute exactly; pooling first leaves ReLU a quarter of the work.
        features = F.max_pool2d(F.conv2d(inputs, w1, b1, padding=2), 2).relu()
        features = F.max_pool2d(F.conv2d(features, w2, b2), 2).relu()
        hidden = F.linear(features.flatten(1), w3, b3).relu()
        return F.linear(F.linear(hidden, w4, b4).relu(), w5, b5)

    return Model("lenet5", initialise, forward)


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
