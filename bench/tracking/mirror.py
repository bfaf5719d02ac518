"""Mirror a sweep, in a child process that can fail, hang or be killed without the sweep noticing."""

import contextlib
import dataclasses
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from bench.results.store import Store
from bench.tracking.config import TrackerConfig
from bench.tracking.confinement import child_environment, one_line
from bench.tracking.content import run_id
from bench.tracking.state import (
    MIRRORED,
    MISSING,
    NOT_TRIED,
    CellMirror,
    MirrorState,
    StateError,
    mirrored_path,
    read_state,
    record_sha256,
    run_folder,
    write_state,
)

# A long mirror that is killed should not have to begin again: the state is saved this often, in seconds.
_SAVE_EVERY = 5.0
# How long the child may take to leave after its last answer, in seconds.
_LEAVE = 2.0


def mirror_sweep(
    store: Store, tracker: TrackerConfig, cells: Sequence[str] | None = None, stall_seconds: float = 9.0
) -> MirrorState:
    """Mirror every record that is not mirrored yet, and say what could not be.

    A mirror that works goes on for as long as it makes progress. One that does not is killed, whole, when no
    cell has been mirrored for `stall_seconds`, so it delays the sweep by hardly more. Nothing is
    raised but KeyboardInterrupt; no record is touched.

    Args:
        store: The sweep.
        tracker: What to mirror to. With the name "none" nothing is read or written.
        cells: Cell ids; None for every cell that has a record.
        stall_seconds: Seconds without a newly mirrored cell after which the rest is given up.

    Returns:
        The state that now stands in `mirror.json`, or would if it could be written.
    """
    if tracker.name == "none":
        return MirrorState(tracker="none", mode=tracker.mode)
    job = _Job(store, tracker, MirrorState(tracker=tracker.name, mode=tracker.mode))
    try:
        tracker.validate()
        job.state = _known(store, tracker)
        wanted = list(cells) if cells is not None else store.cells()
        return job.mirror(wanted, stall_seconds)
    except Exception as error:
        # A defect in the mirror must not become a defect of the sweep that has just finished.
        note = one_line(f"{type(error).__name__}: {error}")
        return _finish(store, dataclasses.replace(job.state, note=note))


def _known(store: Store, tracker: TrackerConfig) -> MirrorState:
    """Return the entries of an earlier mirror whose runs are still there, and its reasons for the others."""
    try:
        earlier = read_state(store)
    except StateError as error:
        return MirrorState(tracker.name, tracker.mode, note=one_line(f"an unreadable state was replaced: {error}"))
    cells = earlier.cells if earlier else {}
    return MirrorState(tracker.name, tracker.mode, {cell: cells[cell] for cell in store.cells() if cell in cells})


def _finish(store: Store, state: MirrorState) -> MirrorState:
    """Save the state; where that is not possible, say so in the state that is returned."""
    try:
        write_state(store, state)
    except OSError as error:
        note = one_line(f"mirror.json could not be written ({error.strerror or error})")
        return dataclasses.replace(state, note="; ".join(filter(None, (state.note, note))))
    return state


