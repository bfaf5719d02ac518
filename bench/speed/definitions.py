"""Which files of a checkout define speed cases, as opposed to the sources they measure.

Both arms of a check run the same definitions. What is taken for a definition and is none would be compared with itself
and never found slower, so what is in doubt stays as base has it: a case that then cannot run is seen.
"""

import ast
import contextlib
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from bench.speed.worktrees import git, lines

#: Files that configure pytest, where they lie in the root.
CONFIGURATION = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
#: Names of folders that hold tests and nothing else.
TEST_FOLDERS = ("tests", "test")
#: Names of folders that mostly hold cases; a package may be called so too.
CASE_FOLDERS = (*TEST_FOLDERS, "testing", "benchmarks", "benchmark", "perf", "performance")
#: Folders whose files drive or show the package rather than being it.
_ASIDE = (*TEST_FOLDERS, "docs", "doc", "examples", "scripts", "tools")
_CASE_FILES = ("test_*.py", "*_test.py", "conftest.py", "bench_*.py", "*_bench.py", "benchmark_*.py", "*_benchmark.py")
_CODE = (".py", ".pyx", ".pxd", ".pyi", ".so", ".pyd", ".c", ".cc", ".cpp", ".cu", ".h", ".hpp", ".rs")
_COMPILED = re.compile(r".*\.(so|pyd)")
_VERSION = re.compile(r"_*(\w+_)?version(_info)?_*\.py")


@dataclass(frozen=True)
class Plan:
    """What makes base run head's definitions. Paths are relative to the root, with "/".

    Attributes:
        definitions: Folders and files that are head's afterwards, in both arms.
        emptied: Folders of base that are removed first.
        deleted: Files of base that head does not have.
        copied: Files of head.
        linked: Folders and files beside the cases that git ignores, such as downloaded data.
        kept: Modules beside the cases that differ and stay base's, since they may be sources.
        absent: Case files that base does not have.
        generated: Ignored files of a build that hold a version number, without which many a package cannot be imported.
        unbuilt: Compiled modules of head that a fresh checkout lacks.
    """

    definitions: tuple[str, ...]
    emptied: tuple[str, ...]
    deleted: tuple[str, ...]
    copied: tuple[str, ...]
    linked: tuple[str, ...]
    kept: tuple[str, ...]
    absent: frozenset[str]
    generated: tuple[str, ...]
    unbuilt: tuple[str, ...]

    def prepare(self, head: Path, base: Path) -> None:
        """Give base the version files that only a build makes."""
        for file in self.generated:
            _copy(head, base, file)

    def apply(self, head: Path, base: Path) -> None:
        """Give base the definitions of head."""
        for folder in self.emptied:
            _clear(base / folder)
        for file in self.deleted:
            _clear(base / file)
        for file in self.copied:
            _copy(head, base, file)
        for path in self.linked:
            target = base / path
            if target.exists():
                continue
            _make_room(base, path)
            # Some systems let only administrators make links. A case that misses its data is reported.
            with contextlib.suppress(OSError):
                target.symlink_to(head / path, target_is_directory=(head / path).is_dir())


def plan(head: Path, base: Path, cases: Sequence[str]) -> Plan:
    """Find what has to be done to a fresh checkout.

    Args:
        head: Root of the working tree.
        base: Root of the fresh checkout of base.
        cases: Files and folders with cases, relative to the root, without "::" suffixes.
    """
    ours, theirs = _Tree(head), _Tree(base)
    files, folders = _case_files(ours, cases)
    wholes = sorted({whole for path in [*folders, *files] if (whole := _whole_folder(path, ours, theirs))})
    single = [file for file in files if not any(_under(file, whole) for whole in wholes)]
    emptied = [whole for whole in wholes if (base / whole).exists()]
    copied = {file for file in ours.files if any(_under(file, whole) for whole in wholes)} | set(files)
    deleted, kept, beside = set[str](), set[str](), set[str]()
    for folder in sorted({str(PurePosixPath(file).parent) for file in single}):
        if folder in (".", "src") or any((tree.root / folder / "__init__.py").exists() for tree in (ours, theirs)):
            continue
        beside.add(folder)
        here, there = ours.below(folder), theirs.below(folder)
        new = not there and not _is_source(folder, ours)
        copied |= {file for file in here if new or _is_case_file(file) or not (_is_module(file) or file in there)}
        deleted |= {file for file in there - here if _is_case_file(file)}
        kept |= {file for file in there - copied - deleted if _differ(ours.root / file, theirs.root / file)}
        kept |= here - there - copied
    for name in [*CONFIGURATION, *_conftests([*files, *folders])]:
        if name in ours.files:
            copied.add(name)
        elif name in theirs.files and (name.endswith("conftest.py") or b"pytest" in (base / name).read_bytes()):
            deleted.add(name)
    definitions = {*wholes, *(file for file in copied if not any(_under(file, whole) for whole in wholes))}
    return Plan(
        definitions=tuple(sorted(definitions)),
        emptied=tuple(emptied),
        deleted=tuple(sorted(deleted)),
        copied=tuple(sorted(copied)),
        linked=tuple(_ignored_beside(ours, wholes, sorted(beside))),
        kept=tuple(sorted(kept)),
        absent=frozenset(files) - theirs.files,
        generated=tuple(_ignored(ours, theirs, _VERSION, "*version*.py")),
        unbuilt=tuple(_ignored(ours, theirs, _COMPILED, "*.so", "*.pyd")),
    )


