"""Sweeps on a real Slurm with accounting (`scripts/slurm_cluster`), and what may happen to their jobs."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.results.leases import live_leases
from bench.results.plan import read_plan
from bench.results.store import Store
from tests.slurm.cluster import Cluster, wait_until
from tests.small import SMALL, digests, records, run

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

#: Sixty cells of a moment.
SIXTY = ["task=regression/linear", "optimizer=sgd,adam,adagrad,rmsprop,nadam"]
SIXTY += ["batch_size=2,4,6,8,10,12,14,16,18,20,22,24"]
#: Twelve that last long enough for something to happen to them.
TWELVE = ["task=mnist5k/mlp", "optimizer=sgd,adam,adagrad", "batch_size=16,32,64,128"]
TWELVE += ["budget.epochs=4", "budget.steps=null"]
#: The launcher is back so long after the last cell, whatever becomes of jobs, seconds.
BACK_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    folder = os.environ.get("BENCH_SLURM_CLUSTER")
    if not folder:
        pytest.skip("no Slurm to test with: as root, scripts/slurm_cluster start, and export what it says")
    pytest.importorskip("submitit")
    return Cluster(Path(folder))


@pytest.fixture(autouse=True)
def _idle(cluster: Cluster) -> Iterator[None]:
    wait_until(cluster.idle, "all nodes are idle")
    yield
    # Those of a node that died are listed until it is back.
    wait_until(lambda: cluster.jobs() == [], "no job is left")


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Digests of the twelve, trained in worker processes of this machine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(*TWELVE, f"results_root={folder}", "hydra.launcher.workers=2") == 0
    return digests(folder / "default")


class Sweep:
    """A sweep on the cluster, in a process of its own."""

    def __init__(self, folder: Path, grid: list[str], **settings: int) -> None:
        self.folder = folder
        self.store = Store(folder / "results/default")
        told = [f"hydra.launcher.{name}={value}" for name, value in settings.items()]
        words = [sys.executable, "-m", "bench.cli", "run", "-m", *SMALL, *grid, "hydra/launcher=slurm", *told]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        with (folder / "said").open("w") as said:
            self._process = subprocess.Popen(words, cwd=folder, env=environment, stdout=said, stderr=said)

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def wait_for_records(self, count: int) -> None:
        wait_until(
            lambda: len(records(self.store.path)) >= count or self._process.poll() is not None, f"{count} cells ended"
        )
        assert self._process.poll() is None, self.said

    def finish(self, code: int = 0, statuses: Sequence[str] = ()) -> None:
        """Wait for the launcher; every cell is done, none was recorded twice, and it came back in time.

        Args:
            code: The exit code that it comes back with.
            statuses: Of the records, sorted; all complete where none is given.
        """
        came = self._process.wait(timeout=300)
        back = time.time()
        assert came == code, self.said
        assert "Traceback" not in self.said
        last = max(file.stat().st_mtime for file in self.store.path.glob("[!.]*/record.json"))
        assert back - last < BACK_SECONDS, self.said
        found = sorted(str(record["status"]) for record in records(self.store.path).values())
        assert found == (list(statuses) or ["complete"] * len(read_plan(self.store)))
        logged = Counter(
            line.partition(" ")[0]
            for file in self.store.path.glob("jobs/*/logs/*.out")
            for line in file.read_text().splitlines()
            if line.endswith(": complete")
        )
        assert max(logged.values()) == 1, "trained to the end twice"
        assert live_leases(self.store) == {}

    def jobs(self) -> list[str]:
        """Ids of the jobs that were submitted."""
        return [job for said in re.findall(r"submitted(?: again)?: (.*)", self.said) for job in said.split(", ")]


def test_sixty_cells_in_six_jobs_are_those_of_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, SIXTY, jobs=6)
    sweep.finish()
    assert len(sweep.jobs()) <= 6
    assert len(records(sweep.store.path)) == 60
    assert run(*SIXTY, f"results_root={tmp_path / 'here'}") == 0
    assert digests(sweep.store.path) == digests(tmp_path / "here/default")


def test_a_node_that_dies_costs_no_cell(cluster: Cluster, tmp_path: Path, undisturbed: dict[str, object]) -> None:
    sweep = Sweep(tmp_path, TWELVE, jobs=6)
    sweep.wait_for_records(2)
    assert "node1" in cluster.running().values()
    cluster.kill_node("node1")
    sweep.finish()
    assert digests(sweep.store.path) == undisturbed
    cluster.start_node("node1")
    wait_until(cluster.idle, "node1 is back")


def test_jobs_cancelled_and_requeued_cost_no_cell(
    cluster: Cluster, tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    sweep = Sweep(tmp_path, TWELVE, jobs=3)
    sweep.wait_for_records(1)
    first, second, third = sorted(cluster.running())
    cluster.ask("scancel", first)
    cluster.ask("scontrol", "requeue", second)
    sweep.wait_for_records(4)
    cluster.ask("scancel", third)
    sweep.finish()
    assert digests(sweep.store.path) == undisturbed


def test_a_job_out_of_time_is_followed_by_another(cluster: Cluster, tmp_path: Path) -> None:
    # Two cells that would never end, begun first, and two that wait for them.
    grid = ["task=regression/linear", "batch_size=32,64", "budget.epochs=null", "budget.steps=3,1000000000"]
    sweep = Sweep(tmp_path, grid, jobs=1, processes=2, minutes=1, stop_seconds=15, attempts=1)
    sweep.finish(code=1, statuses=["complete", "complete", "failed", "failed"])
    first, second = sweep.jobs()
    assert f"one job submitted again: {second}" in sweep.said
    reasons = [str(record["reason"]) for record in records(sweep.store.path).values() if record["status"] == "failed"]
    assert ["ran out of time" in reason for reason in reasons] == [True, True]
    # It stopped by itself, some time before Slurm would have ended it.
    (log,) = sweep.store.path.glob(f"jobs/*/logs/{first}_*.out")
    assert "SIGUSR2: stopping" in log.read_text()
    assert log.read_text().count(": interrupted") == 2


def test_hydras_submitit_launcher_runs_each_cell_as_a_job(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    # One of the devices is not here: an exit code comes back from there too.
    words = ["task=regression/linear", "device=cpu,mps", "hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=null"]
    words += [f"hydra.launcher.submitit_folder={tmp_path}/jobs/%j"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    asked = [sys.executable, "-m", "bench.cli", "run", "-m", *SMALL, *words]
    assert subprocess.run(asked, cwd=tmp_path, env=environment, timeout=120).returncode == 1
    found = records(tmp_path / "results/default")
    assert sorted(record["status"] for record in found.values()) == ["complete", "unavailable"]
