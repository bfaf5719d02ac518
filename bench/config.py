"""From a composed configuration to a cell: validation, and what makes a cell the cell it is.

Hydra composes a `Config` from `conf/` and the command line. `resolve` checks every value of it and returns a
`Cell`: one grid point with everything decided, ready to be scheduled, and with an id that depends on nothing but
what is computed.
"""

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.errors import UsageError, unknown
from bench.optimizers.registry import IMPLEMENTATIONS, check_optimizer
from bench.results.record import Axes
from bench.results.store import SWEEP_NAME
from bench.schema import BudgetConfig, Config, EvaluationConfig, TaskConfig
from bench.tasks.registry import DATA_SETS, MODELS, TaskFacts, task_facts

PRECISIONS = ("float32", "float64", "tf32", "bfloat16")
SCHEDULES = ("constant",)
TARGET_METRICS = ("val_accuracy", "val_loss")
DEVICE_NAME = re.compile(r"cpu|mps|cuda(:\d+)?")

#: Exponents of the normal float32 numbers: the learning rates an octave grid may have.
LR_EXPONENTS = range(-126, 128)
#: Seeds are below this: the curves store them as signed 64-bit integers.
SEED_LIMIT = 2**63

#: What a cell's id does not depend on: names, places, mirrors and the way cells are run.
NOT_IDENTITY = ("sweep", "results_root", "tracker", "data")


@dataclass(frozen=True)
class Cell:
    """One grid point with everything decided.

    Attributes:
        config: The checked configuration.
        facts: What is known of the task without loading it.
        id: 16 hexadecimal digits; see `cell_id`.
        batch_size: Examples per step.
        lrs: Learning rates, ascending.
        seeds: Trial seeds, ascending.
        steps: Optimizer steps the budget asks for at most; None where only seconds limit it.
        command: The command line that launched it, for the record; no part of the id.
    """

    config: Config
    facts: TaskFacts
    id: str
    batch_size: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int | None
    command: str = ""

    @property
    def axes(self) -> Axes:
        """Where the cell stands in the grid."""
        return Axes(
            task=self.config.task.name,
            model=self.config.task.model,
            optimizer=self.config.optimizer.name,
            batch_size=self.batch_size,
            full_batch=self.config.batch_size == "full",
            device=self.config.device.name,
            precision=self.config.precision,
        )

    @property
    def label(self) -> str:
        """The cell in a few words, for progress and messages."""
        config = self.config
        label = f"{config.task.name} {config.optimizer.name} B={config.batch_size} {config.device.name}"
        return label if config.precision == "float32" else f"{label} {config.precision}"

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training split."""
        return steps_per_epoch(self.facts.train_examples, self.batch_size, self.config.training.remainder)

    @property
    def cost(self) -> float:
        """Rough cost in arbitrary units, to run the longest cells first and to tell the time left."""
        steps = self.steps if self.steps is not None else 10_000
        return len(self.lrs) * len(self.seeds) * steps * (60.0 + self.batch_size)

    def plain(self) -> dict[str, Any]:
        """Return the configuration as plain dictionaries, lists, strings and numbers."""
        return dataclasses.asdict(self.config)


def resolve(composed: DictConfig) -> Cell:
    """Check a composed configuration and decide everything in it.

    Args:
        composed: What Hydra composed, without its own `hydra` node.

    Returns:
        The cell.

    Raises:
        UsageError: A value is unknown, of the wrong kind or out of range; the message names it.
    """
    _check_keys(composed, Config, "")
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), composed))
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(config, Config)
    if not SWEEP_NAME.fullmatch(config.sweep):
        raise UsageError(
            f"sweep={config.sweep!r}: a sweep's name is letters, digits, '.', '_', '-', a letter or digit first"
        )
    facts = _check_task(config.task)
    check_optimizer(config.optimizer.target, config.optimizer.implementation, config.optimizer.arguments)
    _check_choices(config)
    batch_size = _check_batch_size(config.batch_size, facts)
    lrs = _check_lrs(config)
    seeds = _check_seeds(config.seeds)
    config.tracker.validate()
    _check_numbers(config)
    _check_evaluation(config.evaluation, facts)
    steps = _check_budget(config.budget, facts.train_examples, batch_size, config.training.remainder)
    config = dataclasses.replace(config, lr=list(lrs), seeds=list(seeds))
    return Cell(config, facts, cell_id(config), batch_size, lrs, seeds, steps)


def cell_id(config: Config) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of what is computed.

    Names of sweeps, paths, tracker and launcher are left out, so equal computations have equal ids anywhere.
    """
    identity = {key: value for key, value in dataclasses.asdict(config).items() if key not in NOT_IDENTITY}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def steps_per_epoch(examples: int, batch_size: int, remainder: str) -> int:
    """Return the number of optimizer steps in one pass over `examples` examples."""
    return examples // batch_size if remainder == "drop" else -(-examples // batch_size)


