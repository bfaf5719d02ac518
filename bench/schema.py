"""The schema of one cell's configuration: every key, its type, unit and range.

Hydra composes a `Config` from `conf/` and the command line; `bench.config.resolve` checks every value of it.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from bench.tracking.config import TrackerConfig

#: Marks a field that came after cells had ids: it counts in a cell's id only where it is not at its default, so that
#: what was trained before keeps its id.
LATER: dict[Any, Any] = {"later": True}


@dataclass
class TaskConfig:
    """What is trained.

    Attributes:
        name: Name in reports, "data/model" or the problem's own.
        data: Image data set or problem, one of `bench list tasks`.
        model: Network of an image task; null elsewhere.
        module: A task of your own, "path.py:function" or "module:function" (docs/your-own-task.md); data, model, knobs
            and target are then the function's.
        target_metric: Metric that time-to-target waits for, "val_accuracy" or "val_loss"; null for the task's own.
        target: Value to get strictly past (above for an accuracy, below for a loss); null for the task's own.
        knobs: What can be turned at this family of tasks; names, ranges and units are in the task's file and in
            `bench list tasks`.
        source_sha256: Hash of a task of your own, set by the suite: other code is another cell.
    """

    name: str = MISSING
    data: str | None = None
    model: str | None = None
    module: str | None = field(default=None, metadata=LATER)
    target_metric: str | None = None
    target: float | None = None
    knobs: dict[str, Any] = field(default_factory=dict, metadata=LATER)
    source_sha256: str | None = field(default=None, metadata=LATER)


@dataclass
class FallbackConfig:
    """The optimizer of the parameters that the main one cannot take, at the same learning rate.

    Attributes:
        target: Class in `torch.optim`, or "module:Class".
        arguments: Its keyword arguments beyond the learning rate.
    """

    target: str = MISSING
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class OptimizerConfig:
    """How it is trained.

    Attributes:
        name: Name in reports.
        target: Class in `torch.optim`, such as "SGD", or any other as "module:Class" or "path.py:Class".
        implementation: "default" (what torch picks), "forloop", "foreach" or "fused". The one that ran is recorded.
        arguments: Keyword arguments of the class beyond the learning rate, such as {"momentum": 0.9}.
        weight_decay: The class's own argument of that name, ≥ 0; null leaves it to `arguments` or the class.
        lr_log2: First and last exponent of the octave learning-rate grid used when `lr` is null: 2^a, 2^(a+1) … 2^b.
        batch_size: Batch size that the method has by its definition, an int or "full"; null for methods that take any.
        fallback: Optimizer of the parameters that the class cannot take (Muon takes matrices alone); null for none.
        source_sha256: Hash of a class that is not torch's, set by the suite: other code is another cell.
    """

    name: str = MISSING
    target: str = MISSING
    implementation: str = "default"
    arguments: dict[str, Any] = field(default_factory=dict)
    weight_decay: float | None = field(default=None, metadata=LATER)
    lr_log2: list[int] = MISSING
    batch_size: Any = field(default=None, metadata=LATER)
    fallback: FallbackConfig | None = field(default=None, metadata=LATER)
    source_sha256: str | None = field(default=None, metadata=LATER)


@dataclass
class ScheduleConfig:
    """How the learning rate moves during a trial: a factor on each learning rate of the grid.

    All fractions are of the budget, counted in steps (in examples where the batch size moves too).

    Attributes:
        name: "constant", "step", "cosine" or "one_cycle".
        warmup: Fraction over which the factor first rises linearly from nearly 0, 0 … 1.
        milestones: "step": fractions at which the factor is multiplied by gamma, ascending.
        gamma: "step": what it is multiplied by, > 0.
        final: "cosine": factor at the end, 0 … 1.
        peak_at: "one_cycle": fraction at which the factor is 1.
        start_divisor: "one_cycle": the factor starts at 1 / this.
        end_divisor: "one_cycle": the factor ends at its start / this.
    """

    name: str = "constant"
    warmup: float = field(default=0.0, metadata=LATER)
    milestones: list[float] = field(default_factory=list, metadata=LATER)
    gamma: float = field(default=0.1, metadata=LATER)
    final: float = field(default=0.0, metadata=LATER)
    peak_at: float = field(default=0.3, metadata=LATER)
    start_divisor: float = field(default=25.0, metadata=LATER)
    end_divisor: float = field(default=10_000.0, metadata=LATER)


@dataclass
class BatchScheduleConfig:
    """How the batch size moves during a trial; `batch_size` is where it starts.

    Attributes:
        name: "constant" or "growth".
        milestones: "growth": fractions of the budget's examples (of its steps, where steps are what is limited) at
            which the batch size is multiplied, ascending.
        factor: "growth": what it is multiplied by, an integer ≥ 2.
        most: "growth": largest batch size; null for the training split.
    """

    name: str = "constant"
    milestones: list[float] = field(default_factory=list)
    factor: int = 2
    most: int | None = None


@dataclass
class RuleConfig:
    """How learning rate and arguments follow the batch size: those given hold at the reference batch size.

    With κ = batch size / reference:

    Attributes:
        name: "fixed" (nothing changes), "linear" (learning rate × κ), "sqrt" (× √κ), "adam_sqrt" (× √κ,
            β → 1 − κ(1 − β), ε → ε/√κ; arXiv 2205.10287) or "half_life" (β2 → β2^κ: its half-life stays the same in
            examples; arXiv 2507.07101).
        reference: Batch size at which learning rates and arguments hold as given, ≥ 1.
    """

    name: str = "fixed"
    reference: int = 64


@dataclass
class BudgetConfig:
    """When a trial ends. Of the limits that are set, the largest or the smallest counts.

    Attributes:
        epochs: Passes over the training split, > 0; null for no such limit.
        steps: Optimizer steps, ≥ 1; null for no such limit.
        examples: Examples seen, counting repeats, ≥ 1; null for no such limit.
        seconds: Seconds on the training clock, > 0; null for no such limit. Makes the cell's digest unrepeatable.
        gradient_evaluations: Gradients of a batch that are computed, ≥ 1; null for no such limit. One a step, but for
            optimizers that ask for the loss several times a step; a Hessian counts as one for each of its rows.
        until: "largest" (go on until every limit is reached) or "smallest" (end at the first).
    """

    epochs: float | None = None
    steps: int | None = None
    examples: int | None = None
    seconds: float | None = None
    gradient_evaluations: int | None = field(default=None, metadata=LATER)
    until: str = "largest"


@dataclass
class DeviceConfig:
    """Where it is trained.

    Attributes:
        name: "cpu", "cuda" (the current CUDA device), "cuda:N" (the one of that index) or "mps"; data parallel, a
            process for each, "cuda:all", "cuda:0-N" (the CUDA devices up to that index) or "cpu:N" (so many processes).
        threads: Threads of one process's CPU operations, ≥ 1. More than one changes the bits.
        timeout_seconds: Data parallel: seconds within which a cell ends as `failed` once one of its processes is dead
            or does not answer, ≥ 1. Starting them is not counted. No part of a cell's identity.
    """

    name: str = "cpu"
    threads: int = 1
    timeout_seconds: float = field(default=60.0, metadata=LATER)


@dataclass
class SeedConfig:
    """Named seeds. Null derives the seed from the trial's; a number fixes it for all trials.

    Attributes:
        data: Seed of the data: splits, generated examples, label noise; the same for all trials, so never null.
        init: Seed of the initial parameters.
        order: Seed of the batch order.
        noise: Seed of noise during training: the examples of a stream.
    """

    data: int = 0
    init: int | None = None
    order: int | None = None
    noise: int | None = None


@dataclass
class DataConfig:
    """Where data files are.

    Attributes:
        root: Folder with the files of data sets, each in a folder of its name (such as mnist/ or usps/) or in
            torchvision's (such as MNIST/raw/); downloads go to the latter.
        download: Whether to download what is not there.
    """

    root: str = "data"
    download: bool = True


@dataclass
class TrainingConfig:
    """The training loop.

    Attributes:
        remainder: What becomes of an epoch's last, smaller batch: "keep" it, "drop" it, or "carry" its examples into
            the first batch of the next epoch, which is then larger (as the TensorFlow Playground does).
        reshuffle: Whether each epoch draws a new order; false replays the first.
        clip_norm: Norm to which the gradient, all parameters together, is scaled down where it is longer; null for no
            clipping.
        micro_batch: Examples per forward and backward pass; gradients of the passes of a batch are averaged. Null for
            the whole batch at once.
        average: Decay of an exponential moving average of the parameters, 0 < decay < 1, which is then what is
            evaluated; null for none.
        divergence_factor: A trial is diverged once its training loss is not finite or above this multiple of the
            untrained loss.
        stack: Whether learning rates and seeds of a cell are trained together in one set of tensors: "auto" (where
            that is faster and changes no bit; the record says which way each cell went), "off", or at most how many
            trials, ≥ 2, even where that is slower or, if there is no other way, rounds otherwise.
        compile: "on" compiles the gradient of a batch (forward and backward pass) for each shape of batch, by torch's
            inductor; it rounds otherwise, and is held against autograd's before it is used. The first takes some
            seconds, which are not on the training clock. "off" leaves it to the kernels one by one.
        cuda_graph: On a CUDA device, whole steps recorded as graphs, one for each shape of batch, and replayed: "auto"
            (where a rehearsal ends as it does kernel by kernel, to rounding; the record says whether, and why not),
            "on" (a cell where that cannot be is `unavailable`) or "off".
    """

    remainder: str = "keep"
    reshuffle: bool = True
    clip_norm: float | None = field(default=None, metadata=LATER)
    micro_batch: int | None = field(default=None, metadata=LATER)
    average: float | None = field(default=None, metadata=LATER)
    divergence_factor: float = 100.0
    stack: Any = field(default="auto", metadata=LATER)
    compile: str = field(default="off", metadata=LATER)
    cuda_graph: str = field(default="auto", metadata=LATER)


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
    """Speed and memory of one training step, measured apart from convergence; noise and curvature along the way.

    Attributes:
        speed: Whether to measure throughput and step times.
        memory: Whether to measure peak memory, activation bytes and state bytes.
        warmup_steps: Steps before the first clock, ≥ 1.
        windows: Independent windows, ≥ 1; the interval needs at least 6 for 95 %.
        window_seconds: Aimed-at length of a window, seconds; never less than 3 steps.
        memory_process: Where resident memory is measured: in the "worker" alone, whose memory holds what earlier cells
            left behind, or in a "fresh" process besides, which takes a second or two to start (CPU only).
        energy_seconds: Length of the window over which a device's energy counter is read, seconds, where there is one
            (NVIDIA) and speed is measured; 0 to read none.
        at_evaluations: What is measured of each trial at evaluation points, outside the training clock: names of
            `bench list measures`.
        per_octave: At how many of the evaluation points per doubling of the step count, besides the first and the last;
            0 for those two alone.
        mode: Which model that is of: "train" (batch normalisation by the statistics of what goes through together) or
            "eval" (by running statistics).
        examples: Training examples, drawn once by the data seed, that curvature is taken on, ≥ 1; null for all.
        noise_examples: Training examples, likewise, whose own gradients make tr Σ, ≥ 2; null for all.
        rescaling: Factor by which the first layer is multiplied and the second divided, > 0: measures of curvature are
            taken there too. Null for not.
    """

    speed: bool = True
    memory: bool = True
    warmup_steps: int = 20
    windows: int = 9
    window_seconds: float = 0.05
    memory_process: str = field(default="worker", metadata=LATER)
    energy_seconds: float = field(default=1.0, metadata=LATER)
    at_evaluations: list[str] = field(default_factory=list, metadata=LATER)
    per_octave: int = field(default=1, metadata=LATER)
    mode: str = field(default="train", metadata=LATER)
    examples: int | None = field(default=1000, metadata=LATER)
    noise_examples: int | None = field(default=None, metadata=LATER)
    rescaling: float | None = field(default=None, metadata=LATER)


@dataclass
class Config:
    """One cell, as composed.

    Attributes:
        sweep: Name of the sweep; its records go to results_root/sweep.
        results_root: Folder of all sweeps.
        task: What is trained.
        optimizer: How.
        schedule: How the learning rate moves.
        batch_schedule: How the batch size moves.
        rule: How learning rate and arguments follow the batch size.
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
        measure: What is measured.
        incompatible: What becomes of a cell whose optimizer requires what its task does not have: "refuse" (the whole
            grid, before anything is trained) or "record" (a record of status `unavailable` that says why).
    """

    sweep: str = "default"
    results_root: str = "results"
    task: TaskConfig = field(default_factory=TaskConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch_schedule: BatchScheduleConfig = field(default_factory=BatchScheduleConfig, metadata=LATER)
    rule: RuleConfig = field(default_factory=RuleConfig, metadata=LATER)
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
    incompatible: str = "refuse"
