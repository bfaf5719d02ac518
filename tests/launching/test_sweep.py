"""Sweeps as a person would run them: processes, signals, full disks."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.errors import UsageError
from bench.launching.sweep import run_sweep, worker_count
from bench.results.store import Store
from tests.small import SMALL, digests, records, small_cell

GRID = ["optimizer=sgd,adam", "batch_size=16,64,256"]
#: Long enough to be interrupted: a cell takes a second or so.
SLOW = ["task=mnist5k/mlp", "seeds=3", "budget.steps=200"]


def command(*overrides: str, workers: int = 2) -> list[str]:
    return [sys.executable, "-m", "bench.cli", "run", "-m", *SMALL, f"hydra.launcher.workers={workers}", *overrides]


def start(folder: Path, *overrides: str, workers: int = 2) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        command(*overrides, workers=workers),
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, *overrides: str, workers: int = 2) -> tuple[int, str]:
    process = start(folder, *overrides, workers=workers)
    _, said = process.communicate(timeout=300)
    return process.returncode, said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Digests of the slow grid, trained one cell after the other in one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, said = finish(folder, *SLOW, *GRID, workers=1)
    assert code == 0, said
    return digests(folder / "results/default")


def wait_for_records(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a sweep has at least `count` records, or has ended."""
    while process.poll() is None and len(list(folder.glob("results/default/*/record.json"))) < count:
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


def test_workers_and_a_single_process_agree_bit_for_bit(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    code, said = finish(tmp_path, *SLOW, *GRID)
    assert code == 0, said
    assert "(36 trials, 2 workers)" in said
    assert digests(tmp_path / "results/default") == undisturbed


def test_sigkill_at_any_moment_loses_nothing_but_the_cell_that_died(
    tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    kept: dict[str, int] = {}
    for count in (1, 3):
        process = start(tmp_path, *SLOW, *GRID)
        wait_for_records(tmp_path, count, process)
        process.kill()
        process.communicate()
        sweep = tmp_path / "results/default"
        for cell, record in records(sweep).items() if sweep.is_dir() else ():
            assert record["status"] == "complete"
            written = (sweep / cell / "record.json").stat().st_mtime_ns
            assert kept.setdefault(cell, written) == written, "a finished cell was trained again"
    code, said = finish(tmp_path, *SLOW, *GRID)
    assert code == 0, said
    assert digests(tmp_path / "results/default") == undisturbed
    assert [p.name for p in (tmp_path / "results/default").iterdir() if p.name.startswith(".")] == []


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = start(tmp_path, *SLOW, *GRID, "budget.steps=100000")
    workers = wait_for_workers(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_a_killed_worker_costs_its_own_cell_only(tmp_path: Path) -> None:
    process = start(tmp_path, *SLOW, *GRID, "budget.steps=600")
    workers = wait_for_workers(process)
    workers[0].kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1, said
    statuses = sorted((str(r["status"]), str(r["reason"])) for r in records(tmp_path / "results/default").values())
    assert [status for status, _ in statuses] == ["complete"] * 5 + ["failed"]
    assert "its worker process was killed by SIGKILL" in statuses[-1][1]
    assert "1 failed" in said


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_interrupt_ends_cleanly_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    process = start(tmp_path, *SLOW, *GRID, "budget.steps=600", workers=workers)
    wait_for_records(tmp_path, 1, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted: the same command goes on where it stopped" in said
    assert "Traceback" not in said
    statuses = [str(record["status"]) for record in records(tmp_path / "results/default").values()]
    assert set(statuses) <= {"complete", "interrupted"}
    assert 1 <= statuses.count("complete") < 6


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


def test_a_full_disk_ends_the_sweep_with_whole_records_only(tmp_path: Path, small_disk: Path) -> None:
    overrides = ["results_root=small", "optimizer=sgd,adam,adamw,rmsprop,adagrad", "batch_size=16,64"]
    code, said = finish(tmp_path, *overrides)
    assert code == 1, said
    assert "a record could not be written" in said
    assert "No space left on device" in said
    assert "make room and give the same command to go on" in said
    store = Store(small_disk / "default")
    # The cell that was being trained meanwhile is told to stop, and what it has may fit.
    assert {str(record.status) for record, _ in store.read_all()} <= {"complete", "interrupted"}
    assert [p.name for p in store.path.iterdir() if p.name.startswith(".")] == []
    # With room the same grid is completed.
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    code, said = finish(tmp_path, *overrides)
    assert code == 0, said
    assert len(store.cells()) == 10


def test_two_sweeps_may_write_one_store_at_once(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    first, second = start(tmp_path, *SLOW, *GRID, workers=1), start(tmp_path, *SLOW, *GRID, workers=1)
    for process in (first, second):
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
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
    assert "1 cells, 1 named twice" in capsys.readouterr().err


def test_worker_count() -> None:
    assert worker_count(3, [small_cell()]) == 3
    assert worker_count("auto", [small_cell(), small_cell("device=cuda")]) == 1
    assert worker_count("auto", [small_cell("device.threads=512")]) == 1
    assert worker_count("auto", [small_cell()]) == len(os.sched_getaffinity(0))
    for bad in (0, -1, "many", True, 1.5):
        with pytest.raises(UsageError, match="must be an integer ≥ 1, or auto"):
            worker_count(bad, [small_cell()])  # type: ignore[arg-type]
