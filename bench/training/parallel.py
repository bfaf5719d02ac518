"""Data parallel training: a process for each device, each with its share of every batch.

A batch is the batch of all devices together: each process (rank) takes its share of the examples, and the gradients of
the shares, weighted by their sizes, are averaged by torch's DistributedDataParallel. So every rank steps on the
gradient of the mean loss of the whole batch, with an optimizer object of its own, and holds the same parameters as
every other.

Rank 0 is in charge: it says what is done next, and evaluates; the others follow.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bench.devices import part_of
from bench.errors import BenchError
from bench.tasks.task import Task
from bench.training.batches import Batch, Batches, BatchOrder, batches_of
from bench.training.devices import BACKENDS
from bench.training.loop import Plan, parameters_hash
from bench.training.seeds import Start
from bench.training.stepper import Method, Stepper, synchronise

Build = Callable[[list[Tensor], float], torch.optim.Optimizer]

#: Ranks other than 0 wait for what is next while rank 0 evaluates, however long that takes: whoever started the
#: processes watches over them.
PATIENCE = timedelta(days=30)
#: Steps are taken in pieces of about so many seconds, so that a trial can be interrupted.
PIECE_SECONDS = 0.1


class Begin(NamedTuple):
    """Begin a fresh trial.

    Attributes:
        start: Its learning rate and seeds.
        batch_size: Examples per step, of all ranks together.
        measured: Whether it is measured rather than trained: no schedule moves it.
    """

    start: Start
    batch_size: int
    measured: bool


class Run(NamedTuple):
    """Take so many steps of the trial."""

    steps: int


class Gradient(NamedTuple):
    """Take the gradient of a batch of the trial, and no step."""


class Compare(NamedTuple):
    """Tell rank 0 the hash of the trial's parameters."""


@dataclass(frozen=True)
class Group:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: Which of them this is; 0 is in charge.
        size: How many there are.
        backend: What averages gradients: "gloo" or "nccl".
        device: The device of this one: "cpu" or "cuda:N".
        control: The group that what is done next is said in.
    """

    rank: int
    size: int
    backend: str
    device: str
    control: Any

    def say(self, command: object) -> None:
        """Rank 0: tell the others what is next; None is the end of the cell."""
        dist.broadcast_object_list([command], src=0, group=self.control)

    def told(self) -> object:
        """The other ranks: wait for what is next."""
        heard: list[object] = [None]
        dist.broadcast_object_list(heard, src=0, group=self.control)
        return heard[0]

    def hashes(self, own: str) -> list[str]:
        """Return what each rank says, on rank 0; all have to call it."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, own, group=self.control)
        return found


def join(rank: int, size: int, device: str, meeting: str, timeout: float, patience: float) -> Group:
    """Join the processes that train together on this machine.

    Args:
        rank: Which of them this is.
        size: How many there are.
        device: The device they are, all together, such as "cpu:2".
        meeting: File that they find each other by.
        timeout: Seconds that a collective operation may take.
        patience: Seconds that all of them may take to come.
    """
    kind, own = device.partition(":")[0], part_of(device, rank)
    if kind == "cuda":
        torch.cuda.set_device(own)
    # A file, where a port would be open to the network.
    store = dist.FileStore(meeting, size)  # type: ignore[attr-defined]
    store.set_timeout(timedelta(seconds=patience))
    store.set(f"here {rank}", "")
    store.wait([f"here {other}" for other in range(size)])
    dist.init_process_group(BACKENDS[kind], store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout))
    return Group(rank, size, BACKENDS[kind], own, dist.new_group(backend="gloo", timeout=PATIENCE))


def share_of(examples: int, rank: int, size: int) -> tuple[int, int]:
    """Return which examples of a batch are a rank's, first and past the last: shares differ by one at most.

    Of a batch with fewer examples than ranks the last ones have none.
    """
    each, more = divmod(examples, size)
    first = rank * each + min(rank, more)
    return first, first + each + (rank < more)


