"""Slurm as the launcher sees it: submitit submits; what lives is asked of the queue, never of accounting.

submitit's own jobs count as running until accounting says otherwise, so one that died without it is awaited for ever.
`squeue` knows every job that waits or runs; one that it does not name has ended, whoever reports it.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.errors import BenchError, UsageError
from bench.launching.settings import SlurmSettings
from bench.launching.slurm.job import work
from bench.launching.slurm.ledger import LOGS, Ledger

#: How long a command of Slurm may take, seconds.
COMMAND_SECONDS = 30.0


class Refused(BenchError):
    """Slurm does not take a job."""


class Cluster(Protocol):
    """Where jobs of one launch run."""

    def submit(self, count: int) -> list[str]:
        """Submit so many jobs and return their ids.

        Raises:
            Refused: Slurm does not take them.
        """
        ...

    def alive(self) -> dict[str, str] | None:
        """Return the jobs that wait or run, each with its state in words; None where Slurm does not answer."""
        ...

    def endings(self, jobs: Sequence[str]) -> dict[str, str]:
        """Return how jobs ended, in words, as far as accounting knows."""
        ...

    def cancel(self) -> None:
        """Cancel every job that has been submitted and may still be there."""
        ...


class SubmititCluster:
    """Jobs of a real Slurm.

    Args:
        ledger: The launch; logs go to its folder.
        settings: The settings of the launcher.
        resources: What `resources` returns.

    Raises:
        UsageError: submitit or Slurm is not here, or a setting is none that they know.
    """

    def __init__(self, ledger: Ledger, settings: SlurmSettings, resources: Mapping[str, Any]) -> None:
        check_installed()
        import submitit

        self._folder = str(ledger.path)
        self._name = f"bench-{ledger.store.sweep}-{ledger.path.name}"
        self._jobs: list[str] = []
        try:
            self._executor = submitit.AutoExecutor(ledger.path / LOGS, cluster="slurm", slurm_max_num_timeout=0)
        except RuntimeError as error:
            raise UsageError(f"hydra/launcher=slurm: there is no Slurm here ({error})") from None
        self._executor.update_parameters(name=self._name, slurm_setup=_setup(settings), **resources)

    def submit(self, count: int) -> list[str]:
        """Submit so many jobs, several as one array, and return their ids."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with self._executor.batch():
                jobs = [self._executor.submit(work, self._folder) for _ in range(count)]
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise Refused(f"sbatch: {_last_line(str(error))}") from None
        ids = [job.job_id for job in jobs]
        self._jobs += ids
        return ids

    def alive(self) -> dict[str, str] | None:
        """Return the jobs that wait or run, each with its state in words; None where Slurm does not answer."""
        said = _ask("squeue", "--noheader", "--array", f"--name={self._name}", "--format=%i|%T|%r")
        return None if said is None else queue_states(said)

    def endings(self, jobs: Sequence[str]) -> dict[str, str]:
        """Return how jobs ended, in words, as far as accounting knows."""
        fields = "--format=JobID,State,ExitCode,NodeList"
        said = _ask("sacct", "--allocations", "--noheader", "--parsable2", fields, f"--jobs={','.join(jobs)}")
        return {job: ending for job, ending in accounted(said or "").items() if job in jobs}

    def cancel(self) -> None:
        """Cancel every job that has been submitted and may still be there."""
        alive = self.alive()
        jobs = self._jobs if alive is None else list(alive)
        if jobs and _ask("scancel", "--quiet", *jobs) is None:
            print(f"bench: scancel did not work; what is left of the jobs: squeue --name={self._name}", file=sys.stderr)


def check_installed() -> None:
    """See that submitit can be imported.

    Raises:
        UsageError: It cannot.
    """
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise UsageError(
            "hydra/launcher=slurm needs submitit, which is not installed: pip install 'batch-size-bench[slurm]'"
        ) from None


def resources(settings: SlurmSettings, threads: int, on_gpu: bool) -> dict[str, Any]:
    """Return what a job is given, as submitit has it.

    Args:
        settings: The settings of the launcher.
        threads: The most threads of a cell.
        on_gpu: Whether a cell runs on a CUDA device.
    """
    cpus = threads if settings.cpus == "auto" else int(settings.cpus)
    gpus = gpus_of_process(settings, on_gpu)
    asked: dict[str, Any] = {
        "timeout_min": settings.minutes,
        "nodes": 1,
        "tasks_per_node": 1,
        "cpus_per_task": cpus * settings.processes,
        "slurm_signal_delay_s": settings.stop_seconds,
        "slurm_additional_parameters": {"requeue": True, **settings.options},
    }
    if gpus:
        asked["gpus_per_node"] = gpus * settings.processes
    if settings.memory_gib is not None:
        asked["mem_gb"] = settings.memory_gib * settings.processes
    for name in ("partition", "account", "qos", "constraint", "nodelist", "exclude"):
        if getattr(settings, name) is not None:
            asked[f"slurm_{name}"] = str(getattr(settings, name))
    return asked


def gpus_of_process(settings: SlurmSettings, on_gpu: bool) -> int:
    """Return the GPUs of each process."""
    return int(on_gpu) if settings.gpus == "auto" else int(settings.gpus)


def queue_states(said: str) -> dict[str, str]:
    """Read `squeue --format=%i|%T|%r`: the state of each job by id, with the reason where it waits."""
    rows = [line.strip().split("|", 2) for line in said.splitlines() if line.count("|") >= 2]
    return {job: f"{state} ({reason})" if state == "PENDING" else state for job, state, reason in rows}


def accounted(said: str) -> dict[str, str]:
    """Read `sacct --format=JobID,State,ExitCode,NodeList`: how each job ended, in words, by id."""
    rows = [line.split("|", 3) for line in said.splitlines() if line.count("|") >= 3]
    return {job: f"{state}, exit code {code}, on {nodes or 'no node'}" for job, state, code, nodes in rows}


def _setup(settings: SlurmSettings) -> list[str]:
    """Return lines of shell so that a job imports what this process does, whatever of its environment is exported."""
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return [*settings.setup, f"export PYTHONPATH={_quoted(path)}", "export PYTHONSAFEPATH=1"]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _ask(*command: str) -> str | None:
    """Return what a command of Slurm says; None where it fails or does not come to an end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _last_line(text: str) -> str:
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    said = [line.removeprefix("sbatch: error: ") for line in lines if line.startswith("sbatch: error: ")]
    return said[-1] if said else text.strip().splitlines()[-1] if text.strip() else "no reason given"
