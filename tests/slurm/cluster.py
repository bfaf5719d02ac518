"""The test cluster of `scripts/slurm_cluster`, what runs on it, and how to kill a node of it."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

#: How long to wait for what Slurm is to do, seconds.
PATIENCE = 120.0
SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm_cluster"


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition; an error says which never came true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.2)


@dataclass(frozen=True)
class Cluster:
    """A running test cluster in a folder."""

    folder: Path

    def ask(self, *command: str) -> str:
        """Return what a command of Slurm says."""
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def running(self) -> dict[str, str]:
        """Return the node of each running job, by job id."""
        rows = self.ask("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i|%N").split()
        return dict(row.split("|") for row in rows)

    def jobs(self) -> list[str]:
        """Return the ids of all jobs that wait or run."""
        return self.ask("squeue", "--noheader", "--array", "--format=%i").split()

    def idle(self) -> bool:
        """Whether every node waits for work."""
        return len(set(self.ask("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N").split())) == 3

    def kill_node(self, node: str) -> None:
        """End everything that runs on a node, as if its power failed: the daemon, steps of jobs, their processes."""
        daemon = int((self.folder / f"slurmd.{node}.pid").read_text())
        doomed = [psutil.Process(daemon), *_processes_of(node)]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=PATIENCE)

    def start_node(self, node: str) -> None:
        """Bring a node back."""
        subprocess.run([SCRIPT, "start-node", node, self.folder], check=True, capture_output=True, timeout=60)


def _processes_of(node: str) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SLURMD_NODENAME") != node:
                continue
            for one in (*process.parents(), process):
                if one == process or one.name().startswith("slurmstepd"):
                    found[one.pid] = one
    assert os.getpid() not in found
    return list(found.values())
