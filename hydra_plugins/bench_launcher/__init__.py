"""Hydra finds launchers and sweepers only in this namespace package; the code is in `bench.launching.hydra`."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
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


class BenchSweeper(BasicSweeper):
    """Hydra's basic sweeper, but for one thing: it composes no cell only to see that it can be composed."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave it to the launcher, which composes every cell before it runs one."""
        if not isinstance(self.launcher, BenchLauncher):
            super().validate_batch_is_legal(batch)
