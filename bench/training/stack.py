"""Stacked trials: several learning rates and seeds of a cell, trained in one set of tensors.

Each parameter is one tensor of shape trials × its shape, learning rate by learning rate; one backward pass of the
summed losses gives every trial its own gradient. The optimizers are the real objects, over views of that storage: one
for each learning rate, or, where the class allows it, one with a parameter group for each. Trials that follow the same
order of batches share each batch.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.optimizers.classes import learning_rate_key
from bench.tasks.problem import Split
from bench.tasks.task import Task
from bench.training.batches import Batches, BatchOrder, StackedBatches
from bench.training.gradients import Gradients, Player
from bench.training.graphs import Graphs
from bench.training.seeds import Start
from bench.training.stepper import PLAIN, Method, Replaying, lean_step, synchronise

Build = Callable[[list[Tensor], float], torch.optim.Optimizer]
#: Gradients of at most so many numbers are copied to where the optimizers look for them: that costs less than cutting
#: them into views anew at every step.
COPIED = 1 << 15


class Layout(NamedTuple):
    """How the trials of a stack lie before layers and optimizers.

    Attributes:
        views: Whether the trials of a learning rate are one parameter of shape trials × … to their optimizer, which
            only elementwise ones take for what it is.
        groups: Whether one optimizer holds all learning rates, as parameter groups.
        wide: Whether layers see that trials share a batch, and make one wide product of theirs.
    """

    views: bool
    groups: bool
    wide: bool


class Stack(Replaying):
    """Trials that take their steps together; what `bench.training.stepper.Stepper` is to one.

    Args:
        task: What is trained.
        build: Parameters and learning rate → the optimizer.
        starts: The trials, learning rate by learning rate, each with the same seeds in the same order.
        batches: Their batches.
        method: How steps are taken: a schedule and an average, nothing else.
        layout: How they lie before layers and optimizers.
        gradients: What was traced or compiled of the task's gradients; None to let autograd record every step.
        graphs: What replays steps, of the plain method alone; None to take them kernel by kernel.

    Attributes:
        starts: The trials that are still trained.
        steps: Steps taken by each.
        seconds: Training clock of each: its share of the stack's.
        gradient_evaluations: Gradients of a batch computed by each.
        weights: Parameters, trials × …; then buffers, likewise where training moves them.
    """

    def __init__(
        self,
        task: Task,
        build: Build,
        starts: Sequence[Start],
        batches: Batches,
        method: Method,
        layout: Layout,
        gradients: Gradients | None = None,
        graphs: Graphs | None = None,
    ) -> None:
        self.task = task
        self.starts = list(starts)
        self.batches = batches
        self.method = method
        self.layout = layout
        self.steps = 0
        self.seconds = 0.0
        self.gradient_evaluations = 0
        drawn = [task.initialise(start.init) for start in starts]
        self._parameters = [torch.stack([p.detach() for p in several]) for several in zip(*drawn, strict=True)]
        self._buffers = task.buffers()
        if task.model.training_forward:
            self._buffers = [b.expand(len(starts), *b.shape).clone() for b in self._buffers]
        self._averages = [p.clone() for p in self._parameters] if method.average is not None else None
        # Trials of each view: those of a learning rate, or one.
        self._width = len({start.seed for start in starts}) if layout.views else 1
        self._views = [self._cut(p) for p in self._parameters]
        self.optimizers = self._built(build)
        self._traced = gradients
        self._graphs = graphs if method == PLAIN and task.after_step is None else None
        self._replay = None
        self._require_gradients()
        self._record_afresh()
        self._base_lrs = {
            id(group): group[key]
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            if (key := learning_rate_key(group) or "lr") in group
        }

    @property
    def weights(self) -> list[Tensor]:
        """Parameters, then buffers."""
        return [*self._parameters, *self._buffers]

    @property
    def evaluated(self) -> list[Tensor]:
        """What metrics are taken of, stacked: the averages where they are kept, else the parameters; then buffers."""
        return [*(self._averages or self._parameters), *self._buffers]

    def evaluated_of(self, trial: int) -> list[Tensor]:
        """Return what metrics of one trial are taken of, as `Stepper.evaluated`."""
        moved = self.task.model.training_forward is not None
        parameters = [p.detach()[trial] for p in self._averages or self._parameters]
        return [*parameters, *(b[trial] if moved else b for b in self._buffers)]

    @property
    def trials(self) -> int:
        """Trials that take their steps together."""
        return len(self.starts)

    def losses(self, inputs: Tensor, labels: Tensor) -> dict[Start | None, float]:
        """Return each trial's loss on a batch for all of them or trials × batches; buffers stay as they are."""
        moved, found = self.task.model.training_forward is not None, dict[Start | None, float]()
        own = labels.dim() > self.task.train.labels.dim()
        with torch.no_grad():
            for trial, start in enumerate(self.starts):
                buffers = [(b[trial] if moved else b).clone() for b in self._buffers]
                batch = (inputs[trial], labels[trial]) if own else (inputs, labels)
                found[start] = float(self.task.loss([*(p[trial] for p in self._parameters), *buffers], *batch))
        return found

    def state_of(self, trial: int) -> list[Tensor]:
        """Return what the optimizers keep for a trial: parameter by parameter, by name."""
        width = self._width
        state: dict[Any, Any] = {}
        for optimizer in self.optimizers:
            state |= optimizer.state
        found = []
        for several in self._views:
            view, shape = several[trial // width], several[trial // width].shape
            for tensor in numbers(state.get(view, {})):
                found.append(tensor[trial % width] if width > 1 and tensor.shape == shape else tensor)
        return found

    def orders(self) -> list[int]:
        """Return for each trial which of the stack's orders of batches it follows."""
        return _orders_of(self.starts)

    def gradients(self, inputs: Tensor, labels: Tensor) -> Sequence[Tensor]:
        """Return the gradient of each parameter, trials × …, on a batch for all trials or trials × batches."""
        inputs, labels = self._seen(inputs, labels)
        return self._player(inputs, labels)

    def _seen(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch as layers see it: for each trial its own, unless they are told that it is one for all."""
        if self.layout.wide or labels.dim() > self.task.train.labels.dim():
            return inputs, labels
        trials = len(self.starts)
        return inputs.expand(trials, *inputs.shape), labels.expand(trials, *labels.shape)

    def run(self, steps: int, stop: Callable[[], bool]) -> None:
        """Take `steps` steps, or fewer if `stop` turns true between two gathers. Adds to the training clock."""
        device = self.task.device
        synchronise(device)
        start, prepared = time.perf_counter(), self._preparing_seconds
        if self._replay is not None:
            self._replayed(self._replay, steps, stop)
        else:
            self._take(steps, stop)
        synchronise(device)
        taken = time.perf_counter() - start - (self._preparing_seconds - prepared)
        self.seconds += taken / len(self.starts)

    @property
    def _preparing_seconds(self) -> float:
        return self._player.tracing_seconds + (self._replay.seconds if self._replay else 0.0)

    def _plain_step(self, inputs: Tensor, labels: Tensor) -> None:
        self._hand_out(self.gradients(inputs, labels))
        for optimizer in self.optimizers:
            lean_step(optimizer)()

    def _hand_out(self, gradients: Sequence[Tensor]) -> None:
        """Put gradients where the optimizers look for them."""
        if self._gradients is not None:
            torch._foreach_copy_(self._gradients, list(gradients))
            # An optimizer may have put others in their place.
            for view, piece in self._pieces:
                view.grad = piece
            return
        width = self._width
        for several, value in zip(self._views, gradients):  # noqa: B905 - strict costs in the hot loop
            pieces = value.split(width) if width > 1 else value.unbind()
            for view, piece in zip(several, pieces):  # noqa: B905
                view.grad = piece

    def _take(self, steps: int, stop: Callable[[], bool]) -> None:
        parameters = self._parameters
        updates = [lean_step(optimizer) for optimizer in self.optimizers]
        factor, averages, decay = self.method.factor, self._averages, self.method.average
        for gathered in self.batches.take(steps):
            for inputs, labels in gathered:
                self._hand_out(self.gradients(inputs, labels))
                if factor:
                    self._set_rates(factor(self.steps))
                for update in updates:
                    update()
                if averages is not None and decay is not None:
                    with torch.no_grad():
                        torch._foreach_lerp_(averages, parameters, 1 - decay)
                self.steps += 1
            self.gradient_evaluations += len(gathered)
            if stop():
                break

    def _set_rates(self, factor: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if id(group) in self._base_lrs:
                    group[learning_rate_key(group) or "lr"] = self._base_lrs[id(group)] * factor

    def _cut(self, stacked: Tensor) -> list[Tensor]:
        """Return the views that optimizers hold: one for each learning rate, or one for each trial."""
        whole = stacked.detach()
        return list(whole.split(self._width) if self._width > 1 else whole.unbind())

    def _built(self, build: Build) -> list[torch.optim.Optimizer]:
        rates = list(dict.fromkeys(start.lr for start in self.starts))
        per_rate = len(self._views[0]) // len(rates)
        built = [
            build([view for several in self._views for view in several[per_rate * i : per_rate * (i + 1)]], lr)
            for i, lr in enumerate(rates)
        ]
        if not self.layout.groups:
            return built
        first, *others = built
        for other in others:
            for group in other.param_groups:
                first.add_param_group(group)
            first.state.update(other.state)
        return [first]

    def _require_gradients(self) -> None:
        self._gradients: list[Tensor] | None = None
        if sum(p.numel() for p in self._parameters) <= COPIED:
            self._gradients = [torch.zeros_like(p, requires_grad=False) for p in self._parameters]
            self._pieces = [
                pair
                for several, whole in zip(self._views, self._gradients, strict=True)
                for pair in zip(several, self._cut(whole), strict=True)
            ]
        for parameter in self._parameters:
            parameter.requires_grad_()
        self._player = Player(self.task.stacked_loss, self.weights, len(self._parameters), self._traced)

    def _record_afresh(self) -> None:
        """Let steps be recorded anew: a graph holds on to the tensors that it was recorded with."""
        if self._graphs is not None:
            self._replay = self._graphs.steps(self._plain_step, self._prepare, self.weights, self.optimizers)

    def _prepare(self, inputs: Tensor, labels: Tensor) -> None:
        self._player.prepare(*self._seen(inputs, labels))

    def drop(self, rates: set[float]) -> None:
        """Train some learning rates no longer: what is left lies in smaller tensors, and costs accordingly."""
        kept = [number for number, start in enumerate(self.starts) if start.lr not in rates]
        chosen = torch.tensor(kept, device=self.task.device)
        kept_views = [number for number, start in enumerate(self._owners()) if start.lr not in rates]
        gone = [view for several in self._views for n, view in enumerate(several) if n not in kept_views]
        self.starts = [self.starts[number] for number in kept]
        self._views = [[several[number] for number in kept_views] for several in self._views]
        self._parameters = [p.detach().index_select(0, chosen) for p in self._parameters]
        for several, whole in zip(self._views, self._parameters, strict=True):
            for view, storage in zip(several, self._cut(whole), strict=True):
                # The optimizer goes on holding the view, with all that it keeps for it.
                view.data, view.grad = storage, None
        if self._averages is not None:
            self._averages = [a.index_select(0, chosen) for a in self._averages]
        if self.task.model.training_forward:
            self._buffers = [b.index_select(0, chosen) for b in self._buffers]
        self._require_gradients()
        self.optimizers = [optimizer for optimizer in self.optimizers if not _forget(optimizer, gone)]
        self._record_afresh()
        if isinstance(self.batches, StackedBatches):
            self.batches.follow(_orders_of(self.starts))

    def _owners(self) -> list[Start]:
        """Return the first trial of each view."""
        return self.starts[:: self._width]


def _forget(optimizer: torch.optim.Optimizer, views: Sequence[Tensor]) -> bool:
    """Take groups of parameters out of an optimizer, whole; return whether none is left."""
    gone = {id(view) for view in views}
    left = [group for group in optimizer.param_groups if id(group["params"][0]) not in gone]
    if left:
        optimizer.param_groups[:] = left
        for view in views:
            optimizer.state.pop(view, None)
    return not left


def stacked_batches(
    task: Task, starts: Sequence[Start], batch_size: int, remainder: str, reshuffle: bool, data: Split | None = None
) -> Batches:
    """Return the batches of stacked trials.

    Args:
        task: What is trained, from a split, not from a stream.
        starts: The trials.
        batch_size: Examples per step and trial.
        remainder: As for `BatchOrder`.
        reshuffle: Likewise.
        data: Another split to train on than the task's own.
    """
    split = data or task.train
    seeds = list(dict.fromkeys(start.order for start in starts))
    orders = [BatchOrder(split.inputs, split.labels, batch_size, remainder, reshuffle, seed) for seed in seeds]
    if len(orders) == 1:
        return orders[0]
    return StackedBatches(orders, _orders_of(starts))


def _orders_of(starts: Sequence[Start]) -> list[int]:
    seeds = list(dict.fromkeys(start.order for start in starts))
    return [seeds.index(start.order) for start in starts]


def numbers(state: dict[str, Any]) -> list[Tensor]:
    """Return what an optimizer keeps for a parameter, as tensors, by name."""
    kept = ((name, value) for name, value in sorted(state.items()) if isinstance(value, Tensor | int | float))
    return [torch.as_tensor(value) for _, value in kept]
