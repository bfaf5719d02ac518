"""Several sweeps into one folder: no cell is trained twice at the same moment, and the dead hold nothing."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.config import Cell
from bench.launching.cell import run_cell
from bench.launching.queue import AGAIN_SECONDS
from bench.launching.status import Watcher
from bench.launching.sweep import run_sweep
from bench.results.leases import Leases, live_leases
from bench.results.store import Store
from tests.results.processes import bystander
from tests.small import SMALL, digests, small_cell

#: Three cells of a second or so.
SLOW = ["batch_size=16,32,64", "budget.steps=600"]
#: Longer than anybody waits.
ENDLESS = ["task=mnist5k/mlp", "budget.steps=1000000"]


def start(folder: Path, *overrides: str, workers: int = 1) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "bench.cli", "run", "-m", *SMALL, f"hydra.launcher.workers={workers}", *overrides]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait_for_leases(store: Store, count: int, process: subprocess.Popen[str]) -> None:
    while len(live_leases(store)) < count and process.poll() is None:
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue


@pytest.mark.slow
def test_two_sweeps_at_once_train_each_cell_once(tmp_path: Path) -> None:
    both = [start(tmp_path, *SLOW, workers=workers) for workers in (1, 2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    for process, words in zip(both, said, strict=True):
        assert process.returncode == 0, words
        assert "bench: 3 of 3 cells done; records in" in words
    trained = [re.findall(r"\] (.*): complete in", words) for words in said]
    assert sorted(trained[0] + trained[1]) == [f"mnist5k/logreg sgd B={size} cpu" for size in (16, 32, 64)]
    assert len(digests(tmp_path / "results/default")) == 3
    assert [path.name for path in (tmp_path / "results/default/leases").iterdir()] == ["lock"]


@pytest.mark.slow
def test_a_killed_sweep_runs_nothing_and_its_cells_wait(tmp_path: Path) -> None:
    store = Store(tmp_path / "results/default")
    process = start(tmp_path, *ENDLESS, "batch_size=16,64,256", workers=2)
    wait_for_leases(store, 2, process)
    workers = psutil.Process(process.pid).children()
    seen = Watcher(store).look()
    assert {name: count for name, count in seen.counts.items() if count} == {"running": 2, "waiting": 1}
    assert {lease.process for lease in seen.running.values()} <= {worker.pid for worker in workers}
    assert {lease.host for lease in seen.running.values()} == {socket.gethostname()}
    process.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(workers, timeout=30)
    seen = Watcher(store).look()
    assert {name: count for name, count in seen.counts.items() if count} == {"waiting": 3}
    assert len(list((store.path / "leases").glob("*.json"))) == 2, "the dead gave nothing back"
    # The next sweep takes what the dead held.
    process = start(tmp_path, *ENDLESS, "batch_size=16,64,256", workers=1)
    wait_for_leases(store, 1, process)
    (lease,) = live_leases(store).values()
    assert lease.process == process.pid
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert Watcher(store).look().running == {}


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the costliest cell of two, batch size 16, in the folder that sweeps go to."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "results/default")
    store.path.mkdir(parents=True)
    with bystander() as process, Leases(store) as leases:
        assert leases.take(small_cell("batch_size=16", "budget.epochs=2").id, process.pid) is None
        yield process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def two_cells() -> list[Cell]:
    return [small_cell("batch_size=16", "budget.epochs=2"), small_cell("batch_size=64")]


def test_what_others_run_is_left_for_later_and_not_trained_again(
    held: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = cells = two_cells()
    store = Store(Path("results/default"))
    waits: list[float] = []

    def pause(seconds: float) -> None:
        """While we wait, the other process finishes its cell, and ends a moment later."""
        waits.append(seconds)
        assert store.cells() == sorted({ours.id, theirs.id} if len(waits) > 1 else {ours.id})
        if len(waits) == 1:
            assert store.write(*run_cell(theirs))
        else:
            end(held)

    monkeypatch.setattr("bench.launching.sweep.sleep", pause)
    assert run_sweep(cells, workers=1) == 0
    assert waits == [AGAIN_SECONDS] * 2
    said = capsys.readouterr().err
    assert f"other processes run 1 cell ({socket.gethostname()}, process {held.pid})" in said
    assert "[1/2] mnist5k/logreg sgd B=64 cpu: complete in" in said
    assert "[2/2] mnist5k/logreg sgd B=16 cpu: complete by another process; done in" in said
    assert "2 of 2 cells done; records in" in said


def test_what_others_left_unfinished_is_run(
    held: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.launching.sweep.sleep", lambda seconds: end(held))
    assert run_sweep(two_cells(), workers=1) == 0
    assert "[2/2] mnist5k/logreg sgd B=16 cpu: complete in" in capsys.readouterr().err


def test_who_waits_for_others_can_be_interrupted(
    held: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.launching.sweep.sleep", lambda seconds: signal.raise_signal(signal.SIGINT))
    assert run_sweep(two_cells(), workers=1) == 130
    assert "1 of 2 cells done; interrupted" in capsys.readouterr().err
    assert [lease.process for lease in live_leases(Store(Path("results/default"))).values()] == [held.pid]
