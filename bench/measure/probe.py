"""The measures of one cell, taken while its trials are trained: which, of what, how often, and what they cost."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from bench.measure.catalogue import MEASURES, RESCALED
from bench.measure.curvature import largest_eigenvalue, trace
from bench.measure.estimates import Estimate
from bench.measure.fixed_loss import FixedLoss, flat, measured_task
from bench.measure.memory import out_of_memory
from bench.measure.noise import Sampler, batch_sharpness, gradient_noise, two_batch_noise
from bench.measure.paths import barrier, distance, rescaled, same_function
from bench.measure.sharpness import EPSILONS, asam, keskar, random_columns, sam
from bench.results.record import Measured
from bench.tasks.problem import Split
from bench.tasks.task import Task
from bench.training.loop import Trial
from bench.training.probe import undisturbed
from bench.training.seeds import Start, named_seed

#: Steps whose batch losses step_loss_variance is of.
WINDOW = 32
#: Random vectors of the trace, batches of batch_sharpness.
PROBES, BATCHES = 30, 16
#: Examples drawn for tr Σ where they are drawn afresh and no number is given.
DRAWS = 1000
#: Small batches in a big one, and big ones, of the two-batch noise scale.
PIECES, REPEATS = 8, 16


@dataclass(frozen=True)
class Point:
    """A trial where it is measured.

    Attributes:
        start: The trial.
        step: Steps taken.
        weights: Parameters, then buffers.
        parameters: The parameters as one vector.
        losses: Losses of the last batches.
    """

    start: Start
    step: int
    weights: list[Tensor]
    parameters: Tensor
    losses: Sequence[float]

    def generator(self, name: str) -> Generator:
        """Return the random numbers of a measure here, which depend on nothing else than trial seed and step."""
        return Generator().manual_seed(named_seed(f"measure {name} {self.step}", self.start.seed))


@dataclass
class Measures:
    """Takes the measures of a cell (`bench.training.probe.Probe`).

    Attributes:
        task: What is trained.
        names: Which of `bench.measure.catalogue.MEASURES`.
        batch_size: Examples of a training step.
        per_octave: Points per doubling of the step count at which they are taken; 0 for first and last alone.
        mode: "train" or "eval" (`bench.measure.fixed_loss.measured_task`).
        examples: Training examples that curvature is taken on; None for all.
        noise_examples: Training examples that tr Σ is taken of; None for all.
        rescaling: Factor by which measures of curvature are also taken of rescaled parameters; None for not.
        evaluation_batch_size: Examples per evaluation batch.
        data_seed: Seed that draws those examples.
    """

    task: Task
    names: Sequence[str]
    batch_size: int
    per_octave: int = 1
    mode: str = "train"
    examples: int | None = 1000
    noise_examples: int | None = None
    rescaling: float | None = None
    evaluation_batch_size: int = 1000
    data_seed: int = 0
    _seconds: dict[str, float] = field(default_factory=dict)
    _points: dict[str, int] = field(default_factory=dict)
    _reasons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.window = WINDOW if "step_loss_variance" in self.names else 0
        self.keeps_weights = "barrier" in self.names
        self._measured = measured_task(self.task, self.mode)
        self._split = self._some(self.examples)
        self._noisy = self._some(self.noise_examples)
        self._take: dict[str, Callable[[Point], dict[str, float]]] = {
            "distance": self._distance,
            "step_loss_variance": _step_loss_variance,
            "noise_scale": self._noise_scale,
            "noise_scale_two_batch": self._two_batch,
            "batch_sharpness": self._batch_sharpness,
            "lambda_max": self._lambda_max,
            "trace": self._trace,
            "keskar": self._keskar,
            "keskar_random": self._keskar_random,
            "sam": lambda point: {"sam": sam(self._loss(point), point.parameters)},
            "asam": lambda point: {"asam": asam(self._loss(point), point.parameters)},
        }

    def due(self, before: int, step: int, end: bool) -> bool:
        """Tell whether to measure: at the first evaluation, the last, and the first of each part of an octave."""
        if end or step == 0:
            return True
        if self.per_octave == 0:
            return False
        last = math.ceil(self.per_octave * math.log2(step)) + 1
        return any(before < round(2 ** (part / self.per_octave)) <= step for part in range(last + 1))

    def take(self, start: Start, step: int, weights: Sequence[Tensor], losses: Sequence[float]) -> dict[str, float]:
        """Return the metrics of one trial; see `bench.training.probe.Probe.take`.

        A measure that this model cannot have is left out from then on, and the record says why. Of parameters that are
        not finite there is none.
        """
        weights = [weight.detach() for weight in weights]
        parameters = weights[: len(weights) - len(self.task.model.buffers())]
        point = Point(start, step, weights, flat(parameters), losses)
        found: dict[str, float] = {}
        if not bool(point.parameters.isfinite().all()):
            return found
        with undisturbed(self.task.device), torch.enable_grad():
            for name in self.names:
                if name in self._take:
                    found |= self._attempt(name, self._take[name], point)
            if self.rescaling is not None:
                found |= self._of_rescaled(point, parameters, self.rescaling)
        return found

    def compare(self, trials: Sequence[Trial]) -> None:
        """Take what lies between the seeds of a learning rate, at their ends, and add it to their last evaluations."""
        if not self.keeps_weights:
            return
        first: dict[float, list[Tensor]] = {}
        for trial in sorted(trials, key=lambda trial: trial.seed):
            weights, trial.weights = trial.weights, None
            if trial.status != "complete" or weights is None:
                continue
            if trial.lr not in first:
                first[trial.lr] = weights
                continue
            with self._timed("barrier"):
                for name in ("train", "test"):
                    split = self.task.split(name)
                    rise = barrier(self.task, first[trial.lr], weights, split, self.evaluation_batch_size)
                    trial.evaluations[-1].metrics[f"measure_barrier_{name}"] = rise

    def measured(self) -> list[Measured]:
        """Return what was measured of what, for the record."""
        found = []
        wanted = [*self.names, *(["rescaling"] if self.rescaling is not None else [])]
        for name in wanted:
            mode, examples = self._basis(name)
            seconds = round(self._seconds.get(name, 0.0), 6)
            found.append(Measured(name, mode, examples, self._points.get(name, 0), seconds, self._reasons.get(name)))
        return found

    @property
    def seconds(self) -> float:
        """Seconds that measures took."""
        return sum(self._seconds.values())

    def _basis(self, name: str) -> tuple[str | None, int | None]:
        """Return in which mode a measure was taken, and on how many examples."""
        curved = name == "rescaling" or MEASURES[name].of_curvature
        if name in ("distance", "barrier"):
            return None, None
        if name == "step_loss_variance":
            return "train", self.batch_size
        if curved:
            return self.mode, len(self._split)
        if name == "noise_scale":
            return self.mode, (self.noise_examples or DRAWS) if self.task.stream else len(self._noisy)
        batches = PIECES * REPEATS if name == "noise_scale_two_batch" else BATCHES
        size = self._small() if name == "noise_scale_two_batch" else self.batch_size
        return self.mode, size * batches

    def _attempt(self, name: str, take: Callable[[Point], dict[str, float]], point: Point) -> dict[str, float]:
        if name in self._reasons:
            return {}
        try:
            with self._timed(name):
                found = take(point)
        except (RuntimeError, ValueError) as error:
            if out_of_memory(error):
                raise
            words = str(error).strip().splitlines()
            self._reasons[name] = words[0] if words else type(error).__name__
            return {}
        return {f"measure_{metric}": value for metric, value in found.items()}

    def _timed(self, name: str) -> "_Timer":
        return _Timer(self, name)

    def _of_rescaled(self, point: Point, parameters: Sequence[Tensor], factor: float) -> dict[str, float]:
        def take(point: Point) -> dict[str, float]:
            moved = [*rescaled(parameters, factor), *point.weights[len(parameters) :]]
            if not same_function(self._measured, point.weights, moved, self._split.inputs):
                raise ValueError("rescaling changes the function: the first two layers are not linear around a ReLU")
            there = Point(point.start, point.step, moved, flat(moved[: len(parameters)]), point.losses)
            found: dict[str, float] = {}
            for name in self.names:
                if MEASURES[name].of_curvature and name not in self._reasons:
                    found |= {f"{metric}{RESCALED}": value for metric, value in self._take[name](there).items()}
            return found

        return self._attempt("rescaling", take, point)

    def _some(self, wanted: int | None) -> Split:
        """Return training examples drawn by the data seed: the same at every point of every trial."""
        task, generator = self.task, Generator().manual_seed(named_seed("measure examples", self.data_seed))
        if task.stream is not None:
            return Split(*task.stream.exact()).to(task.device, task.dtype)
        if wanted is None or wanted >= len(task.train):
            return task.train
        chosen = torch.randperm(len(task.train), generator=generator)[:wanted].sort().values.to(task.device)
        return Split(task.train.inputs[chosen], task.train.labels[chosen])

    def _loss(self, point: Point, split: Split | None = None) -> FixedLoss:
        count = len(point.weights) - len(self.task.model.buffers())
        shapes = [weight.shape for weight in point.weights[:count]]
        return FixedLoss(self._measured, shapes, point.weights[count:], split or self._split, self.data_seed)

    def _distance(self, point: Point) -> dict[str, float]:
        start = self.task.initialise(point.start.init)
        return {"distance": distance(point.weights[: len(start)], start)}

    def _noise_scale(self, point: Point) -> dict[str, float]:
        exact, noisy = self._some(None), self._noisy
        if self.task.stream is not None:
            # Each draw of batch size 1 is the noise of one example.
            sampler = Sampler(self.task, point.generator("noise_scale"))
            draws = [sampler.draw(1, True) for _ in range(self.noise_examples or DRAWS)]
            noisy = Split(torch.cat([d.inputs for d in draws]), torch.cat([d.labels for d in draws]))
        found = gradient_noise(self._measured, point.weights, exact, noisy)
        return {"noise_scale": found.scale, "noise_trace": found.trace, "gradient_norm2": found.norm2}

    def _small(self) -> int:
        """Return the small batch of the two-batch estimator: a training step's, but no more than a part of the data."""
        return max(1, min(self.batch_size, self.task.examples // PIECES))

    def _two_batch(self, point: Point) -> dict[str, float]:
        sampler = Sampler(self.task, point.generator("noise_scale_two_batch"))
        found, _, _ = two_batch_noise(
            lambda split: self._loss(point, split), point.parameters, sampler, self._small(), PIECES, REPEATS
        )
        return _told("noise_scale_two_batch", found)

    def _batch_sharpness(self, point: Point) -> dict[str, float]:
        sampler = Sampler(self.task, point.generator("batch_sharpness"))
        found = batch_sharpness(
            lambda split: self._loss(point, split), point.parameters, sampler, self.batch_size, BATCHES
        )
        return _told("batch_sharpness", found)

    def _lambda_max(self, point: Point) -> dict[str, float]:
        product = self._loss(point).hessian(point.parameters)
        found = largest_eigenvalue(product, point.parameters, point.generator("lambda_max"))
        return {"lambda_max": found.value, "lambda_max_residual": found.residual}

    def _trace(self, point: Point) -> dict[str, float]:
        product = self._loss(point).hessian(point.parameters)
        found = trace(product, point.parameters, point.generator("trace"), PROBES)
        return {"trace": found.value, "trace_error": found.error}

    def _keskar(self, point: Point) -> dict[str, float]:
        loss, (wide, narrow) = self._loss(point), EPSILONS
        return {
            "keskar_1e-3": keskar(loss, point.parameters, wide),
            "keskar_5e-4": keskar(loss, point.parameters, narrow),
        }

    def _keskar_random(self, point: Point) -> dict[str, float]:
        loss, (wide, narrow) = self._loss(point), EPSILONS
        columns = random_columns(point.parameters, point.generator("keskar_random"))
        return {
            "keskar_random_1e-3": keskar(loss, point.parameters, wide, columns),
            "keskar_random_5e-4": keskar(loss, point.parameters, narrow, columns),
        }


class _Timer:
    """Adds the seconds of a block to a measure's, and counts it where it ends well."""

    def __init__(self, measures: Measures, name: str) -> None:
        self._measures, self._name = measures, name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: object, *_: object) -> None:
        measures, name = self._measures, self._name
        measures._seconds[name] = measures._seconds.get(name, 0.0) + time.perf_counter() - self._start
        measures._points[name] = measures._points.get(name, 0) + (kind is None)


def _step_loss_variance(point: Point) -> dict[str, float]:
    losses = point.losses
    if len(losses) < 2:
        return {}
    mean = math.fsum(losses) / len(losses)
    return {"step_loss_variance": math.fsum((loss - mean) ** 2 for loss in losses) / (len(losses) - 1)}


def _told(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.value, f"{name}_lo": found.lo, f"{name}_hi": found.hi}
