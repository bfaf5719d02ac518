"""Batches: which examples each step sees, gathered from tensors that lie on the device, or drawn afresh."""

from collections.abc import Iterator
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
        while steps > 0:
            left = len(self.labels) - self._position
            if left == 0 or (left < self.batch_size and self._remainder != "keep"):
                rest = self._order[self._position :] if self._remainder == "carry" else self._order[:0]
                self._next_epoch()
                if len(rest):
                    steps -= 1
                    yield [self._first_with(rest)]
                continue
            usable = left if self._remainder == "keep" else left - left % self.batch_size
            end = self._position + min(self._per_gather, steps * self.batch_size, usable)
            batches = self._gather(self._position, end)
            self.examples_seen += end - self._position
            self._position = end
            steps -= len(batches)
            yield batches

    def _next_epoch(self) -> None:
        self._position = 0
        # A full batch is the same set in every order, so it is neither permuted nor copied.
        if not self._whole and (self._reshuffle or len(self._order) == 0):
            order = torch.randperm(len(self.labels), generator=self._generator)
            self._order = order.to(self.labels.device)

    def _first_with(self, rest: Tensor) -> Batch:
        """Return an epoch's first batch together with what the epoch before left over."""
        chosen = torch.cat([rest, self._order[: self.batch_size]])
        self._position = self.batch_size
        self.examples_seen += len(chosen)
        return self.inputs.index_select(0, chosen), self.labels.index_select(0, chosen)

    def _gather(self, start: int, end: int) -> list[Batch]:
        if self._whole and start == 0:
            return [(self.inputs, self.labels)]
        chosen = self._order[start:end]
        labels = self.labels.index_select(0, chosen)
        # A batch size that has become the whole set leaves the rest of an epoch, and no buffer for it.
        out = None if self._buffer is None else self._buffer[: end - start]
        inputs = torch.index_select(self.inputs, 0, chosen, out=out)
        if end - start <= self.batch_size:
            return [(inputs, labels)]
        return list(zip(inputs.split(self.batch_size), labels.split(self.batch_size), strict=True))


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
