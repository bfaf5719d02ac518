"""Names of devices: one, or several at once that train a cell data parallel. Imports no torch."""

import os
import re

from bench.errors import UsageError, nearest

#: CUDA devices that can be named; a name beyond them is unknown, one beyond the machine's own is unavailable.
CUDA_INDICES = range(64)
#: Processes that can be asked for on the CPU.
MOST_PROCESSES = 64

SEVERAL = (
    "cuda:all",
    *(f"cuda:0-{last}" for last in CUDA_INDICES[1:]),
    *(f"cpu:{count}" for count in range(1, MOST_PROCESSES + 1)),
)
NAMES = ("cpu", "cuda", *(f"cuda:{index}" for index in CUDA_INDICES), "mps", *SEVERAL)
#: The same in a line that can be read.
ALLOWED = (
    f"cpu, cuda, mps; one of several: cuda:0 … cuda:{CUDA_INDICES[-1]}; data parallel: "
    f"cpu:1 … cpu:{MOST_PROCESSES} processes, cuda:all, cuda:0-1 … cuda:0-{CUDA_INDICES[-1]}"
)


def is_parallel(name: str) -> bool:
    """Tell whether a device is one that trains data parallel, by a process for each of its parts."""
    return re.fullmatch(r"cpu:\d+|cuda:all|cuda:0-\d+", name) is not None


def count_of(name: str, cuda_devices: int) -> int:
    """Return how many devices a name stands for.

    Args:
        name: One of `NAMES`.
        cuda_devices: How many CUDA devices this machine has, which "cuda:all" stands for.
    """
    if not is_parallel(name):
        return 1
    kind, _, part = name.partition(":")
    if kind == "cpu":
        return int(part)
    return cuda_devices if part == "all" else int(part.partition("-")[2]) + 1


def part_of(name: str, rank: int) -> str:
    """Return the one device that a rank of several trains on: "cpu", "cuda:N"; a single device's own name."""
    if not is_parallel(name):
        return name
    return "cpu" if name.startswith("cpu") else f"cuda:{rank}"


def unknown_device(name: str) -> UsageError:
    """Build the error for a device that is none of `NAMES`: the nearest, and in short what is allowed."""
    close = nearest(name, NAMES)
    hint = f"; did you mean {close!r}?" if close else ""
    return UsageError(f"unknown device {name!r}{hint} (allowed: {ALLOWED})")


def check_single(name: str, command: str) -> None:
    """Check that a device is a single one, which is all that a command measures.

    Raises:
        UsageError: It is several.
    """
    if is_parallel(name):
        raise UsageError(
            f"device={name}: {command} measures a single device, such as {part_of(name, 0)}; the throughput of several "
            "is measured in each cell's record (bench run)"
        )


def usable_cores() -> int:
    """Return the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
