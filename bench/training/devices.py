"""Devices: whether one is here, and the switches that make its results repeat."""

import functools

import torch
from threadpoolctl import threadpool_limits

from bench.devices import count_of, is_parallel, part_of, usable_cores
from bench.errors import DeviceUnavailable

#: What averages gradients over processes, by kind of device.
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


def why_unavailable(name: str) -> str | None:
    """Return why a device cannot be used here, in one line; None where it can.

    Args:
        name: One of `bench.devices.NAMES`.
    """
    if is_parallel(name):
        return _why_not_parallel(name)
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            built = torch.version.cuda is not None
            return "no CUDA device on this machine" if built else "this torch was built without CUDA"
        count = torch.cuda.device_count()
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            return f"this machine has {count} CUDA device{'s' if count > 1 else ''} (cuda:0 … cuda:{count - 1})"
    if name == "mps" and not torch.backends.mps.is_available():
        return "no MPS device on this machine"
    return None


def _why_not_parallel(name: str) -> str | None:
    kind = name.partition(":")[0]
    missing = why_unavailable(kind)
    if missing is not None:
        return missing
    here = torch.cuda.device_count() if kind == "cuda" else usable_cores()
    wanted = count_of(name, here)
    if wanted > here:
        what = "CUDA device" if kind == "cuda" else "core"
        return f"this machine has {here} {what}{'s' if here > 1 else ''}, {wanted} are asked for"
    backend = BACKENDS[kind]
    if not torch.distributed.is_available() or not torch.distributed.is_backend_available(backend):
        return f"this torch was built without {backend}"
    return None


def available_devices() -> list[str]:
    """Return the names of the devices that can be used here."""
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return [*names, "mps"] if torch.backends.mps.is_available() else names


@functools.lru_cache(maxsize=1)
def _limit_blas(threads: int) -> None:
    """Hold the linear algebra that is not torch's, such as scipy's, to the same number of threads."""
    threadpool_limits(limits=threads, user_api="blas")


def prepare(name: str, threads: int, precision: str, rank: int = 0) -> torch.device:
    """Set this process up for a device and return it.

    Denormal numbers are flushed to zero: dead units leave denormal momentum behind that slows a CPU step several
    times. Matrix products use TF32 only where the precision says so.

    Args:
        name: One of `bench.devices.NAMES`.
        threads: Threads of CPU operations.
        precision: "float32", "float64", "tf32" or "bfloat16".
        rank: Of a device that is several: which of them.

    Raises:
        DeviceUnavailable: The device is not here.
    """
    reason = why_unavailable(name)
    if reason is not None:
        raise DeviceUnavailable(f"device {name}: {reason}")
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    _limit_blas(threads)
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device(part_of(name, rank))