def _check_keys(node: Any, schema: Any, prefix: str) -> None:
    """Refuse keys the schema does not have; Hydra's `+key=value` would otherwise slip them in."""
    fields = {f.name: f for f in dataclasses.fields(schema)}
    for name in node:
        key = f"{prefix}{name}"
        if name not in fields:
            raise unknown("config key", key, [f"{prefix}{field_name}" for field_name in fields])
        inner = fields[name].type
        if dataclasses.is_dataclass(inner) and isinstance(node[name], DictConfig | dict):
            _check_keys(node[name], inner, f"{key}.")


def _check_task(task: TaskConfig) -> TaskFacts:
    if task.data not in DATA_SETS:
        raise unknown("data set (task.data)", task.data, DATA_SETS)
    if task.model not in MODELS:
        raise unknown("model (task.model)", task.model, MODELS)
    if task.target_metric not in TARGET_METRICS:
        raise unknown("task.target_metric", task.target_metric, TARGET_METRICS)
    if not math.isfinite(task.target):
        raise UsageError(f"task.target={task.target}: must be a finite number")
    return task_facts(task.data, task.model)


def _check_choices(config: Config) -> None:
    for name, value, allowed in (
        ("precision", config.precision, PRECISIONS),
        ("schedule", config.schedule.name, SCHEDULES),
        ("optimizer.implementation", config.optimizer.implementation, IMPLEMENTATIONS),
        ("training.remainder", config.training.remainder, ("keep", "drop")),
        ("budget.until", config.budget.until, ("largest", "smallest")),
    ):
        if value not in allowed:
            raise unknown(name, value, allowed)
    if not DEVICE_NAME.fullmatch(config.device.name):
        raise unknown("device", config.device.name, ("cpu", "cuda", "cuda:0", "mps"))
    if config.precision == "tf32" and not config.device.name.startswith("cuda"):
        raise UsageError(f"precision=tf32 with device={config.device.name}: tf32 is a mode of CUDA devices")
    if config.precision == "float64" and config.device.name == "mps":
        raise UsageError("precision=float64 with device=mps: mps has no float64")


def _check_batch_size(given: Any, facts: TaskFacts) -> int:
    examples = facts.train_examples
    if given == "full":
        return examples
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise UsageError(f"batch_size={given}: must be an integer from 1 to {examples}, or full")
    if given > examples:
        raise UsageError(
            f"batch_size={given}: the training split of {facts.data} has only {examples} examples "
            f"(allowed: 1 … {examples}, or full)"
        )
    return given


def _check_lrs(config: Config) -> tuple[float, ...]:
    given = config.lr
    if given is None:
        span = config.optimizer.lr_log2
        if len(span) != 2 or span[0] > span[1] or not {*span} <= {*LR_EXPONENTS}:
            raise UsageError(
                f"optimizer.lr_log2={span}: must be two exponents from {LR_EXPONENTS[0]} to {LR_EXPONENTS[-1]}, "
                "the first not above the second"
            )
        return tuple(2.0**exponent for exponent in range(span[0], span[1] + 1))
    values = list(given) if isinstance(given, list | tuple) else [given]
    if not values:
        raise UsageError("lr=[]: give at least one learning rate, or null for the optimizer's octave grid")
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            raise UsageError(f"lr={value}: a learning rate must be a finite number above 0")
    return tuple(sorted({float(value) for value in values}))


