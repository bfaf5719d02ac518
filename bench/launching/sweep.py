"""Run the cells of a sweep: check all of them first, skip what is done, run the rest, mirror, say how it went."""

import os
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Protocol

from bench.analysis.words import plural
from bench.config import Cell
from bench.devices import is_parallel, usable_cores
from bench.errors import UsageError
from bench.launching.pool import Pool
from bench.launching.progress import SweepProgress
from bench.launching.queue import AGAIN_SECONDS, CellQueue
from bench.launching.resume import divide
from bench.launching.worker import Outcome, record_death, run_and_store
from bench.results.files import temporary_name
from bench.results.leases import Leases, remove_dead_leases
from bench.results.plan import Planned, add_to_plan
from bench.results.record import FINISHED, CellStatus, RecordError
from bench.results.store import Store

INTERRUPTED_EXIT = 130


@dataclass
class SweepState:
    """What became of the cells of one launch."""

    outcomes: dict[str, Outcome]
    interrupted: bool = False
    unwritten: str | None = None
    #: Why cells are left that nobody runs any more.
    left: str = ""


class Elsewhere(Protocol):
    """Runs cells on other machines, which share this one's files."""

    def words(self, pending: Sequence[Cell]) -> str:
        """Say with what cells are run."""
        ...

    def run(self, pending: Sequence[Cell], store: Store, ended: Callable[[Cell, Outcome], None]) -> str:
        """Run cells and return why some are left; empty where none is.

        Raises:
            UsageError: They cannot be run there.
            KeyboardInterrupt: After everybody has been told to stop.
        """
        ...


@dataclass(frozen=True)
class Local:
    """Runs cells on this machine.

    Attributes:
        workers: Worker processes, or "auto": one per core for CPU cells, one where another device takes part.
        cell_seconds: How long a cell may take; None for no limit.
        isolate: Whether a single worker is a process of its own too.
    """

    workers: int | str = "auto"
    cell_seconds: float | None = None
    isolate: bool = False


def run_sweep(
    cells: Sequence[Cell],
    workers: int | str | Local = "auto",
    command: str = "",
    note: str = "",
    elsewhere: Elsewhere | None = None,
    dry_run: Callable[[Store, Sequence[Cell], Sequence[Cell]], None] | None = None,
) -> int:
    """Run a grid and return the exit code.

    Args:
        cells: The resolved cells; all of one sweep.
        workers: How they are run here; a number or "auto" stands for that many workers.
        command: The command line that asked for it, for the records.
        note: What to say of it first, once it is known to be valid.
        elsewhere: What runs them instead, on other machines.
        dry_run: Called with the store, the cells that are done and those to be run, instead of running them.

    Returns:
        0 all well; 1 a cell failed, ran out of memory, or none could run; 130 interrupted.

    Raises:
        UsageError: Something that can be known before the first cell trains; nothing has been written then.
    """
    unique = list({cell.id: replace(cell, command=command) for cell in cells}.values())
    config = unique[0].config
    store = Store(Path(config.results_root) / config.sweep)
    local = workers if isinstance(workers, Local) else Local(workers)
    count = worker_count(local.workers, unique)
    done, pending = divide(unique, store)
    if elsewhere is None:
        _check_devices(unique)
    if dry_run is not None:
        dry_run(store, done, pending)
        return 0
    _check_data(pending)
    _check_writable(store.path)
    store.sweep_leftovers()
    remove_dead_leases(store)
    _write_plan(store, unique)
    if note:
        print(f"bench: {note}", file=sys.stderr)
    _say_plan(store, unique, cells, done, pending, elsewhere.words(pending) if elsewhere else _in_words(count, pending))
    state = SweepState({})
    if pending and elsewhere is not None:
        _run_elsewhere(pending, store, elsewhere, state)
    elif pending:
        _run(pending, store, replace(local, workers=count), state, FINISHED)
    if not state.interrupted and state.unwritten is None:
        _mirror(store, unique)
    return _summary(store, done, pending, state)


