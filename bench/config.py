"""From a composed configuration to a cell: validation, and what makes a cell the cell it is.

Hydra composes a `Config` from `conf/` and the command line. `resolve` checks every value of it and returns a
`Cell`: one grid point with everything decided, ready to be scheduled, and with an id that depends on nothing but
what is computed.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench import validation
from bench.errors import Incompatible, UsageError
from bench.optimizers.registry import CLOSURE, all_arguments, check_optimizer, own_source, requirements
from bench.optimizers.rules import ruled
from bench.optimizers.schedules import Phases
from bench.references import is_foreign
from bench.results.glance import label
from bench.results.record import Axes
from bench.results.store import SWEEP_NAME
from bench.schema import Config, OptimizerConfig
from bench.tasks.registry import TaskFacts, TaskSpec, task_facts
from bench.tasks.targets import default_knobs

#: What a cell's id does not depend on: names, places, mirrors and the way cells are run.
NOT_IDENTITY = ("sweep", "results_root", "tracker", "data", "incompatible")


@dataclass(frozen=True)
class Cell:
    """One grid point with everything decided.

    Attributes:
        config: The checked configuration.
        spec: The task with its knobs.
        facts: What is known of the task without loading it.
        optimizer: The optimizer, its arguments as the rule has them at this batch size.
        requires: What its step requires (`bench.optimizers.registry.requirements`).
        id: 16 hexadecimal digits; see `cell_id`.
        batch_size: Examples per step.
        lrs: Learning rates as the rule has them at this batch size, ascending.
        seeds: Trial seeds, ascending.
        steps: Optimizer steps the budget asks for at most; None where only seconds or gradients limit it.
        phases: When the batch size moves; None where it does not.
        target_metric: "val_accuracy" or "val_loss".
        target: Value of it to get strictly past.
        incompatible: What the optimizer requires and the task does not have; empty where they fit.
        command: The command line that launched it, for the record; no part of the id.
        overrides: What stands after `bench run` for this cell alone, for the plan; no part of the id.
    """

    config: Config
    spec: TaskSpec
    facts: TaskFacts
    optimizer: OptimizerConfig
    requires: frozenset[str]
    id: str
    batch_size: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: int | None
    phases: Phases | None
    target_metric: str
    target: float
    incompatible: str = ""
    command: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def axes(self) -> Axes:
        """Where the cell stands in the grid."""
        # Networks of a paper have its way of scaling pixels, which nobody has turned.
        usual = default_knobs(self.spec.model) if self.spec.model else {}
        knobs = {name: value for name, value in self.spec.knobs if value != usual.get(name)}
        return Axes(
            task=self.config.task.name,
            model=self.facts.model,
            optimizer=self.config.optimizer.name,
            batch_size=self.batch_size,
            full_batch=self.config.batch_size == "full",
            device=self.config.device.name,
            precision=self.config.precision,
            knobs=" ".join(f"{name}={_written(value)}" for name, value in knobs.items()),
            method=method(self.config),
        )

    @property
    def label(self) -> str:
        """The cell in a few words, for progress and messages."""
        return label(vars(self.axes))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training split."""
        return validation.steps_per_epoch(self.facts.train_examples, self.batch_size, self.config.training.remainder)

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
    try:
        validation.check_keys(composed, Config, "")
        # Hydra composes on the schema; merging what is typed already would take longer than all other checks.
        typed = OmegaConf.get_type(composed) is Config
        config = OmegaConf.to_object(composed if typed else OmegaConf.merge(OmegaConf.structured(Config), composed))
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise UsageError("the configuration is nested too deeply, or refers to itself") from None
    assert isinstance(config, Config)
    validation.check_texts(dataclasses.asdict(config), "")
    if not SWEEP_NAME.fullmatch(config.sweep):
        raise UsageError(
            f"sweep={config.sweep!r}: a sweep's name is letters, digits, '.', '_', '-', a letter or digit first"
        )
    spec, config.task = validation.check_task(config.task)
    validation.check_numbers(config)
    validation.check_energy(config.measure.energy_seconds)
    facts = task_facts(spec, config.seed.data)
    target_metric, target = validation.check_target(config.task, facts)
    config.task = dataclasses.replace(config.task, target_metric=target_metric, target=target)
    config.training = validation.worded(config.training)
    validation.check_choices(config)
    incompatible = _compatibility(config, facts)
    config.optimizer.source_sha256 = own_source(config.optimizer)
    if config.optimizer.batch_size is not None:
        config.batch_size = config.optimizer.batch_size
    batch_size = validation.check_batch_size(config.batch_size, facts)
    factor, arguments = ruled(config.optimizer, config.rule, batch_size)
    optimizer = dataclasses.replace(config.optimizer, arguments=arguments)
    given_lrs = validation.check_lrs(config)
    seeds = validation.check_seeds(config.seeds)
    config.tracker.validate()
    validation.check_training(config.training, batch_size)
    validation.check_evaluation(config.evaluation, facts)
    config.measure.at_evaluations = validation.check_measures(config.measure)
    requires: frozenset[str] = frozenset() if incompatible else requirements(optimizer.target, all_arguments(optimizer))
    try:
        validation.check_engine(config, facts, requires, batch_size)
        validation.check_parallel(config, facts, requires)
    except Incompatible as error:
        if config.incompatible == "refuse":
            raise
        incompatible = str(error)
    steps = validation.check_budget(
        config.budget, facts.train_examples, batch_size, config.training.remainder, CLOSURE in requires
    )
    validation.check_schedule(config.schedule, steps)
    phases = validation.check_batch_schedule(config, facts, batch_size, steps)
    config = dataclasses.replace(config, lr=list(given_lrs), seeds=list(seeds))
    return Cell(
        config=config,
        spec=spec,
        facts=facts,
        optimizer=optimizer,
        requires=requires,
        id=cell_id(config, dict(spec.knobs)),
        batch_size=batch_size,
        lrs=tuple(lr * factor for lr in given_lrs),
        seeds=seeds,
        steps=phases.steps if phases else steps,
        phases=phases,
        target_metric=target_metric,
        target=target,
        incompatible=incompatible,
    )


