"""Which files of a folder hold timing cases, so that a check imports those and not every test beside them."""

import ast
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

FIXTURE = "benchmark"
#: Folders that pytest does not look into: its own default of `norecursedirs`.
_LEFT_OUT = ("*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}")


def case_files(root: Path, cases: Sequence[str]) -> tuple[str, ...]:
    """Return pytest's arguments for some cases: of a folder, the files in which a test takes the fixture.

    A test takes it by name, or by the name of another fixture of the folder that does.

    Args:
        root: What relative cases are relative to.
        cases: Files, folders, node ids.

    Returns:
        As given, where a folder has no such file: pytest then finds out.
    """
    found: list[str] = []
    for case in cases:
        folder = root / case
        files = _files_with_cases(folder) if folder.is_dir() else []
        found += [str(file.relative_to(root)) for file in files] if not Path(case).is_absolute() else map(str, files)
        if not files:
            found.append(case)
    return tuple(found)


def _files_with_cases(folder: Path) -> list[Path]:
    functions = {file: _functions(file) for file in sorted(_python_files(folder))}
    names = {FIXTURE}
    # Fixtures of one name in several files count as one: a file too many costs an import, one too few costs a case.
    while more := {
        name
        for found in functions.values()
        if found is not None
        for name, arguments in found.items()
        if name not in names and not name.startswith("test") and arguments & names
    }:
        names |= more
    return [file for file, found in functions.items() if _has_case(file, found, names)]


def _has_case(file: Path, functions: Mapping[str, set[str]] | None, names: set[str]) -> bool:
    if functions is None:
        # pytest will say what is wrong with it.
        return file.name.startswith("test_")
    return any(name.startswith("test") and arguments & names for name, arguments in functions.items())


def _python_files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*.py"):
        folders = file.relative_to(folder).parts[:-1]
        if not any(fnmatch.fnmatch(name, pattern) for name in folders for pattern in _LEFT_OUT):
            yield file


def _functions(file: Path) -> dict[str, set[str]] | None:
    """Return the names of a file's functions and of their arguments; None where it cannot be read."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            found.setdefault(node.name, set()).update(argument.arg for argument in arguments)
    return found
