"""What is asked of Slurm, and how its answers are read: commands that do as they are told."""

import sys
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.launching.settings import slurm_settings
from bench.launching.slurm.cluster import Refused, SubmititCluster, accounted, queue_states, resources
from tests.launching.slurm.launches import ledger_of, tiny

SETTINGS = {
    "processes": 4,
    "cpus": 2,
    "gpus": 1,
    "memory_gib": 8,
    "minutes": 240,
    "partition": "gpu",
    "account": "lab 7",
    "setup": ["module load cuda"],
    "options": {"reservation": "friday", "exclusive": True},
}


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with srun, sbatch, squeue, sacct and scancel, alone on the PATH but for the system's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "srun", "exit 0")
    command(folder, "sbatch", f'cp "$1" {tmp_path}/script; echo Submitted batch job 12')
    command(folder, "squeue", f'echo "$@" >{tmp_path}/asked; cat {tmp_path}/queue')
    command(folder, "sacct", "echo '12_0|NODE_FAIL|0:1|node2'; echo '13|COMPLETED|0:0|node1'")
    command(folder, "scancel", f'echo "$@" >>{tmp_path}/cancelled')
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def command(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def cluster(folder: Path) -> SubmititCluster:
    settings = slurm_settings(SETTINGS)
    return SubmititCluster(ledger_of(folder, tiny(8), **SETTINGS), settings, resources(settings, 1, False))


def test_a_batch_script_asks_for_what_the_settings_say(tmp_path: Path, commands: Path) -> None:
    jobs = cluster(tmp_path).submit(3)
    assert jobs == ["12_0", "12_1", "12_2"]
    script = (tmp_path / "script").read_text()
    for line in (
        "--array=0-2%3",
        "--time=240",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=8",
        "--gpus-per-node=4",
        "--mem=32GB",
        "--partition=gpu",
        "--account='lab 7'",
        "--reservation=friday",
        "--exclusive",
        "--requeue",
        "--signal=USR2@60",
    ):
        assert f"#SBATCH {line}\n" in script
    assert "\nmodule load cuda\n" in script
    assert "export PYTHONPATH='" in script
    assert f"{sys.executable} -u -m submitit.core._submit" in script


def test_what_lives_is_asked_of_the_queue_and_only_that_is_cancelled(tmp_path: Path, commands: Path) -> None:
    jobs = cluster(tmp_path)
    jobs.submit(2)
    (tmp_path / "queue").write_text("12_0|RUNNING|None\n12_1|PENDING|Resources\n")
    assert jobs.alive() == {"12_0": "RUNNING", "12_1": "PENDING (Resources)"}
    assert "--name=bench-default-" in (tmp_path / "asked").read_text()
    jobs.cancel()
    assert (tmp_path / "cancelled").read_text() == "--quiet 12_0 12_1\n"
    (tmp_path / "queue").write_text("")
    assert jobs.alive() == {}
    jobs.cancel()
    assert (tmp_path / "cancelled").read_text() == "--quiet 12_0 12_1\n"
    assert jobs.endings(["12_0", "12_1"]) == {"12_0": "NODE_FAIL, exit code 0:1, on node2"}


def test_a_slurm_that_fails_has_not_answered(tmp_path: Path, commands: Path) -> None:
    jobs = cluster(tmp_path)
    jobs.submit(1)
    for name in ("squeue", "sacct"):
        command(commands, name, "echo slurm_load_jobs error >&2; exit 1")
    assert jobs.alive() is None
    assert jobs.endings(["12"]) == {}
    # So all that was submitted is cancelled.
    jobs.cancel()
    assert (tmp_path / "cancelled").read_text() == "--quiet 12\n"


def test_a_refusal_is_told_in_the_last_words_of_sbatch(tmp_path: Path, commands: Path) -> None:
    jobs = cluster(tmp_path)
    command(commands, "sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    with pytest.raises(Refused, match=r"^sbatch: invalid partition specified: gpu$"):
        jobs.submit(2)


def test_without_slurm_or_submitit_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no Slurm here"):
        cluster(tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"needs submitit, which is not installed: pip install '.*\[slurm\]'"):
        cluster(tmp_path)


def test_answers_that_make_no_sense_are_left_out() -> None:
    assert queue_states("nonsense\n\n7|RUNNING|None\n8|PENDING|Dependency, and | more\n") == {
        "7": "RUNNING",
        "8": "PENDING (Dependency, and | more)",
    }
    assert accounted("\n7|CANCELLED by 0|0:15|\n") == {"7": "CANCELLED by 0, exit code 0:15, on no node"}


def test_gpus_follow_the_cells_unless_said() -> None:
    assert "gpus_per_node" not in resources(slurm_settings({}), 1, False)
    assert resources(slurm_settings({"processes": 2}), 3, True)["gpus_per_node"] == 2
    assert resources(slurm_settings({"processes": 2}), 3, True)["cpus_per_task"] == 6
    assert "gpus_per_node" not in resources(slurm_settings({"gpus": 0}), 1, True)