class Shares:
    """A rank's shares of a stream of batches, one batch at a time.

    Args:
        batches: The stream, the same on every rank.
        rank: Which rank this is.
        size: How many there are.

    Attributes:
        batch_size: Examples per step, of all ranks together.
        examples_seen: Likewise.
        whole: Examples of all ranks together in the batch last taken.
    """

    def __init__(self, batches: Batches, rank: int, size: int) -> None:
        self._inner = batches
        self._rank, self._size = rank, size
        self.batch_size, self.examples_seen, self.whole = batches.batch_size, batches.examples_seen, 0

    def __copy__(self) -> "Shares":
        """Return a stream that moves on its own, as a copy of the batches themselves does."""
        return Shares(copy.copy(self._inner), self._rank, self._size)

    def resize(self, batch_size: int) -> None:
        """Change the batch size from the next batch on."""
        self._inner.resize(batch_size)
        self.batch_size = batch_size

    def take(self, steps: int) -> Iterator[list[Batch]]:
        """Yield this rank's shares of the next `steps` batches, one a list; a share may be empty."""
        if isinstance(self._inner, BatchOrder):
            yield from self._chosen(self._inner, steps)
            return
        for gathered in self._inner.take(steps):
            for inputs, labels in gathered:
                first, last = self._share(len(labels))
                yield [(inputs[first:last], labels[first:last])]

    def _chosen(self, order: BatchOrder, steps: int) -> Iterator[list[Batch]]:
        """Yield shares without gathering those of others."""
        for several, size in order.choose(steps):
            if several is None:
                first, last = self._share(len(order.labels))
                yield [(order.inputs[first:last], order.labels[first:last])]
                continue
            for chosen in several.split(max(size, 1)):
                first, last = self._share(len(chosen))
                own = chosen[first:last]
                yield [(order.inputs.index_select(0, own), order.labels.index_select(0, own))]

    def _share(self, examples: int) -> tuple[int, int]:
        self.whole, self.examples_seen = examples, self._inner.examples_seen
        return share_of(examples, self._rank, self._size)