def _check_seeds(given: Any) -> tuple[int, ...]:
    if isinstance(given, int) and not isinstance(given, bool):
        if given < 1:
            raise UsageError(f"seeds={given}: must be at least 1, or a list of seeds")
        return tuple(range(given))
    if isinstance(given, list | tuple) and given:
        for seed in given:
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
                raise UsageError(f"seeds={list(given)}: a seed must be an integer from 0 to 2^63 − 1, {seed!r} is not")
        return tuple(sorted(set(given)))
    raise UsageError(f"seeds={given}: must be a number of seeds ≥ 1, or a list of seeds")


def _check_numbers(config: Config) -> None:
    for name, value, least in (
        ("device.threads", config.device.threads, 1),
        ("evaluation.per_octave", config.evaluation.per_octave, 1),
        ("evaluation.every_epoch", config.evaluation.every_epoch, 0),
        ("evaluation.batch_size", config.evaluation.batch_size, 1),
        ("evaluation.train_examples", config.evaluation.train_examples, 1),
        ("measure.warmup_steps", config.measure.warmup_steps, 1),
        ("measure.windows", config.measure.windows, 1),
        ("seed.data", config.seed.data, 0),
        ("seed.init", config.seed.init, 0),
        ("seed.order", config.seed.order, 0),
        ("seed.noise", config.seed.noise, 0),
    ):
        if value is not None and value < least:
            raise UsageError(f"{name}={value}: must be at least {least}")
        if value is not None and value >= SEED_LIMIT:
            raise UsageError(f"{name}={value}: must be below 2^63")
    for name, number in (
        ("training.divergence_factor", config.training.divergence_factor),
        ("measure.window_seconds", config.measure.window_seconds),
    ):
        if not math.isfinite(number) or number <= 0:
            raise UsageError(f"{name}={number}: must be a finite number above 0")


def _check_evaluation(evaluation: EvaluationConfig, facts: TaskFacts) -> None:
    wanted = evaluation.train_examples
    if wanted is not None and wanted > facts.train_examples:
        raise UsageError(
            f"evaluation.train_examples={wanted}: the training split of {facts.data} has only "
            f"{facts.train_examples} examples; null evaluates on all of them"
        )


def _check_budget(budget: BudgetConfig, examples: int, batch_size: int, remainder: str) -> int | None:
    """Return the steps the countable limits ask for; None where only seconds are limited."""
    limits = {
        name: getattr(budget, name)
        for name in ("epochs", "steps", "examples", "seconds")
        if getattr(budget, name) is not None
    }
    if not limits:
        raise UsageError("budget: set at least one of budget.epochs, budget.steps, budget.examples, budget.seconds")
    for name, value in limits.items():
        if not math.isfinite(value) or value <= 0:
            raise UsageError(f"budget.{name}={value}: must be a finite number above 0")
    per_epoch = steps_per_epoch(examples, batch_size, remainder)
    counts = []
    if budget.epochs is not None:
        # The decimal number as written: in floating point 1.1 epochs of 10 steps come out above 11.
        counts.append(math.ceil(Fraction(str(budget.epochs)) * per_epoch))
    if budget.steps is not None:
        counts.append(budget.steps)
    if budget.examples is not None:
        counts.append(_steps_to_see(budget.examples, examples, batch_size, per_epoch))
    if not counts:
        return None
    return max(counts) if budget.until == "largest" else min(counts)


def _steps_to_see(wanted: int, examples: int, batch_size: int, per_epoch: int) -> int:
    """Return the fewest steps that see at least `wanted` examples (an epoch's last batch may be smaller)."""
    per_epoch_examples = min(examples, per_epoch * batch_size)
    whole, rest = divmod(wanted, per_epoch_examples)
    return whole * per_epoch + -(-rest // batch_size)


def conf_path() -> Path:
    """Return the folder with the configuration groups: inside the installed package, else beside it."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"
