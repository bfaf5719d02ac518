"""Files that several processes share: put in place whole, one writer at a time."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path


def temporary_name(name: str) -> str:
    """Return how a temporary file for `name` begins: hidden, and with its process, so that those of the dead are known.

    `bench.results.store.Store.sweep_leftovers` removes them.
    """
    return f".{name}.{socket.gethostname()}.{os.getpid()}."


def write_whole(path: Path, text: str) -> None:
    """Put a file in place, whole.

    Raises:
        OSError: The disk is full or not writable; an old file stays as it was.
    """
    descriptor, name = tempfile.mkstemp(prefix=temporary_name(path.name), dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Keep other processes out of blocks with the same lock file, for as long as this process lives.

    Where neither the platform nor the file system knows locks, nobody is kept out.

    Raises:
        OSError: The lock file cannot be made.
    """
    with lock.open("ab") as stream:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
