"""A small disk and a clock of its own: what can be had without touching the machine's."""

import errno
import os
import subprocess
import time
from pathlib import Path

#: Room for the records of the sweep a few times over.
SIZE = "24m"
#: Where Debian puts libfaketime for programs with threads, by its architecture's folder.
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"


class Disk:
    """A file system in memory, mounted on a folder.

    Args:
        folder: Where; made if it is missing.

    Raises:
        OSError: It cannot be mounted, as by anybody but root.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("ab", buffering=0) as stream:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        stream.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def protect(self) -> None:
        """Make it read-only, as soon as no file is open for writing.

        Raises:
            OSError: Files are always open.
        """
        for _ in range(1000):
            try:
                _mount("-o", "remount,ro", str(self._folder))
            except OSError as error:
                refused = error
                time.sleep(0.005)
            else:
                return
        raise refused

    def unprotect(self) -> None:
        """Make it writable."""
        _mount("-o", "remount,rw", str(self._folder))

    def unmount(self) -> None:
        """Take it away, with all that is on it."""
        subprocess.run(["umount", "-l", str(self._folder)], check=True)


def _mount(*words: str) -> None:
    try:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise OSError("no mount command here") from None
    if done.returncode:
        raise OSError((done.stderr.splitlines() or [f"mount ended with {done.returncode}"])[0])


class Clock:
    """The time of day as some processes see it, by libfaketime; the machine's own is left alone.

    Clocks that only count, such as the training clock, go on as they are.

    Args:
        library: libfaketime.
        file: Where the processes look for what time it is.
    """

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Put it forward, or back, from the machine's."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self._file)  # noqa: PTH105, whole or not at all


def find_faketime() -> Path | None:
    """Return the library, from BENCH_FAKETIME or where Debian puts it; None where there is none."""
    if given := os.environ.get("BENCH_FAKETIME"):
        return Path(given)
    return next(iter(sorted(Path("/").glob(FAKETIME[1:]))), None)
