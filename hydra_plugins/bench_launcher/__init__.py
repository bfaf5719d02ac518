"""Hydra finds launchers and sweepers only in this namespace package; the code is in `bench.launching.hydra`."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class BenchLauncher(Launcher):
    """Sees the whole grid at once: checks all of it, skips what is done, runs the rest in worker processes."""

    def __init__(self, **settings: Any) -> None:
        self.settings = {
            name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for name, value in settings.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over before the launch."""
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the grid. Ends the process with the sweep's exit code."""
        from bench.launching.hydra import launch_here

        return launch_here(self.hydra_context, self.config, self.settings, job_overrides)


class BenchSlurmLauncher(BenchLauncher):
    """The same by jobs of Slurm, which share the cells."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the grid. Ends the process with the sweep's exit code."""
        from bench.launching.hydra import launch_on_slurm

        return launch_on_slurm(self.hydra_context, self.config, self.settings, job_overrides)


class BenchSweeper(BasicSweeper):
    """Hydra's basic sweeper, but for two things.

    It composes no cell only to see that it can be composed, where our launchers do; and where another launcher, such as
    joblib's, has run the cells in processes of its own, their exit codes are not lost.
    """

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave it to the launcher, which composes every cell before it runs one."""
        if not isinstance(self.launcher, BenchLauncher):
            super().validate_batch_is_legal(batch)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the grid. Ends the process with the worst exit code where cells were run elsewhere."""
        returns: Sequence[Sequence[JobReturn]] = super().sweep(arguments)
        codes = [job.return_value for batch in returns for job in batch]
        if any(isinstance(code, int) for code in codes):
            raise SystemExit(max(code for code in codes if isinstance(code, int)))
        return returns
