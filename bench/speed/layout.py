"""Where processes lie in memory, and which processor they run on: what makes identical code run at different speeds."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

import psutil

#: From <sys/personality.h>: no random offsets of stack, heap and libraries in programs started from now on.
_NO_RANDOM_LAYOUT = 0x0040000
_ASK = 0xFFFFFFFF
#: Seconds over which the processors are watched before one is chosen.
_WATCH_SECONDS = 0.3


@contextlib.contextmanager
def fixed() -> Iterator[bool]:
    """Start programs in one address-space layout meanwhile; yields whether the system allows that."""
    before = _personality(_ASK)
    allowed = before is not None and _personality(before | _NO_RANDOM_LAYOUT) is not None
    try:
        yield allowed
    finally:
        if allowed and before is not None:
            _personality(before)


def can_fix() -> bool:
    """Tell whether `fixed` has an effect here: on Linux, unless a container forbids it."""
    with fixed() as allowed:
        return allowed


def quietest_processor() -> int | None:
    """Return the processor, of those this process may use, that has least to do; None where none can be chosen."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    busy = psutil.cpu_percent(_WATCH_SECONDS, percpu=True)
    return min((number for number in allowed if number < len(busy)), key=lambda number: busy[number], default=None)


def _personality(persona: int) -> int | None:
    """Call personality(2); return the persona before, None where there is no such call or it is refused."""
    try:
        call = ctypes.CDLL(None, use_errno=True).personality
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes, call.restype = (ctypes.c_ulong,), ctypes.c_int
    before = call(persona)
    return None if before == -1 else int(before)
