"""Where the code of the two arms of a speed check comes from: any git repository, without configuration."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import NotComparable, UsageError, nearest
from bench.speed.definitions import Plan, plan
from bench.speed.worktrees import commit, git, lines, repository, resolve, worktree

#: Where cases are looked for when none are named.
DEFAULT_CASES = "tests/speed"


@dataclass(frozen=True)
class Source:
    """One arm's code.

    Attributes:
        name: A git reference, or "working tree".
        commit: Twelve digits, with "+" where files differ from it; None outside git.
        root: Folder whose code runs.
        paths: What goes first on sys.path, in this order.
        cases: Files and folders with cases, relative to the root, with their "::" suffixes. One from outside the
            repository is absolute: both arms run the same file.
        definitions: What in the root is head's, relative to it. Empty where nothing was replaced.
    """

    name: str
    commit: str | None
    root: Path
    paths: tuple[Path, ...]
    cases: tuple[str, ...]
    definitions: tuple[str, ...] = ()


@dataclass(frozen=True)
class BaseTree:
    """A fresh checkout of base, for as long as `base_tree` lasts.

    Attributes:
        pristine: Base with its own definitions, to ask for its own cases; only those that it has are named.
        head: Root of the working tree.
        plan: Which definitions of head's it gets.
    """

    pristine: Source
    head: Path
    plan: Plan
    _cases: tuple[str, ...]

    @property
    def absent(self) -> frozenset[str]:
        """Case files that base does not have: their cases are compared like any other, and are not new ones.

        A file from outside the repository is one of them.
        """
        return self.plan.absent | {_path(case) for case in self._cases if Path(_path(case)).is_absolute()}

    @property
    def unchanged(self) -> bool:
        """Whether the definitions of base and head are the same files, so that base's own cases are head's."""
        names, commit = self.plan.definitions, self.pristine.commit
        if self.absent or self.plan.kept or commit is None:
            return False
        untracked = git(self.head, "ls-files", "--others", "--exclude-standard", "--", *names).stdout
        return not untracked and git(self.head, "diff", "--quiet", commit, "--", *names).returncode == 0

    def overlay(self) -> Source:
        """Give base the definitions of head, and return it: its own sources, asked what head is asked."""
        self.plan.apply(self.head, self.pristine.root)
        return replace(self.pristine, cases=self._cases, definitions=self.plan.definitions)


def project(folder: Path) -> Path:
    """Return the root of the project that a folder is in: where its pyproject.toml, setup.py or setup.cfg is.

    In a repository without any, or above all of them, it is the top level.

    Raises:
        UsageError: As `repository`.
    """
    top, folder = repository(folder), folder.resolve()
    for around in (folder, *folder.parents):
        if around == top or any((around / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg")):
            return around
    return top


def working_tree(root: Path, cases: Sequence[str] = ()) -> Source:
    """Return the code as it lies in a folder, which is run in place. Needs no git.

    Args:
        root: Top level of a checkout, a project in one, or any folder.
        cases: Files and folders with cases; `tests/speed` where none are named. Relative ones are looked for in the
            current folder, if that is in the root, and then in the root.

    Raises:
        UsageError: Cases that are not there, or no Python.
    """
    root = root.resolve()
    return Source("working tree", commit(root), root, _import_paths(root), _named_cases(root, cases))


@contextmanager
def base_tree(root: Path, ref: str, cases: Sequence[str] = ()) -> Iterator[BaseTree]:
    """Check base out beside the working tree, in a temporary folder that is removed however this ends.

    SIGTERM and SIGHUP become KeyboardInterrupt meanwhile, unless the caller handles them. Version files that only a
    build makes are copied from head. Submodules are not filled, files of git-lfs stay pointers, and nothing is
    compiled: `BaseTree.plan.unbuilt` names the compiled modules that base lacks.

    Args:
        root: As for `working_tree`, in a git repository.
        ref: Whatever git takes for a commit; a branch of a remote also without the remote's name.
        cases: As for `working_tree`.

    Raises:
        UsageError: No git repository, no such reference, cases that are not there, or git cannot check base out.
        NotComparable: The project's folder does not exist in base.
    """
    root = root.resolve()
    top = repository(root)
    named = _named_cases(root, cases)
    revision = resolve(top, ref)
    with worktree(top, revision) as tree:
        base = tree / root.relative_to(top)
        if not base.is_dir():
            raise NotComparable(f"{root.relative_to(top)} does not exist in {revision.name}: nothing to compare with")
        inside = [_path(case) for case in named if not Path(_path(case)).is_absolute()]
        planned = plan(root, base, inside)
        planned.prepare(root, base)
        own = tuple(case for case in named if _path(case) in inside and (base / _path(case)).exists())
        pristine = Source(revision.name, revision.commit[:12], base, _import_paths(base), own)
        yield BaseTree(pristine, root, planned, named)


def check_isolation(modules: Mapping[str, str | None], base: Source, head: Source) -> None:
    """Check that the base arm runs base's sources.

    Args:
        modules: Name and file of every module that the base arm has loaded; None for those without a file. What the
            check itself loads from head is left out by the caller.
        base: The arm that loaded them.
        head: The other arm.

    Raises:
        NotComparable: A module came from head's root, or nothing but head's definitions from base's.
    """
    if base.root == head.root:  # two environments: the same sources on purpose
        return
    measured = False
    for name, file in modules.items():
        if file is None or name == "__main__":
            continue
        path = Path(file)
        # As written: data and the like beside the cases may be links into head.
        if path.is_relative_to(base.root):
            inside = path.relative_to(base.root)
            measured |= not any(inside.is_relative_to(definition) for definition in base.definitions)
        elif (path := path.resolve()).is_relative_to(head.root) and not _is_environment(path, head.root):
            raise NotComparable(
                f"the base arm loaded {name} from the working tree ({path.relative_to(head.root)}): an editable "
                f"install or PYTHONPATH goes before the sources of {base.name}; uninstall it here, or compare two "
                "environments with --base-python"
            )
    if not measured:
        raise NotComparable(
            f"the cases load no module of {base.name} but their own definitions: both arms would run the same code; "
            "compare two environments with --base-python"
        )


def _is_environment(path: Path, root: Path) -> bool:
    """Tell whether a file belongs to a Python environment that lies in the root."""
    between = [folder for folder in path.parents if folder != root and folder.is_relative_to(root)]
    return any(
        folder.name in ("site-packages", "dist-packages")
        or (folder / "pyvenv.cfg").is_file()
        or (folder / "conda-meta").is_dir()
        for folder in between
    )


def _import_paths(root: Path) -> tuple[Path, ...]:
    """Return the folders whose packages are the project's: src, or what pyproject.toml says, then the root."""
    try:
        fields = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        fields = {}
    names = ["src", *(name for name in _package_folders(fields.get("tool", {})) if isinstance(name, str))]
    # A folder that is a package itself, as in `import src.model`, would lay its modules over the standard library's.
    found = {(root / name).resolve(): None for name in names if not (root / name / "__init__.py").exists()}
    return (*(path for path in found if path.is_dir() and path != root and path.is_relative_to(root)), root)


