"""What the speed check asks of git: which repository, which commit, and a second working tree that goes away again."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from bench.errors import UsageError, nearest

#: Variables that make git look at another repository, index or part of it; git sets some of them for its hooks.
REPOSITORY_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
_PREFIX = "bench-speed-base"
#: Worktrees of this process, so that a process with the number of one that died does not take its worktree for its own.
_live: set[Path] = set()


@dataclass(frozen=True)
class Revision:
    """A commit that a person named.

    Attributes:
        name: The reference that was found; "origin/main" where "main" exists only there.
        commit: All digits.
    """

    name: str
    commit: str


def clean_environment() -> dict[str, str]:
    """Return the environment without what would send git to another repository than that of its working folder."""
    return {name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES}


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, without hooks, prompts, downloads of large files, and locks that it can do without.

    Raises:
        UsageError: git is not installed.
    """
    settings = {
        "LC_ALL": "C",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
    # A filter that is not installed leaves pointers instead of ending the checkout.
    options = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", "-c", "filter.lfs.required=false")
    try:
        return subprocess.run(
            ["git", *options, *arguments],
            cwd=folder,
            env=clean_environment() | settings,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            # Ctrl-C reaches every process of a terminal's group: a checkout is ended by us, not halfway by itself.
            start_new_session=True,
            check=False,
        )
    except FileNotFoundError:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder") from None
        raise UsageError(
            "git is not installed, or not in PATH: a base is a git reference (--base-python compares without git)"
        ) from None


def lines(answer: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what a command with -z said, without the empty end; nothing where it failed."""
    return [line for line in answer.stdout.split("\0") if line] if answer.returncode == 0 else []


def repository(folder: Path) -> Path:
    """Return the top level of the checkout that a folder is in.

    Raises:
        UsageError: Not in a git repository, in one without a working tree or that git refuses, or no git installed.
    """
    answer = git(folder, "rev-parse", "--show-toplevel")
    top = answer.stdout.removesuffix("\n")
    if answer.returncode == 0 and top:
        return Path(top).resolve()
    if git(folder, "rev-parse", "--is-inside-git-dir").stdout.strip() == "true":
        raise UsageError(f"{folder} is a bare repository or a .git folder: a check needs a checkout")
    if "not a git repository" in answer.stderr:
        raise UsageError(f"{folder} is not in a git repository: a base is a git reference (--base-python needs none)")
    hint = "; git config --global --add safe.directory allows it" if "dubious ownership" in answer.stderr else ""
    raise UsageError(f"git cannot use {folder}: {_reason(answer)}{hint}")


def commit(root: Path) -> str | None:
    """Return twelve digits of the commit checked out, with "+" where files differ from it, or None without one.

    A file that git does not know counts where it is Python.
    """
    try:
        answer = git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if answer.returncode != 0:
            return None
        changed = git(root, "status", "--porcelain", "--untracked-files=no").stdout
        added = git(root, "ls-files", "--others", "--exclude-standard", "--", ":/*.py").stdout
    except UsageError:
        return None
    return answer.stdout[:12] + ("+" if changed or added else "")


def resolve(top: Path, ref: str) -> Revision:
    """Find the commit that a person names.

    A branch that exists only at a remote, as in the checkouts of most CI services, is found there, which is said on
    the standard error.

    Raises:
        UsageError: No such reference, or not one of a commit.
    """
    if not ref or ref.startswith("-"):
        raise UsageError(f"--base {ref!r}: not a git reference (a branch, a tag, a commit, HEAD~1 …)")
    if found := _commit_of(top, ref):
        return Revision(ref, found)
    branch = re.split(r"[~^:]|@\{", ref)[0]
    for remote in sorted(git(top, "remote").stdout.split(), key=lambda name: (name != "origin", name)):
        known = git(top, "show-ref", "--verify", "--quiet", f"refs/remotes/{remote}/{branch}").returncode == 0
        if branch not in ("", "HEAD", "@") and known and (found := _commit_of(top, f"{remote}/{ref}")):
            print(f"bench: --base {ref} is no local branch: {remote}/{ref} is taken", file=sys.stderr)
            return Revision(f"{remote}/{ref}", found)
    raise UsageError(f"--base {ref}: {_why_not(top, ref)}")


def _commit_of(top: Path, ref: str) -> str | None:
    # Two steps: ":/text" and the like would take "^{commit}" for a part of the text.
    named = git(top, "rev-parse", "--verify", ref)
    if named.returncode != 0:
        return None
    found = git(top, "rev-parse", "--verify", "--quiet", named.stdout.strip() + "^{commit}")
    return found.stdout.strip() if found.returncode == 0 else None


def _why_not(top: Path, ref: str) -> str:
    """Say in one line why a reference is of no use, and what would be."""
    named = git(top, "rev-parse", "--verify", ref)
    if named.returncode == 0 and (kind := git(top, "cat-file", "-t", named.stdout.strip()).stdout.strip()):
        return f"a {kind}, not a commit"
    if "ambiguous" in named.stderr:
        return _reason(named)
    shallow = git(top, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"
    names = git(top, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes")
    if not shallow and not names.stdout:
        return "this repository has no commit yet"
    close = nearest(ref, names.stdout.split())
    said = "no such branch, tag or commit here" + (f"; did you mean {close!r}?" if close else "")
    if not shallow:
        return said
    if re.search(r"[~^:@]", ref):
        return f"{said}; this clone is shallow: fetch-depth: 0 in CI, or git fetch --unshallow"
    return f"{said}; this clone is shallow: fetch-depth: 0 in CI, or git fetch origin {ref} and --base FETCH_HEAD"


@contextmanager
def worktree(top: Path, revision: Revision) -> Iterator[Path]:
    """Check a commit out in a temporary folder of its own, which is removed however this ends.

    The user's files, index, stash, branches and hooks are left alone; submodules are not filled, and large files of
    git-lfs stay pointers. SIGTERM and SIGHUP become KeyboardInterrupt meanwhile, unless the caller handles them. What
    a killed check left behind is removed first, and named on the standard error.

    Yields:
        The folder. It has the name of the checkout's, which is the name of the package where that is the package.

    Raises:
        UsageError: git cannot check it out, or the temporary folder is inside the checkout.
    """
    remove_leftovers(top)
    with _signals(_interrupt, ("SIGTERM", "SIGHUP"), only_default=True):
        temporary = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}.{_host()}.{os.getpid()}.")).resolve()
        tree = temporary / (top.name or "base")
        _live.add(tree)
        try:
            if temporary.is_relative_to(top):
                raise UsageError(f"temporary folder {temporary.parent} is inside the checkout: set TMPDIR to another")
            answer = git(top, "worktree", "add", "--quiet", "--detach", str(tree), revision.commit)
            if answer.returncode != 0:
                raise UsageError(f"--base {revision.name}: git cannot check it out: {_reason(answer)}")
            yield tree
        finally:
            with _signals(signal.SIG_IGN, ("SIGINT", "SIGTERM", "SIGHUP")):
                _remove(top, tree)
                _live.discard(tree)


def remove_leftovers(top: Path) -> None:
    """Remove worktrees of checks of this machine whose processes are no more; say so on the standard error."""
    pattern = re.compile(rf"{_PREFIX}\.{re.escape(_host())}\.(\d+)\.[^.]*")
    administration = (top / git(top, "rev-parse", "--git-common-dir").stdout.strip()).resolve() / "worktrees"
    for entry in administration.glob("*/gitdir"):
        try:
            recorded = entry.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n")
        except FileNotFoundError:  # the other check has just ended
            continue
        tree = (entry.parent / recorded).resolve().parent
        match = pattern.fullmatch(tree.parent.name)
        if match and tree not in _live and not _runs(int(match[1])):
            _remove(top, tree)
            print(f"bench: removed {tree.parent}, which a killed check left behind", file=sys.stderr)


def _remove(top: Path, tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    # Twice forced: git locks a worktree while it makes it.
    git(top, "worktree", "remove", "--force", "--force", str(tree))
    shutil.rmtree(tree.parent, ignore_errors=True)
    if tree.parent.exists():
        print(f"bench: {tree.parent} could not be removed", file=sys.stderr)


def _runs(process: int) -> bool:
    """Tell whether a process is alive; one of our own number is not unless it is ourselves, whose trees are known."""
    try:
        return process != os.getpid() and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def _reason(answer: subprocess.CompletedProcess[str]) -> str:
    said = [line for line in answer.stderr.splitlines() if line.startswith(("fatal:", "error:"))]
    return re.sub(r"^(fatal|error): ", "", said[-1]) if said else f"exit code {answer.returncode}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _signals(handler: Any, names: tuple[str, ...], only_default: bool = False) -> Iterator[None]:
    """Handle signals for a while; only the main thread can."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    if only_default:
        numbers = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
