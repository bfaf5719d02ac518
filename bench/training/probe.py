"""What may look at trials at their evaluation points, outside the training clock, without touching anything."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from bench.training.batches import Batch, Batches
from bench.training.seeds import Start
from bench.training.stepper import synchronise


class Probe(Protocol):
    """Takes further metrics of trials.

    Attributes:
        window: How many steps before a point it wants the batch losses of; 0 for none.
        keeps_weights: Whether trials keep their last weights, for what is measured between them.
    """

    window: int
    keeps_weights: bool

    def due(self, before: int, step: int, end: bool) -> bool:
        """Tell whether to measure at an evaluation point.

        Args:
            before: Step of the evaluation before; −1 at the first.
            step: Step of this one.
            end: Whether the trial ends here.
        """
        ...

    def take(self, start: Start, step: int, weights: Sequence[Tensor], losses: Sequence[float]) -> dict[str, float]:
        """Return metrics of one trial, name → value.

        Args:
            start: The trial.
            step: Steps taken.
            weights: What metrics are taken of: parameters, then buffers.
            losses: Loss of each of the last batches, just before its step; empty where none were watched.
        """
        ...


#: Steps taken before a batch, and the loss of each trial on it (of the only one under None), in order.
Recent = list[tuple[int, dict[Start | None, float]]]


def losses_of(start: Start, step: int, recent: Recent, window: int) -> list[float]:
    """Return the losses of a trial on its last batches, as many as a window has or as there were steps.

    Nothing where some of them were not noted: between them the trial moved unseen.
    """
    found = [losses.get(start, losses.get(None)) for at, losses in recent if at >= step - window]
    whole = [loss for loss in found if loss is not None]
    return whole if len(whole) == min(window, step) else []


class WatchedBatches:
    """Hands on a stream's batches one at a time and notes the losses on each just before the step that it is for.

    Args:
        batches: The stream.
        losses: Inputs and labels → the loss of each trial.
        device: Where it is trained.
        steps: Steps taken so far.

    Attributes:
        inner: The stream.
        losses: What was noted.
    """

    def __init__(
        self,
        batches: Batches,
        losses: Callable[[Tensor, Tensor], dict[Start | None, float]],
        device: torch.device,
        steps: int,
    ) -> None:
        self.inner = batches
        self.losses: Recent = []
        self._seconds = 0.0
        self._steps = steps
        self._of = losses
        self._device = device
        self.batch_size = batches.batch_size
        self.examples_seen = batches.examples_seen

    def take(self, steps: int) -> Iterator[list[Batch]]:
        """Yield the next `steps` batches, one a list."""
        for gathered in self.inner.take(steps):
            self.examples_seen = self.inner.examples_seen
            for batch in gathered:
                synchronise(self._device)
                start = time.perf_counter()
                with undisturbed(self._device):
                    self.losses.append((self._steps, self._of(*batch)))
                self._steps += 1
                self._seconds += time.perf_counter() - start
                yield [batch]

    def aside(self) -> float:
        """Return the seconds that noting took since this was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def resize(self, batch_size: int) -> None:
        """Change the batch size from the next batch on."""
        self.inner.resize(batch_size)
        self.batch_size = batch_size


def undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """Return a context that leaves torch's own random numbers as it found them, on the CPU and on a CUDA device."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])
