"""Checks of a composed configuration: each refuses a value in one line, and returns what it decided.

`bench.config.resolve` calls them in order; none of them knows more of a cell than it is given.
"""

import dataclasses
import math
import unicodedata
from fractions import Fraction
from typing import Any

from omegaconf import DictConfig

from bench.devices import NAMES, is_parallel, unknown_device
from bench.errors import Incompatible, UsageError, unknown
from bench.measure.catalogue import MEASURES, MODES
from bench.optimizers.registry import CLOSURE, GRADIENT_GRAPH, IMPLEMENTATIONS, SPARSE
from bench.optimizers.schedules import (
    BATCH_SCHEDULES,
    SCHEDULES,
    Phases,
    ascending_fractions,
    phases_in_examples,
    phases_in_steps,
)
from bench.schema import (
    BudgetConfig,
    Config,
    EvaluationConfig,
    MeasureConfig,
    ScheduleConfig,
    TaskConfig,
    TrainingConfig,
)
from bench.tasks.registry import TARGET_METRICS, TaskFacts, TaskSpec, task_spec

PRECISIONS = ("float32", "float64", "tf32", "bfloat16")
REMAINDERS = ("keep", "drop", "carry")
#: What steps may require that is neither compiled nor recorded.
NOT_PLAIN = {
    CLOSURE: "asks for the loss itself",
    GRADIENT_GRAPH: "differentiates gradients",
    SPARSE: "takes sparse gradients",
}

#: Unicode categories of what is no text: control characters, surrogates, separators of lines and paragraphs.
NO_TEXT = ("Cc", "Cs", "Zl", "Zp")
#: Exponents of the normal float32 numbers: the learning rates an octave grid may have.
LR_EXPONENTS = range(-126, 128)
#: A stack has at least so many trials.
LEAST_STACK = 2
#: Seconds that processes which train together are given at least.
LEAST_TIMEOUT = 1.0
#: The measure that looks at each batch of training.
WHOLE_BATCHES = "step_loss_variance"
#: So many seeds a number of them may ask for: each is a trial at every learning rate.
MOST_SEEDS = 10_000
#: More steps than this no counter of an optimizer holds: the whole numbers that floating point has.
MOST_STEPS = 2**53
#: Seeds are below this: the curves store them as signed 64-bit integers.
SEED_LIMIT = 2**63


