"""Memory of one training step: what autograd keeps, what the optimizer keeps, and peaks as the system sees them."""

import ctypes
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from bench.optimizers.registry import state_bytes, stored_parts
from bench.results.record import Memory
from bench.tasks.task import Task
from bench.training.stepper import Stepper

MIB = 2**20
#: Steps taken between resetting and reading a peak: enough for the optimizer to have its state.
PEAK_STEPS = 3


@dataclass(frozen=True)
class StepPeak:
    """Resident memory of a process around a cell's first steps.

    Attributes:
        peak_mib: Peak while stepping, MiB; None where it was not found.
        base_mib: Just before, MiB (interpreter, libraries, data, parameters); likewise.
        reason: Why it was not found, in one line; None where it was.
    """

    peak_mib: float | None
    base_mib: float | None
    reason: str | None = None


def measure_memory(stepper: Stepper) -> Memory:
    """Measure the memory of training steps.

    The resident peak is the kernel's high-water mark, reset just before; where the kernel has no such reset it is
    None. It holds the whole process, so `base_rss_mib` stands beside it.

    Args:
        stepper: A fresh trial of the cell to measure; it is moved a few steps.
    """
    device = stepper.task.device
    activations = activation_bytes(stepper)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    base, peak = _resident(stepper)
    return Memory(
        peak_allocated_mib=torch.cuda.max_memory_allocated(device) / MIB if cuda else None,
        peak_reserved_mib=torch.cuda.max_memory_reserved(device) / MIB if cuda else None,
        peak_rss_mib=peak,
        base_rss_mib=base,
        activation_bytes=activations,
        parameter_bytes=_bytes(stepper.parameters),
        gradient_bytes=_bytes([p.grad for p in stepper.parameters if p.grad is not None]),
        state_bytes=state_bytes(stepper.optimizer),
    )


def in_process(stepper: Stepper) -> StepPeak:
    """Measure the resident memory of a process that has done nothing but build one trial.

    Where the kernel resets no peak, it is that of the whole life of the process, in which building the trial counts.

    Args:
        stepper: The trial; it is moved a few steps.
    """
    before = psutil.Process().memory_info().rss / MIB
    base, peak = _resident(stepper)
    if base is None or peak is None:
        return StepPeak(status_mib("VmHWM") or _life_peak_mib(), before)
    return StepPeak(peak, base)


def _resident(stepper: Stepper) -> tuple[float | None, float | None]:
    """Take some steps; return the resident MiB before and at peak, None where the kernel resets no peak."""
    base = reset_resident_peak()
    stepper.run(PEAK_STEPS, lambda: False)
    return base, status_mib("VmHWM") if base is not None else None


def _life_peak_mib() -> float:
    """Return the resident peak of this process since its start, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def activation_bytes(stepper: Stepper) -> int:
    """Return the bytes autograd keeps for the backward pass of one step at the stepper's batch size.

    Counted exactly through `torch.autograd.graph.saved_tensors_hooks`: the storages saved, each once, without those
    of the parameters. The batch itself is counted where it is saved. Of a step in passes it is what one pass keeps, as
    each is freed before the next; data parallel, what the rank with the largest share of a batch keeps.
    """
    return activation_bytes_of(stepper.task, stepper.weights, stepper.pass_size)


def activation_bytes_of(task: Task, weights: Sequence[Tensor], size: int) -> int:
    """Return the bytes autograd keeps for the backward pass at a batch size; see `activation_bytes`.

    Args:
        task: What is trained.
        weights: Parameters, then buffers.
        size: Examples of the batch.
    """
    own = {p.untyped_storage().data_ptr() for p in weights}
    saved: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
            # Held until counted, so that no other tensor can take over the address.
            kept.append(tensor)
        return tensor

    # In storage of its own: a view would be counted with the whole training split that it is cut from.
    inputs, labels = task.example_batch(size)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        task.loss(weights, inputs, labels)
    return sum(saved.values())


def _bytes(tensors: list[Tensor]) -> int:
    return sum(part.numel() * part.element_size() for tensor in tensors for part in stored_parts(tensor))


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory was refused; the CPU's allocator says it in words alone."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def reset_resident_peak() -> float | None:
    """Reset the kernel's resident peak of this process; return the resident MiB now, None where that cannot be."""
    _return_free_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return status_mib("VmRSS")


def _return_free_memory() -> None:
    """Let the C library give free memory back, so that what an earlier cell freed does not count here."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        # Not the GNU C library: the base is then higher by what is free inside the process.
        return


def status_mib(field: str) -> float | None:
    """Return a field of the kernel's status of this process, such as "VmRSS", in MiB; None where it has none."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return None
