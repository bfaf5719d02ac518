"""The default Hydra launcher: one grid, seen as a whole."""

import copy
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

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
from bench.launching.sweep import run_sweep


def launch(context: HydraContext, config: DictConfig, workers: int | str, grid: Sequence[Sequence[str]]) -> NoReturn:
    """Compose and check every cell of the grid, then run it.

    Args:
        context: Hydra's config loader.
        config: The configuration of the multirun itself.
        workers: Worker processes, or "auto".
        grid: One list of overrides per cell.

    Raises:
        UsageError: A cell is not valid, or cells name different sweeps; nothing has been run then.
        SystemExit: Always, with the sweep's exit code.
    """
    composer = _Composer(context.config_loader, config)
    cells = [composer.cell(list(overrides)) for overrides in grid]
    places = sorted({(cell.config.results_root, cell.config.sweep) for cell in cells})
    if len(places) > 1:
        names = ", ".join(f"{root}/{sweep}" for root, sweep in places)
        raise UsageError(f"a multirun is one sweep, but its cells would go to {names}")
    launched()
    # `run_hydra` put the command line there for Hydra to read.
    raise SystemExit(run_sweep(cells, workers, shlex.join([*sys.argv[0].split(), *sys.argv[1:]])))


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
            return replace(resolve(composed), overrides=tuple(overrides))
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
