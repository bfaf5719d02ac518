"""A task ready to be trained: a problem on a device, in a precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.tasks.problem import CROSS_ENTROPY, AfterStep, Model, Objective, Picture, Problem, Split, Stream, Untrained
from bench.tasks.registry import TaskSpec, load_problem

SPLITS = ("train", "val", "test")


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
        classes: Number of classes; None where there are none.
        objective: Loss and accuracy.
        autocast: Whether the forward pass runs under bfloat16 autocast.
        sparse: Whether training takes the model's sparse gradients.
        standardised: Whether the training inputs should have mean 0 and standard deviation 1.
        distinct: Whether no example should stand in two splits.
        untrained, stream, after_step, picture: As in `bench.tasks.problem.Problem`.
    """

    name: str
    model: Model
    train: Split
    train_evaluation: Split
    val: Split
    test: Split
    classes: int | None
    objective: Objective = CROSS_ENTROPY
    autocast: bool = False
    sparse: bool = False
    standardised: bool = False
    distinct: bool = True
    untrained: Untrained | None = None
    stream: Stream | None = None
    after_step: AfterStep | None = None
    picture: Picture | None = None

    @property
    def device(self) -> torch.device:
        """Where the data lie."""
        return self.train.inputs.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of inputs, outputs and parameters."""
        for tensor in (self.train.inputs, self.train.labels):
            if tensor.is_floating_point():
                return tensor.dtype
        return torch.float32

    @property
    def examples(self) -> int:
        """Training examples in an epoch."""
        return self.stream.epoch if self.stream else len(self.train)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `evaluate` returns."""
        return ("loss",) if self.objective.correct is None else ("loss", "accuracy")

    def initialise(self, seed: int) -> list[Tensor]:
        """Draw fresh parameters on the task's device from an init seed; the draw itself is the same on any device."""
        drawn = self.model.initialise(torch.Generator().manual_seed(seed))
        return [p.to(self.device, self.dtype).requires_grad_() for p in drawn]

    def buffers(self) -> list[Tensor]:
        """Return fresh buffers on the task's device."""
        return [b.to(self.device, self.dtype if b.is_floating_point() else b.dtype) for b in self.model.buffers()]

    def outputs(self, weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Run the model as evaluated. Weights: parameters, then buffers. Inputs: batch × …. Returns batch × …."""
        if not self.autocast:
            return self.model.forward(weights, inputs)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            return self.model.forward(weights, inputs)

    def loss(self, weights: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, as trained. Weights: parameters, then buffers."""
        model, mean = self.model, self.objective.mean
        forward = (model.sparse_forward if self.sparse else model.training_forward) or model.forward
        if self.autocast:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                outputs = forward(weights, inputs)
        else:
            outputs = forward(weights, inputs)
        return mean(outputs, labels) if mean else self.objective.losses(outputs, labels).mean()

    @property
    def stacked_training_forward(self) -> Callable[[Sequence[Tensor], Tensor], Tensor] | None:
        """The forward pass of stacked trials as trained; None where the model has none of its own."""
        model = self.model
        return model.stacked_training_forward if model.training_forward else model.stacked_forward

    def stacked_loss(self, weights: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over stacked trials of each one's mean loss, as trained.

        Args:
            weights: Parameters, then buffers, as for `Model.stacked_forward`.
            inputs: Batch × … for all trials, or trials × batch × ….
            labels: Likewise.
        """
        trials, own = len(weights[0]), labels.dim() > self.train.labels.dim()
        forward = self.stacked_training_forward
        if forward is None:
            # Buffers that training moves are stacked as well.
            moved = 0 if self.model.training_forward else None
            dims = [0] * (len(weights) - len(self.model.buffers())) + [moved] * len(self.model.buffers())
            batched = 0 if own else None
            each: Tensor = torch.vmap(self.loss, in_dims=(dims, batched, batched))(list(weights), inputs, labels)
            return each.sum()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            outputs = forward(weights, inputs)
        return self._total(outputs, labels if own else labels.expand(trials, *labels.shape))

    def _total(self, outputs: Tensor, labels: Tensor) -> Tensor:
        objective = self.objective
        if objective.stacked:
            return objective.stacked(outputs, labels)
        losses = objective.losses(outputs.flatten(0, 1), labels.flatten(0, 1))
        return losses.view(*labels.shape[:2]).mean(1).sum()

    def split(self, name: str) -> Split:
        """Return the split that metrics of `name` ("train", "val", "test") are taken on."""
        return {"train": self.train_evaluation, "val": self.val, "test": self.test}[name]

    def example_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return a batch of the given size, as a training step sees one, in storage of its own.

        One that is larger than the training split repeats its examples.
        """
        if self.stream:
            inputs, labels = self.stream.draw(size, torch.Generator().manual_seed(0))
            batch = Split(inputs, labels).to(self.device, self.dtype)
            return batch.inputs, batch.labels
        if size > len(self.train):
            chosen = torch.arange(size, device=self.device) % len(self.train)
            return self.train.inputs[chosen], self.train.labels[chosen]
        return self.train.inputs[:size].clone(), self.train.labels[:size].clone()

    @torch.inference_mode()
    def evaluate(self, weights: Sequence[Tensor], split: Split, batch_size: int) -> Tensor:
        """Return the mean of each of `metrics` over a split (losses, accuracy as a fraction) as a tensor on the device.

        Sums are taken in float64, so the result does not depend on the evaluation batch size beyond the rounding
        of each example's outputs.
        """
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        correct = self.objective.correct
        totals = torch.zeros(len(self.metrics), dtype=wide, device=self.device)
        for inputs, labels in zip(split.inputs.split(batch_size), split.labels.split(batch_size), strict=True):
            outputs = self.outputs(weights, inputs)
            totals[0] += self.objective.losses(outputs, labels).to(wide).sum()
            if correct is not None:
                totals[1] += correct(outputs, labels).sum()
        return totals / len(split)

    @torch.inference_mode()
    def evaluate_stacked(self, weights: Sequence[Tensor], split: Split, batch_size: int) -> Tensor:
        """Return what `evaluate` returns of each of several trials: trials × metrics.

        Args:
            weights: Parameters, then buffers, as for `Model.stacked_forward`, which the model has.
            split: What metrics are taken on.
            batch_size: Examples per evaluation batch, of all trials at once.
        """
        forward = self.model.stacked_forward
        assert forward is not None
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        trials, correct = len(weights[0]), self.objective.correct
        totals = torch.zeros(trials, len(self.metrics), dtype=wide, device=self.device)
        for inputs, labels in zip(split.inputs.split(batch_size), split.labels.split(batch_size), strict=True):
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
                outputs = forward(weights, inputs).flatten(0, 1)
            each = labels.expand(trials, *labels.shape).flatten(0, 1)
            totals[:, 0] += self.objective.losses(outputs, each).view(trials, -1).to(wide).sum(1)
            if correct is not None:
                totals[:, 1] += correct(outputs, each).view(trials, -1).sum(1)
        return totals / len(split)


def build_task(
    name: str,
    problem: Problem,
    device: torch.device,
    precision: str,
    train_evaluation_examples: int | None,
    seed: int,
    sparse: bool = False,
) -> Task:
    """Put a problem on a device.

    Args:
        name: Name in reports.
        problem: The problem.
        device: Where to train.
        precision: "float32", "float64", "tf32" or "bfloat16".
        train_evaluation_examples: Training examples that training metrics are taken on; None for all.
        seed: Data seed that draws them.
        sparse: Whether training takes the model's sparse gradients.
    """
    dtype = torch.float64 if precision == "float64" else torch.float32
    splits = problem.splits
    train = splits.train.to(device, dtype)
    evaluation = train
    if train_evaluation_examples is not None and train_evaluation_examples < len(train):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        chosen = order[:train_evaluation_examples].sort().values.to(device)
        evaluation = Split(train.inputs[chosen], train.labels[chosen])
    return Task(
        name=name,
        model=problem.model,
        train=train,
        train_evaluation=evaluation,
        val=splits.val.to(device, dtype),
        test=splits.test.to(device, dtype),
        classes=problem.classes,
        objective=problem.objective,
        autocast=precision == "bfloat16",
        sparse=sparse,
        standardised=splits.standardised,
        distinct=splits.distinct,
        untrained=problem.untrained,
        stream=problem.stream,
        after_step=problem.after_step,
        picture=problem.picture,
    )


def load_task(
    spec: TaskSpec,
    root: str,
    download: bool,
    device: torch.device,
    precision: str,
    train_evaluation_examples: int | None,
    seed: int,
    sparse: bool = False,
) -> Task:
    """Load a task and put it on a device; see `load_problem` and `build_task`.

    Raises:
        DataUnavailable: The files are neither there nor to be had.
        UsageError: A file is there and does not match its checksum.
    """
    problem = load_problem(spec, root, download, seed)
    return build_task(spec.name, problem, device, precision, train_evaluation_examples, seed, sparse)
