"""`bench speed check` and `bench speed run`: from words on a command line to an exit code."""

import argparse
import contextlib
import json
import math
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from bench.errors import UsageError
from bench.results.private import private
from bench.speed.arms import Arm, Code, import_path
from bench.speed.case_files import case_files
from bench.speed.check import Check, Options, Subject, progress
from bench.speed.export import write_benchmark_json
from bench.speed.history import append
from bench.speed.instructions import require_callgrind
from bench.speed.result import CheckResult
from bench.speed.sources import BaseTree, Source, base_tree, project, working_tree
from bench.speed.table import markdown, print_check
from bench.speed.worktrees import clean_environment

#: What an interpreter needs besides the project.
_NEEDED = ("pytest", "pytest_benchmark")


def speed_check(asked: argparse.Namespace) -> int:
    """Compare, print, store; return the exit code.

    Raises:
        UsageError: A value that cannot be used.
        NotComparable: The arms cannot be compared at all.
        ArmFailed: An arm cannot be started.
    """
    options = _options(asked)
    root = _root(asked)
    with contextlib.ExitStack() as stack:
        head = working_tree(root, asked.cases)
        if asked.base is None:
            subject = _environments(asked, head)
        else:
            tree = stack.enter_context(base_tree(root, asked.base, asked.cases))
            subject = _references(asked, head, tree)
        say = stack.enter_context(progress())
        result = Check(subject, options, say).run()
    print_check(result)
    return _store(result, asked)


def speed_run(asked: argparse.Namespace) -> int:
    """Run the cases under pytest-benchmark itself; return pytest's exit code, 2 for its own usage errors."""
    root = _root(asked)
    source = working_tree(root, asked.cases)
    words = [sys.executable, "-m", "pytest", "--benchmark-enable", "--benchmark-only", "-p", "no:cacheprovider"]
    words += [*case_files(root, source.cases), *_selection(asked), *asked.arguments]
    environment = clean_environment() | {"PYTHONPATH": import_path(source.paths)}
    code = subprocess.run(words, cwd=root, env=environment, check=False).returncode
    # pytest's 5 is that nothing was collected, its 4 that it does not understand a word.
    return {0: 0, 1: 1, 2: 130}.get(code, 2)


def _options(asked: argparse.Namespace) -> Options:
    if asked.base is None and asked.base_python is None:
        raise UsageError("nothing to compare with: give --base REF, --base-python PATH, or both")
    if not 1 <= asked.gate <= 1000:
        raise UsageError(f"--gate {asked.gate:g}: must be from 1 to 1000 (per cent)")
    if not 0 < asked.budget < math.inf:
        raise UsageError(f"--budget {asked.budget:g}: must be above 0 and finite (seconds)")
    if not 0 <= asked.rounding < 1:
        raise UsageError(f"--rounding {asked.rounding:g}: must be at least 0 and below 1")
    for name in ("json", "markdown", "history"):
        _writable(name, getattr(asked, name))
    if asked.instructions:
        require_callgrind()
    return Options(asked.gate / 100, asked.budget, asked.rounding, asked.instructions, _command(asked))


def _writable(name: str, path: Path | None) -> None:
    """Refuse a file that cannot be written before anything is measured, not after it."""
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"--{name} {path}: cannot be written (there is no folder {folder})")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"--{name} {path}: cannot be written")


def _command(asked: argparse.Namespace) -> str:
    words = ["bench", "speed", "check"]
    for name, value in (("--base", asked.base), ("--base-python", asked.base_python), ("-m", asked.markers)):
        if value is not None:
            words += [name, value]
    words += [word for case in asked.cases for word in ("--cases", case)]
    plain = Options()
    for name, value, default in (
        ("--gate", asked.gate, plain.gate * 100),
        ("--budget", asked.budget, plain.budget),
        ("--rounding", asked.rounding, plain.rounding),
    ):
        if value != default:
            words += [name, f"{value:g}"]
    if asked.instructions:
        words.append("--instructions")
    if asked.keyword:
        words += ["-k", asked.keyword]
    return private(shlex.join(words))


