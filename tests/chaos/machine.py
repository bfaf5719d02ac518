"""A small disk and a clock of its own: what can be had without touching the machine's."""

import errno
import shutil
import subprocess
import sys
import time
from pathlib import Path

#: Room for the records of the sweep a few times over.
SIZE = "24m"


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
    """The time of day as some processes see it; the machine's own is left alone.

    Clocks that only count, such as the training clock, go on as they are, as when a machine's time is set.

    Args:
        library: As `build_clock` makes it.
        file: Where the processes look for what time it is.
    """

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(file)}
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Put it forward, or back, from the machine's."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds}\n")
        # Whole or not at all.
        new.replace(self._file)


def build_clock(folder: Path) -> Path:
    """Compile the library behind `Clock` into a folder.

    Raises:
        OSError: There is no C compiler, or the library does nothing here.
    """
    library, source = folder / "clock.so", Path(__file__).with_name("clock.c")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise OSError("no C compiler on Linux")
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], capture_output=True, check=False
    )
    if done.returncode:
        raise OSError(f"{compiler} ended with {done.returncode}")
    return library
