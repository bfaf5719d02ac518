"""One round: a sweep, what is done to it, restarts until it ends well, and what it has come to."""

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.results.digest import cell_digest
from bench.results.record import RecordError
from bench.results.store import Store
from tests.chaos.disturbances import KINDS, Disturbance, schedule
from tests.chaos.looks import CELL, Look, look, problems
from tests.chaos.machine import Clock, Disk
from tests.chaos.sweep import CELLS, PATIENCE, SWEEP, Launch, ask_status, launch

#: How often a sweep is looked at while something is waited for, seconds.
PAUSE = 0.05
#: A sweep that has not ended well by then never will.
MOST_STARTS = 12


@dataclass
class Outcome:
    """What a round has come to.

    Attributes:
        seed: Of all rounds.
        round: Number of it.
        disturbances: Kind, number of records when it came, and what was done, in order.
        starts: How often the sweep was started.
        trained: Cells that a sweep says it has trained to the end.
        damaged: Cells that were corrupted or deleted.
        checks: How often `bench status` was asked.
        seconds: Wall-clock time.
        problems: What was wrong; empty for nothing.
    """

    seed: int
    round: int
    disturbances: list[dict[str, object]] = field(default_factory=list)
    starts: int = 0
    trained: int = 0
    damaged: int = 0
    checks: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Round:
    """A round that goes on.

    Args:
        folder: An empty one of its own.
        seed: Of all rounds.
        number: Of this one.
        disk: Where the store is, if on one of its own.
        clock: What its processes take for the time.
    """

    def __init__(self, folder: Path, seed: int, number: int, disk: Disk | None = None, clock: Clock | None = None):
        self.folder, self.disk, self.clock = folder, disk, clock
        self.store = folder / "results" / SWEEP
        self.outcome = Outcome(seed, number)
        self._launches: list[Launch] = []
        self._damaged: set[str] = set()
        self._seen: Look | None = None
        (folder / "tmp").mkdir(exist_ok=True)

    @property
    def _environment(self) -> dict[str, str]:
        return self.clock.environment if self.clock else {}

    def living(self) -> list[Launch]:
        """Return the sweeps whose parents run."""
        return [started for started in self._launches if started.lives]

    def start(self, workers: int = 2) -> None:
        """Start the sweep."""
        self._launches.append(launch(self.folder, len(self._launches), workers, self._environment))
        self.outcome.starts += 1

    def damage(self, cell: str) -> None:
        """Note that a record is going to be damaged on purpose, so that it may be trained again."""
        self._keep(look(self.store))
        self._damaged.add(cell)
        self.outcome.damaged += 1

    def wait_for_end(self) -> None:
        """Wait until every sweep has ended.

        Raises:
            TimeoutError: One has hung.
        """
        end = time.monotonic() + PATIENCE
        while self.living():
            if time.monotonic() > end:
                raise TimeoutError(f"a sweep has not ended in {PATIENCE:.0f} s")
            time.sleep(PAUSE)

    def check(self, when: str) -> None:
        """Ask `bench status`, and note what is wrong with its answer."""
        anybody = bool(self.living()) or self._orphans()
        before = look(self.store)
        answer = ask_status(self.folder, self._environment)
        after = look(self.store)
        self.outcome.checks += 1
        found = problems(answer.stdout, answer.returncode, before, after, anybody)
        self.outcome.problems += [f"status, when {when}: {problem}" for problem in found]
        self._keep(before)
        self._keep(after)

    def _orphans(self) -> bool:
        """Whether workers of a killed parent may still be ending."""
        return any(started.killed for started in self._launches)

    def _keep(self, seen: Look) -> None:
        """Note complete records that are others than before, though nobody damaged them."""
        for cell, was in (self._seen.digests if self._seen else {}).items():
            if cell not in self._damaged and seen.digests.get(cell) != was:
                self.outcome.problems.append(f"{cell} was complete and was trained again, or is gone")
        self._seen = seen

    def wait_for(self, disturbance: Disturbance) -> None:
        """Wait until it is time for a disturbance, or the sweeps have ended."""
        end = time.monotonic() + PATIENCE
        while self.living() and len(Store(self.store).cells()) < disturbance.records:
            if time.monotonic() > end:
                raise TimeoutError(f"no {disturbance.records} records in {PATIENCE:.0f} s")
            time.sleep(PAUSE)
        moment = time.monotonic() + disturbance.seconds
        while self.living() and time.monotonic() < moment:
            time.sleep(min(PAUSE, max(0.0, moment - time.monotonic())))

    def disturb(self, disturbance: Disturbance) -> None:
        """Do one thing to the sweep."""
        if disturbance.kind != "second sweep":
            self.wait_for(disturbance)
        if not self.living():
            self.start()
        there = len(Store(self.store).cells())
        try:
            done = KINDS[disturbance.kind](self, random.Random(disturbance.seed))
        except psutil.NoSuchProcess as error:
            done = f"process {error.pid} had just ended"
        self.outcome.disturbances.append({"kind": disturbance.kind, "records": there, "done": done})
        self.check(f"after {disturbance.kind}")

    def finish(self) -> None:
        """Let the sweeps end, and start it again until it ends well with nothing left to do."""
        self.wait_for_end()
        for _ in range(MOST_STARTS):
            self.start()
            self.wait_for_end()
            if self._launches[-1].process.returncode == 0:
                self.check("all is done")
                return
        self.outcome.problems.append(f"the sweep has not ended well in {MOST_STARTS} starts: {self._last_words()}")

    def _last_words(self) -> str:
        return (self._launches[-1].said.strip().splitlines() or ["it said nothing"])[-1]

    def judge(self, expected: dict[str, str]) -> None:
        """Hold the store against the digests of an undisturbed sweep, by cell id."""
        found = look(self.store)
        wrong = self.outcome.problems
        if found.states != dict.fromkeys(expected, "complete"):
            odd = {cell: state for cell, state in found.states.items() if state != "complete"}
            wrong.append(f"{len(found.states)} cells, not complete: {odd or 'none'}")
        different = [cell for cell, (digest, _) in found.digests.items() if digest != expected.get(cell)]
        wrong += [f"{cell} has another digest" for cell in different]
        wrong += _false_digests(Store(self.store))
        strangers = [p.name for p in self.store.iterdir() if not CELL.fullmatch(p.name)]
        wrong += [f"left behind: {name}" for name in strangers if name not in ("plan.json", "leases")]
        wrong += [f"left behind: leases/{p.name}" for p in self.store.glob("leases/*") if p.name != "lock"]
        said = [started.said for started in self._launches]
        wrong += [
            f"launch {number}: a traceback"
            for number, (started, words) in enumerate(zip(self._launches, said, strict=True))
            if "Traceback" in words and not started.killed
        ]
        self.outcome.trained = sum(len(re.findall(r": complete in ", words)) for words in said)
        # A record that could not be written is trained again, and so is a cell that nobody could have a lease of.
        kinds = {one["kind"] for one in self.outcome.disturbances}
        most = CELLS + self.outcome.damaged
        if not kinds & {"full disk", "read-only store"} and self.outcome.trained > most:
            wrong.append(f"{self.outcome.trained} cells trained, {most} at most were to be")

    def end(self) -> None:
        """Kill whatever is left."""
        for started in self._launches:
            started.end()


