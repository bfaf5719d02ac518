"""Regression with a known answer: linear, by the normal equations."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bench.errors import UsageError
from bench.tasks.problem import HALF_SQUARED_ERROR, Model, Problem, Split, Splits


@dataclass(frozen=True)
class LinearKnobs:
    """What can be turned at linear regression.

    Attributes:
        examples: Training examples, ≥ 1; validation and test have a quarter of it each.
        features: Inputs, ≥ 1.
        condition: Ratio of the largest to the smallest variance of the inputs, ≥ 1.
        noise: Standard deviation of the noise on the labels, ≥ 0.
    """

    examples: int = 512
    features: int = 10
    condition: float = 10.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("examples", 4), ("features", 1), ("condition", 1), ("noise", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"task.knobs.{name}={getattr(self, name)}: must be at least {least}")


def linear(knobs: LinearKnobs, seed: int) -> Problem:
    """Linear regression, ½(x·w + b − y)² averaged over examples, zero start.

    Inputs are normal with variances in geometric progression; labels come from unit weights with noise. The target is
    twice the noise floor ½σ² (1e-3 without noise).

    Args:
        knobs: Sizes, condition and noise.
        seed: Data seed.
    """
    generator = Generator().manual_seed(seed)
    scale = torch.logspace(0, 0.5, knobs.features, base=knobs.condition, dtype=torch.float64)

    def split(examples: int) -> Split:
        inputs = torch.randn(examples, knobs.features, generator=generator, dtype=torch.float64) * scale
        noise = knobs.noise * torch.randn(examples, 1, generator=generator, dtype=torch.float64)
        return Split(inputs.float(), (inputs.sum(1, keepdim=True) + noise).float())

    part = max(1, knobs.examples // 4)
    splits = Splits(split(knobs.examples), split(part), split(part))

    def initialise(_: Generator) -> list[Tensor]:
        return [torch.zeros(1, knobs.features), torch.zeros(1)]

    def forward(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return torch.nn.functional.linear(inputs, weights[0], weights[1])

    model = Model("linear", initialise, forward)
    return Problem(splits, model, HALF_SQUARED_ERROR, "val_loss", max(knobs.noise**2, 1e-3))
