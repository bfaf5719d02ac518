"""Training steps and their clock.

The plain step holds nothing that does not depend on the step: gradients come from `bench.training.gradients`, batches
from `bench.training.batches`, the update from the real optimizer object. Everything else a step can be asked for
(closures, clipping, schedules, averages …) goes another way, which the plain one does not pay for.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer as torch_optimizer

from bench.optimizers.classes import learning_rate_key
from bench.optimizers.schedules import Phases
from bench.tasks.task import Task
from bench.training.batches import Batches
from bench.training.compiled import CompiledGradients
from bench.training.gradients import Gradients, Player
from bench.training.graphs import Graphs, GraphSteps
from bench.training.seeds import Start


@dataclass(frozen=True)
class Method:
    """How a step is taken, beyond the plain way.

    Attributes:
        closure: Whether the optimizer calls for the loss itself, perhaps several times a step.
        gradient_graph: Whether gradients are made so that they can be differentiated again.
        clip_norm: Norm to which a longer gradient is scaled down; None for no clipping.
        micro_batch: Examples per pass; None for the whole batch at once.
        average: Decay of an exponential moving average of the parameters, which is then evaluated; None for none.
        factor: Steps taken → factor on every learning rate; None for a constant one.
        phases: Batch sizes and how many steps each has; None for one batch size.
    """

    closure: bool = False
    gradient_graph: bool = False
    clip_norm: float | None = None
    micro_batch: int | None = None
    average: float | None = None
    factor: Callable[[int], float] | None = None
    phases: Phases | None = None


#: The plain step.
PLAIN = Method()


class Replaying:
    """What a trial and a stack of trials have in common where their steps are replayed."""

    batches: Batches
    steps: int
    gradient_evaluations: int
    _replay: GraphSteps | None

    @property
    def why_eager(self) -> str | None:
        """Why steps that were to be replayed are not; None where they are, or were not to be."""
        return self._replay.reason if self._replay else None

    def _replayed(self, step: GraphSteps, steps: int, stop: Callable[[], bool]) -> None:
        for gathered in self.batches.take(steps):
            for inputs, labels in gathered:
                step(inputs, labels)
            self.steps += len(gathered)
            self.gradient_evaluations += len(gathered)
            if stop():
                break


class Stepper(Replaying):
    """Takes training steps and keeps their clock.

    Args:
        task: What is trained.
        parameters: Leaf tensors, as the optimizer holds them.
        optimizer: The real optimizer object over `parameters`.
        batches: The stream of batches.
        method: How steps are taken.
        gradients: What was traced or compiled of the task's gradients; None to let autograd record every step. Beyond
            the plain step only compiled ones count.
        graphs: What replays plain steps; None to take them kernel by kernel.

    Attributes:
        steps: Steps taken.
        seconds: Training clock; what tracing, compiling and recording take is not in it.
        gradient_evaluations: How often the gradient of a batch was computed: once a step, more where a closure is
            called several times or the optimizer differentiates gradients itself (its `extra_gradients`).
        weights: Parameters, then buffers.
    """

    def __init__(
        self,
        task: Task,
        parameters: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        method: Method = PLAIN,
        gradients: Gradients | None = None,
        graphs: Graphs | None = None,
    ) -> None:
        self.task = task
        self.parameters = list(parameters)
        self.weights = [*self.parameters, *task.buffers()]
        self.optimizer = optimizer
        self.batches = batches
        self.method = method
        self.steps = 0
        self.seconds = 0.0
        self.gradient_evaluations = 0
        self._compiles = isinstance(gradients, CompiledGradients)
        self._traced = gradients
        self._replay = None
        if graphs is not None and self._is_plain:
            self._replay = graphs.steps(self._plain_step, self._player.prepare, self.weights, [optimizer])
        self._averages = [p.detach().clone() for p in self.parameters] if method.average is not None else None
        # Some classes call it something else, some have none: their groups move by no schedule.
        self._rate_keys = [learning_rate_key(group) or "lr" for group in optimizer.param_groups]
        self._base_lrs = [
            group.get(key, 1.0) for group, key in zip(optimizer.param_groups, self._rate_keys, strict=True)
        ]

    @cached_property
    def _player(self) -> Player:
        return Player(self.task.loss, self.weights, len(self.parameters), self._traced)

    @property
    def evaluated(self) -> list[Tensor]:
        """What metrics are taken of: the averages where they are kept, else the parameters; then buffers."""
        return [*(self._averages or self.parameters), *self.weights[len(self.parameters) :]]

    @property
    def trials(self) -> int:
        """Trials that take their steps together: one."""
        return 1

    @property
    def pass_size(self) -> int:
        """Examples that pass through the model at once."""
        return min(self.batches.batch_size, self.method.micro_batch or self.batches.batch_size)

    def losses(self, inputs: Tensor, labels: Tensor) -> dict[Start | None, float]:
        """Return the loss on a batch as trained, of the one trial (None); buffers stay as they are."""
        buffers = [buffer.clone() for buffer in self.weights[len(self.parameters) :]]
        with torch.no_grad():
            return {None: float(self.task.loss([*self.parameters, *buffers], inputs, labels))}

    def run(self, steps: int, stop: Callable[[], bool]) -> None:
        """Take `steps` steps, or fewer if `stop` turns true between two gathers. Adds to the training clock."""
        device = self.task.device
        synchronise(device)
        start, prepared = time.perf_counter(), self._preparing_seconds
        if self._replay is not None:
            self._replayed(self._replay, steps, stop)
        elif self._is_plain:
            self._plain(steps, stop)
        else:
            self._general(steps, stop)
        synchronise(device)
        self.seconds += time.perf_counter() - start - (self._preparing_seconds - prepared)

    @property
    def _is_plain(self) -> bool:
        return self.method == PLAIN and self.task.after_step is None

    @property
    def _preparing_seconds(self) -> float:
        return self._player.tracing_seconds + (self._replay.seconds if self._replay else 0.0)

    def _plain(self, steps: int, stop: Callable[[], bool]) -> None:
        parameters, update, gradient = self.parameters, lean_step(self.optimizer), self._player
        for gathered in self.batches.take(steps):
            for inputs, labels in gathered:
                for parameter, value in zip(parameters, gradient(inputs, labels)):  # noqa: B905 - strict costs here
                    parameter.grad = value
                update()
            self.steps += len(gathered)
            self.gradient_evaluations += len(gathered)
            if stop():
                break

    def _plain_step(self, inputs: Tensor, labels: Tensor) -> None:
        for parameter, value in zip(self.parameters, self._player(inputs, labels), strict=True):
            parameter.grad = value
        lean_step(self.optimizer)()

    def _general(self, steps: int, stop: Callable[[], bool]) -> None:
        last = self.steps + steps
        while self.steps < last and not stop():
            goal = last
            if self.method.phases is not None:
                size, end = self.method.phases.at(self.steps)
                if size != self.batches.batch_size:
                    self.batches.resize(size)
                goal = last if end is None else min(last, end)
            for gathered in self.batches.take(goal - self.steps):
                for inputs, labels in gathered:
                    self._step(inputs, labels)
                if stop():
                    break

    def _step(self, inputs: Tensor, labels: Tensor) -> None:
        method, task = self.method, self.task
        factor = method.factor(self.steps) if method.factor else 1.0
        if method.factor:
            for group, key, lr in zip(self.optimizer.param_groups, self._rate_keys, self._base_lrs, strict=True):
                group[key] = lr * factor
        before = [p.detach().clone() for p in self.parameters] if task.after_step else []
        if method.closure:
            self.optimizer.step(partial(self._gradients, inputs, labels))  # type: ignore[arg-type]
        else:
            if self._compiles:
                self.gradient_evaluations += 1
                self._put(self._player(inputs, labels))
            else:
                self._gradients(inputs, labels)
            self.optimizer.step()
        self.gradient_evaluations += getattr(self.optimizer, "extra_gradients", 0)
        if method.gradient_graph:
            # A gradient with a graph holds its parameter, which holds the gradient: only we can break the circle.
            for parameter in self.parameters:
                parameter.grad = None
        with torch.no_grad():
            if task.after_step:
                task.after_step(self.parameters, before, self._base_lrs[0] * factor)
            if self._averages is not None and method.average is not None:
                torch._foreach_lerp_(self._averages, self.parameters, 1 - method.average)
        self.steps += 1

    @torch.enable_grad()
    def _gradients(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Put the gradient of a batch where the optimizer looks for it, and return the loss."""
        method = self.method
        self.gradient_evaluations += 1
        pieces = [(inputs, labels)]
        if method.micro_batch is not None and method.micro_batch < len(labels):
            size = method.micro_batch
            pieces = list(zip(inputs.split(size), labels.split(size), strict=True))
        total: list[Tensor] = []
        loss = torch.zeros(())
        for some_inputs, some_labels in pieces:
            part = self.task.loss(self.weights, some_inputs, some_labels)
            if len(pieces) > 1:
                part = part * (len(some_labels) / len(labels))
            found = torch.autograd.grad(part, self.parameters, create_graph=method.gradient_graph)
            total = [a + b for a, b in zip(total, found, strict=True)] if total else list(found)
            loss = loss + part if len(pieces) > 1 else part
        self._put(total)
        return loss

    def _put(self, gradients: Sequence[Tensor]) -> None:
        """Put a gradient where the optimizer looks for it, clipped."""
        for parameter, value in zip(self.parameters, gradients, strict=True):
            parameter.grad = value
        if self.method.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.method.clip_norm)


def lean_step(optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    """Return an optimizer's own step, without what torch wraps around every class's for profilers and hooks.

    The wrapper costs a tenth of the time of a small step. It stays where hooks are registered, or where the object's
    step is not its class's.
    """
    step = type(optimizer).step
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        torch_optimizer._global_optimizer_pre_hooks,
        torch_optimizer._global_optimizer_post_hooks,
    )
    own: Callable[..., Any] | None = getattr(step, "__wrapped__", None) if getattr(step, "hooked", False) else None
    if own is None or any(hooks) or "step" in vars(optimizer):
        return optimizer.step
    return MethodType(own, optimizer)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock read now is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