class _Tree:
    """A checkout and the files in it that git knows or would know."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = lines(git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"))
        # Left out: submodules and repositories within, which are folders; files that are deleted but not committed so.
        self.files = frozenset(file for file in listed if (root / file).is_symlink() or (root / file).is_file())

    def below(self, folder: str) -> set[str]:
        return {file for file in self.files if _under(file, folder)}


def _case_files(head: _Tree, cases: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the files that hold cases, and the folders given."""
    given = [case for case in cases if (head.root / case).is_dir()]
    files = {case for case in cases if case not in given}
    for folder in given:
        files |= {file for file in head.below(folder) if _is_case_file(file) and not file.endswith("conftest.py")}
    return sorted(files), given


def _whole_folder(path: str, head: _Tree, base: _Tree) -> str | None:
    """Return the folder around a case that holds definitions only, by its name and by who imports it; None without."""
    around = PurePosixPath(path)
    ancestors = [str(folder) for folder in (around, *around.parents) if folder.name in CASE_FOLDERS]
    ancestors = [folder for folder in ancestors if (head.root / folder).is_dir()]
    # Folders of tests first: perf/tests holds the tests of a package that is called perf.
    ancestors.sort(key=lambda folder: (PurePosixPath(folder).name not in TEST_FOLDERS, folder.count("/")))
    return next((folder for folder in ancestors if not any(_is_source(folder, tree) for tree in (head, base))), None)


def _is_source(folder: str, tree: _Tree) -> bool:
    """Tell whether the package imports this folder, or is in it altogether."""
    modules = [file for file in tree.files if _is_module(file) and not _is_aside(file)]
    if not any(_under(file, folder) for file in tree.files):
        return False
    outside = [file for file in modules if not _under(file, folder)]
    if not outside and PurePosixPath(folder).name not in TEST_FOLDERS:
        return True
    return any(_imports(tree.root, file, folder) for file in outside)


def _imports(root: Path, file: str, folder: str) -> bool:
    wanted = PurePosixPath(folder).parts
    # A module's name begins below any folder that is no package.
    starts = [0] + [k for k in range(1, len(wanted)) if not root.joinpath(*wanted[:k], "__init__.py").exists()]
    try:
        text = (root / file).read_bytes()
        if wanted[-1].encode() not in text:
            return False
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):  # of another Python, or no text: not what this Python will import
        return False
    for node in ast.walk(tree):
        names: list[tuple[str, ...]] = []
        relative = False
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            relative = node.level > 0
            module = tuple(node.module.split(".")) if node.module else ()
            if relative:
                package = PurePosixPath(file).parts[: -node.level]
                module = (*package, *module)
            names = [(*module, alias.name) for alias in node.names]
        for name in names:
            if any(name[: len(wanted) - k] == wanted[k:] for k in ([0] if relative else starts)):
                return True
    return False


def _is_module(file: str) -> bool:
    """Tell whether a file may be a source: code that does not have the name of a test."""
    return file.endswith(_CODE) and not _is_case_file(file)


def _is_case_file(file: str) -> bool:
    return any(fnmatch(PurePosixPath(file).name, pattern) for pattern in _CASE_FILES)


def _is_aside(file: str) -> bool:
    *folders, name = PurePosixPath(file).parts
    driver = not folders and name in ("setup.py", "noxfile.py")
    return driver or not file.endswith(".py") or any(part in _ASIDE or part.startswith(".") for part in folders)


def _conftests(paths: Iterable[str]) -> set[str]:
    """Return where pytest looks for conftest.py on its way from the root to some paths."""
    return {
        str(folder / "conftest.py") for path in paths for folder in (PurePosixPath(path), *PurePosixPath(path).parents)
    }


def _ignored(head: _Tree, base: _Tree, name: re.Pattern[str], *patterns: str) -> list[str]:
    """Return ignored files of head that base lacks in folders that it has: made by a build there."""
    arguments = ("ls-files", "--others", "--ignored", "--exclude-standard", "-z", "--", *patterns)
    return sorted(
        file
        for file in lines(git(head.root, *arguments))
        if name.fullmatch(PurePosixPath(file).name)
        and (base.root / file).parent.is_dir()
        and not (base.root / file).exists()
    )


def _ignored_beside(head: _Tree, wholes: Sequence[str], beside: Sequence[str]) -> list[str]:
    """Return what git ignores and cases may read, caches and code apart; beside possible sources files only."""
    if not (wholes or beside):
        return []
    arguments = ("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z", "--", *wholes, *beside)
    found = [path.rstrip("/") for path in lines(git(head.root, *arguments))]
    return sorted(
        path
        for path in found
        if not PurePosixPath(path).name.startswith((".", "__pycache__"))
        and not path.endswith((*_CODE, ".pyc"))
        and (any(_under(path, whole) for whole in wholes) or (head.root / path).is_file())
    )


def _under(path: str, folder: str) -> bool:
    return folder == "." or path == folder or path.startswith(folder + "/")


def _differ(one: Path, other: Path) -> bool:
    return not (one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes())


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make_room(root: Path, file: str) -> None:
    """Make the folders of a file, real ones: writing through a link of base's could change its sources."""
    for folder in reversed(PurePosixPath(file).parents[:-1]):
        if (root / folder).is_symlink() or (root / folder).is_file():
            (root / folder).unlink()
        (root / folder).mkdir(exist_ok=True)
    _clear(root / file)


def _copy(head: Path, base: Path, file: str) -> None:
    _make_room(base, file)
    shutil.copy2(head / file, base / file, follow_symlinks=False)
