"""Checksums of a cell's files, in `SHA256SUMS` beside them, as `sha256sum --check` reads it.

A digit that changed on the disk leaves a record that can be parsed and says something else; only this tells.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from bench.results.record import RecordError

FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([\w.]+)")


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write the checksums of some files of a folder.

    Raises:
        OSError: The disk is full or not writable.
    """
    lines = [f"{sha256((folder / name).read_bytes())}  {name}\n" for name in names]
    (folder / FILE).write_text("".join(lines), encoding="utf-8")


def read_checksums(folder: str) -> dict[str, str]:
    """Read the checksums of a folder's files, by name; empty where there are none, as in records before 0.2.

    Raises:
        RecordError: It cannot be read; the message names the file but not the folder.
    """
    try:
        with open(f"{folder}/{FILE}", encoding="utf-8") as stream:  # noqa: PTH123, ten thousand are read at a time
            lines = stream.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{FILE}: {getattr(error, 'strerror', None) or 'not text'}") from None
    found = [_LINE.fullmatch(line) for line in lines]
    if not found or None in found:
        raise RecordError(f"{FILE}: no list of checksums, perhaps truncated")
    return {match[2]: match[1] for match in found if match}


def check(name: str, content: bytes, checksums: dict[str, str]) -> None:
    """Hold a file against its checksum, where it has one.

    Raises:
        RecordError: It is not what was written; the message names the file but not the folder.
    """
    if name in checksums and sha256(content) != checksums[name]:
        raise RecordError(f"{name} has changed since it was written: its SHA-256 is not that in {FILE}")


def sha256(content: bytes) -> str:
    """Return the SHA-256 of some bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
