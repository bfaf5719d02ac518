"""The sweep that is disturbed, as processes of its own."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
SWEEP = "chaos"
CELLS = 40
#: Forty cells of a fraction of a second; half of them have a third file, snapshots.
GRID = [
    "task=quadratic/deep,regression/linear,playground/circle,playground/reg_plane",
    "optimizer=sgd,adam",
    "batch_size=8,16,32,64,128",
    "lr=[0.01,0.03]",
    "seeds=1",
    "budget.epochs=null",
    "budget.steps=60",
    "measure.speed=false",
    "measure.memory=false",
    "tracker=none",
    f"sweep={SWEEP}",
]
#: Longer than any sweep takes that has not hung, seconds.
PATIENCE = 300.0


@dataclass
class Launch:
    """One `bench run -m`, in a process group of its own.

    Attributes:
        process: The parent of its workers.
        log: What it says on standard error.
        killed: Whether it, not only a worker of it, was killed on purpose.
    """

    process: subprocess.Popen[bytes]
    log: Path
    killed: bool = field(default=False)

    @property
    def lives(self) -> bool:
        """Whether the parent runs."""
        return self.process.poll() is None

    @property
    def said(self) -> str:
        """Everything that it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def workers(self) -> list[psutil.Process]:
        """Return its worker processes that live."""
        try:
            children = psutil.Process(self.process.pid).children()
            return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        except psutil.Error:
            return []

    def kill(self) -> None:
        """Kill the parent with SIGKILL; its workers have to notice themselves."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Kill whatever is left of its process group."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()


def environment(scratch: Path, more: dict[str, str]) -> dict[str, str]:
    """Return the environment of every command: this checkout's sources, temporary files in a folder of ours."""
    return os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)} | more


def launch(folder: Path, number: int, workers: int, more: dict[str, str]) -> Launch:
    """Start the sweep.

    Args:
        folder: Where `results` and the logs are.
        number: Of the launch, for its log.
        workers: Worker processes; a single one is the parent itself.
        more: Environment variables.
    """
    log = folder / f"launch-{number}.log"
    words = [sys.executable, "-m", "bench.cli", "run", "-m", *GRID, f"hydra.launcher.workers={workers}"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment(folder / "tmp", more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
        )
    return Launch(process, log)


def ask_status(folder: Path, more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Ask `bench status --json` how far the sweep is."""
    words = [sys.executable, "-m", "bench.cli", "status", SWEEP, "--json"]
    return subprocess.run(
        words,
        cwd=folder,
        env=environment(folder / "tmp", more),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