def run_again(cells: Sequence[Cell], store: Store, workers: int | str = "auto") -> int:
    """Run cells of a store again, whatever their records say but complete, and return the exit code.

    A record stays until the new one is written. The mirror is left to the next sweep.

    Args:
        cells: The resolved cells, at least one.
        store: Where their records are and go.
        workers: As for `run_sweep`.

    Returns:
        As `run_sweep`.

    Raises:
        UsageError: As `run_sweep`.
    """
    count, pending = worker_count(workers, cells), list(cells)
    _check_devices(cells)
    _check_data(cells)
    _check_writable(store.path)
    _say_plan(store, pending, cells, [], pending, _in_words(count, pending))
    state = SweepState({})
    _run(pending, store, Local(count), state, (CellStatus.COMPLETE,))
    return _summary(store, [], pending, state)


def worker_count(workers: int | str, cells: Sequence[Cell]) -> int:
    """Return the number of worker processes.

    Raises:
        UsageError: Neither "auto" nor an integer ≥ 1.
    """
    if workers == "auto":
        if any(cell.config.device.name != "cpu" for cell in cells):
            return 1
        threads = max(cell.config.device.threads for cell in cells)
        return max(1, usable_cores() // threads)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise UsageError(f"hydra.launcher.workers={workers}: must be an integer ≥ 1, or auto")
    return workers


def _check_devices(cells: Sequence[Cell]) -> None:
    """Refuse a grid in which a CUDA index names no device and nothing else could run.

    Elsewhere a missing device is no mistake: its cells become `unavailable`, and the sweep goes on.
    """
    from bench.training.devices import available_devices, why_unavailable

    reasons = {name: why_unavailable(name) for name in {cell.config.device.name for cell in cells}}
    indices = [name for name in sorted(reasons) if ":" in name and not is_parallel(name)]
    if all(reasons.values()) and indices:
        name = indices[0]
        raise UsageError(f"device={name}: {reasons[name]} (available: {', '.join(available_devices())})")


def _check_data(cells: Sequence[Cell]) -> None:
    """Load each image data set once, so that a missing or damaged file is found before anything trains."""
    from bench.tasks.catalogue import DATA_SETS
    from bench.tasks.registry import load_images

    wanted = {
        (cell.spec.data, cell.config.data.root, cell.config.data.download, cell.config.seed.data)
        for cell in cells
        if cell.spec.data in DATA_SETS
    }
    for data, root, download, seed in sorted(wanted):
        load_images(data, root, download, seed)


def _check_writable(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=temporary_name("probe")):
            pass
    except OSError as error:
        raise UsageError(
            f"results_root: {path} cannot be written ({error.strerror}); choose another with results_root=…"
        ) from None


def _write_plan(store: Store, cells: Sequence[Cell]) -> None:
    planned = {cell.id: Planned(cell.label, cell.cost, cell.overrides) for cell in cells}
    try:
        add_to_plan(store, planned)
    except (OSError, RecordError) as error:
        print(f"bench: {error}; bench status does not know of this plan", file=sys.stderr)


def _in_words(count: int, pending: Sequence[Cell]) -> str:
    return plural(min(count, len(pending)), "worker")


def _say_plan(
    store: Store, unique: list[Cell], cells: Sequence[Cell], done: list[Cell], pending: list[Cell], how: str
) -> None:
    trials = sum(len(cell.lrs) * len(cell.seeds) for cell in pending)
    parts = [plural(len(unique), "cell")]
    if len(unique) < len(cells):
        parts.append(f"{len(cells) - len(unique)} named twice")
    if done:
        parts.append(f"{len(done)} done already")
    if pending:
        parts.append(f"{len(pending)} to run ({plural(trials, 'trial')}, {how})")
    print(f"bench: sweep {store.sweep}: {', '.join(parts)}", file=sys.stderr, flush=True)


def _run_elsewhere(pending: list[Cell], store: Store, elsewhere: Elsewhere, state: SweepState) -> None:
    def ended(cell: Cell, outcome: Outcome) -> None:
        state.outcomes[cell.id] = outcome

    with _terminable():
        try:
            state.left = elsewhere.run(pending, store, ended)
        except KeyboardInterrupt:
            state.interrupted = True


def _run(pending: list[Cell], store: Store, local: Local, state: SweepState, finished: Collection[CellStatus]) -> None:
    count = worker_count(local.workers, pending)
    with Leases(store) as leases, SweepProgress(pending) as progress:

        def elsewhere(cell: Cell, status: CellStatus) -> None:
            outcome = state.outcomes[cell.id] = Outcome(cell.id, str(status), None, elsewhere=True)
            progress.ended(cell, outcome)

        queue = CellQueue(pending, store, leases, finished, elsewhere)

        def ended(cell: Cell, outcome: Outcome) -> bool:
            if outcome.died:
                outcome = record_death(cell, store, outcome)
            state.outcomes[cell.id] = outcome
            progress.ended(cell, outcome)
            queue.give_back(cell)
            if outcome.unwritten:
                state.unwritten = outcome.unwritten
            return state.unwritten is None

        with _terminable():
            try:
                if local.isolate or local.cell_seconds or (count > 1 and len(pending) > 1):
                    Pool(count, store, progress.started, ended, local.cell_seconds).run(queue)
                else:
                    _run_here(queue, store, progress, ended, state)
            except KeyboardInterrupt:
                state.interrupted = True


def _run_here(
    queue: CellQueue,
    store: Store,
    progress: SweepProgress,
    ended: Callable[[Cell, Outcome], bool],
    state: SweepState,
) -> None:
    """Run cells one after the other in this process; Ctrl-C lets the running one write what it has."""
    stop = threading.Event()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        while queue and not stop.is_set():
            cell = queue.take(os.getpid())
            if cell is not None:
                progress.started(cell)
                if not ended(cell, run_and_store(cell, store, stop, 1)):
                    break
            elif queue:
                sleep(AGAIN_SECONDS)
        state.interrupted = stop.is_set()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM, which schedulers send, like Ctrl-C, also where Ctrl-C is ignored, as in the background."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _mirror(store: Store, cells: Sequence[Cell]) -> None:
    tracker = cells[0].config.tracker
    if tracker.name == "none":
        return
    from bench.tracking.mirror import mirror_sweep

    try:
        state = mirror_sweep(store, tracker)
    except KeyboardInterrupt:
        print("bench: the mirror was interrupted; the same command completes it", file=sys.stderr)
        return
    missing = [entry for entry in state.cells.values() if entry.status == "missing"]
    if missing:
        reason = missing[0].reason or "no reason given"
        print(
            f"bench: the {tracker.name} mirror lacks {len(missing)} of {len(state.cells)} cells ({reason}); "
            "the records are complete",
            file=sys.stderr,
        )


def _argument(store: Store) -> str:
    """Return how the sweep is named on the command line: its name in the default place, else its folder."""
    return store.sweep if store.path.parent == Path("results") else str(store.path)


def _summary(store: Store, done: list[Cell], pending: list[Cell], state: SweepState) -> int:
    counts = Counter(outcome.status for outcome in state.outcomes.values())
    complete = len(done) + counts["complete"]
    others = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()) if status != "complete")
    total = len(done) + len(pending)
    say = f"bench: {complete} of {total} cells done" + (f", {others}" if others else "")
    if state.unwritten:
        print(f"bench: a record could not be written: {state.unwritten}", file=sys.stderr)
        print(f"{say}; make room and give the same command to go on", file=sys.stderr)
        return 1
    if state.interrupted:
        print(f"{say}; interrupted: the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED_EXIT
    if state.left:
        print(f"{say}; {state.left}; the same command goes on where it stopped", file=sys.stderr)
        return 1
    print(f"{say}; records in {store.path} (next: bench report {_argument(store)})", file=sys.stderr)
    failed = counts["failed"] + counts["oom"] + counts["interrupted"]
    return 1 if failed or complete == 0 else 0
