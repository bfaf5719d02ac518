"""Sweeps as a person would run them: processes, signals, full disks."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.errors import UsageError
from bench.launching.sweep import run_sweep, worker_count
from bench.results.store import Store
from bench.training import trials
from tests.small import SMALL, digests, records, run, small_cell

GRID = ["optimizer=sgd,adam", "batch_size=16,64"]
#: Long enough to be interrupted: a cell takes a second or so.
SLOW = ["task=mnist5k/mlp", "seeds=2", "budget.steps=200"]


def start(folder: Path, *overrides: str, workers: int = 2, background: bool = False) -> subprocess.Popen[str]:
    """Start a sweep as a person would, in a process of its own; in the background it does not hear Ctrl-C."""
    words = ["run", "-m", *SMALL, f"hydra.launcher.workers={workers}", *overrides]
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-m", "bench.cli", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Whatever these tests were started by.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_IGN if background else signal.SIG_DFL),
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Digests of the slow grid, trained one cell after the other in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(*SLOW, *GRID, f"results_root={folder}") == 0
    return digests(folder / "default")


def wait_for_records(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a sweep has at least `count` records, or has ended."""
    while process.poll() is None and len(Store(folder / "results/default").cells()) < count:
        process_wait(process)


def command_line(process: psutil.Process) -> str:
    """Return a process's command line; empty where it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one too
        return ""


def wait_for_workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until a sweep has its two worker processes, and return them."""
    parent = psutil.Process(process.pid)
    workers: list[psutil.Process] = []
    while len(workers) < 2 and process.poll() is None:
        process_wait(process)
        workers = [child for child in parent.children() if "spawn_main" in command_line(child)]
    return workers


def process_wait(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return


def statuses(folder: Path) -> list[str]:
    return [str(record["status"]) for record in records(folder / "results/default").values()]


@pytest.mark.slow
def test_sigkill_loses_the_cells_that_died_and_the_bits_are_those_of_one_process(
    tmp_path: Path,
    undisturbed: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start(tmp_path, *SLOW, *GRID)
    workers = wait_for_workers(process)
    wait_for_records(tmp_path, 2, process)
    process.kill()
    killed_with = len(statuses(tmp_path))
    _, said = process.communicate()
    assert "(16 trials, 2 workers)" in said
    # Both were training; they end with their parent. Had they trained on for nobody, both cells would be there.
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    sweep = tmp_path / "results/default"
    assert statuses(tmp_path) == ["complete"] * len(statuses(tmp_path))
    kept = {cell: (sweep / cell / "record.json").stat().st_mtime_ns for cell in records(sweep)}
    assert 2 <= killed_with <= len(kept) < 4
    monkeypatch.chdir(tmp_path)
    assert run(*SLOW, *GRID) == 0
    assert f"{len(kept)} done already" in capsys.readouterr().err
    assert {cell: (sweep / cell / "record.json").stat().st_mtime_ns for cell in kept} == kept, "trained again"
    assert digests(sweep) == undisturbed
    assert [p.name for p in sweep.iterdir() if p.name.startswith(".")] == []


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_cell_only_and_sigterm_ends_the_others(tmp_path: Path) -> None:
    process = start(tmp_path, *SLOW, *GRID, "budget.steps=600", background=True)
    workers = wait_for_workers(process)
    workers[0].kill()
    # Its own, and one that another worker has completed.
    wait_for_records(tmp_path, 2, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    found = [(str(r["status"]), str(r["reason"])) for r in records(tmp_path / "results/default").values()]
    (reason,) = [reason for status, reason in found if status == "failed"]
    assert "its worker process was killed by SIGKILL" in reason
    assert_interrupted(tmp_path, said)
    assert "1 failed" in said


def test_control_c_ends_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start(tmp_path, *SLOW, *GRID, "budget.steps=600", workers=1)
    wait_for_records(tmp_path, 1, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert_interrupted(tmp_path, said)
    assert set(statuses(tmp_path)) <= {"complete", "interrupted"}


def assert_interrupted(folder: Path, said: str) -> None:
    assert "interrupted: the same command goes on where it stopped" in said
    assert "Traceback" not in said
    assert set(statuses(folder)) <= {"complete", "interrupted", "failed"}
    assert 1 <= statuses(folder).count("complete") < 4


def test_a_failed_cell_is_an_exit_code_and_the_others_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train_trial, calls = trials.train_trial, iter(range(100))

    def broken(*arguments: Any) -> Any:
        if next(calls) == 0:
            raise ZeroDivisionError("planted")
        return train_trial(*arguments)

    monkeypatch.setattr(trials, "train_trial", broken)
    assert run("batch_size=64,full") == 1
    assert "1 of 2 cells done, 1 failed" in capsys.readouterr().err
    assert sorted(statuses(tmp_path)) == ["complete", "failed"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds one small record, not two."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system: mounting one needs root ({error})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_sweep_with_whole_records_only(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["results_root=small", "optimizer=sgd,adam,adagrad", "batch_size=16,64"]
    assert run(*overrides, "hydra.launcher.workers=2") == 1
    said = capsys.readouterr().err
    assert "a record could not be written" in said
    assert "No space left on device" in said
    assert "make room and give the same command to go on" in said
    store = Store(small_disk / "default")
    # The cell that was being trained meanwhile is told to stop, and what it has may fit.
    assert {str(record.status) for record, _ in store.read_all()} <= {"complete", "interrupted"}
    assert [p.name for p in store.path.iterdir() if p.name.startswith(".")] == []
    # With room the same grid is completed.
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert run(*overrides) == 0
    assert len(store.cells()) == 6


def test_two_sweeps_may_write_one_store_at_once(
    tmp_path: Path, undisturbed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = start(tmp_path, *SLOW, *GRID, workers=1)
    # From when it trains its second cell on; both then train the same ones.
    wait_for_records(tmp_path, 1, other)
    assert run(*SLOW, *GRID) == 0
    _, said = other.communicate(timeout=300)
    assert other.returncode == 0, said
    assert digests(tmp_path / "results/default") == undisturbed


def test_an_interrupted_record_makes_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cell = small_cell()
    from bench.launching.cell import failed_record

    store = Store(tmp_path / "results/default")
    store.write(*failed_record(cell, "for the test"))
    assert store.read(cell.id).status == "failed"
    assert run_sweep([cell]) == 0
    assert store.read(cell.id).status == "complete"


def test_the_same_cell_twice_is_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_sweep([small_cell(), small_cell()], workers=1) == 0
    assert "1 cell, 1 named twice" in capsys.readouterr().err


def test_worker_count() -> None:
    assert worker_count(3, [small_cell()]) == 3
    assert worker_count("auto", [small_cell(), small_cell("device=cuda")]) == 1
    assert worker_count("auto", [small_cell(), small_cell("device=cpu:2")]) == 1
    assert worker_count("auto", [small_cell("device.threads=512")]) == 1
    assert worker_count("auto", [small_cell()]) == len(os.sched_getaffinity(0))
    for bad in (0, -1, "many", True, 1.5):
        with pytest.raises(UsageError, match="must be an integer ≥ 1, or auto"):
            worker_count(bad, [small_cell()])  # type: ignore[arg-type]
