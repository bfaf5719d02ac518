"""The training loop: one trial, from fresh parameters to the end of its budget.

Whether a trial has diverged, reached the end of its seconds or should stop is looked at between pieces of it, never
inside.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.tasks.task import SPLITS, Task
from bench.training.batches import batches_of
from bench.training.evaluations import evaluation_points
from bench.training.gradients import Gradients
from bench.training.graphs import Graphs
from bench.training.probe import Probe, Recent, WatchedBatches, losses_of
from bench.training.seeds import Start
from bench.training.stack import Stack
from bench.training.stepper import PLAIN, Method, Stepper

if TYPE_CHECKING:
    from bench.training.parallel import DataParallel

#: With a budget in seconds, the clock is read at least this often, so the overshoot stays below it.
CLOCK_SECONDS = 0.02
#: So many snapshots of a trial are kept at most, evenly thinned out, if each holds more than so many numbers.
MOST_SNAPSHOTS, SMALL_SNAPSHOT = 48, 2


@dataclass(frozen=True)
class Plan:
    """What a trial is to do.

    Attributes:
        batch_size: Examples per step.
        steps: Last step; None where only seconds or gradients limit the trial.
        seconds: Training seconds; None for no such limit.
        until_largest: With several limits: whether to go on until all are reached, or to end at the first.
        remainder: "keep", "drop" or "carry".
        reshuffle: Whether each epoch draws a new order.
        per_epoch: Steps per epoch.
        per_octave: Evaluation points per doubling of the step count.
        every_epoch: How many of the first epoch ends are evaluation points too.
        evaluation_batch_size: Examples per evaluation batch.
        divergence_factor: Multiple of the untrained loss above which a trial is diverged.
        target_metric: Such as "val_accuracy".
        target: Value to get strictly past.
        method: How steps are taken.
        pictured: Whether what a picture shows of the trial is kept at each evaluation point.
        gradient_evaluations: Limit on the gradients of a batch that are computed; None for none.
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
    method: Method = PLAIN
    pictured: bool = False
    gradient_evaluations: int | None = None

    def last_step(self, train_seconds: float, gradient_evaluations: int) -> int | None:
        """Return the last step as far as it is known once so much has been used up."""
        used = ((self.seconds, train_seconds), (self.gradient_evaluations, gradient_evaluations))
        reached = [now >= limit for limit, now in used if limit is not None]
        if not reached:
            return self.steps
        if self.until_largest:
            return (self.steps or 0) if all(reached) else None
        return 0 if any(reached) else self.steps

    def past_target(self, value: float) -> bool:
        """Whether a value of the target metric lies strictly past the target."""
        return value > self.target if self.higher_is_better else value < self.target

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values of the target metric are better."""
        return self.target_metric.endswith("accuracy")


@dataclass(frozen=True)
class Evaluation:
    """Metrics at one point of a trial.

    Attributes:
        step: Optimizer steps taken.
        epoch: Passes over the training split.
        examples: Examples seen.
        train_seconds: Training clock.
        metrics: "train_loss", "train_accuracy", "val_loss" … → value; losses in nats.
        gradient_evaluations: Gradients of a batch computed so far.
    """

    step: int
    epoch: float
    examples: int
    train_seconds: float
    metrics: dict[str, float]
    gradient_evaluations: int = 0


@dataclass
class Trial:
    """A trained trial.

    Attributes:
        lr: Learning rate.
        seed: Trial seed.
        status: "complete", "diverged" or "interrupted".
        reason: Why it ended early.
        evaluations: Metrics at each evaluation point.
        snapshots: Step and values of what a picture shows of the trial, where that is kept.
        gradient_evaluations: How often the gradient of a batch was computed.
        parameters_sha256: Hash of the final parameters' bytes.
        weights: What was last evaluated, where that is kept.
    """

    lr: float
    seed: int
    status: str = "complete"
    reason: str | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    snapshots: list[tuple[int, list[float]]] = field(default_factory=list)
    gradient_evaluations: int = 0
    parameters_sha256: str = ""
    weights: list[Tensor] | None = None

    def add(self, evaluation: Evaluation, plan: Plan) -> None:
        """Add an evaluation; the trial is diverged if it says so."""
        self.evaluations.append(evaluation)
        self.reason = _diverged(self.evaluations, plan)
        if self.reason is not None:
            self.status = "diverged"

    def keep_picture(self, task: Task, step: int, evaluated: Sequence[Tensor]) -> None:
        """Keep what a picture shows of the trial now, where the task has one, and thin out what was kept."""
        if task.picture is None:
            return
        with torch.inference_mode():
            shown = task.picture.trial(evaluated)
        self.snapshots.append((step, shown.flatten().tolist()))
        if len(self.snapshots) > MOST_SNAPSHOTS and shown.numel() > SMALL_SNAPSHOT:
            del self.snapshots[1:-1:2]

    def interrupt(self) -> None:
        """Mark the trial as interrupted at its last evaluation."""
        self.status, self.reason = "interrupted", f"stopped after {self.evaluations[-1].step} steps"

    def end(self, gradient_evaluations: int, evaluated: Sequence[Tensor], probe: Probe | None) -> None:
        """Note what the trial ended with."""
        self.gradient_evaluations = gradient_evaluations
        if probe is not None and probe.keeps_weights:
            self.weights = [tensor.detach().clone() for tensor in evaluated]
        self.parameters_sha256 = parameters_hash(evaluated)


def train_trial(
    task: Task,
    build: Callable[[list[Tensor], float], torch.optim.Optimizer],
    plan: Plan,
    lr: float,
    seed: int,
    init_seed: int,
    order_seed: int,
    noise_seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    gradients: Gradients | None = None,
    graphs: Graphs | None = None,
    probe: Probe | None = None,
    parallel: "DataParallel | None" = None,
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
        noise_seed: Seed of examples that are drawn afresh.
        stop: Asked between pieces; true ends the trial as interrupted.
        gradients: What was traced or compiled of the task's gradients; None to let autograd record every step.
        graphs: What replays plain steps; None to take them kernel by kernel.
        probe: What else looks at the trial at evaluation points; None for nothing.
        parallel: The ranks that train it together, of which this is the one in charge; None for this process alone.

    Returns:
        The trial, diverged and interrupted ones included; nothing is raised for either.
    """
    trial, start, before = Trial(lr, seed), Start(lr, seed, init_seed, order_seed, noise_seed), -1
    together = parallel.begin(start, plan.batch_size) if parallel is not None else None
    stepper = together or _alone(task, build, plan, start, gradients, graphs)
    recent: Recent = []
    for point in evaluation_points(None, plan.per_octave, plan.per_epoch, plan.every_epoch):
        reached_end = _approach(stepper, plan, point, stop, probe, recent)
        trial.add(evaluate(task, stepper, plan), plan)
        if plan.pictured:
            trial.keep_picture(task, stepper.steps, stepper.evaluated)
        if probe is not None and trial.status != "diverged" and probe.due(before, stepper.steps, reached_end):
            losses = losses_of(start, stepper.steps, recent, probe.window)
            found = probe.take(start, stepper.steps, stepper.evaluated, losses)
            trial.evaluations[-1].metrics.update(found)
        before = stepper.steps
        if trial.status == "diverged" or reached_end:
            break
        if stop():
            trial.interrupt()
            break
    trial.end(stepper.gradient_evaluations, stepper.evaluated, probe)
    if parallel is not None and together is not None:
        parallel.agree(together)
    return trial