def _compatibility(config: Config, facts: TaskFacts) -> str:
    """Return what the optimizer requires and the task does not have, where the grid is to record that."""
    try:
        check_optimizer(config.optimizer, facts)
    except Incompatible as error:
        if config.incompatible == "refuse":
            raise
        return str(error)
    return ""


def cell_id(config: Config, knobs: Mapping[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of what is computed.

    Names of sweeps, paths, tracker and launcher are left out, so equal computations have equal ids anywhere; so are
    fields and knobs that came later and are at their defaults, so that ids stay what they were.

    Args:
        config: The checked configuration.
        knobs: The task's knobs that are not at their defaults.
    """
    identity = {key: value for key, value in _identity(config).items() if key not in NOT_IDENTITY}
    # How long processes wait for each other is not what they compute.
    identity["device"].pop("timeout_seconds", None)
    # A task of one's own is what its source says, wherever the file lies.
    identity["task"] = {name: value for name, value in identity["task"].items() if name not in ("module", "knobs")}
    if knobs:
        identity["task"]["knobs"] = dict(knobs)
    # So is an optimizer of one's own.
    for part in (identity["optimizer"], identity["optimizer"].get("fallback")):
        if isinstance(part, dict) and is_foreign(part["target"]):
            part["target"] = part["target"].rpartition(":")[2]
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


#: Settings of a training step that change how it is computed, and nothing of what it computes.
_SAME_METHOD = ("stack", "divergence_factor")


def method(config: Config) -> str:
    """Return what of a configuration departs from the plain training step, "key=value" each; empty for nothing.

    Learning rates, budgets, seeds and the optimizer itself are no part of it: they have columns of their own.
    """
    departures = {}
    for name in ("schedule", "batch_schedule", "rule", "training"):
        node = getattr(config, name)
        plain = type(node)()
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if value != getattr(plain, field.name) and field.name not in _SAME_METHOD:
                # What a setting is called stands for the group: schedule=cosine.
                departures[name if field.name == "name" else field.name] = value
    if config.optimizer.weight_decay is not None:
        departures["weight_decay"] = config.optimizer.weight_decay
    return " ".join(f"{name}={_written(value)}" for name, value in departures.items())


def _written(value: Any) -> str:
    """Write a value as an override would, without spaces."""
    return f"[{','.join(map(_written, value))}]" if isinstance(value, list | tuple) else str(value)


def _identity(node: Any) -> Any:
    if not dataclasses.is_dataclass(node):
        return node
    return {
        field.name: _identity(getattr(node, field.name))
        for field in dataclasses.fields(node)
        if not (field.metadata.get("later") and getattr(node, field.name) == _default(field))
    }


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def conf_path() -> Path:
    """Return the folder with the configuration groups: inside the installed package, else beside it."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"
