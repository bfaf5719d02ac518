"""How far a sweep is, from its folder alone."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.launching import status as module
from bench.launching.status import Watcher, show_status
from bench.results.leases import Lease
from bench.results.plan import Planned, add_to_plan
from bench.results.record import CellStatus, TrialStatus
from bench.results.store import Store
from tests.results.records import curves, record, trial
from tests.small import SMALL, call, run

#: Costs of the planned cells: the time left is counted in them.
COSTS = {"complete": 3.0, "diverged": 1.0, "failed": 5.0, "oom": 7.0, "running": 10.0, "waiting": 20.0}
CELLS = {name: f"{number:016x}" for number, name in enumerate(COSTS, 1)}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A sweep with a cell of each kind: two seconds for each unit of cost."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "results" / "mine")
    store.path.mkdir(parents=True)
    plan = {CELLS[name]: Planned(f"cell {name}", cost, (f"lr={cost}",)) for name, cost in COSTS.items()}
    add_to_plan(store, plan)
    put(store, "complete")
    put(store, "diverged", trials=[trial(0.5), trial(1.0, status=TrialStatus.DIVERGED)])
    put(store, "failed", status=CellStatus.FAILED, reason="its worker died")
    put(store, "oom", status=CellStatus.OOM, reason="out of memory")
    lease(store, "running")
    return store


def put(store: Store, name: str, **changes: object) -> None:
    seconds = {"training": 2 * COSTS.get(name, 0.0)}
    store.write(record(CELLS.get(name, name), **({"seconds": seconds} | changes)), curves())


def lease(store: Store, name: str, process: int | None = None, seconds: float = 0.0) -> Lease:
    """Let this process, or another, run a cell since some seconds."""
    made = Lease.of(CELLS[name], process or os.getpid())
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    made = dataclasses.replace(made, since=since.isoformat(timespec="seconds"))
    (store.path / "leases" / f"{made.cell}.json").write_text(json.dumps(dataclasses.asdict(made)))
    return made


def test_every_cell_is_counted_once(store: Store) -> None:
    status = Watcher(store).look()
    assert {name: count for name, count in status.counts.items() if count} == {
        "complete": 2,
        "failed": 1,
        "oom": 1,
        "running": 1,
        "waiting": 1,
    }
    assert sum(status.counts.values()) == len(CELLS)
    assert list(status.running) == [CELLS["running"]]
    assert status.waiting == [CELLS["waiting"]]
    assert not status.is_done
    assert status.cell_seconds == 2 * (3 + 1 + 5 + 7)


def test_the_time_left_is_that_of_the_cost_left(store: Store) -> None:
    """At two seconds for each unit of cost: 20 units wait, 10 run; then those that run have used some of it."""
    running = lease(store, "running", seconds=12)
    left = Watcher(store).look().cell_seconds_left
    assert left == pytest.approx(2 * 20 + 2 * 10 - 12, abs=2)
    assert running.seconds == pytest.approx(12, abs=2)
    # A cell that takes longer than thought needs no less than nothing.
    lease(store, "running", seconds=1000)
    status = Watcher(store).look()
    assert status.cell_seconds_left == status.seconds_left == 40
    # Two who share the work.
    lease(store, "waiting")
    status = Watcher(store).look()
    assert status.seconds_left == pytest.approx(40 / 2, abs=1)


def test_nothing_tells_the_time_left(store: Store) -> None:
    for name in ("complete", "diverged"):
        (store.cell_path(CELLS[name]) / "record.json").write_text("{")
    status = Watcher(store).look()
    assert status.counts["unreadable"] == 2
    assert (status.cell_seconds_left, status.seconds_left) == (None, None)
    assert "time left unknown" in module.headline(status)


def test_a_cell_that_is_run_again_is_running(store: Store) -> None:
    lease(store, "failed")
    counts = Watcher(store).look().counts
    assert (counts["failed"], counts["running"]) == (0, 2)


def test_the_lease_of_a_dead_process_is_no_running_cell(store: Store) -> None:
    made = lease(store, "running")
    dead = dataclasses.replace(made, process_started=1.0)
    (store.path / "leases" / f"{made.cell}.json").write_text(json.dumps(dataclasses.asdict(dead)))
    status = Watcher(store).look()
    assert status.running == {}
    assert sorted(status.waiting) == sorted([CELLS["running"], CELLS["waiting"]])
    assert status.seconds_left is None
    assert "about 1 min 0 s of cell time left, and nothing is running" in module.headline(status)


def test_in_words(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, "e" * 16, status=CellStatus.FAILED, reason="its worker died")
    (store.cell_path("d" * 16)).mkdir()
    assert call("status", "mine") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "mine: 2 of 8 cells complete, 1 oom, 2 failed, 1 unreadable, 1 running, 1 waiting, 32 s of cell time so far"
    )
    assert lines[0].endswith("left with 1 process")
    running = Watcher(store).look().running[CELLS["running"]]
    assert lines[1] == "running:"
    assert f"{running.cell} cell running: {running.host}, process {os.getpid()}, since {running.since} (" in lines[2]
    assert lines[3:] == [
        "not complete:",
        f"  2 failed: its worker died ({CELLS['failed']} cell failed and 1 more)",
        f"  1 oom: out of memory ({CELLS['oom']} cell oom)",
        f"  1 unreadable: No such file or directory ({'d' * 16} {'d' * 16})",
        "diverged: 1 of 10 trials, in 1 cell; they are data",
    ]


def test_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", str(store.path), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sweep"] == "mine"
    assert said["planned"] == 6
    assert said["done"] is False
    assert said["counts"] == Watcher(store).look().counts
    assert said["cell_seconds"] == 32
    (running,) = said["running"]
    assert (running["cell"], running["label"], running["process"]) == (CELLS["running"], "cell running", os.getpid())
    assert [(entry["cell"], entry["status"], entry["reason"]) for entry in said["not_complete"]] == [
        (CELLS["failed"], "failed", "its worker died"),
        (CELLS["oom"], "oom", "out of memory"),
    ]
    assert [(entry["cell"], entry["diverged"], entry["trials"]) for entry in said["diverged"]] == [
        (CELLS["diverged"], 1, 2)
    ]
    assert said["waiting"] == [{"cell": CELLS["waiting"], "label": "cell waiting", "overrides": ["lr=20.0"]}]


def test_a_sweep_without_a_plan_is_what_has_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(Store(tmp_path / "old"), "a" * 16)
    assert call("status", "old", "--results-root", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "old: 1 of 1 cells complete" in out
    assert "no plan here" in out


def test_a_sweep_without_a_record_is_what_was_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "new")
    store.path.mkdir()
    assert call("status", "new", "--results-root", str(tmp_path)) == 2
    assert "holds no records yet" in capsys.readouterr().err
    add_to_plan(store, {"a" * 16: Planned("one", 1.0)})
    assert call("status", "new", "--results-root", str(tmp_path)) == 0
    assert "0 of 1 cells complete, 1 waiting, 0 s of cell time so far, time left unknown" in capsys.readouterr().out


def test_a_damaged_plan_is_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.path / "plan.json").write_text("{")
    assert call("status", "mine") == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "plan.json: not a plan" in said.err


def ending(store: Store) -> tuple[list[float], Callable[[float], None]]:
    """Let time pass: nothing happens, the running cell ends, the waiting one is run, it ends."""
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            put(store, "running")
            (store.path / "leases" / f"{CELLS['running']}.json").unlink()
        if len(waits) == 3:
            lease(store, "waiting")
        if len(waits) == 4:
            put(store, "waiting")
            (store.path / "leases" / f"{CELLS['waiting']}.json").unlink()

    return waits, pause


def test_watching_prints_a_line_for_each_change_and_ends_when_it_is_done(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = Store.glance
    monkeypatch.setattr(Store, "glance", lambda self, cell: (read.append(cell), real(self, cell))[1])
    waits, pause = ending(store)
    assert show_status(store, watch=True, pause=pause) == 0
    assert waits == [module.REFRESH_SECONDS] * 4
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines[:4]] == [f"mine: {n} of 6 cells complete" for n in (2, 3, 3, 4)]
    assert "1 running, 1 waiting" in lines[0]
    assert ", 1 waiting" in lines[1]
    assert ", 1 running" in lines[2]
    assert lines[4] == "not complete:", "the last one says all"
    assert len(read) == len(CELLS), "no record is read twice"


def test_watching_as_json_is_an_object_for_each_change(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    _, pause = ending(store)
    assert show_status(store, watch=True, as_json=True, pause=pause) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["counts"]["complete"] for entry in said] == [2, 3, 3, 4]
    assert [entry["done"] for entry in said] == [False, False, False, True]


def test_watching_in_a_terminal_shows_the_end(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    _, pause = ending(store)
    assert show_status(store, watch=True, pause=pause) == 0
    out = capsys.readouterr().out
    assert "1 running, 1 waiting" in out
    assert "mine: 4 of 6 cells complete" in out.rpartition("mine:")[1] + out.rpartition("mine:")[2]


def test_status_needs_no_torch(store: Store) -> None:
    asked = (
        "import sys\nfrom bench.cli import main\n"
        "try:\n    main(['status', 'mine'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert 'torch' not in sys.modules\nassert 'hydra' not in sys.modules\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "mine: 2 of 6 cells complete" in ended.stdout


def test_sweeps_write_their_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid and a single run into one folder add up, and each cell says how it was asked for."""
    monkeypatch.chdir(tmp_path)
    assert run("batch_size=64,256") == 0
    assert call("run", *SMALL, "batch_size=1024") == 0
    store = Store(tmp_path / "results/default")
    status = Watcher(store).look()
    assert status.is_done
    assert sorted(status.plan) == store.cells()
    sizes = {planned.label.split()[2]: planned for planned in status.plan.values()}
    assert sorted(sizes) == ["B=1024", "B=256", "B=64"]
    for size, planned in sizes.items():
        assert f"batch_size={size[2:]}" in planned.overrides
        assert set(SMALL) <= set(planned.overrides)
        assert planned.cost > 0
    # The labels of a plan and of records are the same.
    assert {cell: seen.label for cell, seen in status.records.items()} == {
        cell: planned.label for cell, planned in status.plan.items()
    }
