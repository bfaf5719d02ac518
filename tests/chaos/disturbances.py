"""What is done to a sweep, by kind; docs/sweeps.md says what each has to come to."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.chaos.looks import CELL
from tests.chaos.sweep import CELLS, Launch

if TYPE_CHECKING:
    from tests.chaos.rounds import Round


#: What is said where there was nothing to disturb.
ENDED = "all sweeps had just ended"


@dataclass(frozen=True)
class Disturbance:
    """One thing that is done in a round.

    Attributes:
        kind: A name of `KINDS`.
        records: It comes when so many records are there; 0 for while the sweep starts.
        seconds: And so much later.
        seed: Of what is drawn when it comes: which process, which file, which byte.
    """

    kind: str
    records: int
    seconds: float
    seed: int


def schedule(seed: int, number: int, kinds: list[str]) -> list[Disturbance]:
    """Draw what happens in a round, in order; every kind comes once in as many rounds as there are kinds, or fewer.

    Args:
        seed: Of all rounds.
        number: Of the round.
        kinds: What can be done here.
    """
    deck = random.Random(f"deck {seed} {number * 2 // len(kinds)}").sample(kinds, len(kinds))
    following = random.Random(f"deck {seed} {(number * 2 + 1) // len(kinds)}").sample(kinds, len(kinds))
    draw = random.Random(f"round {seed} {number}")
    chosen = {deck[number * 2 % len(kinds)], following[(number * 2 + 1) % len(kinds)], draw.choice(kinds)}
    made = []
    for kind in sorted(chosen):
        # One in five comes while the sweep starts.
        records = draw.randrange(1, CELLS - 1) if draw.random() < 0.8 else 0
        made.append(Disturbance(kind, records, draw.uniform(0, 0.3 if records else 6), draw.getrandbits(32)))
    # A second sweep starts with the first.
    return sorted(made, key=lambda one: (one.kind != "second sweep", one.records, one.seconds))


def kill_worker(round_: "Round", draw: random.Random) -> str:
    """Kill a worker process."""
    workers = [worker for launch in round_.living() for worker in launch.workers()]
    if not workers:
        return "no worker there"
    worker = draw.choice(workers)
    worker.kill()
    return f"worker {worker.pid}"


def kill_parent(round_: "Round", draw: random.Random) -> str:
    """Kill a sweep's parent process; its workers have to notice."""
    launch = _any_launch(round_, draw)
    if launch is None:
        return ENDED
    launch.kill()
    return f"parent {launch.process.pid}"


def stop(round_: "Round", draw: random.Random) -> str:
    """Stop a process for a while; or kill it while it is stopped; or kill the parent of a stopped worker."""
    launch = _any_launch(round_, draw)
    if launch is None:
        return ENDED
    parent, workers = psutil.Process(launch.process.pid), launch.workers()
    who = draw.choice([parent, *workers])
    then, seconds = draw.choice(("goes on", "is killed", "is left alone")), draw.uniform(0.1, 2)
    who.suspend()
    round_.check(f"{who.pid} is stopped")
    time.sleep(seconds)
    name = "parent" if who == parent else "worker"
    if then == "goes on" or (then == "is left alone" and who == parent):
        _signal(who, signal.SIGCONT)
        return f"{name} {who.pid} for {seconds:.1f} s"
    if then == "is killed":
        if who == parent:
            launch.kill()
        else:
            _signal(who, signal.SIGKILL)
        return f"{name} {who.pid}, killed after {seconds:.1f} s"
    # The stopped worker holds its cell: the next sweep has to wait for it, and to get it when the worker goes on.
    launch.kill()
    if not round_.living():
        round_.start()
    round_.check(f"stopped worker {who.pid} has lost its parent")
    _signal(who, signal.SIGCONT)
    return f"worker {who.pid} for {seconds:.1f} s, its parent killed meanwhile"


def full_disk(round_: "Round", draw: random.Random) -> str:
    """Leave no room until the sweeps have ended."""
    assert round_.disk is not None
    return _until_the_end(round_, "the disk is full", round_.disk.fill, round_.disk.free)


def read_only(round_: "Round", draw: random.Random) -> str:
    """Let nothing be written until the sweeps have ended."""
    assert round_.disk is not None
    return _until_the_end(round_, "the store is read-only", round_.disk.protect, round_.disk.unprotect)


def _until_the_end(round_: "Round", what: str, begin: Callable[[], None], end: Callable[[], None]) -> str:
    begin()
    try:
        round_.wait_for_end()
        round_.check(what)
    finally:
        end()
    return "until all sweeps had ended"


def clock_jump(round_: "Round", draw: random.Random) -> str:
    """Put the clock an hour to two days forward or back, for good."""
    assert round_.clock is not None
    seconds = draw.choice((-1, 1)) * draw.randrange(3600, 2 * 86400)
    round_.clock.jump(seconds)
    return f"by {seconds:+d} s"


def second_sweep(round_: "Round", draw: random.Random) -> str:
    """Start the same sweep once more; it trains in its own process, without workers."""
    round_.start(workers=1)
    return f"process {round_.living()[-1].process.pid}" if round_.living() else "ended at once"


def corrupt_record(round_: "Round", draw: random.Random) -> str:
    """Change a bit of a file of a record, or cut it off."""
    file = _any_file(round_.store, draw)
    if file is None:
        return "no record there"
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    if draw.random() < 0.5:
        content[place] ^= 1 << draw.randrange(8)
        how = f"a bit of byte {place} of"
    else:
        del content[place:]
        how = f"all from byte {place} of"
    round_.damage(file.parent.name)
    # In its place, as a disk does it: no new file, and nobody is told.
    with file.open("r+b") as stream:
        stream.write(content)
        stream.truncate()
    return f"{how} {file.parent.name}/{file.name}"


def delete_record(round_: "Round", draw: random.Random) -> str:
    """Delete a record, or one file of it."""
    file = _any_file(round_.store, draw)
    if file is None:
        return "no record there"
    round_.damage(file.parent.name)
    if draw.random() < 0.5:
        shutil.rmtree(file.parent)
        return file.parent.name
    file.unlink()
    return f"{file.parent.name}/{file.name}"


KINDS: dict[str, Callable[["Round", random.Random], str]] = {
    "kill worker": kill_worker,
    "kill parent": kill_parent,
    "stop": stop,
    "full disk": full_disk,
    "clock jump": clock_jump,
    "read-only store": read_only,
    "second sweep": second_sweep,
    "corrupted record": corrupt_record,
    "deleted record": delete_record,
}


def _any_launch(round_: "Round", draw: random.Random) -> Launch | None:
    living = round_.living()
    return draw.choice(living) if living else None


def _any_file(store: Path, draw: random.Random) -> Path | None:
    folders = sorted(entry for entry in _cells(store))
    if not folders:
        return None
    files = sorted(draw.choice(folders).iterdir())
    files = [file for file in files if file.stat().st_size]
    return draw.choice(files) if files else None


def _cells(store: Path) -> Iterator[Path]:
    if store.is_dir():
        yield from (entry for entry in store.iterdir() if CELL.fullmatch(entry.name))


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        # It ended with its parent, which closed its pipe; a stopped process does not, a killed one does.
        return
