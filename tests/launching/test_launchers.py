"""Launchers as a person chooses them on the command line; what needs a Slurm is in tests/slurm."""

import importlib.util
import types
from pathlib import Path

import pytest

from bench.launching.sweep import Local, run_sweep
from bench.results.plan import read_plan
from bench.results.store import Store
from tests.small import SMALL, call, digests, run, small_cell

SMALLEST = [*SMALL, "task=regression/linear"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_a_cell_past_its_limit_costs_its_own_record_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endless, small = small_cell("task=mnist5k/mlp", "budget.steps=1000000"), small_cell("task=regression/linear")
    store = Store(Path("results/default"))
    # The clock of the pool: no time passes until there is a record, and then more than a cell may take.
    clock = types.SimpleNamespace(monotonic=lambda: 0.0 if not store.cells() else 2000.0)
    monkeypatch.setattr("bench.launching.pool.time", clock)
    assert run_sweep([endless, small], Local(2, cell_seconds=1000.0)) == 1
    assert store.read(small.id).status == "complete"
    record = store.read(endless.id)
    assert (record.status, record.reason) == (
        "failed",
        "took longer than 1000 s, the limit of a cell (hydra.launcher.cell_seconds)",
    )
    assert "1 of 2 cells done, 1 failed" in capsys.readouterr().err


def test_local_runs_a_single_worker_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "-m", *SMALLEST, "hydra/launcher=local", "hydra.launcher.workers=1") == 0
    assert "(2 trials, 1 worker)" in capsys.readouterr().err
    (theirs,) = digests(Path("results/default")).items()
    assert run("task=regression/linear", "results_root=here") == 0
    assert digests(Path("here/default")) == dict([theirs])


def test_a_dry_run_says_the_jobs_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    grid = [*SMALLEST, "batch_size=8,16,32,64"]
    words = ["hydra/launcher=slurm", "+cluster=gpu", "hydra.launcher.processes=1", "hydra.launcher.jobs=2"]
    assert call("run", "-m", *grid, *words, "hydra.launcher.partition=long", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "sweep default: 4 cells, 4 to run (8 trials)" in said
    assert "2 jobs, each: timeout_min=240" in said
    assert "gpus_per_node=1" in said
    assert "partition=long" in said
    assert "hours: unknown, no complete cell on the same device is recorded" in said
    assert list(tmp_path.iterdir()) == []
    # With records, hours; what is done is not run.
    assert run("task=regression/linear", "batch_size=16,64") == 0
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert call("run", "-m", *grid, *words, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "4 cells, 2 done already, 2 to run (4 trials)" in said
    assert "1 job, each:" in said, "there is no work for two"
    assert "(from 2 earlier records)" in said
    assert call("run", *grid, "hydra/launcher=local", "hydra.launcher.workers=3", "--dry-run", "-m") == 0
    said = capsys.readouterr().out
    assert "workers: 2" in said
    assert "from when all run to the last cell" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cluster_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    (tmp_path / "mine/cluster").mkdir(parents=True)
    (tmp_path / "mine/cluster/big.yaml").write_text(
        "# @package hydra.launcher\npartition: big\noptions:\n  reservation: friday\n"
    )
    words = ["--config-dir", "mine", *SMALLEST, "hydra/launcher=slurm", "+cluster=big", "--dry-run"]
    assert call("run", "-m", *words) == 0
    said = capsys.readouterr().out
    assert "partition=big" in said
    assert "reservation=friday" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "+cluster=gpu"], "give hydra/launcher=slurm too"),
        (["-m", "hydra/launcher=slurm", "+cluster=gppu"], "unknown cluster 'gppu'; did you mean 'gpu'?"),
        (["-m", "hydra/launcher=slurm", "cluster=gpu"], "cluster"),
        (["-m", "hydra/launcher=slurm", "hydra.launcher.minutes=0"], "hydra.launcher.minutes=0: must be"),
        (["-m", "hydra/launcher=slurm", "+hydra.launcher.minute=9"], "did you mean 'minutes'?"),
        (["--dry-run"], "--dry-run: says what a grid would come to; it needs -m"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    flags = [word for word in words if word.startswith("-")]
    assert call("run", *flags, *SMALLEST, *(word for word in words if word not in flags)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher"), reason="no joblib launcher")
def test_hydras_joblib_launcher_runs_cells_in_its_processes() -> None:
    # One of the devices is not here: an exit code comes back from there too.
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "device=cpu,mps"]
    assert call("run", "-m", *SMALLEST, *words) == 1
    store = Store(Path("results/default"))
    assert sorted(str(record.status) for record, _ in store.read_all()) == ["complete", "unavailable"]
    assert len(read_plan(store)) == 2
