"""The environment a record was made in: what explains that results differ between machines."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import bench
from bench.results.machine import cpu_name, memory_gib, platform_name

#: Packages whose version can change results or their mirror.
PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "mlxtend", "wandb")


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Describe hardware, versions and switches, without names of people, hosts or paths.

    Args:
        device: The device trained on.
        threads: Threads of CPU operations.
    """
    return _machine() | {
        "device": str(device),
        "accelerator": _accelerator(device),
        "hardware": _accelerator(device) or _machine()["cpu"],
        "threads": threads,
        "flush_denormal": True,
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
        "cudnn_deterministic": bool(torch.backends.cudnn.deterministic),
    }


@functools.lru_cache(maxsize=1)
def _machine() -> dict[str, Any]:
    return {
        "suite": bench.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform_name(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_gib(), 1),
        "cuda": torch.version.cuda,
    }


def _accelerator(device: torch.device) -> str | None:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else None


def _commit() -> str | None:
    """Return the suite's own commit where it runs from a checkout, with "+" where files differ from it."""
    root = Path(bench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip()
