"""What the machine is, asked without torch."""

import platform
import re
from pathlib import Path

import psutil


def cpu_name() -> str:
    """Return the processor's model name, or what comes closest."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def memory_gib() -> float:
    """Return the GiB of memory."""
    return float(psutil.virtual_memory().total / 2**30)


def platform_name() -> str:
    """Return operating system and instruction set."""
    return f"{platform.system()} {platform.machine()}"
