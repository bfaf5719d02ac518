"""Regression with a known answer: linear by the normal equations, logistic by a strictly convex loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.errors import UsageError
from bench.tasks.knobs import check_at_least
from bench.tasks.layers import Layers, layered
from bench.tasks.problem import HALF_SQUARED_ERROR, Model, Objective, Problem, Split, Splits, Untrained

#: Cross-entropy of two classes in nats, of one logit (batch × 1) and labels 0 or 1 (batch × 1, floats).
BINARY_CROSS_ENTROPY = Objective(
    name="binary cross-entropy",
    losses=lambda outputs, labels: F.binary_cross_entropy_with_logits(outputs, labels, reduction="none").squeeze(1),
    mean=F.binary_cross_entropy_with_logits,
    correct=lambda outputs, labels: ((outputs > 0) == (labels > 0.5)).squeeze(1),
    of_logits=True,
)


@dataclass(frozen=True)
class LinearKnobs:
    """What can be turned at linear regression.

    Attributes:
        examples: Training examples, ≥ 4; validation and test have a quarter of it each.
        features: Inputs, ≥ 1.
        condition: Ratio of the largest to the smallest variance of the inputs, ≥ 1.
        noise: Standard deviation of the noise on the labels, ≥ 0.
    """

    examples: int = 512
    features: int = 10
    condition: float = 10.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_at_least(self, {"examples": 4, "features": 1, "condition": 1, "noise": 0})


@dataclass(frozen=True)
class LogisticKnobs:
    """What can be turned at logistic regression.

    Attributes:
        examples: Training examples, ≥ 4; validation and test have a quarter of it each.
        features: Inputs, ≥ 1.
        separation: Distance between the means of the two classes, in standard deviations, > 0. Where few examples of
            many features can be told apart without an error, the loss has no minimum.
    """

    examples: int = 1024
    features: int = 10
    separation: float = 2.0

    def __post_init__(self) -> None:
        check_at_least(self, {"examples": 4, "features": 1})
        if self.separation <= 0:
            raise UsageError(f"task.knobs.separation={self.separation:g}: must be greater than 0")


def linear(knobs: LinearKnobs, seed: int) -> Problem:
    """Linear regression, ½(x·w + b − y)² averaged over examples, zero start. Parameters: 1 × features, 1.

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
    start = splits.val.labels.double().square().mean().item() / 2
    return Problem(
        splits=splits,
        model=_zero_start("linear", knobs.features),
        objective=HALF_SQUARED_ERROR,
        target_metric="val_loss",
        target=max(knobs.noise**2, 1e-3),
        untrained=Untrained("val", start, 1e-5 * start, "½ mean y²"),
    )


def logistic(knobs: LogisticKnobs, seed: int) -> Problem:
    """Logistic regression of two normal classes, zero start. Parameters: 1 × features, 1.

    Classes are equally likely, with means ∓ separation/2 along (1, …, 1)/√features and unit covariance; so the rule
    that they were drawn from is the logit separation · (x · (1, …, 1)/√features). The target is a validation loss one
    tenth above that rule's.

    Args:
        knobs: Sizes and separation.
        seed: Data seed.
    """
    generator = Generator().manual_seed(seed)
    direction = torch.full((knobs.features,), 1 / math.sqrt(knobs.features), dtype=torch.float64)

    def split(examples: int) -> Split:
        labels = torch.randint(0, 2, (examples, 1), generator=generator, dtype=torch.float64)
        noise = torch.randn(examples, knobs.features, generator=generator, dtype=torch.float64)
        inputs = noise + (labels - 0.5) * knobs.separation * direction
        return Split(inputs.float(), labels.float())

    part = max(1, knobs.examples // 4)
    splits = Splits(split(knobs.examples), split(part), split(part))
    rule = knobs.separation * (splits.val.inputs.double() @ direction)[:, None]
    floor = BINARY_CROSS_ENTROPY.losses(rule, splits.val.labels.double()).mean().item()
    return Problem(
        splits=splits,
        model=_zero_start("logistic", knobs.features),
        objective=BINARY_CROSS_ENTROPY,
        target_metric="val_loss",
        target=1.1 * floor,
        classes=2,
        untrained=Untrained("val", math.log(2), 1e-6, "ln 2"),
    )


def linear_hessian(split: Split) -> Tensor:
    """Return the Hessian of linear regression's loss, over weights and then bias: (features + 1)², float64."""
    rows = _with_one(split)
    return rows.T @ rows / len(rows)


def linear_optimum(split: Split) -> list[Tensor]:
    """Return the parameters that minimise linear regression's loss on a split, in float64; the shortest of many."""
    rows = _with_one(split)
    best = torch.linalg.lstsq(rows, split.labels.double(), driver="gelsd").solution.squeeze(1)
    return [best[None, :-1], best[-1:]]


def stability_edge(hessian: Tensor) -> float:
    """Return the learning rate from which on gradient descent diverges, 2/λmax."""
    return 2 / float(torch.linalg.eigvalsh(hessian)[-1])


def logistic_hessian(split: Split, parameters: Sequence[Tensor]) -> Tensor:
    """Return the Hessian of logistic regression's loss, over weights and then bias: (features + 1)², float64."""
    rows = _with_one(split)
    chances = (rows @ torch.cat([parameters[0].double().flatten(), parameters[1].double()])).sigmoid()
    return (rows.T * (chances * (1 - chances))) @ rows / len(rows)


def logistic_optimum(split: Split, iterations: int = 50) -> list[Tensor]:
    """Return the parameters that minimise logistic regression's loss on a split, in float64, by Newton's method.

    Args:
        split: Examples that no plane separates.
        iterations: At most so many; it ends when a step is shorter than 1e-13.
    """
    rows, labels = _with_one(split), split.labels.double().squeeze(1)
    at = rows.new_zeros(rows.shape[1])
    for _ in range(iterations):
        gradient = rows.T @ ((rows @ at).sigmoid() - labels) / len(rows)
        step = torch.linalg.solve(logistic_hessian(split, [at[None, :-1], at[-1:]]), gradient)
        at = at - step
        if step.norm().item() < 1e-13:
            break
    return [at[None, :-1], at[-1:]]


def _zero_start(name: str, features: int) -> Model:
    def initialise(_: Generator) -> list[Tensor]:
        return [torch.zeros(1, features), torch.zeros(1)]

    def run(layers: Layers, weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return layers.linear(inputs, weights[0], weights[1])

    return layered(name, initialise, run)


def _with_one(split: Split) -> Tensor:
    """Return the inputs with a column of ones for the bias, float64."""
    return torch.cat([split.inputs.double(), split.inputs.new_ones(len(split), 1).double()], 1)