def steps_per_epoch(examples: int, batch_size: int, remainder: str) -> int:
    """Return the number of optimizer steps in one pass over `examples` examples."""
    return -(-examples // batch_size) if remainder == "keep" else examples // batch_size


def check_keys(node: Any, schema: Any, prefix: str) -> None:
    """Refuse keys the schema does not have; Hydra's `+key=value` would otherwise slip them in."""
    fields = {f.name: f for f in dataclasses.fields(schema)}
    for name in node:
        key = f"{prefix}{name}"
        if name not in fields:
            raise unknown("config key", key, [f"{prefix}{field_name}" for field_name in fields])
        inner = fields[name].type
        if dataclasses.is_dataclass(inner) and isinstance(node[name], DictConfig | dict):
            check_keys(node[name], inner, f"{key}.")


def check_texts(node: Any, key: str) -> None:
    """Refuse text that no file name, record or page can hold: control characters, line breaks, halves of characters."""
    if isinstance(node, dict):
        for name, value in node.items():
            check_texts(str(name), key)
            check_texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for value in node:
            check_texts(value, key)
    elif isinstance(node, str) and any(unicodedata.category(character) in NO_TEXT for character in node):
        raise UsageError(f"{key}={node!r}: must be text on one line, without control characters")


def check_task(task: TaskConfig) -> tuple[TaskSpec, TaskConfig]:
    """Return what to load, and the configuration with every knob and, for a task of one's own, its name and source."""
    if task.module:
        name = f"custom/{task.module.rpartition(':')[2]}"
        spec, _ = task_spec(name, None, None, task.module, {} if task.data else task.knobs)
        own = task.data is None
        return spec, TaskConfig(
            name=name,
            module=task.module,
            # The target of the task that stood there before is not this one's.
            target_metric=task.target_metric if own else None,
            target=task.target if own else None,
            source_sha256=spec.source_sha256,
        )
    spec, knobs = task_spec(task.name, task.data, task.model, None, task.knobs)
    return spec, dataclasses.replace(task, knobs=knobs)


def check_target(task: TaskConfig, facts: TaskFacts) -> tuple[str, float]:
    """Return the metric that time-to-target waits for and the value to get past."""
    metric = task.target_metric or facts.target_metric or "val_accuracy"
    if metric not in TARGET_METRICS:
        raise unknown("task.target_metric", metric, TARGET_METRICS)
    if metric == "val_accuracy" and not facts.accuracy:
        raise UsageError(f"task.target_metric=val_accuracy: {task.name} has no accuracy; use val_loss")
    target = task.target
    if target is None:
        target = facts.target if metric == facts.target_metric else math.nan
    if not math.isfinite(target):
        raise UsageError(f"task.target={target}: must be a finite number ({metric} of {task.name})")
    return metric, target


def check_training(training: TrainingConfig, batch_size: int) -> None:
    """Check clipping, micro-batches, averaging and stacking."""
    if training.clip_norm is not None and not (math.isfinite(training.clip_norm) and training.clip_norm > 0):
        raise UsageError(f"training.clip_norm={training.clip_norm}: must be a finite number above 0, or null")
    if training.micro_batch is not None and not 1 <= training.micro_batch <= batch_size:
        raise UsageError(
            f"training.micro_batch={training.micro_batch}: must be from 1 to the batch size ({batch_size}), or null"
        )
    if training.average is not None and not 0 < training.average < 1:
        raise UsageError(f"training.average={training.average}: must be between 0 and 1, or null")
    stack = training.stack
    counts = isinstance(stack, int) and not isinstance(stack, bool) and stack >= LEAST_STACK
    if not counts and stack not in ("auto", "off"):
        raise UsageError(f"training.stack={stack}: must be auto, off or a number of trials, at least {LEAST_STACK}")


def worded(training: TrainingConfig) -> TrainingConfig:
    """Return the settings with their switches in words: YAML 1.1 reads on and off as true and false."""
    words = {"True": "on", "False": "off"}
    spoken = {name: words.get(value := getattr(training, name), value) for name in ("compile", "cuda_graph")}
    return dataclasses.replace(training, **spoken)


def check_engine(config: Config, facts: TaskFacts, requires: frozenset[str], batch_size: int) -> None:
    """Check that what the engine is asked for can be done with the rest of the configuration.

    Raises:
        Incompatible: The optimizer takes gradients that are neither compiled nor recorded.
        UsageError: Another setting rules it out.
    """
    training = config.training
    compiles, records = training.compile == "on", training.cuda_graph == "on"
    for asked, done in (("training.compile=on", "compiled"), ("training.cuda_graph=on", "recorded")):
        if not {"compiled": compiles, "recorded": records}[done]:
            continue
        for need, words in NOT_PLAIN.items():
            if need in requires:
                raise Incompatible(f"{asked}: optimizer {config.optimizer.name} {words}, which is not {done}")
        if training.micro_batch is not None:
            raise UsageError(f"{asked}: training.micro_batch must be null; a batch is {done} as a whole")
        if training.remainder == "carry" and facts.train_examples % batch_size:
            raise UsageError(
                f"{asked}: training.remainder=carry at batch size {batch_size} makes batches of many sizes, each of "
                f"which would be {done}; use keep or drop"
            )
    if not records:
        return
    if not config.device.name.startswith("cuda"):
        raise UsageError(f"training.cuda_graph=on with device={config.device.name}: only CUDA devices have graphs")
    for key, moves in (
        ("training.clip_norm=null", training.clip_norm is not None),
        ("training.average=null", training.average is not None),
        ("schedule=constant and schedule.warmup=0", config.schedule.name != "constant" or config.schedule.warmup > 0),
        ("batch_schedule=constant", config.batch_schedule.name != "constant"),
    ):
        if moves:
            raise UsageError(f"training.cuda_graph=on: needs {key}; a recorded step is the same every time")


def check_parallel(config: Config, facts: TaskFacts, requires: frozenset[str]) -> None:
    """Check that what is trained data parallel can be.

    Raises:
        Incompatible: The optimizer takes gradients that are not averaged over processes, or the model looks at a batch
            as a whole.
        UsageError: Another setting rules it out, or a time limit out of range.
    """
    limit, given = config.device.timeout_seconds, f"device={config.device.name}"
    if not math.isfinite(limit) or limit < LEAST_TIMEOUT:
        raise UsageError(f"device.timeout_seconds={limit}: must be a finite number, at least {LEAST_TIMEOUT:g}")
    if not is_parallel(config.device.name):
        return
    for need in (GRADIENT_GRAPH, SPARSE):
        if need in requires:
            raise Incompatible(
                f"{given}: optimizer {config.optimizer.name} {NOT_PLAIN[need]}, which are not averaged over processes"
            )
    if facts.batch_statistics:
        raise Incompatible(
            f"{given}: {facts.model} uses statistics of a whole batch in training (batch normalisation), of which each "
            "device sees its part alone"
        )
    if config.training.compile == "on":
        raise UsageError(f"training.compile=on with {given}: compiled gradients are of one device")
    if config.training.cuda_graph == "on":
        raise UsageError(f"training.cuda_graph=on with {given}: recorded steps are of one device")
    if WHOLE_BATCHES in config.measure.at_evaluations:
        raise UsageError(
            f"measure.at_evaluations=[{WHOLE_BATCHES}] with {given}: it looks at whole batches, of which each device "
            "sees its part alone"
        )


def check_schedule(schedule: ScheduleConfig, steps: int | None) -> None:
    """Check the learning-rate schedule; all but the constant one need a known number of steps."""
    moves = schedule.name != "constant" or schedule.warmup > 0
    if moves and steps is None:
        raise UsageError(
            f"schedule={schedule.name}: needs to know how many steps there will be; set budget.epochs, budget.steps or "
            "budget.examples"
        )
    if not 0 <= schedule.warmup < 1:
        raise UsageError(f"schedule.warmup={schedule.warmup}: must be a fraction of the budget, from 0 to below 1")
    if not ascending_fractions(schedule.milestones):
        raise UsageError(f"schedule.milestones={schedule.milestones}: must be ascending fractions between 0 and 1")
    if schedule.name == "step" and not schedule.milestones:
        raise UsageError("schedule.milestones=[]: schedule=step needs at least one, such as [0.5,0.75]")
    for name, low, high in (("gamma", 0, math.inf), ("final", 0, 1), ("peak_at", 0, 1)):
        value = getattr(schedule, name)
        if not low <= value <= high or not math.isfinite(value) or (name != "final" and value == low):
            lower = f"at least {low}" if name == "final" else f"above {low}"
            upper = f"at most {high}" if high < math.inf else "finite"
            raise UsageError(f"schedule.{name}={value}: must be {lower} and {upper}")
    for name in ("start_divisor", "end_divisor"):
        value = getattr(schedule, name)
        if not 1 <= value < math.inf:
            raise UsageError(f"schedule.{name}={value}: must be at least 1")


def check_batch_schedule(config: Config, facts: TaskFacts, batch_size: int, steps: int | None) -> Phases | None:
    """Return the phases of the batch size; None where it does not move."""
    schedule = config.batch_schedule
    if schedule.name == "constant":
        return None
    if config.training.remainder == "carry":
        raise UsageError("batch_schedule=growth: training.remainder=carry needs one batch size; use keep or drop")
    if config.optimizer.batch_size is not None:
        raise UsageError(
            f"batch_schedule=growth: {config.optimizer.name} has batch size {config.optimizer.batch_size} by definition"
        )
    if not schedule.milestones or not ascending_fractions(schedule.milestones):
        raise UsageError(
            f"batch_schedule.milestones={schedule.milestones}: must be one or more ascending fractions between 0 and 1"
        )
    if schedule.factor < 2:
        raise UsageError(f"batch_schedule.factor={schedule.factor}: must be at least 2")
    most = facts.train_examples if schedule.most is None else schedule.most
    if not batch_size <= most <= facts.train_examples:
        raise UsageError(
            f"batch_schedule.most={most}: must be from the batch size ({batch_size}) to the training split's "
            f"{facts.train_examples} examples, or null"
        )
    budget = config.budget
    if steps is None or budget.seconds is not None or budget.gradient_evaluations is not None:
        raise UsageError("batch_schedule=growth: needs a budget in epochs, steps or examples alone")
    candidates = []
    for wanted in _wanted_examples(budget, facts.train_examples):
        candidates.append(
            phases_in_examples(schedule, batch_size, most, wanted, facts.train_examples, config.training.remainder)
        )
    if budget.steps is not None:
        candidates.append(phases_in_steps(schedule, batch_size, most, budget.steps))
    longest = budget.until == "largest"
    return (max if longest else min)(candidates, key=lambda phases: phases.steps)


def _wanted_examples(budget: BudgetConfig, examples: int) -> list[Fraction]:
    wanted = [] if budget.epochs is None else [Fraction(str(budget.epochs)) * examples]
    return wanted if budget.examples is None else [*wanted, Fraction(budget.examples)]


def check_choices(config: Config) -> None:
    """Check every value that is one of a few words."""
    for name, value, allowed in (
        ("precision", config.precision, PRECISIONS),
        ("schedule", config.schedule.name, SCHEDULES),
        ("batch_schedule", config.batch_schedule.name, BATCH_SCHEDULES),
        ("optimizer.implementation", config.optimizer.implementation, IMPLEMENTATIONS),
        ("training.remainder", config.training.remainder, REMAINDERS),
        ("training.compile", config.training.compile, ("off", "on")),
        ("training.cuda_graph", config.training.cuda_graph, ("auto", "off", "on")),
        ("measure.memory_process", config.measure.memory_process, ("worker", "fresh")),
        ("budget.until", config.budget.until, ("largest", "smallest")),
        ("incompatible", config.incompatible, ("refuse", "record")),
        ("measure.mode", config.measure.mode, MODES),
    ):
        if value not in allowed:
            raise unknown(name, value, allowed)
    if config.device.name not in NAMES:
        raise unknown_device(config.device.name)
    if config.precision == "tf32" and not config.device.name.startswith("cuda"):
        raise UsageError(f"precision=tf32 with device={config.device.name}: tf32 is a mode of CUDA devices")
    if config.precision == "float64" and config.device.name == "mps":
        raise UsageError("precision=float64 with device=mps: mps has no float64")


def check_batch_size(given: Any, facts: TaskFacts) -> int:
    """Return the batch size in examples."""
    examples = facts.train_examples
    if given == "full":
        return examples
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise UsageError(f"batch_size={given}: must be an integer from 1 to {examples}, or full")
    if given > examples:
        raise UsageError(
            f"batch_size={given}: {'an epoch' if facts.stream else 'the training split'} of {facts.data} has only "
            f"{examples} examples "
            f"(allowed: 1 … {examples}, or full)"
        )
    return given


def check_lrs(config: Config) -> tuple[float, ...]:
    """Return the learning rates as configured, ascending; the optimizer's octave grid where none are given."""
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


def check_seeds(given: Any) -> tuple[int, ...]:
    """Return the trial seeds, ascending."""
    if isinstance(given, int) and not isinstance(given, bool):
        if given < 1:
            raise UsageError(f"seeds={given}: must be at least 1, or a list of seeds")
        if given > MOST_SEEDS:
            raise UsageError(f"seeds={given}: must be at most {MOST_SEEDS}, or a list of seeds")
        return tuple(range(given))
    if isinstance(given, list | tuple) and given:
        for seed in given:
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
                raise UsageError(f"seeds={list(given)}: a seed must be an integer from 0 to 2^63 − 1, {seed!r} is not")
        return tuple(sorted(set(given)))
    raise UsageError(f"seeds={given}: must be a number of seeds ≥ 1, or a list of seeds")


def check_numbers(config: Config) -> None:
    """Check numbers with a least value, and seeds."""
    for name, value, least in (
        ("device.threads", config.device.threads, 1),
        ("evaluation.per_octave", config.evaluation.per_octave, 1),
        ("evaluation.every_epoch", config.evaluation.every_epoch, 0),
        ("evaluation.batch_size", config.evaluation.batch_size, 1),
        ("evaluation.train_examples", config.evaluation.train_examples, 1),
        ("measure.warmup_steps", config.measure.warmup_steps, 1),
        ("measure.windows", config.measure.windows, 1),
        ("measure.per_octave", config.measure.per_octave, 0),
        ("measure.examples", config.measure.examples, 1),
        ("measure.noise_examples", config.measure.noise_examples, 2),
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


def check_energy(seconds: float) -> None:
    """Check the length of the window over which energy is counted."""
    if not math.isfinite(seconds) or seconds < 0:
        raise UsageError(f"measure.energy_seconds={seconds}: must be a finite number, at least 0")


def check_measures(measure: MeasureConfig) -> list[str]:
    """Return what is measured at evaluation points: each name once, in the catalogue's order."""
    for name in measure.at_evaluations:
        # A file can have a list or a table there.
        if not isinstance(name, str) or name not in MEASURES:
            raise unknown("measure", str(name), MEASURES)
    factor = measure.rescaling
    if factor is not None and not (math.isfinite(factor) and factor > 0):
        raise UsageError(f"measure.rescaling={factor}: must be a finite number above 0, or null")
    return [name for name in MEASURES if name in measure.at_evaluations]


def check_evaluation(evaluation: EvaluationConfig, facts: TaskFacts) -> None:
    """Check that training metrics are taken on no more examples than there are."""
    wanted = evaluation.train_examples
    if wanted is not None and wanted > facts.train_examples:
        raise UsageError(
            f"evaluation.train_examples={wanted}: the training split of {facts.data} has only "
            f"{facts.train_examples} examples; null evaluates on all of them"
        )


def check_budget(
    budget: BudgetConfig, examples: int, batch_size: int, remainder: str, closure: bool = False
) -> int | None:
    """Return the steps the countable limits ask for; None where only what is used up on the way is limited.

    Gradient evaluations are countable but for optimizers that ask for them themselves (`closure`).
    """
    limits = {
        name: getattr(budget, name)
        for name in ("epochs", "steps", "examples", "seconds", "gradient_evaluations")
        if getattr(budget, name) is not None
    }
    if not limits:
        raise UsageError(
            "budget: set at least one of budget.epochs, budget.steps, budget.examples, budget.seconds, "
            "budget.gradient_evaluations"
        )
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
    if budget.gradient_evaluations is not None and not closure:
        counts.append(budget.gradient_evaluations)
    if not counts:
        return None
    steps = max(counts) if budget.until == "largest" else min(counts)
    if steps > MOST_STEPS:
        raise UsageError(f"budget: asks for {steps:.3g} steps, at most 2^53 can be counted")
    return steps


def _steps_to_see(wanted: int, examples: int, batch_size: int, per_epoch: int) -> int:
    """Return the fewest steps that see at least `wanted` examples (an epoch's last batch may be smaller)."""
    per_epoch_examples = min(examples, per_epoch * batch_size)
    whole, rest = divmod(wanted, per_epoch_examples)
    return whole * per_epoch + -(-rest // batch_size)
