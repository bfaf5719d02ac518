"""What else the machine did while a check ran."""

import os
import time
from pathlib import Path

import psutil


class Pressure:
    """Watches from when it is made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._waited = _waited()
        self._times = psutil.cpu_times()

    def shares(self) -> dict[str, float]:
        """Return shares of the time since it was made: "pressure", "steal"; and "load", the load average.

        Pressure is the share in which some task waited for a processor (Linux's pressure stall information), steal the
        share of all processors that the host gave to others. What the system does not tell is missing.
        """
        seconds = max(time.monotonic() - self._start, 1e-9)
        found: dict[str, float] = {}
        waited = _waited()
        if waited is not None and self._waited is not None:
            found["pressure"] = min(1.0, (waited - self._waited) / 1e6 / seconds)
        now = psutil.cpu_times()
        if hasattr(now, "steal"):
            found["steal"] = (now.steal - self._times.steal) / seconds / (psutil.cpu_count() or 1)
        if hasattr(os, "getloadavg"):
            found["load"] = os.getloadavg()[0]
        return {name: round(value, 4) for name, value in found.items()}


def _waited() -> float | None:
    """Return the microseconds in which some task has waited for a processor since the machine started."""
    try:
        line = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        return float(line.rpartition("total=")[2])
    except (OSError, ValueError, IndexError):
        return None
