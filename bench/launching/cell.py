"""Run one cell: audit, measure, train, and write down what happened, whatever happened."""

import functools
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from bench.config import Cell
from bench.devices import is_parallel
from bench.errors import BenchError, DeviceUnavailable, EngineUnavailable, Incompatible
from bench.launching.engine import CellEngine
from bench.launching.peak import peak_in_fresh_process
from bench.measure.audit import Subject, audit_data, audit_training
from bench.measure.energy import with_energy
from bench.measure.memory import measure_memory, out_of_memory
from bench.measure.parallel import same_gradient
from bench.measure.probe import Measures
from bench.measure.speed import measure_speed
from bench.optimizers.registry import (
    CLOSURE,
    GRADIENT_GRAPH,
    SPARSE,
    all_arguments,
    moves_at_zero,
    own_source,
    own_targets,
    watch_implementation,
)
from bench.optimizers.registry import build as build_configured
from bench.optimizers.schedules import learning_rate_factor
from bench.references import source_sha256
from bench.results.curves import COLUMNS, empty_curves
from bench.results.digest import cell_digest
from bench.results.environment import environment
from bench.results.private import private
from bench.results.record import (
    SCHEMA_VERSION,
    AuditCheck,
    CellStatus,
    Engine,
    Memory,
    Record,
    Speed,
    Stacking,
    TrialStatus,
    TrialSummary,
)
from bench.results.snapshots import empty_snapshots, snapshot_table
from bench.tasks.problem import Picture
from bench.tasks.registry import TaskSpec
from bench.tasks.task import Task, load_task
from bench.training.batches import batches_of
from bench.training.compiled import Compiled, CompiledGradients
from bench.training.devices import prepare
from bench.training.gradients import Gradients
from bench.training.graphs import Graphs, recording_of
from bench.training.loop import Evaluation, Plan, Trial
from bench.training.seeds import Start, named_seed
from bench.training.stepper import Method, Stepper
from bench.training.trials import Trials

if TYPE_CHECKING:
    from bench.training.parallel import DataParallel, Group

#: Steps of all trials of a cell from which on its gradients are traced: some .1 s, which gains some 50 µs a step.
WORTH_TRACING_STEPS = 2000


class Result(NamedTuple):
    """What a cell leaves behind.

    Attributes:
        record: The record.
        curves: Its curves (`bench.results.curves`).
        snapshots: The raw material of its pictures (`bench.results.snapshots`); no rows where there is none.
    """

    record: Record
    curves: pd.DataFrame
    snapshots: pd.DataFrame


class SourceChanged(BenchError):
    """Code of one's own is not what it was when the cell got its id; the cell is not trained."""


class AuditFailed(BenchError):
    """An invariant of the self-audit does not hold; the cell is not trained."""


@dataclass
class Progress:
    """What a running cell has so far; a failure anywhere leaves what is here in the record."""

    audit: list[AuditCheck] = field(default_factory=list)
    speed: Speed | None = None
    memory: Memory | None = None
    stacking: Stacking | None = None
    engine: Engine | None = None
    implementation: str | None = None
    picture: Picture | None = None
    measures: Measures | None = None
    trials: list[Trial] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to the cell's wall-clock seconds."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def run_cell(cell: Cell, stop: Callable[[], bool] = lambda: False, concurrent_workers: int = 1) -> Result:
    """Run one cell in this process.

    Args:
        cell: What to run.
        stop: Asked between pieces of training; true ends the cell as interrupted.
        concurrent_workers: Worker processes training on this machine meanwhile, for the record.

    Returns:
        The record, its curves and snapshots. A failure is a record with its status, never an exception; only
        KeyboardInterrupt and SystemExit pass.
    """
    if is_parallel(cell.config.device.name) and not cell.incompatible:
        # Imported late: what starts processes imports this module.
        from bench.launching.ranks import run_on_ranks

        return run_on_ranks(cell, stop, concurrent_workers)
    return run_here(cell, stop, concurrent_workers)