class _Job:
    """One pass over the cells of a sweep."""

    def __init__(self, store: Store, tracker: TrackerConfig, state: MirrorState) -> None:
        self.store = store
        self.tracker = tracker
        self.state = state
        self.digests: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        """Folder that holds the mirror's `wandb/` folder."""
        return self.tracker.folder(self.store.path)

    def mirror(self, wanted: list[str], stall_seconds: float) -> MirrorState:
        """Mirror the wanted cells that need it; return the state, saved."""
        pending = self._pending(wanted)
        if self.tracker.mode == "disabled":
            self._give_up(pending, "tracker.mode=disabled")
        elif pending:
            with _alone(self.folder) as alone:
                if not alone:
                    self._give_up(pending, "another process is mirroring into this folder")
                    return self.state
                reason = "interrupted"
                try:
                    reason = self._run(pending, stall_seconds)
                finally:
                    self._give_up(pending, reason)
                    self._remove_partial_runs()
                    self.state = _finish(self.store, self.state)
                return self.state
        self.state = _finish(self.store, self.state)
        return self.state

    def _pending(self, wanted: list[str]) -> list[str]:
        pending = []
        for cell in wanted:
            try:
                digest = record_sha256(self.store, cell)
            except OSError as error:
                self._set(cell, CellMirror(MISSING, reason=one_line(f"no whole record ({error.strerror})")))
                continue
            entry = self.state.cells.get(cell)
            if entry and entry.digest == digest and run_folder(self.store, entry):
                continue
            self.digests[cell] = digest
            pending.append(cell)
        return pending

    def _set(self, cell: str, entry: CellMirror) -> None:
        self.state = dataclasses.replace(self.state, cells=self.state.cells | {cell: entry})

    def _give_up(self, pending: list[str], reason: str) -> None:
        """Mark what is still pending as missing; a cell that has a reason of its own keeps it."""
        for cell in pending:
            if cell in self.digests:
                self._set(cell, CellMirror(MISSING, digest=self.digests.pop(cell), reason=reason))

    def _run(self, pending: list[str], stall_seconds: float) -> str:
        """Let a child mirror the pending cells. Returns why those that are left were given up."""
        try:
            (self.folder / "wandb").mkdir(parents=True, exist_ok=True)
            # wandb quietly goes elsewhere when it may not write here.
            with tempfile.TemporaryFile(dir=self.folder / "wandb"):
                pass
        except OSError as error:
            return one_line(f"{self.folder / 'wandb'} is not writable ({error.strerror})")
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
            environment = child_environment(Path(scratch), self.tracker.mode, self.folder)
            with _Child(environment, Path(scratch), self._job(pending)) as child:
                return self._listen(child, stall_seconds)

    def _job(self, pending: list[str]) -> dict[str, Any]:
        return {
            "sweep": str(self.store.path.absolute()),
            "cells": pending,
            "folder": str(self.folder),
            "mode": self.tracker.mode,
            "project": self.tracker.project,
            "entity": self.tracker.entity,
        }

    def _listen(self, child: "_Child", stall_seconds: float) -> str:
        now = time.monotonic()
        deadline, saved = now + stall_seconds, now
        while self.digests:
            answer = child.answer(deadline)
            if answer is None:
                if time.monotonic() >= deadline:
                    return f"no cell was mirrored for {stall_seconds:g} s"
                return f"the mirror's process ended early ({child.last_words()})"
            if "stop" in answer:
                return f"{NOT_TRIED}{answer['stop']}"
            self._take(answer)
            now = time.monotonic()
            if answer["status"] == MIRRORED:
                # A failure is no progress, so failing over and over cannot stretch the delay.
                deadline = now + stall_seconds
            if now - saved > _SAVE_EVERY:
                with contextlib.suppress(OSError):  # the last save of this pass reports it
                    write_state(self.store, self.state)
                saved = now
        child.leave(_LEAVE)
        return "not answered for"

    def _take(self, answer: dict[str, Any]) -> None:
        cell = answer["cell"]
        expected = self.digests.pop(cell, None)
        if answer["status"] != MIRRORED:
            self._set(cell, CellMirror(MISSING, digest=expected, reason=one_line(answer["reason"])))
            return
        before = self.state.cells.get(cell)
        path = Path(answer["path"])
        root = self.store.path.absolute()
        shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        self._set(cell, CellMirror(MIRRORED, digest=answer["digest"], run=answer["run"], path=shown))
        old = run_folder(self.store, before) if before else None
        if old is not None and old.absolute() != path:
            # One run per cell: the one of a record that has been replaced makes way.
            shutil.rmtree(old, ignore_errors=True)

    def _remove_partial_runs(self) -> None:
        """Remove what is left of runs that were begun and not finished; they would look like mirrors."""
        kept = {mirrored_path(self.store, entry.path).absolute() for entry in self.state.cells.values() if entry.path}
        ours = {
            run_id(self.store.sweep, cell, entry.digest) for cell, entry in self.state.cells.items() if entry.digest
        }
        for folder in (self.folder / "wandb").glob("*run-*-*"):
            if folder.name.rpartition("-")[2] in ours and folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


class _Child:
    """The worker process and everything it starts."""

    def __init__(self, environment: dict[str, str], scratch: Path, job: dict[str, Any]) -> None:
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._tail: deque[str] = deque(maxlen=20)
        # Standard input stays open for as long as this process lives, and says nothing.
        (scratch / "job.json").write_text(json.dumps(job), encoding="utf-8")
        # -P: a file in the folder the child runs in must not stand in for a library.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.tracking.worker", str(scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=environment,
            cwd=scratch,
            start_new_session=True,
        )
        self._family = {psutil.Process(self._process.pid)}
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._answers.put, True), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self._tail.append, False), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], put: Callable[[str], None], tell_end: bool) -> None:
        with stream:
            for line in stream:
                put(line)
        if tell_end:
            self._answers.put(None)

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def answer(self, deadline: float) -> dict[str, Any] | None:
        """Return the next answer; None when the child has ended or the deadline (monotonic) passed."""
        while (left := deadline - time.monotonic()) > 0:
            self._meet_family()
            try:
                line = self._answers.get(timeout=min(left, 0.5))
            except queue.Empty:
                continue
            if line is None:
                return None
            with contextlib.suppress(ValueError):  # half a line: the child died over it
                answer: dict[str, Any] = json.loads(line)
                return answer
        return None

    def last_words(self) -> str:
        """Return the end of what the child printed, in one line."""
        self.leave(_LEAVE)
        self._readers[1].join(_LEAVE)
        code = self._process.poll()
        return one_line(f"exit code {code}: {' '.join(list(self._tail)[-3:])}")

    def leave(self, seconds: float) -> None:
        """Give the child so many seconds to end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> None:
        """End the child and all it has started, and wait until they are gone."""
        self._meet_family()
        for process in self._family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait()
        deadline = time.monotonic() + _LEAVE
        while any(map(_runs, self._family)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        for reader in self._readers:
            reader.join(_LEAVE)

    def _meet_family(self) -> None:
        # wandb's service runs in a session of its own, so no signal to a process group would reach it.
        with contextlib.suppress(psutil.Error):
            self._family |= set(psutil.Process(self._process.pid).children(recursive=True))


def _runs(process: psutil.Process) -> bool:
    # An orphan stays a zombie until init looks after it, which can take a second; it does nothing more.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Tell whether no other process mirrors into this folder; keep others out meanwhile."""
    try:
        import fcntl
    except ImportError:  # not on this platform: two mirrors at once may then write a run twice
        yield True
        return
    try:
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "wandb", os.O_RDONLY)
    except OSError:  # the next step reports that the folder cannot be written
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True
    finally:
        os.close(descriptor)
