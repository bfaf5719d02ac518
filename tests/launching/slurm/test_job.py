"""What runs inside a job, run without one."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.launching.cell import run_cell
from bench.launching.slurm.job import IDLE_SECONDS, JobQueue, job_end, process_devices, work
from bench.launching.slurm.ledger import Ledger
from bench.launching.worker import Outcome
from bench.results.leases import Leases, live_leases
from tests.launching.slurm.launches import ledger_of, tiny
from tests.results.processes import bystander
from tests.small import digests, small_cell


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def queue_of(ledger: Ledger, leases: Leases, clock: Clock, seconds: float = 3600.0) -> JobQueue:
    return JobQueue(ledger.launch(), ledger, leases, clock.now + seconds, clock)


def test_a_job_runs_what_is_left_and_nothing_twice(tmp_path: Path) -> None:
    cells = plain, deadly, failed = tiny(8, 16, 32)
    ledger = ledger_of(tmp_path, cells, attempts=2)
    # Two jobs died under one cell; another failed in an earlier job.
    ledger.begin(deadly.id)
    ledger.begin(deadly.id)
    ledger.end(Outcome(failed.id, "failed", "planted"))
    assert work(str(ledger.path)) == 1
    store = ledger.store
    assert digests(store.path)[plain.id] == run_cell(plain).record.digest
    assert store.read(deadly.id).status == "failed"
    assert "begun 2 times, and each time its job died" in (store.read(deadly.id).reason or "")
    assert store.cells() == sorted([plain.id, deadly.id]), "what failed in this launch is run again"
    assert ledger.ended() == {cell.id for cell in cells}
    assert ledger.outcome(plain.id).status == "complete"
    assert ledger.begun() == {deadly.id: 2}
    assert live_leases(store) == {}


@pytest.mark.slow
def test_a_signal_to_every_process_of_a_job_leaves_the_cell_to_others(tmp_path: Path) -> None:
    endless = small_cell("task=regression/linear", "budget.epochs=null", "budget.steps=100000000")
    ledger = ledger_of(tmp_path, [endless])
    code = f"from bench.launching.slurm.job import work; print(work({str(ledger.path)!r}))"
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment())
    assert job.stdout is not None
    assert "begun" in job.stdout.readline()
    # As scancel does, to its workers more than once; one may not have got as far as to ignore it.
    workers = psutil.Process(job.pid).children(recursive=True)
    for process in (*workers, psutil.Process(job.pid), *workers):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=120)
    assert job.returncode == 0, said
    assert said.splitlines()[-1] == "0"
    # Where it is not even that, the worker had got to no point to stop at.
    assert {str(ledger.store.read(cell).status) for cell in ledger.store.cells()} <= {"interrupted"}
    assert ledger.ended() == set()
    assert ledger.begun() == {}
    assert live_leases(ledger.store) == {}


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}


def test_a_job_begins_nothing_it_has_no_time_for(tmp_path: Path) -> None:
    short, long = tiny(32, 8)
    ledger, clock = ledger_of(tmp_path, [short, long], minutes=60, stop_seconds=60), Clock()
    launch = ledger.launch()
    launch.seconds.update({short.id: 100.0, long.id: 5000.0})
    with Leases(ledger.store) as leases:
        queue = JobQueue(launch, ledger, leases, clock.now + 3600.0, clock)
        # A young job tries what is expected to be too long for any.
        assert queue.take(os.getpid()) == long
        queue.ended(Outcome(long.id, "interrupted", None), stopped=True)
        assert ledger.begun() == {}
        other = JobQueue(launch, ledger, leases, clock.now + 3600.0, clock)
        queue.give_back(long)
        clock.now += 1000.0
        assert other.take(os.getpid()) == short
        assert len(other) == 0
        other.ended(Outcome(short.id, "interrupted", None), stopped=True, out_of_time=True)
        assert ledger.begun() == {short.id: 1}, "running out of time is an attempt"
        other.give_back(short)
        late = queue_of(ledger, leases, clock, seconds=50.0)
        assert late.take(os.getpid()) is None
        assert len(late) == 0


def test_a_job_waits_a_while_for_what_others_run_and_then_frees_its_node(tmp_path: Path) -> None:
    (cell,) = tiny(8)
    ledger, clock = ledger_of(tmp_path, [cell]), Clock()
    with bystander() as process, Leases(ledger.store) as theirs, Leases(ledger.store) as leases:
        assert theirs.take(cell.id, process.pid) is None
        queue = queue_of(ledger, leases, clock)
        assert queue.take(os.getpid()) is None
        clock.now += IDLE_SECONDS
        assert queue.take(os.getpid()) is None
        assert len(queue) == 1
        clock.now += 1.0
        assert queue.take(os.getpid()) is None
        assert len(queue) == 0


def test_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
    assert process_devices(1, 4) == ["3", "5", "6", "7"]
    assert process_devices(2, 2) == ["3,5", "6,7"]
    assert process_devices(0, 4) == ()
    assert process_devices(2, 4) == ()
    assert "4 GPUs here for 4 processes of 2 each" in capsys.readouterr().err


def test_the_end_of_a_job_is_what_slurm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1700000000")
    assert job_end(60) == 1.7e9
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert job_end(60) == 4600.0
