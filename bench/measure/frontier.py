"""The largest batch that fits: predicted from what a step holds at small batches, and found by trying."""

import gc
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.errors import DeviceUnavailable
from bench.measure.memory import MIB, activation_bytes_of, out_of_memory, reset_resident_peak, status_mib
from bench.tasks.task import Task

#: Steps of an attempt: the second has the optimizer's state beside everything else.
ATTEMPT_STEPS = 2
#: The search ends once the smallest batch that does not fit is within this fraction of the largest that does.
PRECISION = 0.01


class Line(NamedTuple):
    """Bytes as a function of the batch size, a + b·B.

    Attributes:
        constant: a, bytes.
        slope: b, bytes per example.
    """

    constant: float
    slope: float

    def at(self, batch_size: int) -> float:
        """Return the bytes at a batch size."""
        return self.constant + self.slope * batch_size

    def largest(self, limit: float) -> int:
        """Return the largest batch size at which the line is no higher than a limit; 0 where it never is."""
        return max(0, int((limit - self.constant) / self.slope)) if self.slope > 0 else 0


@dataclass(frozen=True)
class Attempt:
    """One batch size tried.

    Attributes:
        batch_size: Examples.
        peak_bytes: Peak while stepping, above what the process had before; None where it did not fit.
        reason: Why it did not fit, in one line; None where it did.
    """

    batch_size: int
    peak_bytes: int | None
    reason: str | None = None

    @property
    def fits(self) -> bool:
        """Whether it fitted."""
        return self.peak_bytes is not None


def through(first: tuple[int, float], second: tuple[int, float]) -> Line:
    """Return the line through two points, each a batch size and bytes."""
    slope = (second[1] - first[1]) / (second[0] - first[0])
    return Line(first[1] - slope * first[0], slope)


def activation_line(task: Task, sizes: tuple[int, int]) -> Line:
    """Return the line through the bytes that autograd keeps for backward at two batch sizes, counted exactly.

    The loss of a large batch is computed otherwise than that of a small one (`bench.tasks.problem.EXAMPLES_INNERMOST`),
    so both sizes should lie on the side that is asked about.
    """
    weights = [*task.initialise(0), *task.buffers()]
    first, second = ((size, float(activation_bytes_of(task, weights, size))) for size in sizes)
    return through(first, second)


def attempt(task: Task, build: Callable[[list[Tensor], float], torch.optim.Optimizer], size: int) -> Attempt:
    """Take steps on one batch of a size, and see whether they fit.

    Args:
        task: What is trained; a batch larger than its training split repeats examples.
        build: Parameters and learning rate → the optimizer.
        size: Examples.
    """
    device = task.device
    _free(device)
    base = reset_resident_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        base = torch.cuda.memory_allocated(device) / MIB
    try:
        _steps(task, build, size)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        lines = str(error).strip().splitlines()
        return Attempt(size, None, lines[0] if lines else type(error).__name__)
    finally:
        _free(device)
    if device.type == "cuda":
        peak: float | None = torch.cuda.max_memory_allocated(device) / MIB
    else:
        peak = status_mib("VmHWM")
    return Attempt(size, round(((peak or 0.0) - (base or 0.0)) * MIB))


def search(try_size: Callable[[int], Attempt], start: int, most: int) -> list[Attempt]:
    """Find the largest batch that fits, by doubling or halving from a guess and then bisecting.

    Args:
        try_size: Tries a size.
        start: Guess.
        most: Largest size to try.

    Returns:
        What was tried, in order. The largest that fitted is within `PRECISION` of the smallest that did not, or is
        `most`.
    """
    tried: list[Attempt] = []
    size = min(max(1, start), most)
    while True:
        tried.append(try_size(size))
        fitted = max((a.batch_size for a in tried if a.fits), default=0)
        failed = min((a.batch_size for a in tried if not a.fits), default=None)
        if fitted == most or failed == 1:
            return tried
        if failed is None:
            size = min(2 * fitted, most)
        elif fitted == 0:
            size = max(1, failed // 2)
        elif failed - fitted <= max(1, PRECISION * fitted):
            return tried
        else:
            size = (fitted + failed) // 2


def largest(tried: Sequence[Attempt]) -> int:
    """Return the largest batch size that fitted; 0 where none did."""
    return max((a.batch_size for a in tried if a.fits), default=0)


def limit_memory(device: torch.device, limit_mib: float) -> None:
    """Let this process have no more than so much memory beyond what it has now, so that the machine stays usable.

    Args:
        device: Whose memory.
        limit_mib: MiB.

    Raises:
        DeviceUnavailable: The system cannot hold a process to that.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / MIB
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_mib / total), device)
        return
    has = status_mib("VmData")
    if device.type != "cpu" or has is None:
        raise DeviceUnavailable(f"device {device.type}: no process here can be held to an amount of memory")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int((has + limit_mib) * MIB), hard))


def _steps(task: Task, build: Callable[[list[Tensor], float], torch.optim.Optimizer], size: int) -> None:
    parameters = task.initialise(0)
    weights, optimizer = [*parameters, *task.buffers()], build(parameters, 1e-6)
    inputs, labels = task.example_batch(size)

    @torch.enable_grad()
    def closure() -> Tensor:
        loss = task.loss(weights, inputs, labels)
        for parameter, value in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = value
        return loss

    for _ in range(ATTEMPT_STEPS):
        closure()
        optimizer.step()


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