def _package_folders(tools: Any) -> list[Any]:
    def at(*keys: str) -> Any:
        fields = tools
        for key in keys:
            fields = fields.get(key) if isinstance(fields, dict) else None
        return fields

    where, packages = at("setuptools", "packages", "find", "where"), at("poetry", "packages")
    return [
        at("setuptools", "package-dir", ""),
        *(where if isinstance(where, list) else []),
        *(package.get("from") for package in (packages or []) if isinstance(package, dict)),
        at("maturin", "python-source"),
        at("pdm", "build", "package-dir"),
    ]


def _path(case: str) -> str:
    return case.partition("::")[0]


def _named_cases(root: Path, cases: Sequence[str]) -> tuple[str, ...]:
    if not cases:
        if (root / DEFAULT_CASES).is_dir():
            return (DEFAULT_CASES,)
        raise UsageError(f"no {DEFAULT_CASES} in {root}: name the cases, --cases path/to/test_file.py")
    found = tuple(dict.fromkeys(_case(root, case) for case in cases))
    outside = [case for case in found if Path(_path(case)).is_absolute()]
    if len({_path(case) for case in outside}) > 1:
        # pytest names a case by its path from the root, or from what it was given: they would have the same names.
        raise UsageError(f"--cases {' '.join(outside)}: more than one from outside {root}; give the folder of them")
    return found


def _case(root: Path, case: str) -> str:
    given, colons, node = case.partition("::")
    starts = [Path.cwd(), root] if Path.cwd().is_relative_to(root) else [root]
    path = next((start / given for start in starts if given and (start / given).exists()), None)
    if path is None:
        close = _nearest_file(root, given)
        raise UsageError(f"--cases {case}: no such file or folder" + (f"; did you mean {close!r}?" if close else ""))
    if path.is_file() and path.suffix != ".py":
        raise UsageError(f"--cases {case}: not a Python file (allowed: .py files and folders of them)")
    if node and path.is_dir():
        raise UsageError(f"--cases {case}: a folder has no case {node!r}; name its file")
    # The folder is resolved, the file is not: a link keeps its name.
    path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix() + colons + node


def _nearest_file(root: Path, given: str) -> str | None:
    files = [file for file in _python_files(root) if file.endswith(".py")]
    names = {Path(file).name: file for file in files}
    close = nearest(given, files) or nearest(Path(given).name, names)
    return names.get(close or "", close)


def _python_files(root: Path) -> list[str]:
    try:
        files = lines(git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"))
    except UsageError:
        files = []
    return files or [file.relative_to(root).as_posix() for file in root.glob("*.py")]
