"""The schema of one cell's configuration: every key, its type, unit and range.

Hydra composes a `Config` from `conf/` and the command line; `bench.config.resolve` checks every value of it.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from bench.tracking.config import TrackerConfig


@dataclass
class TaskConfig:
    """What is trained.

    Attributes:
        name: Name in reports, "data/model".
        data: Data set, one of `bench list tasks`.
        model: Model, likewise.
        target_metric: Metric that time-to-target waits for: "val_accuracy" or "val_loss".
        target: Value to get strictly past (above for an accuracy, below for a loss).
    """

    name: str = MISSING
    data: str = MISSING
    model: str = MISSING
    target_metric: str = "val_accuracy"
    target: float = 0.9


@dataclass
class OptimizerConfig:
    """How it is trained.

    Attributes:
        name: Name in reports.
        target: Class in `torch.optim`, such as "SGD".
        implementation: "default" (what torch picks), "forloop", "foreach" or "fused". The one that ran is recorded.
        arguments: Keyword arguments of the class beyond the learning rate, such as {"momentum": 0.9}.
        lr_log2: First and last exponent of the octave learning-rate grid used when `lr` is null: 2^a, 2^(a+1) … 2^b.
    """

    name: str = MISSING
    target: str = MISSING
    implementation: str = "default"
    arguments: dict[str, Any] = field(default_factory=dict)
    lr_log2: list[int] = MISSING


@dataclass
class ScheduleConfig:
    """How the learning rate moves during a trial.

    Attributes:
        name: "constant".
    """

    name: str = "constant"


@dataclass
class BudgetConfig:
    """When a trial ends. Of the limits that are set, the largest or the smallest counts.

    Attributes:
        epochs: Passes over the training split, > 0; null for no such limit.
        steps: Optimizer steps, ≥ 1; null for no such limit.
        examples: Examples seen, counting repeats, ≥ 1; null for no such limit.
        seconds: Seconds on the training clock, > 0; null for no such limit. Makes the cell's digest unrepeatable.
        until: "largest" (go on until every limit is reached) or "smallest" (end at the first).
    """

    epochs: float | None = None
    steps: int | None = None
    examples: int | None = None
    seconds: float | None = None
    until: str = "largest"


@dataclass
class DeviceConfig:
    """Where it is trained.

    Attributes:
        name: "cpu", "cuda" (the current CUDA device), "cuda:N" or "mps".
        threads: Threads of one worker's CPU operations, ≥ 1. More than one changes the bits.
    """

    name: str = "cpu"
    threads: int = 1


@dataclass
class SeedConfig:
    """Named seeds. Null derives the seed from the trial's; a number fixes it for all trials.

    Attributes:
        data: Seed of the train/validation split; the same for all trials, so never null.
        init: Seed of the initial parameters.
        order: Seed of the batch order.
        noise: Seed of noise during training (dropout, label noise).
    """

    data: int = 0
    init: int | None = None
    order: int | None = None
    noise: int | None = None


@dataclass
class DataConfig:
    """Where data files are.

    Attributes:
        root: Folder with the IDX files (plain or .gz), in itself, in mnist/ or in MNIST/raw/; downloads go there.
        download: Whether to download what is not there.
    """

    root: str = "data"
    download: bool = True


@dataclass
class TrainingConfig:
    """The training loop.

    Attributes:
        remainder: What becomes of an epoch's last, smaller batch: "keep" or "drop".
        reshuffle: Whether each epoch draws a new order; false replays the first.
        divergence_factor: A trial is diverged once its training loss is not finite or above this multiple of the
            untrained loss.
    """

    remainder: str = "keep"
    reshuffle: bool = True
    divergence_factor: float = 100.0


@dataclass
class EvaluationConfig:
    """When and on what metrics are taken. Evaluation is outside the training clock.

    Attributes:
        per_octave: Evaluation points per doubling of the step count, ≥ 1.
        every_epoch: How many of the first epoch ends are evaluation points too; later ones are left to per_octave.
        batch_size: Examples per evaluation batch; changes no result beyond rounding.
        train_examples: Evaluate the training metrics on this many examples, drawn once by the data seed; null for all.
    """

    per_octave: int = 4
    every_epoch: int = 50
    batch_size: int = 1000
    train_examples: int | None = None


@dataclass
class MeasureConfig:
    """Speed and memory of one training step, measured apart from convergence.

    Attributes:
        speed: Whether to measure throughput and step times.
        memory: Whether to measure peak memory, activation bytes and state bytes.
        warmup_steps: Steps before the first clock, ≥ 1.
        windows: Independent windows, ≥ 1; the interval needs at least 6 for 95 %.
        window_seconds: Aimed-at length of a window, seconds; never less than 3 steps.
    """

    speed: bool = True
    memory: bool = True
    warmup_steps: int = 20
    windows: int = 9
    window_seconds: float = 0.05


@dataclass
class Config:
    """One cell, as composed.

    Attributes:
        sweep: Name of the sweep; its records go to results_root/sweep.
        results_root: Folder of all sweeps.
        task: What is trained.
        optimizer: How.
        schedule: How the learning rate moves.
        budget: When a trial ends.
        device: Where.
        tracker: The mirror.
        batch_size: Examples per step, an int ≥ 1 or "full" for the whole training split.
        precision: "float32", "float64", "tf32" (CUDA matrix products) or "bfloat16" (autocast).
        lr: Learning rate, a list of them, or null for the optimizer's octave grid.
        seeds: Number of trial seeds (0 … n−1) or a list of them.
        seed: Named seeds.
        data: Where data files are.
        training: The training loop.
        evaluation: Evaluation points.
        measure: Speed and memory measurement.
    """

    sweep: str = "default"
    results_root: str = "results"
    task: TaskConfig = field(default_factory=TaskConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    batch_size: Any = 64
    precision: str = "float32"
    lr: Any = None
    seeds: Any = 3
    seed: SeedConfig = field(default_factory=SeedConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
