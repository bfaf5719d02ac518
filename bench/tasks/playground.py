"""The TensorFlow Playground (Smilkov & Carter 2016, playground.tensorflow.org) as tasks, with all of its knobs.

Data sets, network, loss, initialisation and regularisation are the original's. Two things are not: what is not
trained on is split in halves, validation and test, where the original calls all of it test; and layers, units and
points are not limited. Inputs are the raw features, as there: nothing is standardised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Generator, Tensor

from bench.errors import UsageError, unknown
from bench.tasks.knobs import check_at_least
from bench.tasks.layers import Layers, layered
from bench.tasks.playground_data import DRAWS
from bench.tasks.problem import HALF_SQUARED_ERROR, AfterStep, Model, Picture, Problem, Split, Splits

#: Features of a point: n × 2 coordinates → n.
FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "x1": lambda points: points[:, 0],
    "x2": lambda points: points[:, 1],
    "x1_squared": lambda points: points[:, 0].square(),
    "x2_squared": lambda points: points[:, 1].square(),
    "x1_x2": lambda points: points.prod(1),
    "sin_x1": lambda points: points[:, 0].sin(),
    "sin_x2": lambda points: points[:, 1].sin(),
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "linear": lambda inputs: inputs,
}
#: Slopes of the penalties: of |w| and of w²/2.
REGULARISATIONS: dict[str, Callable[[Tensor], Tensor]] = {"l1": torch.sign, "l2": lambda weights: weights}

INITIAL_REACH, INITIAL_BIAS = 0.5, 0.1
#: Half the width of the square that is drawn, and its nodes along a side.
PICTURE_REACH, PICTURE_NODES, PICTURE_POINTS = 6.0, 50, 500
FEWEST_POINTS = 20

#: Past it, 119 of 125 points are right.
ACCURACY_TARGET = 0.95
#: Half squared errors; the constant 0 has 0.12 and 0.043.
LOSS_TARGETS = {"reg_plane": 0.01, "reg_gauss": 0.02}


@dataclass(frozen=True)
class PlaygroundKnobs:
    """What can be turned at a classification of the TensorFlow Playground; defaults are the original's.

    Attributes:
        noise: Percent, 0 … 50.
        train_share: Percent of the points that is trained on, 10 … 90; half of the rest is validation, half test.
        points: Points in all, even, ≥ 20.
        features: Inputs of the network, of `FEATURES`, at least one, each once.
        hidden: Units of each hidden layer, each ≥ 1; empty for none.
        activation: Of the hidden layers: "relu", "tanh", "sigmoid" or "linear".
        regularisation: Penalty on the weights, not on the biases: "none", "l1" or "l2".
        regularisation_rate: Its rate, ≥ 0.
    """

    noise: float = 0.0
    train_share: float = 50.0
    points: int = 500
    features: tuple[str, ...] = ("x1", "x2")
    hidden: tuple[int, ...] = (4, 2)
    activation: str = "tanh"
    regularisation: str = "none"
    regularisation_rate: float = 0.0

    def __post_init__(self) -> None:
        for name, least, most in (("noise", 0, 50), ("train_share", 10, 90)):
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"task.knobs.{name}={getattr(self, name):g}: must be {least} … {most} (percent)")
        if self.points < FEWEST_POINTS or self.points % 2:
            raise UsageError(f"task.knobs.points={self.points}: must be an even integer, at least {FEWEST_POINTS}")
        if not self.features or len({*self.features}) < len(self.features):
            raise UsageError(f"task.knobs.features={list(self.features)}: must be at least one feature, each once")
        for feature in self.features:
            if feature not in FEATURES:
                raise unknown("feature (task.knobs.features)", feature, FEATURES)
        for units in self.hidden:
            if units < 1:
                raise UsageError(f"task.knobs.hidden={list(self.hidden)}: a layer must have at least 1 unit")
        if self.activation not in ACTIVATIONS:
            raise unknown("activation (task.knobs.activation)", self.activation, ACTIVATIONS)
        if self.regularisation not in ("none", *REGULARISATIONS):
            allowed = ("none", *REGULARISATIONS)
            raise unknown("regularisation (task.knobs.regularisation)", self.regularisation, allowed)
        check_at_least(self, {"regularisation_rate": 0})


@dataclass(frozen=True)
class RegressionKnobs(PlaygroundKnobs):
    """What can be turned at a regression of the TensorFlow Playground: as `PlaygroundKnobs`, with more points."""

    points: int = 1200


def spiral(knobs: PlaygroundKnobs, seed: int) -> Problem:
    """Two spiral arms; see `playground`."""
    return playground("spiral", knobs, seed)


def circle(knobs: PlaygroundKnobs, seed: int) -> Problem:
    """A disc in a ring; see `playground`."""
    return playground("circle", knobs, seed)


def xor(knobs: PlaygroundKnobs, seed: int) -> Problem:
    """Four quadrants; see `playground`."""
    return playground("xor", knobs, seed)


def gauss(knobs: PlaygroundKnobs, seed: int) -> Problem:
    """Two clouds; see `playground`."""
    return playground("gauss", knobs, seed)


def reg_plane(knobs: RegressionKnobs, seed: int) -> Problem:
    """A plane; see `playground`."""
    return playground("reg_plane", knobs, seed)


def reg_gauss(knobs: RegressionKnobs, seed: int) -> Problem:
    """Six cones; see `playground`."""
    return playground("reg_gauss", knobs, seed)


def playground(name: str, knobs: PlaygroundKnobs, seed: int) -> Problem:
    """Make a task of the TensorFlow Playground.

    The loss is ½(output − label)² for both kinds; a classification has labels ±1, an output through tanh, and counts
    signs that agree.

    Args:
        name: One of `bench.tasks.playground_data.DRAWS`.
        knobs: Checked knobs.
        seed: Data seed: of the points, their noise and the order that splits them.
    """
    draw, classes = DRAWS[name]
    generator = Generator().manual_seed(seed)
    points, labels = draw(knobs.points, knobs.noise / 100, generator)
    order = torch.randperm(knobs.points, generator=generator)
    points, labels = points[order], labels[order].unsqueeze(1)
    train = int(knobs.points * knobs.train_share / 100)
    cuts = [train, (knobs.points - train) // 2, knobs.points - train - (knobs.points - train) // 2]
    parts = list(zip(points.split(cuts), labels.split(cuts), strict=True))
    training, validation, test = (Split(features(part, knobs.features), values.float()) for part, values in parts)
    splits = Splits(
        training,
        validation,
        test,
        # Both arms of a spiral begin at the origin.
        distinct=name != "spiral" or knobs.noise > 0,
    )
    model = network(knobs, bounded=classes)
    return Problem(
        splits=splits,
        model=model,
        objective=replace(HALF_SQUARED_ERROR, correct=_signs_agree) if classes else HALF_SQUARED_ERROR,
        target_metric="val_accuracy" if classes else "val_loss",
        target=ACCURACY_TARGET if classes else LOSS_TARGETS[name],
        classes=2 if classes else None,
        after_step=regulariser(knobs.regularisation, knobs.regularisation_rate),
        picture=_picture(model, knobs, parts[0], parts[2]),
    )


def features(points: Tensor, names: Sequence[str]) -> Tensor:
    """Return the named features of points (n × 2) as n × features, float32."""
    return torch.stack([FEATURES[name](points) for name in names], 1).float()


def network(knobs: PlaygroundKnobs, bounded: bool) -> Model:
    """Build the network: hidden layers with the activation, one output.

    Parameters: weight (units × inputs) and bias (units) of each layer; weights U(−0.5, 0.5), biases 0.1.

    Args:
        knobs: Features, hidden layers and activation.
        bounded: Whether the output goes through tanh.
    """
    widths = [len(knobs.features), *knobs.hidden, 1]
    activation = ACTIVATIONS[knobs.activation]

    def initialise(generator: Generator) -> list[Tensor]:
        drawn = []
        for inputs, units in pairwise(widths):
            weight = torch.empty(units, inputs).uniform_(-INITIAL_REACH, INITIAL_REACH, generator=generator)
            drawn += [weight, torch.full((units,), INITIAL_BIAS)]
        return drawn

    def run(layers: Layers, weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        last = len(weights) - 2
        for layer in range(0, last, 2):
            inputs = activation(layers.linear(inputs, weights[layer], weights[layer + 1]))
        outputs = layers.linear(inputs, weights[last], weights[last + 1])
        return outputs.tanh() if bounded else outputs

    return layered("-".join(str(width) for width in widths), initialise, run)


def regulariser(kind: str, rate: float) -> AfterStep | None:
    """Return the regularisation that follows each optimizer step; None where there is none.

    w ← w − lr·rate·slope, with the slope of the penalty where the weight stood before the step. With l1, a weight
    that this takes across zero dies: it is 0 from then on.

    Args:
        kind: "none", "l1" or "l2".
        rate: Rate of the penalty.
    """
    if kind == "none" or rate == 0:
        return None
    slope = REGULARISATIONS[kind]

    @torch.no_grad()
    def after_step(parameters: Sequence[Tensor], before: Sequence[Tensor], lr: float) -> None:
        for weight, old in zip(parameters[::2], before[::2], strict=True):
            regularised = weight - lr * rate * slope(old)
            if kind == "l1":
                # No weight begins at 0 (the chance is one in 2^24) and none but a dead one stays there, so the dead
                # are known by it and need no memory of their own.
                regularised[(weight * regularised < 0) | (old == 0)] = 0
            weight.copy_(regularised)

    return after_step


def _signs_agree(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs * labels > 0).squeeze(1)


def _picture(
    model: Model, knobs: PlaygroundKnobs, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> Picture:
    axis = torch.linspace(-PICTURE_REACH, PICTURE_REACH, PICTURE_NODES, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    nodes = features(torch.stack([x.flatten(), y.flatten()], 1), knobs.features)

    def field(weights: Sequence[Tensor]) -> Tensor:
        return model.forward(weights, nodes.to(weights[0])).reshape(PICTURE_NODES, PICTURE_NODES)

    return Picture(
        kind="field",
        extent=(-PICTURE_REACH, PICTURE_REACH, -PICTURE_REACH, PICTURE_REACH),
        cell={
            kind: torch.cat([points, labels], 1)[:PICTURE_POINTS].flatten().tolist()
            for kind, (points, labels) in (("points", train), ("test_points", test))
        },
        trial=field,
    )
