"""The launchers of the suite, as Hydra calls them: one grid, seen as a whole."""

import copy
import functools
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from bench.composition import BEHAVIOUR, composing, launched, register
from bench.config import Cell, conf_path, resolve
from bench.errors import UsageError
from bench.launching.dry_run import describe_jobs, describe_local
from bench.launching.settings import local_settings, slurm_settings
from bench.launching.slurm.launch import SlurmRunner
from bench.launching.sweep import Local, run_sweep

#: What an override that chooses a cluster begins with.
CLUSTER = "+cluster="


def launch_here(
    context: HydraContext, config: DictConfig, given: Mapping[str, Any], grid: Sequence[Sequence[str]]
) -> NoReturn:
    """Compose and check every cell of the grid, then run it on this machine.

    Args:
        context: Hydra's config loader.
        config: The configuration of the multirun itself.
        given: Settings of the launcher (`bench.launching.settings.LocalSettings`).
        grid: One list of overrides per cell.

    Raises:
        UsageError: A setting or a cell is not valid, or cells name different sweeps; nothing has been run then.
        SystemExit: Always, with the sweep's exit code.
    """
    settings = local_settings(given)
    cells = _cells(context, config, grid)
    local = Local(settings.workers, settings.cell_seconds, settings.isolate)
    dry_run = functools.partial(describe_local, local) if settings.dry_run else None
    raise SystemExit(run_sweep(cells, local, _command(), dry_run=dry_run))


def launch_on_slurm(
    context: HydraContext, config: DictConfig, given: Mapping[str, Any], grid: Sequence[Sequence[str]]
) -> NoReturn:
    """Compose and check every cell of the grid, then run it by jobs of Slurm.

    Args:
        context: As for `launch_here`; so are the others.
        config: The configuration of the multirun itself.
        given: Settings of the launcher (`bench.launching.settings.SlurmSettings`).
        grid: One list of overrides per cell.

    Raises:
        UsageError: As `launch_here`; submitit is not installed; Slurm is not here or refuses the jobs.
        SystemExit: Always, with the sweep's exit code.
    """
    settings = slurm_settings(given)
    cells = _cells(context, config, grid)
    dry_run = functools.partial(describe_jobs, settings) if settings.dry_run else None
    runner = SlurmRunner(settings)
    raise SystemExit(run_sweep(cells, command=_command(), elsewhere=runner, dry_run=dry_run))


def _command() -> str:
    # `run_hydra` put the command line there for Hydra to read.
    return shlex.join([*sys.argv[0].split(), *sys.argv[1:]])


def _cells(context: HydraContext, config: DictConfig, grid: Sequence[Sequence[str]]) -> list[Cell]:
    """Compose and check every cell of the grid; they are of one sweep."""
    composer = _Composer(context.config_loader, config)
    cells = [composer.cell(list(overrides)) for overrides in grid]
    places = sorted({(cell.config.results_root, cell.config.sweep) for cell in cells})
    if len(places) > 1:
        names = ", ".join(f"{root}/{sweep}" for root, sweep in places)
        raise UsageError(f"a multirun is one sweep, but its cells would go to {names}")
    launched()
    return cells


def grid_cells(overrides: Sequence[str]) -> list[Cell]:
    """Compose and check every cell of a grid, as `bench run -m` would, and run none.

    Args:
        overrides: What stands after `bench run -m`: values, comma lists, perhaps an experiment with a grid of its own.

    Raises:
        UsageError: A cell is not valid, or the overrides do not compose.
    """
    register()
    with composing(), initialize_config_dir(config_dir=str(conf_path()), **BEHAVIOUR):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("config", list(overrides), RunMode.MULTIRUN, with_log_configuration=False)
        parser = OverridesParser.create(config_loader=hydra.config_loader)
        params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        (grid,) = BasicSweeper.split_arguments(
            parser.parse_overrides([*params, *config.hydra.overrides.task]), max_batch_size=None
        )
        composer = _Composer(hydra.config_loader, config)
        return [composer.cell(list(words)) for words in grid]


class _Composer:
    """Composes the cells of one grid.

    Composing reads a dozen files and takes most of the time before the first cell runs. Cells that differ only in
    values, such as the batch size, have the same files behind them, so each choice of files is composed once; a value
    is then put where Hydra would put it.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader = loader
        self._config = config
        self._parser = OverridesParser.create(config_loader=self._loader)
        self._groups = set(self._loader.list_groups(""))
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._parsed: dict[str, Override] = {}

    def cell(self, overrides: list[str]) -> Cell:
        """Compose and check one cell.

        Raises:
            UsageError: It is not valid; the message ends with the cell's overrides.
        """
        values = [word for word in overrides if self._is_value(word)]
        choices = tuple(word for word in overrides if word not in values)
        if choices not in self._composed:
            self._composed[choices] = self._compose(choices)
        composed = copy.deepcopy(self._composed[choices])
        try:
            self._put(composed, values)
            with composing():
                OmegaConf.resolve(composed)
            # Where a cell runs is no part of it: the plan's words are to run it anywhere.
            kept = tuple(word for word in overrides if not word.startswith(CLUSTER))
            return replace(resolve(composed), overrides=kept)
        except UsageError as error:
            raise UsageError(f"{error} [in the cell {' '.join(overrides)}]") from None

    def _compose(self, choices: tuple[str, ...]) -> DictConfig:
        """Let Hydra compose choices of files; its own node, half of what would be copied for each cell, is left out."""
        composed: DictConfig = self._loader.load_sweep_config(self._config, list(choices))
        with open_dict(composed):
            del composed["hydra"]
        return composed

    def _is_value(self, word: str) -> bool:
        """Whether an override sets a value that is there, and chooses no file."""
        key = word.partition("=")[0]
        if key.partition(".")[0] == "hydra":
            return False
        return bool(re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key)) and key not in self._groups

    def _put(self, composed: DictConfig, values: list[str]) -> None:
        apply: Callable[[list[Override], DictConfig], None] = ConfigLoaderImpl._apply_overrides_to_config
        with composing():
            for word in values:
                if word not in self._parsed:
                    self._parsed[word] = self._parser.parse_override(word)
            apply([self._parsed[word] for word in values], composed)
