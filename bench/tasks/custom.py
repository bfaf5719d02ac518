"""A user's own task: found by file or module and function, called with the data seed, and checked."""

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import os
import random
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from bench.errors import BenchError, UsageError, unknown
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
    source = _find(reference)
    return _load(source, seed, source.content())


def source_sha256(reference: str) -> str:
    """Return the SHA-256 of the file that holds a user's own task, without importing it.

    Other files that it imports are not part of it.

    Args:
        reference: As for `load_custom`.

    Raises:
        UsageError: There is no such file or module.
    """
    return hashlib.sha256(_find(reference).content()).hexdigest()


@dataclass(frozen=True)
class _Source:
    """Where a task's code is: the reference as given, the file, the package it lies in ("" for none), the function."""

    reference: str
    file: Path
    package: str
    function: str

    def refuse(self, message: str) -> UsageError:
        return UsageError(f"task.module={self.reference}: {message}")

    def content(self) -> bytes:
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise self.refuse(f"cannot read {self.file.name}: {error.strerror}") from None


def _find(reference: str) -> _Source:
    place, colon, function = reference.rpartition(":")
    if not colon or not place or not function.isidentifier():
        raise UsageError(f"task.module={reference}: write path/to/file.py:function or module:function")
    if place.endswith(".py") or "/" in place or os.sep in place:
        path = Path(place).expanduser()
        if not path.is_file():
            raise UsageError(f"task.module={reference}: no file {place} (looked in {Path.cwd()})")
        return _Source(reference, path.resolve(), "", function)
    try:
        with _on_path(Path.cwd()):
            spec = importlib.util.find_spec(place)
    except (Exception, SystemExit) as error:
        # Finding pkg.module imports pkg.
        raise UsageError(f"task.module={reference}: cannot look for module {place}: {_said(error)}") from None
    if spec is None:
        hint = f"; a file is written {place}.py" if Path(f"{place}.py").is_file() else ""
        raise UsageError(
            f"task.module={reference}: no module {place} (looked in {Path.cwd()} and what python has){hint}"
        )
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise UsageError(f"task.module={reference}: module {place} has no source file")
    return _Source(reference, Path(spec.origin).resolve(), spec.parent or "", function)


@functools.lru_cache(maxsize=4)
def _load(source: _Source, seed: int, content: bytes) -> Problem:
    # The file's own folder first, as where a script is started from; then what else it may import from here.
    with _on_path(Path.cwd()), _on_path(source.file.parent):
        function = _function(source, _execute(source, content))
        problem = _call(source, function, seed)
        try:
            check_problem(problem)
            check_repeats(problem, _call(source, function, seed))
        except UsageError as error:
            raise source.refuse(str(error)) from None
        except Exception as error:
            raise source.refuse(f"{_said(error)}{_line(error, source.file)}") from None
    return problem


def _execute(source: _Source, content: bytes) -> ModuleType:
    """Run the file's bytes as a module of its own: no stale bytecode, and nothing that has its name is replaced."""
    name = f"own_task_{source.file.stem}_{hashlib.sha256(content).hexdigest()[:12]}"
    inside = source.file.name == "__init__.py"
    spec = ModuleSpec(f"{source.package}.{name}" if source.package and not inside else name, None)
    spec.origin = str(source.file)
    if inside:
        spec.submodule_search_locations = [str(source.file.parent)]
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(source.file)
    # Dataclasses and relative imports look a module up by its name.
    sys.modules[spec.name] = module
    try:
        exec(compile(content, str(source.file), "exec"), module.__dict__)
    except SyntaxError as error:
        sys.modules.pop(spec.name)
        raise source.refuse(f"cannot be read: {_said(error)} (line {error.lineno})") from None
    except (Exception, SystemExit) as error:
        sys.modules.pop(spec.name)
        raise source.refuse(f"cannot be imported: {_said(error)}{_line(error, source.file)}") from None
    return module


def _function(source: _Source, module: ModuleType) -> Any:
    function = getattr(module, source.function, None)
    if function is None:
        own = [
            name
            for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
        ]
        error = unknown(f"function in {source.file.name}", source.function, own)
        raise source.refuse(str(error))
    if not callable(function):
        raise source.refuse(f"{source.function} is of type {type(function).__name__}, must be a function of a seed")
    try:
        inspect.signature(function).bind(0)
    except TypeError as error:
        raise source.refuse(f"{source.function} must take a seed and nothing else: {error}") from None
    except ValueError:
        # Some callables of C have no signature; calling tells.
        return function
    return function


def _call(source: _Source, function: Any, seed: int) -> Problem:
    with _seeded(seed):
        try:
            problem = function(seed)
        except BenchError as error:
            raise source.refuse(str(error)) from None
        except (Exception, SystemExit) as error:
            raise source.refuse(f"{source.function}({seed}) raised {_said(error)}{_line(error, source.file)}") from None
    if not isinstance(problem, Problem):
        raise source.refuse(
            f"{source.function} returned {_kind(problem)}, must return a Problem (bench.tasks.own.problem makes one)"
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


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        # What was imported may have changed the path itself.
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _said(error: BaseException) -> str:
    text = str(error.msg if isinstance(error, SyntaxError) else error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def _line(error: BaseException, file: Path) -> str:
    """Return where in the user's file an exception came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f" (line {lines[-1]})" if lines else ""
