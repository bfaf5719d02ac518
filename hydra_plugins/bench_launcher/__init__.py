"""Hydra finds launchers only in this namespace package; the code is in `bench.launching.hydra`."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class BenchLauncher(Launcher):
    """Sees the whole grid at once: checks all of it, skips what is done, runs the rest in worker processes."""

    def __init__(self, workers: int | str = "auto") -> None:
        self.workers = workers

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over before the launch."""
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the grid. Ends the process with the sweep's exit code."""
        from bench.launching.hydra import launch

        return launch(self.hydra_context, self.config, self.workers, job_overrides)
