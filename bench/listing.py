"""What there is to choose from, as tables for a terminal."""

from collections.abc import Callable, Sequence

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.claims.claim import chosen_claims
from bench.composition import about, choice, choices
from bench.errors import printable
from bench.measure.catalogue import MEASURES
from bench.optimizers.registry import class_title, implementations, known_answer, requirements
from bench.tasks.catalogue import DATA_SETS, NETWORKS, PROBLEMS
from bench.tasks.registry import task_facts, task_spec

Listing = tuple[str, Sequence[str], list[Sequence[str]]]


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal; a pipe gets full lines."""
    console = Console()
    piped = not console.is_terminal
    if piped:
        console = Console(width=sum(max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)))
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for name in header:
        table.add_column(name, overflow="fold", no_wrap=piped)
    for row in rows:
        table.add_row(*(Text(printable(str(value))) for value in row))
    console.print(table)


def _tasks() -> Listing:
    rows: list[Sequence[str]] = []
    for name in choices("task"):
        config = choice("task", name)
        data, model = config.get("data"), config.get("model")
        words, target = about("task", name), _target(config)
        if data in PROBLEMS:
            problem = PROBLEMS[data]
            rows.append((name, words or problem.about, "nothing", target, problem.known_answer))
        elif data in DATA_SETS:
            images, network = DATA_SETS[data], NETWORKS[model]
            title = images.about.partition(":")[0].partition(",")[0]
            rows.append((name, f"{title}: {network.about}", images.files, target, network.known_answer))
        else:
            rows.append((name, words, "task.module=path.py:function", "its own", "the audit"))
    return "tasks (task=NAME)", ("task", "what it is", "requires", "target", "known answer"), rows


def _target(config: DictConfig) -> str:
    """Return the target in words: as configured, else as the problem has it."""
    metric, target = config.get("target_metric"), config.get("target")
    if target is None and config.get("data") in PROBLEMS:
        spec, _ = task_spec(config.name, config.data, None, None, {})
        facts = task_facts(spec)
        metric, target = facts.target_metric, facts.target
    return f"{metric} past {target:g}" if target is not None else ""


def _optimizers() -> Listing:
    rows: list[Sequence[str]] = []
    for name in choices("optimizer"):
        config = choice("optimizer", name)
        low, high = config.lr_log2
        arguments = OmegaConf.to_object(config.arguments)
        assert isinstance(arguments, dict)
        needs = sorted(requirements(config.target, {str(key): value for key, value in arguments.items()}))
        if config.get("batch_size") is not None:
            needs.append(f"batch size {config.batch_size}")
        if config.get("fallback"):
            needs.append(f"{config.fallback.target} for the rest")
        rows.append(
            (
                name,
                about("optimizer", name) or f"{config.target} with torch's defaults.",
                class_title(config.target),
                ", ".join(needs) or "nothing",
                ", ".join(implementations(config.target)),
                f"2^{low} … 2^{high}",
                known_answer(config.target),
            )
        )
    header = ("optimizer", "what it is", "class", "requires", "implementations", "learning rates", "known answer")
    return "optimizers (optimizer=NAME)", header, rows


def _experiments() -> Listing:
    rows: list[Sequence[str]] = []
    for name in choices("experiment"):
        config = choice("experiment", name)
        grid = "; ".join(f"{key}={value}" for key, value in config.hydra.sweeper.params.items())
        rows.append((name, about("experiment", name), grid))
    return "experiments (bench run -m experiment=NAME)", ("experiment", "what it asks", "grid"), rows


def _measures() -> Listing:
    rows: list[Sequence[str]] = [(name, entry.about, ", ".join(entry.metrics)) for name, entry in MEASURES.items()]
    return "measures (measure.at_evaluations=[NAME,…])", ("measure", "what it is", "metrics in the curves"), rows


def _claims() -> Listing:
    rows: list[Sequence[str]] = [
        (claim.name, claim.sentence["en"], claim.who, claim.experiment) for claim in chosen_claims("")
    ]
    return "claims (bench report SWEEP --claims NAME,…)", ("claim", "what people say", "who", "experiment"), rows


LISTINGS: dict[str, Callable[[], Listing]] = {
    "tasks": _tasks,
    "optimizers": _optimizers,
    "experiments": _experiments,
    "measures": _measures,
    "claims": _claims,
}
