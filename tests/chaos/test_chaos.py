"""The parts of the chaos test: what it draws, what it sees, and that it cannot fail to see what is wrong."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.launching.status import Watcher, as_plain
from bench.results.digest import cell_digest
from bench.results.leases import Leases
from bench.results.plan import Planned, add_to_plan
from bench.results.record import CellStatus
from bench.results.store import Store
from tests.chaos import looks
from tests.chaos.disturbances import KINDS, corrupt_record, delete_record, schedule
from tests.chaos.looks import look, problems
from tests.chaos.machine import Clock, Disk, build_clock
from tests.chaos.page import markdown
from tests.chaos.rounds import Outcome, Round
from tests.chaos.sweep import CELLS
from tests.results.processes import bystander
from tests.results.records import curves, record, trial

IDS = [f"{number:016x}" for number in range(CELLS)]


DIGEST = cell_digest([trial()], curves(lrs=(0.5,)))
EXPECTED = dict.fromkeys(IDS, DIGEST)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of forty complete cells with its plan. Shared: not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    store = Store(folder / "chaos")
    for cell in IDS:
        store.write(record(cell, trials=[trial()], digest=DIGEST), curves(lrs=(0.5,)))
    add_to_plan(store, {cell: Planned(cell, 1.0) for cell in IDS})
    return folder


@pytest.fixture
def played(finished: Path, tmp_path: Path) -> Round:
    """A round whose store is finished."""
    shutil.copytree(finished, tmp_path / "results")
    return Round(tmp_path, 0, 0)


def test_a_round_is_drawn_from_its_seed_and_number_and_five_hold_every_kind() -> None:
    kinds = list(KINDS)
    assert schedule(3, 17, kinds) == schedule(3, 17, kinds) != schedule(4, 17, kinds)
    for seed in range(20):
        rounds = [schedule(seed, number, kinds) for number in range(5)]
        assert {one.kind for drawn in rounds for one in drawn} == set(kinds)
        assert all(0 <= one.records < CELLS for drawn in rounds for one in drawn)
        assert all(drawn[0].kind == "second sweep" for drawn in rounds if "second sweep" in {d.kind for d in drawn})
    left = [kind for kind in kinds if kind not in ("full disk", "read-only store", "clock jump")]
    assert {one.kind for number in range(5) for one in schedule(0, number, left)} == set(left)


def test_an_undisturbed_store_is_well(played: Round) -> None:
    played.judge(EXPECTED)
    assert played.outcome.problems == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda store: shutil.rmtree(store / IDS[3]), "not complete"),
        (lambda store: (store / IDS[3] / "curves.parquet").unlink(), "not complete"),
        (lambda store: (store / f".{IDS[3]}.host.1.x").mkdir(), "left behind: ."),
        (lambda store: (store / "leases" / f"{IDS[3]}.json").write_text("{}"), "left behind: leases/"),
        (lambda store: Store(store).write(record("f" * 16), curves()), "has another digest"),
        (lambda store: (store / IDS[3] / "SHA256SUMS").write_text(f"{'0' * 64}  record.json\n"), "not complete"),
    ],
)
def test_what_is_wrong_is_found(played: Round, spoil: Callable[[Path], Any], said: str) -> None:
    spoil(played.store)
    played.judge(EXPECTED)
    assert any(said in problem for problem in played.outcome.problems), played.outcome.problems


def test_a_digest_that_is_not_that_of_its_curves_is_found(played: Round) -> None:
    shutil.rmtree(played.store / IDS[3])
    Store(played.store).write(record(IDS[3], trials=[trial()], digest=DIGEST), curves(lrs=(0.25,)))
    played.judge(EXPECTED)
    assert played.outcome.problems == [f"{IDS[3]} has a digest that is not its own"]


def test_a_cell_that_was_trained_again_is_found_where_nobody_damaged_it(played: Round) -> None:
    played.damage(IDS[1])
    for cell in (IDS[1], IDS[2]):
        shutil.rmtree(played.store / cell)
        Store(played.store).write(record(cell, trials=[trial()], digest=DIGEST), curves(lrs=(0.5,)))
    played.damage(IDS[5])
    assert played.outcome.problems == [f"{IDS[2]} was complete and was trained again, or is gone"]


def status_of(store: Path) -> str:
    return json.dumps(as_plain(Watcher(Store(store)).look()))


def test_the_look_and_status_say_the_same_and_every_other_answer_is_found(tmp_path: Path, played: Round) -> None:
    store = Store(played.store)
    # One of every state.
    shutil.rmtree(played.store / IDS[0])
    shutil.rmtree(played.store / IDS[1])
    (played.store / IDS[2] / "record.json").write_text("{")
    shutil.rmtree(played.store / IDS[3])
    store.write(record(IDS[3], status=CellStatus.FAILED, digest=None), curves())
    with bystander() as process, Leases(store) as leases:
        assert leases.take(IDS[1], process.pid) is None
        seen, said = look(played.store), status_of(played.store)
        states = [seen.states[cell] for cell in IDS[:5]]
        assert states == ["waiting", "running", "unreadable", "failed", "complete"]
        assert problems(said, 0, seen, seen, False) == []
        for cell in IDS[:5]:
            other = looks.Look(seen.planned, seen.states | {cell: "oom"}, seen.digests)
            (found,) = problems(said, 0, other, other, False)
            assert found.startswith(f"{cell} is ")
            # It was that before the answer, and is this now.
            assert problems(said, 0, other, seen, False) == []
    assert problems(said, 0, look(played.store), look(played.store), False) != [], "its process is no more"
    assert problems("", 2, seen, seen, False) == ["bench status ended with 2"]
    nothing = look(tmp_path / "nowhere")
    assert problems("", 2, nothing, seen, True) == []
    wrong = json.loads(said)
    wrong["counts"]["complete"] -= 1
    assert any("39 cells of 40" in problem for problem in problems(json.dumps(wrong), 0, seen, seen, False))


@pytest.mark.parametrize("damage", [corrupt_record, delete_record])
def test_a_damaged_record_is_no_complete_one_to_the_look_and_to_status(
    finished: Path, played: Round, damage: Any
) -> None:
    """But for a missing list of checksums, as records of before have none."""
    for seed in range(30):
        done = damage(played, random.Random(seed))
        seen = look(played.store)
        assert problems(status_of(played.store), 0, seen, seen, False) == []
        cell = next(part for part in done.split()[-1].split("/") if part in IDS)
        assert (seen.states.get(cell) == "complete") == (done == f"{cell}/SHA256SUMS"), done
        shutil.rmtree(played.store / cell, ignore_errors=True)
        shutil.copytree(finished / "chaos" / cell, played.store / cell)


def test_a_small_disk_is_full_free_and_read_only(tmp_path: Path) -> None:
    try:
        disk = Disk(tmp_path / "results")
    except OSError as error:
        pytest.skip(f"no small disk: mounting one needs root ({error})")
    file = tmp_path / "results" / "file"
    try:
        disk.fill()
        with pytest.raises(OSError, match="No space left on device"):
            file.write_text("something")
        disk.free()
        file.write_text("something")
        disk.protect()
        with pytest.raises(OSError, match="Read-only file system"):
            file.write_text("something else")
        assert file.read_text() == "something"
        disk.unprotect()
        file.unlink()
    finally:
        disk.unmount()
    assert list((tmp_path / "results").iterdir()) == []


def test_a_clock_of_its_own(tmp_path: Path) -> None:
    """A process that runs sees the jump, in all three ways to ask; what only counts does not."""
    try:
        clock = Clock(build_clock(tmp_path), tmp_path / "clock")
    except OSError as error:
        pytest.skip(str(error))
    ask = (
        "import time, datetime, sys\n"
        "for _ in sys.stdin:\n"
        "    time.sleep(0.001)\n"
        "    now = datetime.datetime.now().timestamp()\n"
        "    print(time.time(), now, int(time.strftime('%s')), time.monotonic(), flush=True)\n"
    )
    words, pipe = [sys.executable, "-c", ask], subprocess.PIPE
    with subprocess.Popen(
        words, env=os.environ | clock.environment, stdin=pipe, stdout=pipe, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def asked() -> list[float]:
            process.stdin.write("\n")
            return [float(word) for word in process.stdout.readline().split()]

        before = asked()
        for jump in (7 * 86400, -3 * 86400):
            clock.jump(jump)
            *times, counted = (now - then for now, then in zip(asked(), before, strict=True))
            assert times == pytest.approx([jump] * 3, abs=3600)
            assert 0 <= counted < 3600
        process.stdin.close()


def test_the_page_counts_rounds_and_says_what_was_wrong() -> None:
    done = [
        {"kind": "stop", "records": 3, "done": "no sweep there"},
        {"kind": "stop", "records": 4, "done": "worker 1"},
    ]
    outcomes = [Outcome(0, 0, done, 3, 41, 1, 5, 20.0), Outcome(0, 1, done[1:], 2, 40, 0, 4, 10.0, ["bad | thing"])]
    page = markdown(outcomes, "a command", {"clock jump": "no library"})
    assert "In **1 of 2** the store" in page
    assert "(9 times)" in page
    assert "| stop | 3 | 1 | 2 | 1 |" in page
    assert "| clock jump | 0: no library | | | |" in page
    assert "| 1 | stop (4) | 2 | 40 | 0 | 4 | 10 | bad / thing |" in page