def _false_digests(store: Store) -> Iterator[str]:
    """Name cells whose digest is not that of their trials and curves, and what cannot be read."""
    for cell in store.cells():
        try:
            record = store.read(cell)
            if record.digest != cell_digest(record.trials, store.curves(cell)):
                yield f"{cell} has a digest that is not its own"
        except RecordError as error:
            yield str(error)


@contextmanager
def _disk(folder: Path, wanted: bool) -> Iterator[Disk | None]:
    disk = Disk(folder / "results") if wanted else None
    try:
        yield disk
    finally:
        if disk:
            disk.unmount()


def play(
    folder: Path, seed: int, number: int, kinds: list[str], library: Path | None, expected: dict[str, str]
) -> Outcome:
    """Play a round.

    Args:
        folder: An empty one of its own.
        seed: Of all rounds.
        number: Of this one.
        kinds: What can be done here, names of `KINDS`.
        library: Of the clock (`tests.chaos.machine.build_clock`).
        expected: Digests of an undisturbed sweep, by cell id.
    """
    planned = schedule(seed, number, kinds)
    wanted = {disturbance.kind for disturbance in planned}
    start = time.perf_counter()
    with _disk(folder, bool(wanted & {"full disk", "read-only store"})) as disk:
        clock = Clock(library, folder / "clock") if library and "clock jump" in wanted else None
        played = Round(folder, seed, number, disk, clock)
        try:
            played.start()
            for disturbance in planned:
                played.disturb(disturbance)
            played.finish()
            played.judge(expected)
        except (TimeoutError, OSError) as error:
            played.outcome.problems.append(str(error))
        finally:
            played.end()
    played.outcome.seconds = time.perf_counter() - start
    return played.outcome


def undisturbed(folder: Path) -> dict[str, str]:
    """Run the sweep in peace and return its digests by cell id.

    Raises:
        RuntimeError: It has not ended well.
    """
    alone = Round(folder, 0, 0)
    try:
        alone.finish()
    finally:
        alone.end()
    found = look(alone.store)
    if alone.outcome.problems or alone.outcome.starts != 1 or len(found.digests) != CELLS:
        raise RuntimeError(f"the undisturbed sweep is not well: {alone.outcome.problems or alone._last_words()}")
    return {cell: digest for cell, (digest, _) in found.digests.items()}