def run_here(
    cell: Cell, stop: Callable[[], bool] = lambda: False, concurrent_workers: int = 1, group: "Group | None" = None
) -> Result:
    """Run one cell in this process alone or, with a group, as its rank 0; see `run_cell`."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    progress = Progress()
    status, reason, trace = CellStatus.COMPLETE, None, None
    device = torch.device("cpu")
    try:
        if cell.incompatible:
            raise Incompatible(cell.incompatible)
        device = prepare(cell.config.device.name, cell.config.device.threads, cell.config.precision)
        _run(cell, device, progress, stop, concurrent_workers, group)
        if stop():
            status, reason = CellStatus.INTERRUPTED, "stopped before it was done"
    except (DeviceUnavailable, EngineUnavailable, Incompatible) as error:
        status, reason = CellStatus.UNAVAILABLE, str(error)
    except BenchError as error:
        status, reason = CellStatus.FAILED, str(error)
    except Exception as error:
        refused = out_of_memory(error)
        status = CellStatus.OOM if refused else CellStatus.FAILED
        reason, trace = _one_line(error), None if refused else traceback.format_exc()
    result = _record(cell, device, progress, status, reason, trace, started)
    return result if group is None else _of_group(result, device, group)


def follow_cell(cell: Cell, group: "Group") -> None:
    """Take part in a cell as another rank than 0, until rank 0 says that it has ended.

    Raises:
        Exception: Whatever goes wrong: it ends the cell.
    """
    config = cell.config
    device = prepare(config.device.name, config.device.threads, config.precision, group.rank)
    data_parallel(cell, _loaded(cell, device).task, group).follow()


def data_parallel(cell: Cell, task: Task, group: "Group") -> "DataParallel":
    """Return a cell's trials as the ranks of a group train them."""
    # Imported late, with torch.distributed: no other cell needs it.
    from bench.training.parallel import DataParallel

    return DataParallel(group, task, optimizer_builder(cell), trial_plan(cell))


def failed_record(cell: Cell, reason: str, status: CellStatus = CellStatus.FAILED, trace: str | None = None) -> Result:
    """Return the record of a cell whose process could not write one."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return _record(cell, torch.device("cpu"), Progress(), status, reason, trace, started)


def _of_group(result: Result, device: torch.device, group: "Group") -> Result:
    """Return what a group leaves behind: its number of devices counts among what changes bits."""
    several = {"device": f"{group.size} × {device.type}"}
    return result._replace(record=replace(result.record, environment=result.record.environment | several))


def _run(
    cell: Cell,
    device: torch.device,
    progress: Progress,
    stop: Callable[[], bool],
    concurrent_workers: int,
    group: "Group | None",
) -> None:
    config = cell.config
    _check_task_source(cell)
    _check_optimizer_source(cell)
    with progress.timed("data"):
        loaded = _loaded(cell, device)
    task, build, plan = loaded.task, optimizer_builder(cell), trial_plan(cell)
    parallel = data_parallel(cell, task, group) if group is not None else None
    progress.picture = task.picture
    with progress.timed("audit"):
        progress.audit = [*loaded.audit, *audit_training(_subject(cell, task))]
        if parallel is not None:
            progress.audit.append(same_gradient(parallel, _starts(cell)[0], cell.batch_size))
        failed = [check for check in progress.audit if not check.passed]
        if failed:
            raise AuditFailed("audit: " + "; ".join(f"{c.check}: {c.value}, not {c.expected}" for c in failed))
    progress.implementation = _watch(task, build, cell)
    if config.measure.memory:
        with progress.timed("memory"):
            progress.memory = _memory(cell, _fresh(task, build, cell, parallel=parallel))
    compiled = CompiledGradients(task, loaded.compiled) if config.training.compile == "on" else None
    activations = progress.memory.activation_bytes if progress.memory else 0
    gradients = loaded.gradients if _worth_tracing(cell) else None
    measures = progress.measures = cell_measures(cell, task)
    trials = Trials(
        task, build, plan, _starts(cell), activations, gradients, compiled, probe=measures, parallel=parallel
    )
    engine = CellEngine(config.training.cuda_graph, recording_of(device) if group is None else None, compiled, group)
    with progress.timed("stacking"):
        trials = engine.fitted(trials, None)
    if config.measure.speed:
        with progress.timed("speed"):
            measure = config.measure
            fresh = _fresh(task, build, cell, compiled or loaded.gradients, trials.graphs, parallel)
            speed = measure_speed(
                fresh, measure.warmup_steps, measure.windows, measure.window_seconds, concurrent_workers
            )
            # The same trial, which is warm now.
            progress.speed = with_energy(speed, fresh, measure.energy_seconds if parallel is None else 0.0)
            if parallel is not None and measure.energy_seconds:
                progress.speed = replace(speed, energy_reason="the counters of several devices are not read")
    with progress.timed("stacking"):
        choice = trials.choose(config.training.stack)
        progress.stacking = Stacking(choice.path, choice.most, choice.exact, choice.reason)
        trials = engine.fitted(trials, choice)
    with progress.timed("training"):
        # One seed is enough for a picture.
        for trial in trials.train(choice, cell.seeds[0], stop):
            progress.trials.append(trial)
        if measures is not None:
            measures.compare(progress.trials)
    progress.engine = engine.record()
    if parallel is not None:
        parallel.end()
    # Each trial builds its optimizer from the file as it is then; the task was loaded once.
    _check_optimizer_source(cell)


def _memory(cell: Cell, stepper: Stepper) -> Memory:
    found = measure_memory(stepper)
    if cell.config.measure.memory_process != "fresh":
        return found
    peak = peak_in_fresh_process(cell)
    return replace(found, peak_process_mib=peak.peak_mib, base_process_mib=peak.base_mib, process_reason=peak.reason)


def _check_task_source(cell: Cell) -> None:
    module = cell.spec.module
    if module and source_sha256(module, "task.module", "function") != cell.spec.source_sha256:
        raise SourceChanged(f"task.module={module}: the file has changed since the sweep was checked")


def _check_optimizer_source(cell: Cell) -> None:
    optimizer = cell.config.optimizer
    if own_source(optimizer) != optimizer.source_sha256:
        named = " or ".join(f"{key}={target}" for key, target in own_targets(optimizer).items())
        raise SourceChanged(f"{named}: the file has changed since the sweep was checked")


def optimizer_builder(cell: Cell) -> Callable[[list[Tensor], float], torch.optim.Optimizer]:
    """Return the function that builds the cell's optimizer over parameters with a learning rate."""
    return lambda parameters, lr: build_configured(cell.optimizer, parameters, lr)