def _root(asked: argparse.Namespace) -> Path:
    """Return the project's root; outside git, where two environments can still be compared, the current folder."""
    try:
        return project(Path.cwd())
    except UsageError:
        if getattr(asked, "base", None) is not None:
            raise
        return Path.cwd()


def _selection(asked: argparse.Namespace) -> list[str]:
    markers = "not extended" if asked.markers is None else asked.markers
    return [*(["-k", asked.keyword] if asked.keyword else []), *(["-m", markers] if markers else [])]


def code_of(source: Source, label: str, python: str, asked: argparse.Namespace) -> Code:
    """Return what an arm runs.

    Args:
        source: Its sources.
        label: "base" or "head".
        python: Interpreter.
        asked: Holds the selection of cases.
    """
    arguments = ("-q", *case_files(source.root, source.cases), *_selection(asked))
    return Code(label, python, source.root, source.paths, arguments)


def _references(asked: argparse.Namespace, head: Source, tree: BaseTree) -> Subject:
    python = _interpreter(asked.base_python)
    own = _own_cases(tree, python, asked)
    base = tree.overlay()
    for kept in tree.plan.kept:
        print(f"bench: {kept} beside the cases is taken for a source: base runs its own", file=sys.stderr)
    if tree.plan.unbuilt:
        print(f"bench: base lacks compiled modules: {', '.join(tree.plan.unbuilt)}", file=sys.stderr)
    if head.commit and head.commit.endswith("+"):
        print(f"bench: the working tree differs from {head.commit[:-1]}; it is checked as it lies", file=sys.stderr)
    return Subject(
        code_of(base, "base", python, asked),
        code_of(head, "head", sys.executable, asked),
        (base, head),
        own,
        tree.absent,
    )


def _own_cases(tree: BaseTree, python: str, asked: argparse.Namespace) -> frozenset[str] | None:
    """Ask base, with its own definitions, which cases it has; None where they are head's anyhow."""
    if tree.unchanged:
        return None
    if not tree.pristine.cases:
        return frozenset()
    arm = Arm(code_of(tree.pristine, "base", python, asked))
    try:
        return frozenset(arm.collect().cases)
    finally:
        arm.close()


def _environments(asked: argparse.Namespace, head: Source) -> Subject:
    python = _interpreter(asked.base_python)
    base = code_of(head, "base", python, asked)
    return Subject(
        replace(base, environment=Path(python).parent.parent.name or python),
        replace(code_of(head, "head", sys.executable, asked), environment="this environment"),
        None,
    )


def _interpreter(path: str | None) -> str:
    """Return the interpreter of base, made absolute.

    Raises:
        UsageError: It is none, or lacks what the cases run under.
    """
    if path is None:
        return sys.executable
    code = f"import importlib.util as u, json; print(json.dumps([n for n in {_NEEDED!r} if u.find_spec(n) is None]))"
    try:
        answer = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        missing = json.loads(answer.stdout)
    except FileNotFoundError:
        raise UsageError(f"--base-python {path}: no such file") from None
    except (OSError, subprocess.SubprocessError, ValueError):
        raise UsageError(f"--base-python {path}: is not a Python interpreter") from None
    if missing:
        names = " ".join(name.replace("_", "-") for name in missing)
        raise UsageError(f"--base-python {path}: lacks {names}; run {path} -m pip install {names}")
    # Not resolved: the interpreter of a virtual environment is a link that says which environment it is.
    return path if os.sep not in path else str(Path(path).absolute())


def _store(result: CheckResult, asked: argparse.Namespace) -> int:
    if asked.history:
        append(asked.history, result)
    if asked.json is not None:
        write_benchmark_json(result, asked.json)
    if asked.markdown is not None:
        try:
            with asked.markdown.open("a", encoding="utf-8") as file:
                file.write(markdown(result))
        except OSError as error:
            raise UsageError(f"--markdown {asked.markdown}: cannot be written ({error.strerror})") from None
    return result.exit_code
