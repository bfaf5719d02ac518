"""A problem: data, model, loss, target. What every family of tasks builds and everything else is written against.

A new task is a function that returns a `Problem`. Training, measuring, the self-audit and the report know nothing
else of it, so what holds for a digit classifier holds for a quadratic bowl.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

#: Batch size from which the cross-entropy is computed with the examples innermost.
EXAMPLES_INNERMOST = 512


@dataclass(frozen=True)
class Split:
    """Inputs and labels of one split.

    Attributes:
        inputs: Examples × …; floats, or integers such as tokens.
        labels: Examples × …; int64 class indices, or floats to regress on.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Split":
        """Return the split on another device, what is floating in another floating type."""
        inputs, labels = (
            tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
            for tensor in (self.inputs, self.labels)
        )
        return Split(inputs, labels)


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set.

    Attributes:
        train: What is trained on.
        val: What learning rates are chosen on.
        test: What results are reported on; never used to choose anything.
        standardised: Whether the training inputs have mean 0 and standard deviation 1, as the self-audit then checks.
        distinct: Whether no example stands in two splits, likewise. False where the splits are the same function
            without its noise.
    """

    train: Split
    val: Split
    test: Split
    standardised: bool = False
    distinct: bool = True


@dataclass(frozen=True)
class Model:
    """A model as a function of its parameters.

    A function of a list of tensors and a batch, not a module: the training loop calls it without a module's
    bookkeeping, and the same function serves one trial or many.

    Attributes:
        name: Name in configs and reports.
        initialise: Generator → fresh parameters, float32 on the CPU. Depends on the generator alone.
        forward: Parameters, then buffers, in one list, and inputs (batch × …) → outputs (batch × …); as evaluated.
        uniform_at_start: Whether the untrained output is exactly uniform, so that the untrained loss is ln C exactly.
        buffers: → fresh buffers, such as running statistics: moved by training steps, not by the optimizer.
        training_forward: As `forward`, but as trained (batch statistics; may change buffers in place). None where
            there is no difference.
        sparse_forward: As `training_forward`, with sparse gradients, for the optimizers that require them. None where
            the model has none to offer.
        stacked_forward: As `forward`, for the weights of several trials, each trials × its shape (buffers likewise
            where training moves them, else as they are) and inputs that are one batch for all of them or trials ×
            batch × …; → trials × batch × …. None where the model cannot. `bench.tasks.layers` makes it.
        stacked_training_forward: As `training_forward`, likewise.
    """

    name: str
    initialise: Callable[[Generator], list[Tensor]]
    forward: Callable[[Sequence[Tensor], Tensor], Tensor]
    uniform_at_start: bool = False
    buffers: Callable[[], list[Tensor]] = list
    training_forward: Callable[[Sequence[Tensor], Tensor], Tensor] | None = None
    sparse_forward: Callable[[Sequence[Tensor], Tensor], Tensor] | None = None
    stacked_forward: Callable[[Sequence[Tensor], Tensor], Tensor] | None = None
    stacked_training_forward: Callable[[Sequence[Tensor], Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Objective:
    """What is minimised, and what is counted.

    Attributes:
        name: In words.
        losses: Outputs and labels → one loss per example, shape batch.
        mean: Outputs and labels → their mean, a scalar; None for the mean of `losses`.
        correct: Outputs and labels → whether each example is right, shape batch; None where nothing can be right.
        of_logits: Whether the outputs are logits: the self-audit then checks that they are no probabilities.
        stacked: Outputs and labels, both trials × batch × … → the sum over trials of each one's mean; None for that of
            `losses`.
    """

    name: str
    losses: Callable[[Tensor, Tensor], Tensor]
    mean: Callable[[Tensor, Tensor], Tensor] | None = None
    correct: Callable[[Tensor, Tensor], Tensor] | None = None
    of_logits: bool = False
    stacked: Callable[[Tensor, Tensor], Tensor] | None = None


#: Parameters, their values before the step, learning rate; changes the parameters in place.
AfterStep = Callable[[Sequence[Tensor], Sequence[Tensor], float], None]


class Untrained(NamedTuple):
    """What theory says of fresh parameters.

    Attributes:
        split: Split the loss is taken on.
        loss: Loss in theory.
        tolerance: Absolute.
        source: Why, in a few words, such as "ln 10".
    """

    split: str
    loss: float
    tolerance: float
    source: str


@dataclass(frozen=True)
class Stream:
    """Examples drawn afresh at every step instead of visited in an order.

    Attributes:
        draw: Batch size and generator (CPU) → one batch of inputs and labels, whose mean loss has the noise of that
            many examples.
        exact: → the batch without noise: the limit of an infinite batch, used for `batch_size=full`.
        epoch: Examples that are called an epoch, a mere unit.
    """

    draw: Callable[[int, Generator], tuple[Tensor, Tensor]]
    exact: Callable[[], tuple[Tensor, Tensor]]
    epoch: int


@dataclass(frozen=True)
class Picture:
    """What can be drawn of a task in the plane (`bench.results.snapshots` says how it is stored).

    Attributes:
        kind: "position" (a trial is a point of the plane) or "field" (a trial is a function on it).
        extent: x_lo, x_hi, y_lo, y_hi.
        cell: What belongs to the whole cell: kind → values, such as {"landscape": …}.
        trial: Parameters and buffers → values of `kind`.
    """

    kind: str
    extent: tuple[float, float, float, float]
    cell: dict[str, Sequence[float]]
    trial: Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Problem:
    """A task, whole, on the CPU.

    Attributes:
        splits: The data.
        model: The model.
        objective: Loss and, where there is one, accuracy.
        target_metric: What time-to-target waits for: "val_accuracy" or "val_loss".
        target: Value to get strictly past (above for an accuracy, below for a loss).
        classes: Number of classes; None where there are none.
        untrained: What the untrained loss should be; None where theory says nothing.
        stream: Where examples come from if not from the training split.
        after_step: Called after each optimizer step, such as a regulariser that is no part of the gradient.
        picture: What can be drawn of it.
    """

    splits: Splits
    model: Model
    objective: Objective
    target_metric: str
    target: float
    classes: int | None = None
    untrained: Untrained | None = None
    stream: Stream | None = None
    after_step: AfterStep | None = None
    picture: Picture | None = None


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats.

    On a CPU, softmax over ten numbers that lie side by side is scalar work; with the examples innermost the same
    sums are vectorised. For large batches this halves the cost of the loss and its gradient.

    Args:
        logits: Batch × classes.
        labels: Batch, class indices.
    """
    if len(labels) >= EXAMPLES_INNERMOST and logits.device.type == "cpu":
        return F.cross_entropy(logits.t().unsqueeze(0), labels.unsqueeze(0))
    return F.cross_entropy(logits, labels)


def stacked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum over trials of each one's mean cross-entropy in nats, as `mean_cross_entropy` computes it.

    Args:
        logits: Trials × batch × classes.
        labels: Trials × batch, class indices.
    """
    batch = labels.shape[1]
    if batch >= EXAMPLES_INNERMOST and logits.device.type == "cpu":
        return F.cross_entropy(logits.transpose(1, 2), labels, reduction="sum") / batch
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / batch


CROSS_ENTROPY = Objective(
    name="cross-entropy",
    losses=lambda logits, labels: F.cross_entropy(logits, labels, reduction="none"),
    mean=mean_cross_entropy,
    correct=lambda logits, labels: logits.argmax(1) == labels,
    of_logits=True,
    stacked=stacked_cross_entropy,
)

HALF_SQUARED_ERROR = Objective(
    name="half squared error",
    losses=lambda outputs, labels: (outputs - labels).square().flatten(1).sum(1) / 2,
)