def trial_plan(cell: Cell) -> Plan:
    """Return what each trial of the cell is to do."""
    config = cell.config
    return Plan(
        batch_size=cell.batch_size,
        steps=cell.steps,
        seconds=config.budget.seconds,
        gradient_evaluations=config.budget.gradient_evaluations,
        until_largest=config.budget.until == "largest",
        remainder=config.training.remainder,
        reshuffle=config.training.reshuffle,
        per_epoch=cell.steps_per_epoch,
        per_octave=config.evaluation.per_octave,
        every_epoch=config.evaluation.every_epoch,
        evaluation_batch_size=config.evaluation.batch_size,
        divergence_factor=config.training.divergence_factor,
        target_metric=cell.target_metric,
        target=cell.target,
        method=Method(
            closure=CLOSURE in cell.requires,
            gradient_graph=GRADIENT_GRAPH in cell.requires,
            clip_norm=config.training.clip_norm,
            micro_batch=config.training.micro_batch,
            average=config.training.average,
            factor=learning_rate_factor(config.schedule, cell.steps, cell.phases),
            phases=cell.phases,
        ),
    )


def cell_measures(cell: Cell, task: Task) -> Measures | None:
    """Return what is measured at the evaluation points of a cell's trials; None where nothing is."""
    measure = cell.config.measure
    if not measure.at_evaluations:
        return None
    return Measures(
        task,
        measure.at_evaluations,
        cell.batch_size,
        measure.per_octave,
        measure.mode,
        measure.examples,
        measure.noise_examples,
        measure.rescaling,
        cell.config.evaluation.batch_size,
        cell.config.seed.data,
    )


def audit_cell(cell: Cell) -> list[AuditCheck]:
    """Run the self-audit of one cell, without measuring or training it.

    Raises:
        DeviceUnavailable: Its device is not here.
    """
    device = prepare(cell.config.device.name, cell.config.device.threads, cell.config.precision)
    loaded = _loaded(cell, device)
    return [*loaded.audit, *audit_training(_subject(cell, loaded.task))]


