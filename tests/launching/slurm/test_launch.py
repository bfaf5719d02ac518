"""The supervisor of a launch, with a cluster that does as it is told."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from bench.launching.cell import run_cell
from bench.launching.packing import Rates
from bench.launching.slurm.cluster import Refused
from bench.launching.slurm.launch import ENDING_SECONDS, Supervisor, Work
from bench.launching.worker import Outcome
from bench.results.leases import Leases
from tests.launching.slurm.launches import ledger_of, tiny
from tests.results.processes import bystander


@dataclasses.dataclass
class Cluster:
    """Jobs that are what the test says."""

    jobs: dict[str, str] = dataclasses.field(default_factory=dict)
    submitted: list[int] = dataclasses.field(default_factory=list)
    cancelled: int = 0
    answers: bool = True
    refuses: str = ""

    def submit(self, count: int) -> list[str]:
        self.submitted.append(count)
        if self.refuses:
            raise Refused(self.refuses)
        new = [f"{len(self.submitted)}_{number}" for number in range(count)]
        self.jobs.update(dict.fromkeys(new, "RUNNING"))
        return new

    def alive(self) -> dict[str, str] | None:
        return dict(self.jobs) if self.answers else None

    def endings(self, jobs: Sequence[str]) -> dict[str, str]:
        return {job: "NODE_FAIL, exit code 1:0, on node2" for job in jobs if job.endswith("_0")}

    def cancel(self) -> None:
        self.cancelled += 1
        self.jobs.clear()


class Scene:
    """A launch of four cells in which something happens at every pause."""

    def __init__(self, folder: Path, cluster: Cluster, **settings: Any) -> None:
        self.cells = tiny(8, 16, 32, 64)
        self.ledger = ledger_of(folder, self.cells, **settings)
        self.cluster = cluster
        self.outcomes: dict[str, str] = {}
        self.now = 0.0
        self.events: list[Callable[[], None]] = []

    def run(self, seconds: float = 11.0) -> str:
        """Let events happen one after the other, so many seconds apart, and return why cells are left."""

        def pause(_: float) -> None:
            self.now += seconds
            if self.events:
                self.events.pop(0)()

        def ended(cell: Any, outcome: Outcome) -> None:
            assert cell.id not in self.outcomes, "recorded twice"
            self.outcomes[cell.id] = outcome.status

        settings = self.ledger.launch().settings
        work = Work.of(self.cells, Rates({}, {}), settings)
        return Supervisor(work, self.ledger, self.cluster, ended, pause, lambda: self.now).run()

    def end(self, *numbers: int, status: str = "complete") -> None:
        for number in numbers:
            self.ledger.end(Outcome(self.cells[number].id, status, None, seconds=1.0))


def test_comes_back_when_the_last_cell_has_ended_whatever_becomes_of_the_jobs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(tmp_path, Cluster(), jobs=3)
    scene.events = [lambda: scene.end(0, 1), lambda: scene.end(2, status="failed"), lambda: scene.end(3)]
    assert scene.run() == ""
    assert scene.cluster.submitted == [3]
    # The jobs never ended by themselves.
    assert scene.cluster.cancelled == 1
    assert scene.now <= 3 * 11.0 + ENDING_SECONDS + 11.0
    assert sorted(scene.outcomes.values()) == ["complete", "complete", "complete", "failed"]
    said = capsys.readouterr().err
    assert "bench: 3 jobs submitted: 1_0, 1_1, 1_2" in said
    assert "[3/4] regression/linear sgd B=32 cpu: failed in 1.0 s" in said


def test_jobs_that_end_without_a_word_are_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(tmp_path, Cluster(), jobs=2)
    scene.events = [lambda: (scene.end(0), scene.cluster.jobs.clear())[0], lambda: scene.end(1, 2, 3)]
    assert scene.run() == ""
    assert scene.cluster.submitted == [2, 2]
    said = capsys.readouterr().err
    assert "bench: job 1_0 has ended: NODE_FAIL, exit code 1:0, on node2" in said
    assert "bench: job 1_1 has ended: no accounting" in said
    assert "submitted again" in said


def test_gives_up_where_no_cell_ends_and_says_where_the_logs_are(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Cluster(), jobs=2, submissions=3)
    scene.events = [scene.cluster.jobs.clear] * 5
    left = scene.run()
    assert left.startswith("4 cells are left: jobs were submitted 3 times in a row, and no cell ended")
    assert str(scene.ledger.path / "logs") in left
    assert scene.cluster.submitted == [2, 2, 2]
    assert scene.outcomes == {}


def test_a_silent_slurm_ends_the_wait_too(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Cluster(), patience_seconds=60)
    scene.events = [lambda: setattr(scene.cluster, "answers", False)]
    assert "Slurm has not answered" in scene.run(seconds=20.0)
    assert 60.0 < scene.now < 200.0


def test_what_another_sweep_finishes_is_taken(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Cluster(), jobs=1)
    theirs = scene.cells[2]
    scene.events = [lambda: scene.end(0, 1, 3), lambda: scene.ledger.store.write(*run_cell(theirs)) and None]
    with bystander() as process, Leases(scene.ledger.store) as leases:
        leases.take(theirs.id, process.pid)
        assert scene.run() == ""
    assert scene.outcomes[theirs.id] == "complete"


def test_control_c_cancels_the_jobs_and_takes_what_they_note_until_then(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Cluster())

    def interrupt() -> None:
        scene.end(1)
        raise KeyboardInterrupt

    scene.events = [interrupt]
    with pytest.raises(KeyboardInterrupt):
        scene.run()
    assert scene.cluster.cancelled == 1
    assert scene.outcomes == {scene.cells[1].id: "complete"}


def test_a_refused_job_is_an_error_of_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Cluster(refuses="sbatch: Batch job submission failed: Invalid partition name specified"))
    with pytest.raises(UsageError, match="Invalid partition name specified"):
        scene.run()
    assert not (scene.ledger.store.path / "jobs").exists()
