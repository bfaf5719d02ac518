"""The record: what a cell leaves on disk, and the only source of truth about it.

A record is two files in a folder named by the cell id: `record.json` (this module) and `curves.parquet`
(`bench.results.curves`); where pictures can be drawn, `snapshots.parquet` (`bench.results.snapshots`) is a third.
docs/records.md documents every field.
"""

import dataclasses
import functools
import json
import math
import re
import types
import typing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bench.errors import BenchError
from bench.results.private import private

SCHEMA_VERSION = 1


class CellStatus(StrEnum):
    """How a cell ended. Every one of them appears in a report."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    OOM = "oom"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


#: Statuses that are results: such a cell is not run again.
FINISHED = (CellStatus.COMPLETE, CellStatus.OOM)

#: Parts of the environment that change bits: where they are equal, equal configurations have equal digests.
SAME_BITS = ("device", "hardware", "threads", "cpu_capability", "packages")


class TrialStatus(StrEnum):
    """How a trial ended. A diverged trial is data, not an error."""

    COMPLETE = "complete"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"


class RecordError(BenchError):
    """A record that cannot be read: truncated, of a newer schema, or with a field of the wrong kind."""

    exit_code = 2


@dataclass(frozen=True)
class Interval:
    """A median with a distribution-free interval over independent windows.

    Attributes:
        median: Median of the samples, in the unit of the field that holds this.
        lo: Lower end of the interval.
        hi: Upper end of the interval.
        n: Number of samples.
        confidence: Exact coverage of the interval, 0 … 1 (order statistics: not always .95).
    """

    median: float
    lo: float
    hi: float
    n: int
    confidence: float


@dataclass(frozen=True)
class Axes:
    """Where the cell stands in the grid.

    Attributes:
        task: Task name, such as "mnist5k/mlp".
        model: Model name, such as "mlp".
        optimizer: Optimizer name, such as "adam".
        batch_size: Examples per step; for `batch_size=full` the size of the training split.
        full_batch: Whether the batch is the whole training split.
        device: "cpu", "cuda", "cuda:N", "mps" or, data parallel, "cpu:N", "cuda:all", "cuda:0-N".
        precision: "float32", "float64", "tf32" or "bfloat16".
        knobs: The task's knobs that are turned, such as "label_noise=0.4"; empty where none is.
        method: What of the training departs from the plain step, such as "schedule=cosine clip_norm=1.0"; empty for
            nothing.
    """

    task: str
    model: str
    optimizer: str
    batch_size: int
    full_batch: bool
    device: str
    precision: str
    knobs: str = ""
    method: str = ""


@dataclass(frozen=True)
class AuditCheck:
    """One invariant of the self-audit.

    Attributes:
        check: Short name of the invariant, such as "untrained loss".
        passed: Whether it held.
        value: What was measured, in words or numbers.
        expected: What it was held against.
    """

    check: str
    passed: bool
    value: str
    expected: str


@dataclass(frozen=True)
class TrialSummary:
    """One training run inside a cell.

    Attributes:
        lr: Learning rate.
        seed: Trial seed; the named seeds are derived from it.
        status: How the trial ended.
        reason: Why it ended early, in one line; None for a complete trial.
        steps: Optimizer steps taken.
        epochs: Passes over the training split, fractional.
        examples: Examples seen, counting repeats.
        train_seconds: Seconds inside the training clock (no evaluation, no logging).
        evaluations: Number of evaluation points.
        final: Metric → value at the last evaluation, such as {"test_accuracy": 0.93}; None where not finite.
        at_best_validation: The same at the evaluation with the best validation metric.
        steps_to_target: Steps at the first evaluation strictly past the target; None if never.
        examples_to_target: Examples at that point.
        seconds_to_target: Training seconds at that point.
        parameters_sha256: Hash of the bytes of what was last evaluated: parameters (their averages, where those are
            kept) and buffers.
        gradient_evaluations: How often the gradient of a batch was computed: once a step for most optimizers; None in
            records of versions before 0.2.
        gradient_evaluations_to_target: The same at the first evaluation strictly past the target; None if never.
    """

    lr: float
    seed: int
    status: TrialStatus
    reason: str | None
    steps: int
    epochs: float
    examples: int
    train_seconds: float
    evaluations: int
    final: dict[str, float | None]
    at_best_validation: dict[str, float | None]
    steps_to_target: int | None
    examples_to_target: int | None
    seconds_to_target: float | None
    parameters_sha256: str
    gradient_evaluations: int | None = None
    gradient_evaluations_to_target: int | None = None


@dataclass(frozen=True)
class Speed:
    """Speed of one training step of a single trial, measured apart from convergence.

    Attributes:
        examples_per_second: Throughput of whole training steps (data, forward, backward, update), of all devices
            together.
        step_ms: Milliseconds of one whole training step.
        optimizer_step_ms: Milliseconds of `optimizer.step()` alone, on fixed gradients; None where the optimizer calls
            for the loss itself, so that there is no such part.
        warmup_steps: Steps taken before the first clock.
        steps_per_window: Training steps in each window.
        concurrent_workers: Worker processes that were training on this machine meanwhile, this one included.
        first_step_ms: Milliseconds of the very first step, which builds what is built lazily; not in any other number.
        data_ms: Milliseconds of getting a batch.
        forward_ms: Milliseconds of the loss of a batch.
        backward_ms: Milliseconds of its gradient, beyond the loss.
        control_ms: Milliseconds of work that is the same in every cell, measured in between.
        drift: Fraction by which the control was slower in the later half of the windows than in the earlier; None of
            fewer than four windows. The six from `first_step_ms` on are None in records before 0.2, parts of a step
            also where the optimizer calls for the loss itself.
        energy_mj_per_step: Millijoules that the whole device took per training step, its idle power included; None
            where nothing counts energy, and in records before 0.2.
        energy_mj_per_example: The same per example, which is joules per 1000 examples.
        energy_reason: Why it is unavailable, in one line; None where it is not, where it was not asked for, and in
            records before 0.2.
    """

    examples_per_second: Interval
    step_ms: Interval
    optimizer_step_ms: Interval | None
    warmup_steps: int
    steps_per_window: int
    concurrent_workers: int
    first_step_ms: float | None = None
    data_ms: Interval | None = None
    forward_ms: Interval | None = None
    backward_ms: Interval | None = None
    control_ms: Interval | None = None
    drift: float | None = None
    energy_mj_per_step: float | None = None
    energy_mj_per_example: float | None = None
    energy_reason: str | None = None


@dataclass(frozen=True)
class Memory:
    """Memory of one training step of a single trial; data parallel, of the rank with the largest share of a batch.

    Attributes:
        peak_allocated_mib: CUDA: peak of allocated device memory, MiB; None elsewhere.
        peak_reserved_mib: CUDA: peak of memory the allocator reserved, MiB; None elsewhere.
        peak_rss_mib: Peak resident memory of the process while stepping, MiB; None where the kernel tells none.
        base_rss_mib: Resident memory of the process just before, MiB (interpreter, libraries, data).
        activation_bytes: Bytes autograd keeps for backward: unique storages saved, minus parameters.
        parameter_bytes: Bytes of the parameters.
        gradient_bytes: Bytes of the gradients.
        state_bytes: Bytes of the optimizer's state tensors after a step.
        peak_process_mib: Peak resident memory of a process that did nothing but this cell's first steps, MiB; None
            where it was not asked for or not found, and in records before 0.2.
        base_process_mib: Resident memory of that process just before, MiB; likewise.
        process_reason: Why it was not found, in one line; None where it was, or was not asked for.
    """

    peak_allocated_mib: float | None
    peak_reserved_mib: float | None
    peak_rss_mib: float | None
    base_rss_mib: float | None
    activation_bytes: int
    parameter_bytes: int
    gradient_bytes: int
    state_bytes: int
    peak_process_mib: float | None = None
    base_process_mib: float | None = None
    process_reason: str | None = None


@dataclass(frozen=True)
class Stacking:
    """How the trials of a cell were trained.

    Attributes:
        path: "native" (stacked, by layers of the model's own), "vmap" (stacked, by torch.func), "one by one", or
            "data parallel" (one by one, each by a process for each device).
        trials: Trials of the largest stack; 1 where they were trained one by one.
        exact: Whether a rehearsal found every bit of a trial to be what it is alone. Where false, trials of other
            learning rates and seeds in the cell changed the rounding of this one.
        reason: Why they were not stacked; None where they were.
    """

    path: str
    trials: int
    exact: bool
    reason: str | None


@dataclass(frozen=True)
class Measured:
    """What was measured at evaluation points, under one name of `bench list measures`.

    Attributes:
        name: The measure; "rescaling" for those of rescaled parameters, all together.
        mode: Whether the model was taken as trained ("train": batch normalisation by the batch's own statistics) or as
            evaluated ("eval"); None where it was not run, or as metrics are.
        examples: Training examples, or draws of them, that each value rests on; None where there are none.
        points: How often it was taken, all trials together.
        seconds: Wall-clock seconds that took.
        reason: Why it was left out, in one line; None where it was not.
    """

    name: str
    mode: str | None
    examples: int | None
    points: int
    seconds: float
    reason: str | None


@dataclass(frozen=True)
class Engine:
    """What steps ran on, beyond kernels one by one.

    Attributes:
        compiled: Whether every gradient of training was compiled.
        cuda_graph: Whether whole steps were recorded as CUDA graphs and replayed.
        compile_seconds: Seconds that compiling took, for all shapes of batch that were trained or measured; they count
            here too where the worker process had compiled them for an earlier cell. In no other time but the parts
            "speed" and "training" of the cell's wall-clock seconds.
        capture_seconds: Seconds that warming up and recording took, of all trials and of what was measured; likewise.
        reason: Why what was asked for did not run; None where it did, or nothing was asked for.
        devices: Devices that took each step together, each its share of the batch.
        backend: What averaged their gradients, "gloo" or "nccl"; None where each trial was one process's.
    """

    compiled: bool
    cuda_graph: bool
    compile_seconds: float
    capture_seconds: float
    reason: str | None
    devices: int = 1
    backend: str | None = None


@dataclass(frozen=True)
class Record:
    """Everything a cell leaves behind, but for its curves.

    Attributes:
        schema: Version of this layout.
        cell: Cell id, 16 hexadecimal digits.
        sweep: Name of the sweep.
        status: How the cell ended.
        reason: Why it is not complete, in one line; None for a complete cell.
        traceback: Python traceback of a failed cell; None otherwise.
        config: The resolved configuration of the cell.
        axes: Where the cell stands in the grid.
        environment: Versions, hardware, threads, flags (`bench.results.environment`).
        implementation: What the optimizer ran as: "forloop", "foreach" or "fused", or "closure" where it calls for the
            loss itself; None if it never ran.
        audit: The self-audit's checks.
        trials: One summary per learning rate and seed.
        speed: Speed measurement; None if switched off or the cell did not get there.
        memory: Memory measurement; likewise.
        digest: SHA-256 of everything that must repeat bit for bit; None if the cell is not complete.
        repeatable: False where a wall-clock budget decides how many steps are taken.
        started: UTC time of the start, ISO 8601.
        command: The command line that launched the sweep; empty where there was none.
        seconds: Wall-clock seconds the cell took, by part ("data", "audit", "memory", "speed", "stacking",
            "training"; "measures" at evaluation points, where there are any, are not in "training").
        stacking: How the trials were trained; None if the cell did not get there, and in records before 0.2.
        measures: What was measured at evaluation points; its values stand in the curves.
        engine: What their steps ran on; likewise.
    """

    schema: int
    cell: str
    sweep: str
    status: CellStatus
    reason: str | None
    traceback: str | None
    config: dict[str, Any]
    axes: Axes
    environment: dict[str, Any]
    implementation: str | None
    audit: list[AuditCheck] = field(default_factory=list)
    trials: list[TrialSummary] = field(default_factory=list)
    speed: Speed | None = None
    memory: Memory | None = None
    digest: str | None = None
    repeatable: bool = True
    started: str = ""
    command: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    stacking: Stacking | None = None
    measures: list[Measured] = field(default_factory=list)
    engine: Engine | None = None

    def to_json(self) -> str:
        """Serialise with sorted keys; numbers that are not finite become null, and secrets are hidden (`private`)."""
        return json.dumps(_written(dataclasses.asdict(self)), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Parse and check a record.

        Raises:
            RecordError: The text is no JSON, is of a newer schema, or misses or mistypes a field.
        """
        try:
            raw = json.loads(text, parse_float=_real, parse_int=_whole, parse_constant=_not_finite)
        except RecursionError:
            raise RecordError("not a record: nested too deeply") from None
        except ValueError as error:
            raise RecordError(f"not valid JSON, perhaps truncated ({error})") from None
        if not isinstance(raw, dict) or not isinstance(raw.get("schema"), int):
            raise RecordError("not a record: no integer field 'schema'")
        if raw["schema"] > SCHEMA_VERSION:
            raise RecordError(
                f"record schema {raw['schema']} is newer than this version reads ({SCHEMA_VERSION}); "
                "update batch-size-bench to read it"
            )
        if _SURROGATE.search(text):
            _check_unicode(raw)
        record = typing.cast("Record", _parse(cls, raw, "record"))
        _check(record)
        return record


#: An escape by which JSON can hold halves of characters, which no file can.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
#: So deep are objects and lists in a configuration or an environment at most.
_DEEPEST = 16


def _real(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)


def _whole(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise RecordError(f"the number {text[:40]} is too large")
    return number


def _not_finite(text: str) -> float:
    raise RecordError(f"the number {text[:40]} is not finite")


def _check_unicode(raw: Any) -> None:
    try:
        json.dumps(raw, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RecordError("holds text with half a character") from None


def _check(record: "Record") -> None:
    """Check what types do not say, of values that others reckon with."""
    axes = record.axes
    _check_plain(record.config, "record.config", 1)
    _check_plain(record.environment, "record.environment", 1)
    for where, value, least in (
        ("axes.batch_size", axes.batch_size, 1),
        *((f"trials[{number}].seed", trial.seed, 0) for number, trial in enumerate(record.trials)),
        *((f"trials[{number}].steps", trial.steps, 0) for number, trial in enumerate(record.trials)),
    ):
        if value < least:
            raise RecordError(f"field record.{where} is {value}, must be at least {least}")
    for number, trial in enumerate(record.trials):
        if trial.lr <= 0:
            raise RecordError(f"field record.trials[{number}].lr is {trial.lr}, must be above 0")
    for name, kind in _READ.items():
        part, _, field_name = name.partition(".")
        held = record.environment if part == "environment" else record.config.get("task", {})
        if not isinstance(held, dict):
            raise RecordError(f"field record.config.task should be an object, is {type(held).__name__}")
        _parse(kind | None, held.get(field_name), f"record.{name if part == 'environment' else f'config.{name}'}")


#: What is read of an environment and a configuration, and its types.
_READ: dict[str, Any] = {
    "environment.threads": int,
    "environment.hardware": str,
    "environment.train_examples": int,
    "environment.test_examples": int,
    "task.target_metric": str,
    "task.target": float,
}


def _check_plain(value: Any, where: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise RecordError(f"field {where[:80]} is nested too deeply")
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(item, dict | list):
            _check_plain(item, f"{where}.{key}", depth + 1)


def _written(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    return private(value) if type(value) is str else value


def _parse(kind: Any, value: Any, where: str) -> Any:
    """Read `value` as the annotated type `kind`, naming the field that does not fit."""
    # Most fields are scalars of the very type: a store of thousands of cells has millions of them.
    if kind is Any or type(value) is kind:
        return value
    origin, arguments = _shape(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (kind,) = [argument for argument in arguments if argument is not type(None)]
        return _parse(kind, value, where)
    if origin is list:
        if not isinstance(value, list):
            raise RecordError(f"field {where} should be a list, is {type(value).__name__}")
        (item,) = arguments
        return [_parse(item, element, f"{where}[{index}]") for index, element in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise RecordError(f"field {where} should be an object, is {type(value).__name__}")
        _, item = arguments
        return {str(key): _parse(item, element, f"{where}.{key}") for key, element in value.items()}
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise RecordError(f"field {where} should be an object, is {type(value).__name__}")
        made: Any = kind
        hints, required = _layout(made)
        missing = required - value.keys()
        if missing:
            raise RecordError(f"field {where} misses {', '.join(sorted(missing))}")
        return made(
            **{name: _parse(hint, value[name], f"{where}.{name}") for name, hint in hints.items() if name in value}
        )
    return _parse_scalar(kind, value, where)


@functools.cache
def _shape(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(kind), typing.get_args(kind)


@functools.cache
def _layout(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the annotated types of a dataclass's fields, and which of them have no default."""
    fields, hints = dataclasses.fields(kind), typing.get_type_hints(kind)
    required = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    return {f.name: hints[f.name] for f in fields}, frozenset(required)


def _parse_scalar(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if value not in [str(member) for member in kind]:
            raise RecordError(f"field {where} is {value!r}, not one of {', '.join(kind)}")
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RecordError(f"field {where} should be {kind.__name__}, is {type(value).__name__}")
    return value