class BatchLoss(nn.Module):
    """The loss of a task as the module that DistributedDataParallel asks for.

    Args:
        task: What is trained.
        parameters: Its parameters, as the optimizer holds them.
        buffers: Its buffers, which training does not move.
    """

    def __init__(self, task: Task, parameters: list[nn.Parameter], buffers: list[Tensor]) -> None:
        super().__init__()
        self._loss = task.loss
        self._parameters_of_task, self._buffers_of_task = parameters, buffers
        # Registered, which is how DistributedDataParallel finds them.
        self.values = nn.ParameterList(parameters)

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a share; of an empty one 0, whose gradient is 0 whatever the parameters are."""
        if not len(labels):
            return torch.stack([parameter.sum() for parameter in self._parameters_of_task]).sum() * 0
        return self._loss([*self._parameters_of_task, *self._buffers_of_task], inputs, labels)


class ParallelStepper(Stepper):
    """Takes training steps of one trial together with the other ranks; see `Stepper`.

    Args:
        group: The ranks.
        task: What is trained, on this rank's device.
        parameters: Leaf tensors, as the optimizer holds them.
        optimizer: The real optimizer object over them.
        shares: This rank's shares of the batches.
        method: How steps are taken.
    """

    def __init__(
        self,
        group: Group,
        task: Task,
        parameters: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        shares: Shares,
        method: Method,
    ) -> None:
        super().__init__(task, parameters, optimizer, shares, method)
        self._group, self._shares = group, shares
        self._replica = DistributedDataParallel(
            BatchLoss(task, parameters, self.weights[len(parameters) :]),
            device_ids=[task.device] if task.device.type == "cuda" else None,
            # Buffers that training moves are refused before anything is trained.
            broadcast_buffers=False,
        )

    @property
    def pass_size(self) -> int:
        """Examples that pass through the model at once on the rank with the largest share, which rank 0 is."""
        share = -(-self.batches.batch_size // self._group.size)
        return min(share, self.method.micro_batch or share)

    def run(self, steps: int, stop: Callable[[], bool]) -> None:
        """Rank 0: take `steps` steps with all ranks, or fewer if `stop` turns true. Adds to the training clock."""
        last = self.steps + steps
        while self.steps < last and not stop():
            piece = min(last - self.steps, self._piece())
            self._group.say(Run(piece))
            self.follow(piece)

    def follow(self, steps: int) -> None:
        """Take steps that all ranks have been told to take."""
        device = self.task.device
        synchronise(device)
        start = time.perf_counter()
        self._general(steps, lambda: False)
        synchronise(device)
        self.seconds += time.perf_counter() - start

    def gradient(self) -> list[Tensor]:
        """Rank 0: return the gradient of the next batch, of all ranks together, unclipped; no step is taken."""
        self._group.say(Gradient())
        return self.follow_gradient()

    def follow_gradient(self) -> list[Tensor]:
        """Take the gradient that all ranks have been told to take."""
        for gathered in self.batches.take(1):
            for batch in gathered:
                self._backward(*batch)
        return [parameter.grad.detach().clone() for parameter in self.parameters if parameter.grad is not None]

    def _piece(self) -> int:
        """Return how many steps fill a piece; one before any is timed."""
        return max(1, int(PIECE_SECONDS * self.steps / self.seconds)) if self.seconds else 1

    @torch.enable_grad()
    def _gradients(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Put the gradient of the whole batch where the optimizer looks for it, and return the loss."""
        self.gradient_evaluations += 1
        loss = self._backward(inputs, labels)
        if self.method.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.method.clip_norm)
        if self.method.closure:
            # An optimizer that looks at the loss has to see the same on every rank.
            dist.all_reduce(loss)
            loss = loss / self._group.size
        return loss

    @torch.enable_grad()
    def _backward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Put the gradient of the whole batch where the optimizer looks for it; return this rank's part of the loss.

        Gradients are averaged over ranks, each counting alike, so what a rank adds is weighted by its share.
        """
        for parameter in self.parameters:
            parameter.grad = None
        pieces = [(inputs, labels)]
        micro = self.method.micro_batch
        if micro is not None and micro < len(labels):
            pieces = list(zip(inputs.split(micro), labels.split(micro), strict=True))
        loss = torch.zeros((), device=labels.device)
        for number, (some_inputs, some_labels) in enumerate(pieces, 1):
            weight = self._group.size * len(some_labels) / self._shares.whole
            # Gradients of earlier passes wait for the last one's to be averaged with it.
            with nullcontext() if number == len(pieces) else self._replica.no_sync():
                part = self._replica(some_inputs, some_labels) * weight
                part.backward()
            loss = loss + part.detach()
        return loss


@dataclass(frozen=True)
class DataParallel:
    """The trials of a cell as ranks train them.

    Attributes:
        group: The ranks.
        task: What is trained, on this rank's device.
        build: Parameters and learning rate → the optimizer.
        plan: Budget, batch order and evaluation points.
    """

    group: Group
    task: Task
    build: Build
    plan: Plan

    def begin(self, start: Start, batch_size: int, measured: bool = False) -> ParallelStepper:
        """Rank 0: return a fresh trial, which all ranks begin; see `Begin`."""
        command = Begin(start, batch_size, measured)
        self.group.say(command)
        return self._begun(command)

    def agree(self, stepper: ParallelStepper) -> None:
        """Rank 0: check that a trial has ended with the same parameters everywhere.

        Raises:
            BenchError: It has not: an optimizer does something else on each rank.
        """
        self.group.say(Compare())
        found = self.group.hashes(parameters_hash(stepper.evaluated))
        others = [rank for rank, said in enumerate(found) if said != found[0]]
        if others:
            raise BenchError(f"data parallel: rank {others[0]} ends with other parameters than rank 0")

    def end(self) -> None:
        """Rank 0: tell the others that the cell has ended."""
        self.group.say(None)

    def follow(self) -> None:
        """The other ranks: do what rank 0 says, until the cell ends."""
        stepper: ParallelStepper | None = None
        while (command := self.group.told()) is not None:
            if isinstance(command, Begin):
                # What the trial before held is free before the next one takes its own.
                stepper = None
                stepper = self._begun(command)
                continue
            assert stepper is not None
            if isinstance(command, Run):
                stepper.follow(command.steps)
            elif isinstance(command, Gradient):
                stepper.follow_gradient()
            else:
                self.group.hashes(parameters_hash(stepper.evaluated))

    def _begun(self, command: Begin) -> ParallelStepper:
        start, plan, group = command.start, self.plan, self.group
        method = replace(plan.method, factor=None, phases=None) if command.measured else plan.method
        parameters = [nn.Parameter(value.detach()) for value in self.task.initialise(start.init)]
        # As alone: nothing of ours draws from torch's own generator, but some optimizers do.
        torch.manual_seed(start.noise)
        batches = batches_of(self.task, command.batch_size, plan.remainder, plan.reshuffle, start.order, start.noise)
        shares = Shares(batches, group.rank, group.size)
        optimizer = self.build(list(parameters), start.lr)
        # With patience: until here ranks may be far apart, such as by loading their data.
        dist.barrier(group=group.control)
        return ParallelStepper(group, self.task, parameters, optimizer, shares, method)