def _alone(
    task: Task,
    build: Callable[[list[Tensor], float], torch.optim.Optimizer],
    plan: Plan,
    start: Start,
    gradients: Gradients | None,
    graphs: Graphs | None,
) -> Stepper:
    parameters = task.initialise(start.init)
    # Nothing of ours draws from torch's own generator, but some optimizers do.
    torch.manual_seed(start.noise)
    batches = batches_of(task, plan.batch_size, plan.remainder, plan.reshuffle, start.order, start.noise)
    return Stepper(task, parameters, build(parameters, start.lr), batches, plan.method, gradients, graphs)


def train_stack(
    stack: Stack,
    plan: Plan,
    together: bool,
    pictured_seed: int | None,
    stop: Callable[[], bool] = lambda: False,
    probe: Probe | None = None,
) -> list[Trial]:
    """Train stacked trials, each as `train_trial` trains it alone.

    A diverged trial ends there; a learning rate at which every trial has diverged stops costing.

    Args:
        stack: Fresh trials.
        plan: Budget, batch order and evaluation points; its limit is in steps, examples or epochs.
        together: Whether metrics are taken of all trials in one pass.
        pictured_seed: Seed of the trials whose picture is kept; None for none.
        stop: Asked between pieces; true ends the trials as interrupted.
        probe: What else looks at each trial at evaluation points; None for nothing.

    Returns:
        The trials, in the order of `stack.starts`.
    """
    task, before = stack.task, -1
    recent: Recent = []
    trials = {(start.lr, start.seed): Trial(start.lr, start.seed) for start in stack.starts}
    for point in evaluation_points(None, plan.per_octave, plan.per_epoch, plan.every_epoch):
        reached_end = _approach(stack, plan, point, stop, probe, recent)
        interrupted = stop() and not reached_end
        due = probe is not None and probe.due(before, stack.steps, reached_end)
        before = stack.steps
        values = _stacked_metrics(stack, plan, together)
        running = [trials[start.lr, start.seed] for start in stack.starts]
        for number, (start, trial) in enumerate(zip(stack.starts, running, strict=True)):
            if trial.status == "diverged":
                continue
            trial.add(_evaluation(task, stack, values[number]), plan)
            shown = stack.evaluated_of(number)
            if probe is not None and due and trial.status != "diverged":
                losses = losses_of(start, stack.steps, recent, probe.window)
                found = probe.take(start, stack.steps, shown, losses)
                trial.evaluations[-1].metrics.update(found)
            if trial.seed == pictured_seed:
                trial.keep_picture(task, stack.steps, shown)
            if trial.status != "diverged" and interrupted:
                trial.interrupt()
            if trial.status != "complete" or reached_end:
                trial.end(stack.gradient_evaluations, shown, probe)
        alive = {trial.lr for trial in running if trial.status == "complete"}
        if reached_end or not alive:
            break
        diverged = {trial.lr for trial in running} - alive
        if diverged:
            stack.drop(diverged)
    return list(trials.values())


