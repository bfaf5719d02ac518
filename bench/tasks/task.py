"""A task ready to be trained: data on a device, model, loss, metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.tasks.images import ImageSplits, Split
from bench.tasks.models import Model
from bench.tasks.registry import DATA_SETS, build_model, load_splits

SPLITS = ("train", "val", "test")
#: Batch size from which the loss is computed with the examples innermost.
EXAMPLES_INNERMOST = 512


@dataclass(frozen=True)
class Task:
    """What is trained, on one device in one precision.

    Attributes:
        name: Name in reports, such as "mnist5k/mlp".
        model: The model.
        train: What is trained on.
        train_evaluation: The part of it that training metrics are taken on.
        val: Validation split.
        test: Test split.
        classes: Number of classes.
        autocast: Whether the forward pass runs under bfloat16 autocast.
    """

    name: str
    model: Model
    train: Split
    train_evaluation: Split
    val: Split
    test: Split
    classes: int
    autocast: bool = False

    @property
    def device(self) -> torch.device:
        """Where the data lie."""
        return self.train.inputs.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of inputs and parameters."""
        return self.train.inputs.dtype

    def initialise(self, seed: int) -> list[Tensor]:
        """Draw fresh parameters on the task's device from an init seed; the draw itself is the same on any device."""
        drawn = self.model.initialise(torch.Generator().manual_seed(seed))
        return [p.to(self.device, self.dtype).requires_grad_() for p in drawn]

    def logits(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Run the model. Inputs: batch × channels × height × width. Returns batch × classes."""
        if not self.autocast:
            return self.model.forward(parameters, inputs)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            return self.model.forward(parameters, inputs)

    def loss(self, parameters: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of a batch, in nats."""
        return mean_cross_entropy(self.logits(parameters, inputs), labels)

    def split(self, name: str) -> Split:
        """Return the split that metrics of `name` ("train", "val", "test") are taken on."""
        return {"train": self.train_evaluation, "val": self.val, "test": self.test}[name]

    @torch.inference_mode()
    def evaluate(self, parameters: Sequence[Tensor], split: Split, batch_size: int) -> Tensor:
        """Return mean cross-entropy (nats) and accuracy over a split, as a float64 tensor of two on the device.

        Sums are taken in float64, so the result does not depend on the evaluation batch size beyond the rounding
        of each example's logits.
        """
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        totals = torch.zeros(2, dtype=wide, device=self.device)
        for inputs, labels in zip(split.inputs.split(batch_size), split.labels.split(batch_size), strict=True):
            logits = self.logits(parameters, inputs)
            losses = F.cross_entropy(logits, labels, reduction="none")
            totals[0] += losses.to(wide).sum()
            totals[1] += (logits.argmax(1) == labels).sum()
        return totals / len(split)


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


def build_task(
    name: str,
    data: str,
    model: str,
    splits: ImageSplits,
    device: torch.device,
    precision: str,
    train_evaluation_examples: int | None,
    seed: int,
) -> Task:
    """Put a task on a device.

    Args:
        name: Name in reports.
        data: Registered data set.
        model: Registered model.
        splits: The loaded data.
        device: Where to train.
        precision: "float32", "float64", "tf32" or "bfloat16".
        train_evaluation_examples: Training examples that training metrics are taken on; None for all.
        seed: Data seed that draws them.
    """
    dtype = torch.float64 if precision == "float64" else torch.float32
    train = splits.train.to(device, dtype)
    evaluation = train
    if train_evaluation_examples is not None and train_evaluation_examples < len(train):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        chosen = order[:train_evaluation_examples].sort().values.to(device)
        evaluation = Split(train.inputs[chosen], train.labels[chosen])
    return Task(
        name=name,
        model=build_model(model, data),
        train=train,
        train_evaluation=evaluation,
        val=splits.val.to(device, dtype),
        test=splits.test.to(device, dtype),
        classes=DATA_SETS[data].classes,
        autocast=precision == "bfloat16",
    )


def load_task(
    name: str,
    data: str,
    model: str,
    root: str,
    download: bool,
    device: torch.device,
    precision: str,
    train_evaluation_examples: int | None,
    seed: int,
) -> Task:
    """Load a registered data set and put the task on a device; see `load_splits` and `build_task`.

    Raises:
        DataUnavailable: The files are neither there nor to be had.
        UsageError: A file is there and does not match its checksum.
    """
    splits = load_splits(data, root, download, seed)
    return build_task(name, data, model, splits, device, precision, train_evaluation_examples, seed)