@dataclass(frozen=True)
class Loaded:
    """A task as a worker keeps it, with the audit of its data and what was traced and compiled of its gradients."""

    task: Task
    audit: list[AuditCheck]
    gradients: Gradients
    compiled: dict[tuple[Any, ...], Compiled] = field(default_factory=dict)


@functools.lru_cache(maxsize=2)
def _load(
    spec: TaskSpec,
    root: str,
    download: bool,
    device: str,
    precision: str,
    train_examples: int | None,
    seed: int,
    sparse: bool,
    declared_sizes: tuple[int, int, int],
) -> Loaded:
    loaded = load_task(spec, root, download, torch.device(device), precision, train_examples, seed, sparse)
    return Loaded(loaded, audit_data(loaded, declared_sizes), Gradients(loaded))


def _loaded(cell: Cell, device: torch.device) -> Loaded:
    """Return the cell's task, loaded once per worker and kept for the cells that share it."""
    config, facts = cell.config, cell.facts
    return _load(
        cell.spec,
        config.data.root,
        config.data.download,
        str(device),
        config.precision,
        config.evaluation.train_examples,
        config.seed.data,
        SPARSE in cell.requires,
        (facts.train_examples, facts.val_examples, facts.test_examples),
    )


def load_cell_task(cell: Cell, device: torch.device) -> Task:
    """Return the cell's task on a device, as it is trained."""
    return _loaded(cell, device).task


def fresh_trial(cell: Cell, device: torch.device, traced: bool = True) -> Stepper:
    """Return a fresh single trial of a cell to measure on; see `bench.training.stepper`.

    Args:
        cell: The cell.
        device: Its device, prepared.
        traced: Whether its gradients are traced and played back, as those of a long training are.
    """
    loaded = _loaded(cell, device)
    return _fresh(loaded.task, optimizer_builder(cell), cell, loaded.gradients if traced else None)


