"""The default Hydra launcher: one grid, seen as a whole."""

import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from bench.config import Cell, resolve
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
    cells = [_compose(context, config, list(overrides)) for overrides in grid]
    places = sorted({(cell.config.results_root, cell.config.sweep) for cell in cells})
    if len(places) > 1:
        names = ", ".join(f"{root}/{sweep}" for root, sweep in places)
        raise UsageError(f"a multirun is one sweep, but its cells would go to {names}")
    # `run_hydra` put the command line there for Hydra to read.
    raise SystemExit(run_sweep(cells, workers, shlex.join([*sys.argv[0].split(), *sys.argv[1:]])))


def _compose(context: HydraContext, config: DictConfig, overrides: list[str]) -> Cell:
    composed = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed):
        del composed["hydra"]
    OmegaConf.resolve(composed)
    try:
        return resolve(composed)
    except UsageError as error:
        raise UsageError(f"{error} [in the cell {' '.join(overrides)}]") from None
