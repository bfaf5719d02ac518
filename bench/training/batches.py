"""Batches: which examples each step sees, gathered from tensors that lie on the device, or drawn afresh."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from bench.tasks.problem import Split, Stream
from bench.tasks.task import Task

#: Examples gathered at once. Small batches are cut out of one gather, which costs one index_select for many steps;
#: the piece stays in the cache until it has been used.
GATHER_EXAMPLES = 256

Batch = tuple[Tensor, Tensor]


class Batches(Protocol):
    """An endless stream of batches."""

    batch_size: int
    examples_seen: int

    def take(self, steps: int) -> Iterator[list[Batch]]:
        """Yield the next `steps` batches, in lists; a batch is valid until the next list is asked for."""
        ...

    def resize(self, batch_size: int) -> None:
        """Change the batch size from the next batch on."""
        ...


class BatchOrder:
    """Batches that visit the examples of a split, epoch after epoch.

    Args:
        inputs: Examples × …, on the training device.
        labels: Examples, likewise.
        batch_size: Examples per batch, 1 … examples.
        remainder: What becomes of an epoch's last, smaller batch: "keep" it, "drop" it, or "carry" its examples into
            the first batch of the next epoch.
        reshuffle: Whether each epoch draws a new order; False replays the first.
        seed: Order seed.
    """

    def __init__(
        self, inputs: Tensor, labels: Tensor, batch_size: int, remainder: str, reshuffle: bool, seed: int
    ) -> None:
        self.inputs = inputs
        self.labels = labels
        self.examples_seen = 0
        self._remainder = remainder
        self._reshuffle = reshuffle
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64)
        self._position = len(labels)
        self.resize(batch_size)

    def resize(self, batch_size: int) -> None:
        """Change the batch size from the next batch on."""
        self.batch_size = batch_size
        self._per_gather = max(1, GATHER_EXAMPLES // batch_size) * batch_size
        self._whole = batch_size == len(self.labels)
        # Gathers reuse one buffer: fresh memory would push what the step needs next out of the cache.
        self._buffer = None if self._whole else self.inputs.new_empty((self._per_gather, *self.inputs.shape[1:]))

    def take(self, steps: int) -> Iterator[list[Batch]]:
        """Yield the next `steps` batches, in lists gathered together.

        A batch is valid until the next list is asked for.
        """
        for chosen, size in self.choose(steps):
            yield self._gather(chosen, size)

    def choose(self, steps: int) -> Iterator[tuple[Tensor | None, int]]:
        """Yield which examples the next `steps` batches see, several batches at once, and their size.

        The last batch of an epoch may be smaller. None stands for the whole split as it lies.
        """
        while steps > 0:
            left = len(self.labels) - self._position
            if left == 0 or (left < self.batch_size and self._remainder != "keep"):
                rest = self._order[self._position :] if self._remainder == "carry" else self._order[:0]
                self._next_epoch()
                if len(rest):
                    steps -= 1
                    chosen = torch.cat([rest, self._order[: self.batch_size]])
                    self._position = self.batch_size
                    self.examples_seen += len(chosen)
                    yield chosen, len(chosen)
                continue
            usable = left if self._remainder == "keep" else left - left % self.batch_size
            start, end = self._position, self._position + min(self._per_gather, steps * self.batch_size, usable)
            self.examples_seen += end - start
            self._position = end
            steps -= -(-(end - start) // self.batch_size)
            yield (None if self._whole and start == 0 else self._order[start:end]), self.batch_size

    def _next_epoch(self) -> None:
        self._position = 0
        # A full batch is the same set in every order, so it is neither permuted nor copied.
        if not self._whole and (self._reshuffle or len(self._order) == 0):
            order = torch.randperm(len(self.labels), generator=self._generator)
            self._order = order.to(self.labels.device)

    def _gather(self, chosen: Tensor | None, size: int) -> list[Batch]:
        if chosen is None:
            return [(self.inputs, self.labels)]
        labels = self.labels.index_select(0, chosen)
        # A batch size that has become the whole set leaves the rest of an epoch, and no buffer for it; a batch that
        # begins with what an epoch left over is longer than the buffer.
        fits = self._buffer is not None and len(chosen) <= len(self._buffer)
        out = self._buffer[: len(chosen)] if fits and self._buffer is not None else None
        inputs = torch.index_select(self.inputs, 0, chosen, out=out)
        if len(chosen) <= size:
            return [(inputs, labels)]
        return list(zip(inputs.split(size), labels.split(size), strict=True))


class StackedBatches:
    """The batches of stacked trials, each of which visits the examples in an order of its own.

    Args:
        orders: One for each order seed; alike but for it.
        of_trials: For each trial, which of the orders it follows.

    Attributes:
        batch_size: Examples per step and trial.
        examples_seen: Examples that each trial has seen.
    """

    def __init__(self, orders: Sequence[BatchOrder], of_trials: Sequence[int]) -> None:
        self._orders = list(orders)
        self.batch_size = orders[0].batch_size
        self.examples_seen = 0
        self.follow(of_trials)

    def follow(self, of_trials: Sequence[int]) -> None:
        """Say anew which trials there are, and which order each follows."""
        apart = list(of_trials) != list(range(len(self._orders)))
        self._of_trials = torch.tensor(of_trials, device=self._orders[0].labels.device) if apart else None

    def take(self, steps: int) -> Iterator[list[Batch]]:
        """Yield the next `steps` batches, in lists: trials × batch × …, or batch × … where all see the whole split."""
        inputs, labels = self._orders[0].inputs, self._orders[0].labels
        for several in zip(*(order.choose(steps) for order in self._orders), strict=True):
            size = several[0][1]
            self.examples_seen = self._orders[0].examples_seen
            rows = [chosen for chosen, _ in several if chosen is not None]
            if not rows:
                yield [(inputs, labels)]
                continue
            chosen = torch.stack(rows)
            if self._of_trials is not None:
                chosen = chosen.index_select(0, self._of_trials)
            # The last batch of an epoch may be smaller.
            whole = max(size, chosen.shape[1] // size * size)
            parts = chosen.split(whole, 1)
            yield [batch for part in parts for batch in self._gather(part, min(size, part.shape[1]))]

    def _gather(self, chosen: Tensor, size: int) -> Iterator[Batch]:
        """Yield the batches of chosen examples (trials × examples): each lies in one piece."""
        inputs, labels = self._orders[0].inputs, self._orders[0].labels
        trials, examples = chosen.shape
        shape = (examples // size, trials, size)
        flat = chosen.view(trials, -1, size).transpose(0, 1).flatten()
        for batch in zip(*(t.index_select(0, flat).unflatten(0, shape) for t in (inputs, labels)), strict=True):
            yield batch[0], batch[1]

    def resize(self, batch_size: int) -> None:
        """Change the batch size from the next batch on."""
        self.batch_size = batch_size
        for order in self._orders:
            order.resize(batch_size)


class FreshBatches:
    """Batches drawn afresh at every step; the one without noise where the batch is as large as an epoch.

    Args:
        stream: Where they come from.
        batch_size: Examples whose noise a batch has, 1 … `stream.epoch`.
        device: Where to put them; they are drawn on the CPU, so that they are the same on any device.
        dtype: Floating type.
        seed: Noise seed.
    """

    def __init__(self, stream: Stream, batch_size: int, device: torch.device, dtype: torch.dtype, seed: int) -> None:
        self.batch_size = batch_size
        self.examples_seen = 0
        self._stream = stream
        self._device = device
        self._dtype = dtype
        self._generator = torch.Generator().manual_seed(seed)
        self._exact = self._placed(stream.exact())

    def resize(self, batch_size: int) -> None:
        """Change the batch size from the next batch on."""
        self.batch_size = batch_size

    def take(self, steps: int) -> Iterator[list[Batch]]:
        """Yield the next `steps` batches, one a list."""
        for _ in range(steps):
            whole = self.batch_size >= self._stream.epoch
            batch = self._exact if whole else self._placed(self._stream.draw(self.batch_size, self._generator))
            self.examples_seen += self.batch_size
            yield [batch]

    def _placed(self, batch: Batch) -> Batch:
        placed = Split(*batch).to(self._device, self._dtype)
        return placed.inputs, placed.labels


def batches_of(
    task: Task, batch_size: int, remainder: str, reshuffle: bool, order_seed: int, noise_seed: int
) -> Batches:
    """Return the stream of batches that a task is trained on; see `BatchOrder` and `FreshBatches`."""
    if task.stream is not None:
        return FreshBatches(task.stream, batch_size, task.device, task.dtype, noise_seed)
    return BatchOrder(task.train.inputs, task.train.labels, batch_size, remainder, reshuffle, order_seed)
