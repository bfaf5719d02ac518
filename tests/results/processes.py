"""Processes that live until they are told otherwise."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing; killed at the end, and only then no zombie any more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
