"""Batches: which examples each step sees, gathered from tensors that lie on the device."""

from collections.abc import Iterator

import torch
from torch import Tensor

#: Examples gathered at once. Small batches are cut out of one gather, which costs one index_select for many steps;
#: the piece stays in the cache until it has been used.
GATHER_EXAMPLES = 256

Batch = tuple[Tensor, Tensor]


class BatchOrder:
    """An endless stream of batches, epoch after epoch.

    Args:
        inputs: Examples × …, on the training device.
        labels: Examples, likewise.
        batch_size: Examples per batch, 1 … examples.
        remainder: "keep" (an epoch's last batch may be smaller) or "drop".
        reshuffle: Whether each epoch draws a new order; False replays the first.
        seed: Order seed.
    """

    def __init__(
        self, inputs: Tensor, labels: Tensor, batch_size: int, remainder: str, reshuffle: bool, seed: int
    ) -> None:
        self.inputs = inputs
        self.labels = labels
        self.batch_size = batch_size
        self.examples_seen = 0
        self._reshuffle = reshuffle
        self._generator = torch.Generator().manual_seed(seed)
        examples = len(labels)
        self._used = examples - examples % batch_size if remainder == "drop" else examples
        self._per_gather = max(1, GATHER_EXAMPLES // batch_size) * batch_size
        self._order = torch.empty(0, dtype=torch.int64)
        self._position = self._used
        self._whole = batch_size == examples
        # Gathers reuse one buffer: fresh memory would push what the step needs next out of the cache.
        self._buffer = None if self._whole else inputs.new_empty((self._per_gather, *inputs.shape[1:]))

    def take(self, steps: int) -> Iterator[list[Batch]]:
        """Yield the next `steps` batches, in lists gathered together.

        A batch is valid until the next list is asked for.
        """
        while steps > 0:
            if self._position >= self._used:
                self._next_epoch()
            end = min(self._position + min(self._per_gather, steps * self.batch_size), self._used)
            batches = self._gather(self._position, end)
            self.examples_seen += end - self._position
            self._position = end
            steps -= len(batches)
            yield batches

    def _next_epoch(self) -> None:
        self._position = 0
        # A full batch is the same set in every order, so it is neither permuted nor copied.
        if not self._whole and (self._reshuffle or len(self._order) == 0):
            order = torch.randperm(len(self.labels), generator=self._generator)[: self._used]
            self._order = order.to(self.labels.device)

    def _gather(self, start: int, end: int) -> list[Batch]:
        if self._buffer is None:
            return [(self.inputs, self.labels)]
        chosen = self._order[start:end]
        labels = self.labels.index_select(0, chosen)
        inputs = torch.index_select(self.inputs, 0, chosen, out=self._buffer[: end - start])
        if end - start <= self.batch_size:
            return [(inputs, labels)]
        return list(zip(inputs.split(self.batch_size), labels.split(self.batch_size), strict=True))
