"""What there is to choose from, as tables for a terminal."""

from collections.abc import Callable, Sequence

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.composition import choices
from bench.config import conf_path
from bench.optimizers.registry import implementations
from bench.tasks.registry import DATA_SETS, MODELS

Listing = tuple[str, Sequence[str], list[Sequence[str]]]


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal; a pipe gets full lines."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console.print(table)


def _tasks() -> Listing:
    rows: list[Sequence[str]] = []
    for name in choices("task"):
        config = OmegaConf.load(conf_path() / "task" / f"{name}.yaml")
        data, model = DATA_SETS[config.data], MODELS[config.model]
        rows.append((name, model.about, data.about, f"{config.target_metric} past {config.target}"))
    return "tasks (task=NAME)", ("task", "model", "data", "target"), rows


def _optimizers() -> Listing:
    rows: list[Sequence[str]] = []
    for name in choices("optimizer"):
        config = OmegaConf.load(conf_path() / "optimizer" / f"{name}.yaml")
        low, high = config.lr_log2
        rows.append(
            (
                name,
                _about("optimizer", name),
                f"torch.optim.{config.target}",
                ", ".join(implementations(config.target)),
                f"2^{low} … 2^{high}",
            )
        )
    header = ("optimizer", "what it is", "class", "implementations", "learning rates")
    return "optimizers (optimizer=NAME)", header, rows


def _experiments() -> Listing:
    rows: list[Sequence[str]] = []
    for name in choices("experiment"):
        config = OmegaConf.load(conf_path() / "experiment" / f"{name}.yaml")
        grid = "; ".join(f"{key}={value}" for key, value in config.hydra.sweeper.params.items())
        rows.append((name, _about("experiment", name), grid))
    return "experiments (bench run -m experiment=NAME)", ("experiment", "what it asks", "grid"), rows


def _about(group: str, name: str) -> str:
    """Return the comment that a configuration file begins with."""
    about = []
    for line in (conf_path() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        about.append(line.lstrip("# "))
    return " ".join(about)


LISTINGS: dict[str, Callable[[], Listing]] = {
    "tasks": _tasks,
    "optimizers": _optimizers,
    "experiments": _experiments,
}
