"""Errors that a person made and can mend, each said in one line."""

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """Base of the errors this suite raises on purpose. The message is one line."""

    exit_code = 1


class UsageError(BenchError):
    """A value that cannot be used: what was given, what is allowed, the nearest match. Exit code 2."""

    exit_code = 2


class NotComparable(BenchError):
    """Two things that were to be compared are not of one kind. Exit code 4."""

    exit_code = 4


class DeviceUnavailable(BenchError):
    """The device a cell asks for does not exist here; its cells get the status `unavailable`."""


class EngineUnavailable(BenchError):
    """What a cell asks of the engine cannot be had here; its cells get the status `unavailable`."""


class Incompatible(UsageError):
    """An optimizer requires what the task does not have. A grid may record such cells instead of refusing them."""


class DataUnavailable(UsageError):
    """A data set that is neither on this machine nor to be downloaded. Says where it was looked for."""


def printable(text: str) -> str:
    """Return text as one line that steers no terminal: line breaks, control characters and the like as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name most like `name`, or None where none comes close."""
    names = sorted(allowed)
    folded = {candidate.lower(): candidate for candidate in names}
    found = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return folded[found[0]] if found else None


def unknown(kind: str, name: object, allowed: Iterable[str]) -> UsageError:
    """Build the error for a name that is not registered.

    Args:
        kind: What the name should have named, such as "optimizer".
        name: What was given.
        allowed: Every name that would have been accepted.

    Returns:
        A UsageError that names the value, the nearest match and all allowed names.
    """
    names = sorted(allowed)
    close = nearest(str(name), names)
    hint = f"; did you mean {close!r}?" if close else ""
    return UsageError(f"unknown {kind} {str(name)!r}{hint} (allowed: {', '.join(names)})")
