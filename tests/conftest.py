"""Fixtures that the rooms share. Imports nothing of the suite: speed checks run it with other commits."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from bench.tasks.problem import Problem, Splits
    from bench.tasks.task import Task

ROOT = Path(__file__).resolve().parents[1]

# Imported, it would configure logging anew, on which absl's handler closes the stream that pytest captures in.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")

# An environment that a speed check compares with need not have it.
if importlib.util.find_spec("hypothesis"):
    from hypothesis import settings

    # No deadline: nothing here is timed. Derandomised: a run that fails can be run again.
    settings.register_profile("suite", deadline=None, derandomize=True)
    settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow ones first, and keep the tests of a file in one worker.

    One that starts last is waited for by workers that have nothing left to do; what the tests of a file share would be
    made in each of them.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(ROOT).as_posix()))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread: more than one changes the bits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Undo what preparing a device does to this process: other tests look at the smallest of numbers."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def problems() -> dict[str, Problem]:
    """The problems of mnist5k by data seed 0, by network. Shared by all tests: not to be changed."""
    from bench.tasks.registry import TaskSpec, load_problem

    return {
        model: load_problem(TaskSpec(f"mnist5k/{model}", "mnist5k", model), "", False, 0)
        for model in ("logreg", "mlp", "lenet5")
    }


@pytest.fixture(scope="session")
def splits(problems: dict[str, Problem]) -> Splits:
    """The standardised splits of mnist5k by data seed 0. Shared by all tests: not to be changed."""
    return problems["mlp"].splits


@pytest.fixture(scope="session")
def tasks(problems: dict[str, Problem]) -> dict[str, Task]:
    """The tasks of mnist5k on the CPU in float32, by model. Shared by all tests: not to be changed."""
    from bench.tasks.task import build_task

    return {
        model: build_task(f"mnist5k/{model}", problem, torch.device("cpu"), "float32", None, 0)
        for model, problem in problems.items()
    }


@pytest.fixture(scope="session")
def task(tasks: dict[str, Task]) -> Task:
    """mnist5k/mlp on the CPU in float32. Shared by all tests: not to be changed."""
    return tasks["mlp"]


@pytest.fixture(scope="session")
def mnist_root() -> str:
    """The folder with the four MNIST files: $BENCH_MNIST_ROOT, else ../shared/data beside the checkout."""
    given = os.environ.get("BENCH_MNIST_ROOT")
    root = Path(given) if given else ROOT.parent / "shared" / "data"
    name = "train-images-idx3-ubyte"
    if not any((root / sub / f"{name}{end}").is_file() for sub in ("", "mnist", "MNIST/raw") for end in ("", ".gz")):
        pytest.skip(f"the MNIST files are not in {root}; BENCH_MNIST_ROOT can name their folder")
    return str(root)