def _stacked_metrics(stack: Stack, plan: Plan, together: bool) -> list[list[float]]:
    task, size = stack.task, plan.evaluation_batch_size
    if together:
        values = torch.cat([task.evaluate_stacked(stack.evaluated, task.split(name), size) for name in SPLITS], 1)
    else:
        each = [stack.evaluated_of(number) for number in range(len(stack.starts))]
        values = torch.stack(
            [torch.cat([task.evaluate(one, task.split(name), size) for name in SPLITS]) for one in each]
        )
    rows: list[list[float]] = values.tolist()
    return rows


def _advance(stepper: Stepper | Stack, plan: Plan, point: int, stop: Callable[[], bool]) -> bool:
    """Take steps up to an evaluation point or the end of the budget; return whether the budget is used up."""
    while not stop():
        last = plan.last_step(stepper.seconds, stepper.gradient_evaluations)
        goal = point if last is None else min(point, last)
        missing = goal - stepper.steps
        if missing <= 0:
            break
        if plan.seconds is not None:
            rate = stepper.seconds / stepper.steps if stepper.steps else CLOCK_SECONDS
            missing = min(missing, max(1, int(CLOCK_SECONDS / max(rate, 1e-9))))
        if plan.gradient_evaluations is not None:
            left = plan.gradient_evaluations - stepper.gradient_evaluations
            # How many a step takes is known only where the optimizer does not ask for them itself.
            missing = 1 if plan.method.closure else max(1, min(missing, left))
        stepper.run(missing, stop)
        if isinstance(stepper.batches, WatchedBatches):
            stepper.seconds -= stepper.batches.aside() / stepper.trials
    last = plan.last_step(stepper.seconds, stepper.gradient_evaluations)
    return last is not None and stepper.steps >= last


def _approach(
    stepper: Stepper | Stack, plan: Plan, point: int, stop: Callable[[], bool], probe: Probe | None, recent: Recent
) -> bool:
    """Advance as `_advance` does; where a probe wants losses of the last batches, note them among the recent ones."""
    if probe is None or not probe.window:
        return _advance(stepper, plan, point, stop)
    goal = point if plan.steps is None else min(point, plan.steps)
    if goal - probe.window > stepper.steps and _advance(stepper, plan, goal - probe.window, stop):
        return True
    watched = WatchedBatches(stepper.batches, stepper.losses, stepper.task.device, stepper.steps)
    stepper.batches = watched
    try:
        reached_end = _advance(stepper, plan, point, stop)
    finally:
        stepper.batches = watched.inner
    recent += watched.losses
    del recent[: -probe.window]
    return reached_end


def evaluate(task: Task, stepper: Stepper, plan: Plan) -> Evaluation:
    """Take all metrics on all splits, outside the training clock, with one synchronisation."""
    values = torch.cat(
        [task.evaluate(stepper.evaluated, task.split(name), plan.evaluation_batch_size) for name in SPLITS]
    ).tolist()
    return _evaluation(task, stepper, values)


def _evaluation(task: Task, stepper: Stepper | Stack, values: Sequence[float]) -> Evaluation:
    names = [f"{split}_{metric}" for split in SPLITS for metric in task.metrics]
    examples = stepper.batches.examples_seen
    return Evaluation(
        step=stepper.steps,
        epoch=examples / task.examples,
        examples=examples,
        train_seconds=stepper.seconds,
        metrics=dict(zip(names, values, strict=True)),
        gradient_evaluations=stepper.gradient_evaluations,
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
