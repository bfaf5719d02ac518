"""Call the command line in this process and say what it did: exit code, words, files, and what of it should not be.

What would train, measure, draw or start other processes is cut off where all checks are done; some of the smallest
cells are trained to the end.
"""

import contextlib
import io
import os
import shutil
import signal
import sys
import traceback
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch

import bench.config
import bench.launching.cell
import bench.launching.frontier
import bench.launching.sweep
import bench.launching.throughput
import bench.report.build
import bench.speed.check
import bench.speed.command
import bench.speed.engine
import bench.speed.self_test
import bench.tasks.registry
from bench.cli import main

EXIT_CODES = (0, 1, 2, 3, 4, 5, 130)
#: Seconds after which a call counts as hanging.
PATIENCE = 120
#: Estimated cost up to which cells are trained (`Cell.cost`), and of how many calls one that may be is.
SMALL_COST, TRAINED_OF, DRAWN_OF = 300_000.0, 4, 8


class CutOff(BaseException):
    """All checks are done; what comes now would take long."""


class TooLong(BaseException):
    """The call hangs."""


@dataclass
class Called:
    """What a call did.

    Attributes:
        words: What stood after `bench`.
        code: Exit code; None where it ended otherwise.
        out: Standard output.
        err: Standard error.
        ended: "exit", "cut off", or the traceback of what it ended with.
        changed: Files that were made, changed or removed.
        trained: Cells that were trained to the end.
        crashed: Reasons of cells that failed.
    """

    words: Sequence[str]
    code: int | None = None
    out: str = ""
    err: str = ""
    ended: str = "exit"
    changed: list[str] = field(default_factory=list)
    trained: int = 0
    crashed: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What kind of outcome it is, in a few words."""
        if self.ended == "cut off":
            return "valid, cut off before it trains, measures or draws"
        if self.trained:
            return f"valid, trained, exit {self.code}"
        return f"exit {self.code}" if self.ended == "exit" else "unhandled"

    @property
    def complaints(self) -> list[str]:
        """What should not be: a traceback, other than one line on exit 2, a file written on exit 2."""
        said = self.out + self.err
        found = []
        if self.ended not in ("exit", "cut off"):
            found.append(f"ended with {self.ended}")
        if "Traceback (most recent call last)" in said:
            found.append(f"a traceback: {said[-2000:]}")
        if self.ended == "exit" and self.code not in EXIT_CODES:
            found.append(f"exit code {self.code}")
        if self.code == 2:
            # Records that cannot be read are named first, a line each.
            lines = [line for line in self.err.rstrip("\n").splitlines() if not line.startswith("bench: left out: ")]
            if len(lines) != 1 or not lines[0].startswith("bench: ") or len(lines[0]) <= len("bench: "):
                found.append(f"not one line: {self.err[:2000]!r}")
            if self.out:
                found.append(f"said besides: {self.out[:300]!r}")
            # Code that the command line names leaves a file of its own when it is imported; who may is asked elsewhere.
            if changed := [name for name in self.changed if name != "work/ran"]:
                found.append(f"changed {changed}")
        found += [f"a valid cell failed: {reason}" for reason in self.crashed]
        return found


def call(words: Sequence[str], folder: Path, train: bool = True) -> Called:
    """Call `bench` with some words in a folder; nothing outside the folder's parent is looked at.

    Args:
        words: What stands after `bench`.
        folder: Becomes the current one meanwhile.
        train: Whether to train some of the smallest cells and draw some of the reports.
    """
    done, out, err = Called(words), io.StringIO(), io.StringIO()
    before, back = _files(folder.parent), Path.cwd()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _cut_off(done, train),
        _patience(),
        mock.patch.dict(os.environ, {"HOME": str(folder.parent / "home"), "COLUMNS": "200"}),
        mock.patch.object(sys, "path", list(sys.path)),
    ):
        os.chdir(folder)
        try:
            main(list(words))
        except SystemExit as ended:
            done.code = ended.code if isinstance(ended.code, int) else -1
            if not isinstance(ended.code, int):
                done.ended = f"SystemExit({ended.code!r})"
        except CutOff:
            done.ended = "cut off"
        # Whatever it is, it is the finding.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            done.ended = "".join(traceback.format_exception(error, limit=-6)).strip()
        finally:
            os.chdir(back)
            # Preparing a device flushes them; hypothesis looks at the smallest of numbers.
            torch.set_flush_denormal(False)
    done.out, done.err = out.getvalue(), err.getvalue()
    after = _files(folder.parent)
    done.changed = sorted({name for name, _ in before.items() ^ after.items()})
    return done


def one_in(count: int, words: Sequence[str]) -> bool:
    """Whether a call is one of a share, by its words alone."""
    return zlib.crc32("\0".join(words).encode("utf-8", "replace")) % count == 0


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file, and that there is a folder."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                info = os.lstat(os.path.join(place, name))  # noqa: PTH118 - names may be no text
                found[os.path.relpath(os.path.join(place, name), folder)] = (info.st_size, info.st_mtime_ns)  # noqa: PTH118
        found |= {os.path.relpath(os.path.join(place, name), folder): (-1, 0) for name in folders}  # noqa: PTH118
    return found


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    def late(signum: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _cut(*_: Any, **__: Any) -> Any:
    raise CutOff


@contextlib.contextmanager
def _cut_off(done: Called, train: bool) -> Iterator[None]:
    run, read, load = bench.launching.sweep._run, bench.report.build.read_sweep, bench.tasks.registry.load_images

    def small(pending: Sequence[bench.config.Cell], store: Any, local: Any, state: Any, finished: Any) -> None:
        if not (train and one_in(TRAINED_OF, done.words) and _is_small(pending)):
            raise CutOff
        run(list(pending), store, bench.launching.sweep.Local(1), state, finished)
        done.trained = len(pending)
        outcomes = state.outcomes.values()
        done.crashed = [f"{o.reason}" for o in outcomes if o.status == "failed"]

    def some(*arguments: Any) -> Any:
        if not (train and one_in(DRAWN_OF, done.words)):
            raise CutOff
        return read(*arguments)

    def offline(data: str, root: str, download: bool, seed: int) -> Any:
        return load(data, root, False, seed)

    with contextlib.ExitStack() as stack:
        for module, name, instead in (
            (bench.launching.sweep, "_run", small),
            (bench.launching.cell, "audit_cell", _cut),
            (bench.launching.frontier, "load_cell_task", _cut),
            (bench.launching.throughput, "_contestant", _cut),
            (bench.speed.engine, "prepare", _cut),
            (bench.speed.command, "Check", _cut),
            (bench.speed.command, "clean_environment", _cut),
            (bench.speed.self_test, "Check", _cut),
            (bench.report.build, "read_sweep", some),
            (bench.tasks.registry, "load_images", offline),
        ):
            stack.enter_context(mock.patch.object(module, name, instead))
        yield


def _is_small(cells: Sequence[bench.config.Cell]) -> bool:
    """Whether cells are trained in a second or so."""
    if len(cells) > 2 or sum(cell.cost for cell in cells) > SMALL_COST:
        return False
    for cell in cells:
        config, measure = cell.config, cell.config.measure
        if cell.steps is None or config.budget.seconds is not None or config.device.name != "cpu":
            return False
        if cell.facts.parameters > 10_000 or cell.facts.train_examples > 70_000 or config.training.compile == "on":
            return False
        if measure.windows * measure.window_seconds > 1 or measure.warmup_steps * measure.windows > 1000:
            return False
        if measure.memory_process == "fresh" or measure.at_evaluations or config.device.threads > 2:
            return False
        if config.tracker.name != "none" or config.evaluation.per_octave > 100:
            return False
    return True


def fresh(template: Path, folder: Path, files: Mapping[str, bytes]) -> Path:
    """Make the folder to call in: `work`, with what the template has and some files; return it."""
    shutil.rmtree(folder, ignore_errors=True)
    work = folder / "work"
    shutil.copytree(template, work, symlinks=True)
    (folder / "home").mkdir()
    for name, content in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return work
