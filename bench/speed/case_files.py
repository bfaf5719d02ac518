"""Which files of a folder hold timing cases, so that a check imports those and not every test beside them."""

import ast
import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

FIXTURE = "benchmark"
#: Folders that pytest does not look into: its own default of `norecursedirs`.
_LEFT_OUT = ("*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}")


def case_files(root: Path, cases: Sequence[str]) -> tuple[str, ...]:
    """Return pytest's arguments for some cases: of a folder, the files in which a function takes the fixture.

    Args:
        root: What relative cases are relative to.
        cases: Files, folders, node ids.

    Returns:
        As given, where a folder has no such file: pytest then finds out.
    """
    found: list[str] = []
    for case in cases:
        folder = root / case
        files = sorted(file for file in _python_files(folder) if _takes_fixture(file)) if folder.is_dir() else []
        found += [str(file.relative_to(root)) for file in files] if not Path(case).is_absolute() else map(str, files)
        if not files:
            found.append(case)
    return tuple(found)


def _python_files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*.py"):
        folders = file.relative_to(folder).parts[:-1]
        if not any(fnmatch.fnmatch(name, pattern) for name in folders for pattern in _LEFT_OUT):
            yield file


def _takes_fixture(file: Path) -> bool:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        # pytest will say what is wrong with it.
        return file.name.startswith("test_")
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(
        argument.arg == FIXTURE
        for function in functions
        if function.name.startswith("test")
        for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    )
