"""Names of tasks, and what is known of them without loading anything.

An image task is a data set and a network; any other is a problem of its own. A new one is an entry here and a function
in the module of its family; the families are imported only when something of theirs is used, so listing stays quick.
"""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, unknown
from bench.references import source_sha256
from bench.tasks.catalogue import DATA_SETS, NETWORKS, PROBLEMS
from bench.tasks.knobs import parse_knobs, plain_knobs

if TYPE_CHECKING:
    from bench.tasks.image_knobs import ImageKnobs
    from bench.tasks.images import RawSplits
    from bench.tasks.problem import Model, Problem

#: Knobs that every image task has.
IMAGE_KNOBS = "bench.tasks.image_knobs:ImageKnobs"
#: What time-to-target can wait for.
TARGET_METRICS = ("val_accuracy", "val_loss")


@dataclass(frozen=True)
class TaskSpec:
    """Which task, with its knobs turned.

    Attributes:
        name: Name in reports, such as "mnist5k/mlp" or "playground/spiral".
        data: A data set or a problem of `bench.tasks.catalogue`; "" with `module`.
        model: Network of an image task; "" elsewhere.
        module: A user's own task, "path_or_module:function"; "" for a registered one.
        knobs: Name and value of each knob that is not left at its default, sorted.
        source_sha256: Hash of the file with a user's own task, so that another text is another task; "" elsewhere.
    """

    name: str
    data: str
    model: str = ""
    module: str = ""
    knobs: tuple[tuple[str, Any], ...] = ()
    source_sha256: str = ""


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task before it is trained.

    Attributes:
        data: Data set or problem name.
        model: Model name.
        train_examples: Examples in the training split (of a stream: in what is called an epoch).
        val_examples: Examples in the validation split.
        test_examples: Examples in the test split.
        classes: Number of classes; None where there are none.
        accuracy: Whether it has an accuracy.
        shapes: Shapes of the parameters.
        sparse: Whether it can give sparse gradients.
        target_metric: "val_accuracy" or "val_loss", as the task declares; "" where the configuration has to.
        target: Value to get strictly past, likewise.
        stream: Whether examples are drawn afresh at every step.
        batch_statistics: Whether its model is another in training, normalising by the statistics of the batch.
    """

    data: str
    model: str
    train_examples: int
    val_examples: int
    test_examples: int
    classes: int | None
    accuracy: bool = True
    shapes: tuple[tuple[int, ...], ...] = ()
    sparse: bool = False
    target_metric: str = ""
    target: float = math.nan
    stream: bool = False
    batch_statistics: bool = False

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes)


def task_spec(
    name: str, data: str | None, model: str | None, module: str | None, knobs: Mapping[str, Any]
) -> tuple[TaskSpec, dict[str, Any]]:
    """Check the names and knobs of a task.

    Returns:
        What to load, and every knob with its value as a configuration holds it.

    Raises:
        UsageError: An unknown data set, problem, network or knob, a knob out of range, or no such file or module.
    """
    if module:
        for knob in knobs:
            raise UsageError(f"task.knobs.{knob}: a task of your own (task.module={module}) has no knobs of the suite")
        return TaskSpec(name, "", "", module, source_sha256=source_sha256(module, "task.module", "function")), {}
    if data in PROBLEMS:
        if model is not None:
            raise UsageError(f"task.model={model}: task.data={data} has a model of its own; leave task.model out")
        parsed = parse_knobs(resolve_reference(PROBLEMS[data].knobs), knobs)
        return TaskSpec(name, data, "", "", _turned(parsed)), plain_knobs(parsed)
    if data is None:
        raise UsageError("task.module is missing: name your task, path/to/file.py:function (docs/your-own-task.md)")
    if data not in DATA_SETS:
        raise unknown("data set or problem (task.data)", data, [*DATA_SETS, *PROBLEMS])
    if model not in NETWORKS:
        raise unknown("model (task.model)", model, NETWORKS)
    of_images, of_network = image_knobs(model, knobs)
    parsed = [of_images] if of_network is None else [of_images, of_network]
    subset = of_images.subset
    if subset is not None and subset > DATA_SETS[data].train:
        raise UsageError(
            f"task.knobs.subset={subset}: the training split of {data} has only {DATA_SETS[data].train} examples"
        )
    turned = sorted(knob for part in parsed for knob in _turned(part))
    every = {knob: value for part in parsed for knob, value in plain_knobs(part).items()}
    return TaskSpec(name, data, model, "", tuple(turned)), every


def _turned(knobs: Any) -> tuple[tuple[str, Any], ...]:
    """Return the knobs that are not at their defaults."""
    fields = sorted(dataclasses.fields(knobs), key=lambda field: field.name)
    values = ((field.name, getattr(knobs, field.name), field.default) for field in fields)
    return tuple((name, value) for name, value, default in values if value != default)


@functools.lru_cache(maxsize=64)
def task_facts(spec: TaskSpec, seed: int = 0) -> TaskFacts:
    """Return what is known of a task: of an image task without loading images, of any other from the problem itself.

    Args:
        spec: A checked task.
        seed: Data seed.

    Raises:
        UsageError: A user's own task cannot be imported or is not what a task has to be.
    """
    if spec.data in DATA_SETS:
        entry = DATA_SETS[spec.data]
        model = build_network(spec.model, spec.data, image_knobs(spec.model, dict(spec.knobs))[1])
        train = dict(spec.knobs).get("subset") or entry.train
        return TaskFacts(
            *(spec.data, spec.model, train, entry.val, entry.test, entry.classes, True, _shapes(model), _sparse(model)),
            batch_statistics=model.training_forward is not None,
        )
    problem = load_problem(spec, "", False, seed)
    splits, model = problem.splits, problem.model
    return TaskFacts(
        data=spec.data or spec.name,
        model=model.name,
        train_examples=problem.stream.epoch if problem.stream else len(splits.train),
        val_examples=len(splits.val),
        test_examples=len(splits.test),
        classes=problem.classes,
        accuracy=problem.objective.correct is not None,
        shapes=_shapes(model),
        sparse=_sparse(model),
        target_metric=problem.target_metric,
        target=problem.target,
        stream=problem.stream is not None,
        batch_statistics=model.training_forward is not None,
    )


def _shapes(model: "Model") -> tuple[tuple[int, ...], ...]:
    import torch

    return tuple(tuple(p.shape) for p in model.initialise(torch.Generator().manual_seed(0)))


def _sparse(model: "Model") -> bool:
    return model.sparse_forward is not None


def load_images(data: str, root: str, download: bool, seed: int) -> "RawSplits":
    """Load and split a registered image data set.

    Args:
        data: Registered name.
        root: Folder with data files, for data sets that need one.
        download: Whether to download what is missing.
        seed: Seed of the split.

    Raises:
        DataUnavailable: The files are neither there nor to be had.
        UsageError: A file is there and does not match its checksum.
    """
    loader: Callable[[str, bool, int], RawSplits] = resolve_reference(DATA_SETS[data].loader)
    return loader(root, download, seed)


def image_knobs(model: str, given: Mapping[str, Any]) -> tuple["ImageKnobs", Any]:
    """Build the knobs of an image task.

    Args:
        model: Registered network.
        given: Name → value as configured.

    Returns:
        The knobs that every image task has, and those of the network; None where it has none.

    Raises:
        UsageError: A knob that neither has, or a value out of range.
    """
    everywhere: type[ImageKnobs] = resolve_reference(IMAGE_KNOBS)
    common, own = _knob_names(IMAGE_KNOBS), _knob_names(NETWORKS[model].knobs)
    for name in given:
        if name not in (*common, *own):
            others = [network for network, entry in NETWORKS.items() if name in _knob_names(entry.knobs)]
            if others:
                raise UsageError(f"task.knobs.{name}={given[name]}: {model} has no such knob, only {', '.join(others)}")
            raise unknown("knob (task.knobs)", name, [*common, *own])
    of_images = parse_knobs(everywhere, {name: given[name] for name in common if name in given})
    if not own:
        return of_images, None
    of_network = {name: given[name] for name in own if name in given}
    return of_images, parse_knobs(resolve_reference(NETWORKS[model].knobs), of_network)


def _knob_names(reference: str) -> list[str]:
    return [field.name for field in dataclasses.fields(resolve_reference(reference))] if reference else []


def build_network(model: str, data: str, knobs: Any = None) -> "Model":
    """Build a registered network for the images and classes of a registered data set.

    Args:
        model: Registered network.
        data: Registered data set.
        knobs: The network's knobs; None for their defaults.
    """
    entry, network = DATA_SETS[data], NETWORKS[model]
    builder: Callable[..., Model] = resolve_reference(network.builder)
    if not network.knobs:
        return builder(entry.shape, entry.classes)
    return builder(entry.shape, entry.classes, knobs or resolve_reference(network.knobs)())


def load_problem(spec: TaskSpec, root: str, download: bool, seed: int) -> "Problem":
    """Load or generate a task.

    Args:
        spec: A checked task.
        root: Folder with data files, for data sets that need one.
        download: Whether to download what is missing.
        seed: Data seed: of the split, of knobs that draw, of what is generated.

    Raises:
        DataUnavailable: Files are neither there nor to be had.
        UsageError: A file does not match its checksum, or a user's own task is not what a task has to be.
    """
    if spec.module:
        from bench.tasks.custom import load_custom

        return load_custom(spec.module, seed)
    if spec.data in DATA_SETS:
        from bench.tasks.classification import image_problem

        return image_problem(spec, load_images(spec.data, root, download, seed), seed)
    entry = PROBLEMS[spec.data]
    knobs = parse_knobs(resolve_reference(entry.knobs), dict(spec.knobs))
    problem: Problem = resolve_reference(entry.builder)(knobs, seed)
    return problem


def resolve_reference(reference: str) -> Any:
    """Return what "module:name" of this package names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
