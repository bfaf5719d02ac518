"""Leases: one holder a cell; the dead hold nothing."""

import dataclasses
import json
import os
import threading
from pathlib import Path

import psutil
import pytest

from bench.results import leases as module
from bench.results.leases import PATIENCE_SECONDS, Lease, Leases, live_leases, remove_dead_leases
from bench.results.store import Store
from tests.results.processes import bystander
from tests.results.records import CELL

OTHER = "f" * 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def put(store: Store, lease: Lease, age: float = 0.0) -> Path:
    """Write a lease as another process would, its last heartbeat `age` seconds ago."""
    file = store.path / "leases" / f"{lease.cell}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(dataclasses.asdict(lease)))
    heard = file.stat().st_mtime - age
    os.utime(file, (heard, heard))
    return file


def test_a_cell_has_one_holder_until_it_is_given_back(store: Store) -> None:
    with bystander() as process, Leases(store) as first, Leases(store) as second:
        assert first.take(CELL, process.pid) is None
        held = second.take(CELL, os.getpid())
        assert held is not None
        assert (held.cell, held.process, held.host) == (CELL, process.pid, module.socket.gethostname())
        assert live_leases(store) == {CELL: held}
        assert held.seconds >= 0
        # Whoever does not hold it cannot give it back; whoever holds it may take it again.
        second.give_back(CELL)
        assert first.take(CELL, process.pid) is None
        first.give_back(CELL)
        assert live_leases(store) == {}
        assert second.take(CELL, os.getpid()) is None
    assert live_leases(store) == {}
    assert [path.name for path in (store.path / "leases").iterdir()] == ["lock"]


def test_a_killed_process_holds_nothing_even_while_nobody_has_waited_for_it(store: Store) -> None:
    with bystander() as process, Leases(store) as first, Leases(store) as second:
        assert first.take(CELL, process.pid) is None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        assert live_leases(store) == {}
        assert second.take(CELL, os.getpid()) is None
        # What the first gives back is not what is there now.
        first.give_back(CELL)
        assert list(live_leases(store)) == [CELL]


def test_a_process_id_that_is_used_again_is_another_process(store: Store) -> None:
    ours = Lease.of(CELL, os.getpid())
    put(store, dataclasses.replace(ours, process_started=ours.process_started - 100))
    assert live_leases(store) == {}
    put(store, ours)
    assert live_leases(store) == {CELL: ours}


def test_a_clock_that_is_put_forward_changes_no_holder(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux counts a process's start from the boot, whose time of day is then another."""
    ours = Lease.of(CELL, os.getpid())
    put(store, ours)
    created, booted = psutil.Process(os.getpid()).create_time(), psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + 3600)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: created + 3600)
    assert live_leases(store) == {CELL: ours}


def test_what_the_dead_have_left_is_removed_and_nothing_else(store: Store) -> None:
    remove_dead_leases(store)
    assert not (store.path / "leases").exists()
    with bystander() as process, Leases(store) as leases:
        assert leases.take(CELL, process.pid) is None
        put(store, dataclasses.replace(Lease.of(OTHER, os.getpid()), process_started=1.0))
        (store.path / "leases" / f"{'e' * 16}.json").write_text("")
        remove_dead_leases(store)
        assert sorted(path.name for path in (store.path / "leases").iterdir()) == [f"{CELL}.json", "lock"]


def test_a_process_that_is_no_more_gets_a_dead_lease(store: Store) -> None:
    with bystander() as process:
        pid = process.pid
    put(store, Lease.of(CELL, pid))
    assert live_leases(store) == {}


def test_another_machine_is_known_by_its_heartbeat(store: Store) -> None:
    there = dataclasses.replace(Lease.of(CELL, os.getpid()), host="another-machine", process_started=1.0)
    put(store, there)
    with Leases(store) as leases:
        assert leases.take(CELL, os.getpid()) == there
        put(store, there, PATIENCE_SECONDS + 1)
        assert leases.take(CELL, os.getpid()) is None


def test_a_heartbeat_is_heard(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    beaten = threading.Event()
    real = os.utime

    def utime(path: Path) -> None:
        real(path)
        beaten.set()

    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.0)
    with Leases(store) as leases:
        assert leases.take(CELL, os.getpid()) is None
        file = store.path / "leases" / f"{CELL}.json"
        real(file, (1.0, 1.0))
        monkeypatch.setattr(os, "utime", utime)
        assert beaten.wait(60)
        assert file.stat().st_mtime > 1.0


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"cell": 1}', json.dumps(dataclasses.asdict(Lease.of(OTHER, os.getpid())))]
)
def test_what_is_no_lease_holds_nothing(store: Store, content: str) -> None:
    file = put(store, Lease.of(CELL, os.getpid()))
    file.write_text(content)
    assert live_leases(store) == {}
    with Leases(store) as leases:
        assert leases.take(CELL, os.getpid()) is None
        assert list(live_leases(store)) == [CELL]


def test_where_no_lease_can_be_written_cells_are_run_all_the_same(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.path / "leases").write_text("in the way")
    with Leases(store) as leases:
        assert leases.take(CELL, os.getpid()) is None
        assert leases.take(OTHER, os.getpid()) is None
    said = capsys.readouterr().err
    assert said.count("no lease") == 1
    assert "the cells are run all the same" in said
    assert live_leases(store) == {}


def test_many_who_ask_at_once(store: Store) -> None:
    """Two holders go for a hundred cells, half of which the dead have left: each cell is won once."""
    cells = [f"{number:016x}" for number in range(100)]
    for cell in cells[::2]:
        put(store, dataclasses.replace(Lease.of(cell, os.getpid()), process_started=1.0))
    won: list[list[str]] = [[], []]
    with bystander() as one, bystander() as two, Leases(store) as first, Leases(store) as second:

        def ask(number: int, leases: Leases, process: int) -> None:
            won[number] = [cell for cell in cells if leases.take(cell, process) is None]

        threads = [
            threading.Thread(target=ask, args=(0, first, one.pid)),
            threading.Thread(target=ask, args=(1, second, two.pid)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won[0] + won[1]) == cells