def _subject(cell: Cell, task: Task) -> Subject:
    moves = moves_at_zero(cell.optimizer.target, all_arguments(cell.optimizer))
    return Subject(task, optimizer_builder(cell), trial_plan(cell), cell.lrs[len(cell.lrs) // 2], moves)


def _named_seeds(cell: Cell, seed: int) -> tuple[int, int, int]:
    """Return the init, order and noise seeds of a trial; a number in the configuration fixes one for all trials."""
    fixed = cell.config.seed
    init, order, noise = (seed if given is None else given for given in (fixed.init, fixed.order, fixed.noise))
    return named_seed("init", init), named_seed("order", order), named_seed("noise", noise)


def _starts(cell: Cell) -> list[Start]:
    return [Start(lr, seed, *_named_seeds(cell, seed)) for lr in cell.lrs for seed in cell.seeds]


def _worth_tracing(cell: Cell) -> bool:
    """Tell whether a cell takes so many steps that what tracing gains is more than it costs."""
    return cell.steps is None or cell.steps * len(cell.lrs) * len(cell.seeds) >= WORTH_TRACING_STEPS


def _fresh(
    task: Task,
    build: Callable[[list[Tensor], float], torch.optim.Optimizer],
    cell: Cell,
    gradients: Gradients | None = None,
    graphs: Graphs | None = None,
    parallel: "DataParallel | None" = None,
) -> Stepper:
    """Return a fresh single trial to measure on.

    Its learning rate is the smallest of the grid, so that it stays finite however many steps are taken.
    """
    if parallel is not None:
        return parallel.begin(_starts(cell)[0], cell.batch_size, measured=True)
    init_seed, order_seed, noise_seed = _named_seeds(cell, cell.seeds[0])
    parameters = task.initialise(init_seed)
    training = cell.config.training
    batches = batches_of(task, cell.batch_size, training.remainder, training.reshuffle, order_seed, noise_seed)
    # What is measured is a step at the batch size of the cell, so no schedule moves it.
    method = replace(trial_plan(cell).method, factor=None, phases=None)
    return Stepper(task, parameters, build(parameters, cell.lrs[0]), batches, method, gradients, graphs)


def _watch(task: Task, build: Callable[[list[Tensor], float], torch.optim.Optimizer], cell: Cell) -> str:
    if CLOSURE in cell.requires:
        return "closure"
    stepper = _fresh(task, build, replace(cell, batch_size=1))
    stepper.run(1, lambda: False)
    return watch_implementation(stepper.optimizer)


def _record(
    cell: Cell,
    device: torch.device,
    progress: Progress,
    status: CellStatus,
    reason: str | None,
    trace: str | None,
    started: str,
) -> Result:
    order = {seed: number for number, seed in enumerate(cell.seeds)}
    progress.trials.sort(key=lambda trial: (order[trial.seed], cell.lrs.index(trial.lr)))
    trials = [_summary(trial, cell) for trial in progress.trials]
    curves = curve_table(progress.trials)
    measures, seconds = progress.measures, progress.seconds
    if measures is not None and "training" in seconds:
        seconds = seconds | {"measures": measures.seconds, "training": seconds["training"] - measures.seconds}
    record = Record(
        schema=SCHEMA_VERSION,
        cell=cell.id,
        sweep=cell.config.sweep,
        status=status,
        reason=reason,
        traceback=trace,
        config=cell.plain(),
        axes=cell.axes,
        environment=environment(device, cell.config.device.threads)
        | {"train_examples": cell.facts.train_examples, "test_examples": cell.facts.test_examples},
        implementation=progress.implementation,
        audit=progress.audit,
        trials=trials,
        speed=progress.speed,
        memory=progress.memory,
        digest=cell_digest(trials, curves) if status == CellStatus.COMPLETE else None,
        repeatable=cell.config.budget.seconds is None,
        started=started,
        command=cell.command,
        seconds={part: round(value, 6) for part, value in seconds.items()},
        stacking=progress.stacking,
        measures=measures.measured() if measures else [],
        engine=progress.engine,
    )
    return Result(record, curves, _snapshots(progress))


def _snapshots(progress: Progress) -> pd.DataFrame:
    picture = progress.picture
    if picture is None:
        return empty_snapshots()
    trials = [
        (trial.lr, trial.seed, step, picture.kind, values)
        for trial in progress.trials
        for step, values in trial.snapshots
    ]
    return snapshot_table({"extent": picture.extent, **picture.cell}, trials)


def curve_table(trials: list[Trial]) -> pd.DataFrame:
    """Return the curves of trials: columns `bench.results.curves.COLUMNS`, one row per point, split and metric."""
    rows = [
        (t.lr, t.seed, e.step, e.epoch, e.examples, e.train_seconds, *name.split("_", 1), value)
        for t in trials
        for e in t.evaluations
        for name, value in e.metrics.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)) if rows else empty_curves()


def _summary(trial: Trial, cell: Cell) -> TrialSummary:
    plan = trial_plan(cell)
    last, best = trial.evaluations[-1], _best_validation(trial.evaluations, plan)
    hit = next((e for e in trial.evaluations if plan.past_target(e.metrics[plan.target_metric])), None)
    return TrialSummary(
        lr=trial.lr,
        seed=trial.seed,
        status=TrialStatus(trial.status),
        reason=trial.reason,
        steps=last.step,
        epochs=last.epoch,
        examples=last.examples,
        train_seconds=last.train_seconds,
        evaluations=len(trial.evaluations),
        final=dict(last.metrics),
        at_best_validation=dict(best.metrics),
        steps_to_target=hit.step if hit else None,
        examples_to_target=hit.examples if hit else None,
        seconds_to_target=hit.train_seconds if hit else None,
        parameters_sha256=trial.parameters_sha256,
        gradient_evaluations=trial.gradient_evaluations,
        gradient_evaluations_to_target=hit.gradient_evaluations if hit else None,
    )


def _best_validation(evaluations: list[Evaluation], plan: Plan) -> Evaluation:
    """Return the evaluation with the best target metric, the earliest of several; not finite is worst."""
    sign = 1.0 if plan.higher_is_better else -1.0

    def rank(evaluation: Evaluation) -> tuple[float, int]:
        value = evaluation.metrics[plan.target_metric]
        return sign * value if math.isfinite(value) else -math.inf, -evaluation.step

    return max(evaluations, key=rank)


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return private(f"{type(error).__name__}: {text[0]}" if text else type(error).__name__)
