"""The training loop: one trial, from fresh parameters to the end of its budget.

The loop holds nothing that does not depend on the step. Gradients come from `autograd.grad`, batches from
`BatchOrder`, and the update from the real optimizer object. Whether a trial has diverged, reached the end of its
seconds or should stop is looked at between pieces of it, never inside.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.tasks.task import SPLITS, Task
from bench.training.batches import BatchOrder
from bench.training.schedule import evaluation_points

#: With a budget in seconds, the clock is read at least this often, so the overshoot stays below it.
CLOCK_SECONDS = 0.02


@dataclass(frozen=True)
class Plan:
    """What a trial is to do.

    Attributes:
        batch_size: Examples per step.
        steps: Last step; None where only seconds limit the trial.
        seconds: Training seconds; None for no such limit.
        until_largest: With both limits: whether to go on until both are reached, or to end at the first.
        remainder: "keep" or "drop".
        reshuffle: Whether each epoch draws a new order.
        per_epoch: Steps per epoch.
        per_octave: Evaluation points per doubling of the step count.
        every_epoch: How many of the first epoch ends are evaluation points too.
        evaluation_batch_size: Examples per evaluation batch.
        divergence_factor: Multiple of the untrained loss above which a trial is diverged.
        target_metric: Such as "val_accuracy".
        target: Value to get strictly past.
    """

    batch_size: int
    steps: int | None
    seconds: float | None
    until_largest: bool
    remainder: str
    reshuffle: bool
    per_epoch: int
    per_octave: int
    every_epoch: int
    evaluation_batch_size: int
    divergence_factor: float
    target_metric: str
    target: float

    def last_step(self, train_seconds: float) -> int | None:
        """Return the last step as far as it is known once `train_seconds` have passed."""
        if self.seconds is None:
            return self.steps
        if train_seconds >= self.seconds:
            return self.steps if self.until_largest and self.steps is not None else 0
        return None if self.until_largest or self.steps is None else self.steps

    def past_target(self, value: float) -> bool:
        """Whether a value of the target metric lies strictly past the target."""
        return value > self.target if self.target_metric.endswith("accuracy") else value < self.target


@dataclass(frozen=True)
class Evaluation:
    """Metrics at one point of a trial.

    Attributes:
        step: Optimizer steps taken.
        epoch: Passes over the training split.
        examples: Examples seen.
        train_seconds: Training clock.
        metrics: "train_loss", "train_accuracy", "val_loss" … → value; losses in nats.
    """

    step: int
    epoch: float
    examples: int
    train_seconds: float
    metrics: dict[str, float]


@dataclass
class Trial:
    """A trained trial.

    Attributes:
        lr: Learning rate.
        seed: Trial seed.
        status: "complete", "diverged" or "interrupted".
        reason: Why it ended early.
        evaluations: Metrics at each evaluation point.
        parameters_sha256: Hash of the final parameters' bytes.
    """

    lr: float
    seed: int
    status: str = "complete"
    reason: str | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    parameters_sha256: str = ""


class Stepper:
    """Takes training steps and keeps their clock.

    Args:
        task: What is trained.
        parameters: Leaf tensors, as the optimizer holds them.
        optimizer: The real optimizer object over `parameters`.
        batches: The stream of batches.
    """

    def __init__(
        self, task: Task, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer, batches: BatchOrder
    ) -> None:
        self.task = task
        self.parameters = list(parameters)
        self.optimizer = optimizer
        self.batches = batches
        self.steps = 0
        self.seconds = 0.0

    def run(self, steps: int, stop: Callable[[], bool]) -> None:
        """Take `steps` steps, or fewer if `stop` turns true between two gathers. Adds to the training clock."""
        loss, parameters, update = self.task.loss, self.parameters, self.optimizer.step
        gradient = torch.autograd.grad
        device = self.task.device
        synchronise(device)
        start = time.perf_counter()
        for gathered in self.batches.take(steps):
            for inputs, labels in gathered:
                gradients = gradient(loss(parameters, inputs, labels), parameters)
                for parameter, value in zip(parameters, gradients):  # noqa: B905 - strict costs in the hot loop
                    parameter.grad = value
                update()
            self.steps += len(gathered)
            if stop():
                break
        synchronise(device)
        self.seconds += time.perf_counter() - start


def train_trial(
    task: Task,
    build: Callable[[list[Tensor], float], torch.optim.Optimizer],
    plan: Plan,
    lr: float,
    seed: int,
    init_seed: int,
    order_seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> Trial:
    """Train one trial.

    Args:
        task: What is trained.
        build: Parameters and learning rate → the optimizer.
        plan: Budget, batch order and evaluation points.
        lr: Learning rate.
        seed: The trial's seed, for the record.
        init_seed: Seed of the initial parameters.
        order_seed: Seed of the batch order.
        stop: Asked between pieces; true ends the trial as interrupted.

    Returns:
        The trial, diverged and interrupted ones included; nothing is raised for either.
    """
    parameters = task.initialise(init_seed)
    order = BatchOrder(
        task.train.inputs, task.train.labels, plan.batch_size, plan.remainder, plan.reshuffle, order_seed
    )
    stepper = Stepper(task, parameters, build(parameters, lr), order)
    trial = Trial(lr, seed)
    for point in evaluation_points(None, plan.per_octave, plan.per_epoch, plan.every_epoch):
        reached_end = _advance(stepper, plan, point, stop)
        evaluation = evaluate(task, stepper, plan)
        trial.evaluations.append(evaluation)
        trial.reason = _diverged(trial.evaluations, plan)
        if trial.reason is not None:
            trial.status = "diverged"
            break
        if reached_end:
            break
        if stop():
            trial.status, trial.reason = "interrupted", f"stopped after {stepper.steps} steps"
            break
    trial.parameters_sha256 = parameters_hash(parameters)
    return trial


def _advance(stepper: Stepper, plan: Plan, point: int, stop: Callable[[], bool]) -> bool:
    """Take steps up to an evaluation point or the end of the budget; return whether the budget is used up."""
    while not stop():
        last = plan.last_step(stepper.seconds)
        goal = point if last is None else min(point, last)
        missing = goal - stepper.steps
        if missing <= 0:
            break
        if plan.seconds is not None:
            rate = stepper.seconds / stepper.steps if stepper.steps else CLOCK_SECONDS
            missing = min(missing, max(1, int(CLOCK_SECONDS / max(rate, 1e-9))))
        stepper.run(missing, stop)
    last = plan.last_step(stepper.seconds)
    return last is not None and stepper.steps >= last


def evaluate(task: Task, stepper: Stepper, plan: Plan) -> Evaluation:
    """Take all metrics on all splits, outside the training clock, with one synchronisation."""
    values = torch.cat(
        [task.evaluate(stepper.parameters, task.split(name), plan.evaluation_batch_size) for name in SPLITS]
    ).tolist()
    names = [f"{split}_{metric}" for split in SPLITS for metric in ("loss", "accuracy")]
    examples = stepper.batches.examples_seen
    return Evaluation(
        step=stepper.steps,
        epoch=examples / len(task.train),
        examples=examples,
        train_seconds=stepper.seconds,
        metrics=dict(zip(names, values, strict=True)),
    )


def _diverged(evaluations: Sequence[Evaluation], plan: Plan) -> str | None:
    first, now = evaluations[0], evaluations[-1]
    loss, untrained = now.metrics["train_loss"], first.metrics["train_loss"]
    if not math.isfinite(loss):
        return f"training loss {loss} at step {now.step}"
    if loss > plan.divergence_factor * untrained:
        return f"training loss {loss:.3g} at step {now.step}, over {plan.divergence_factor:g} × the untrained loss"
    return None


def parameters_hash(parameters: Sequence[Tensor]) -> str:
    """Return the SHA-256 of the parameters' bytes, in order."""
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock read now is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
