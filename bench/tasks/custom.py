"""A user's own task: its function called with the data seed, and what it returns checked."""

import contextlib
import functools
import inspect
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError, UsageError
from bench.references import Source, find
from bench.tasks.custom_checks import check_problem, check_repeats
from bench.tasks.problem import Problem

#: Seeds of numpy's global generator are below this.
NUMPY_SEEDS = 2**32


def load_custom(reference: str, seed: int) -> Problem:
    """Call a user's own task function and check what it returns.

    It is called twice, to see that one seed gives one problem; the global generators of torch, numpy and Python are
    seeded for it and left as they were.

    Args:
        reference: "path/to/file.py:function" (relative to the current folder, or absolute) or "module:function".
        seed: Data seed, handed to the function.

    Raises:
        UsageError: It cannot be found, imported or called, or what it returns is not a task; one line that says which.
    """
    source = find(reference, "task.module", "function")
    return _load(source, seed, source.content())


@functools.lru_cache(maxsize=4)
def _load(source: Source, seed: int, content: bytes) -> Problem:
    # What the function imports when it is called, it may find where the file did.
    with source.importing():
        # Other seeds share what the file drew when it was imported.
        with _seeded(0):
            function = source.load(content)
        _check_function(source, function)
        problem = _call(source, function, seed)
        try:
            check_problem(problem)
            check_repeats(problem, _call(source, function, seed))
        except UsageError as error:
            raise source.refuse(str(error)) from None
        except Exception as error:
            raise source.refuse(source.where(error)) from None
    return problem


def _check_function(source: Source, function: Any) -> None:
    if not callable(function):
        raise source.refuse(f"{source.name} is of type {type(function).__name__}, must be a function of a seed")
    try:
        inspect.signature(function).bind(0)
    except TypeError as error:
        raise source.refuse(f"{source.name} must take a seed and nothing else: {error}") from None
    except ValueError:
        # Some callables of C have no signature; calling tells.
        return


def _call(source: Source, function: Any, seed: int) -> Problem:
    with _seeded(seed):
        try:
            problem = function(seed)
        except BenchError as error:
            raise source.refuse(str(error)) from None
        except (Exception, SystemExit) as error:
            raise source.refuse(f"{source.name}({seed}) raised {source.where(error)}") from None
    if not isinstance(problem, Problem):
        returned = "nothing" if problem is None else f"a {type(problem).__name__}"
        raise source.refuse(
            f"{source.name} returned {returned}, must return a Problem (bench.tasks.own.problem makes one)"
        )
    return problem


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed every global generator, so that `torch.randn` in a task is of its seed, and restore them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is what is restored
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % NUMPY_SEEDS)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
