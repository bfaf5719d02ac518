import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.speed.worktrees import Revision, _host, clean_environment, commit, repository, resolve, worktree
from tests.conftest import ROOT
from tests.speed.repositories import commit_all, repository_of, run_git, write

pytestmark = pytest.mark.usefixtures("person")

HOLD = """
import sys
from pathlib import Path
from bench.speed.worktrees import resolve, worktree
top = Path(sys.argv[1])
with worktree(top, resolve(top, "HEAD")) as tree:
    print(tree, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository with two commits, the first tagged v1, and a branch with a slash."""
    root = repository_of(tmp_path / "répo with spaces", {"module.py": "VALUE = 1\n"})
    run_git(root, "tag", "v1")
    run_git(root, "branch", "feature/faster")
    write(root, {"module.py": "VALUE = 2\n"})
    commit_all(root)
    return root


@contextmanager
def holder(top: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a worktree until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(top)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().removesuffix("\n"))
        finally:
            process.kill()


def worktrees(top: Path) -> list[str]:
    return [
        line for line in run_git(top, "worktree", "list", "--porcelain").splitlines() if line.startswith("worktree")
    ]


def nothing_is_left(top: Path) -> bool:
    return len(worktrees(top)) == 1 and list((top.parent / "temporary").iterdir()) == []


def test_repository_is_the_top_level_of_any_folder_in_it(top: Path) -> None:
    (top / "deep/folder").mkdir(parents=True)
    assert repository(top / "deep/folder") == top
    run_git(top, "worktree", "add", "-q", "--detach", str(top.parent / "linked"))
    assert repository(top.parent / "linked") == top.parent / "linked"


def test_folders_that_are_no_checkout_are_refused_in_a_line_each(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_git(tmp_path, "clone", "-q", "--bare", str(top), "bare")
    for folder in (tmp_path / "bare", top / ".git"):
        with pytest.raises(UsageError, match=r"is a bare repository or a \.git folder: a check needs a checkout"):
            repository(folder)
    with pytest.raises(UsageError, match=r"is not in a git repository: .*--base-python"):
        repository(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        repository(tmp_path / "missing")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UsageError, match=r"dubious ownership.*; git config --global --add safe\.directory allows it"):
        repository(top)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="git is not installed"):
        repository(top)
    assert commit(top) is None


def test_commit_says_whether_files_differ_from_it(top: Path) -> None:
    sha = run_git(top, "rev-parse", "HEAD")
    write(top, {"notes.txt": "not code"})
    assert commit(top) == sha[:12]
    write(top, {"package/new.py": ""})
    assert commit(top) == commit(top / "package") == sha[:12] + "+"
    (top / "package/new.py").unlink()
    write(top, {"module.py": "VALUE = 3\n"})
    assert commit(top) == sha[:12] + "+"


@pytest.mark.parametrize(
    "ref", ["v1", "HEAD~1", "feature/faster", "main~1", "main@{0}", ":/change", "sha", "short sha"]
)
def test_every_way_to_name_a_commit_is_git_s_own(top: Path, ref: str) -> None:
    first, last = run_git(top, "rev-parse", "v1"), run_git(top, "rev-parse", "HEAD")
    wanted = last if ref in ("main@{0}", ":/change") else first
    ref = {"sha": first, "short sha": first[:8]}.get(ref, ref)
    assert resolve(top, ref) == Revision(ref, wanted)


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("mian", r"--base mian: no such branch, tag or commit here; did you mean 'main'\?$"),
        ("feature/fster", r"did you mean 'feature/faster'\?$"),
        ("HEAD~7", "no such branch, tag or commit here"),
        ("0" * 40, "no such branch, tag or commit here"),
        ("v1..main", "no such branch, tag or commit here"),
        ("HEAD:module.py", "a blob, not a commit"),
        ("HEAD:", "a tree, not a commit"),
        ("", "not a git reference"),
        ("--all", "not a git reference"),
    ],
)
def test_a_reference_that_is_none_is_refused_with_the_nearest(top: Path, ref: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        resolve(top, ref)
    assert "\n" not in str(caught.value)


def test_a_repository_without_a_commit_says_so(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q", "empty")
    assert commit(tmp_path / "empty") is None
    with pytest.raises(UsageError, match="this repository has no commit yet"):
        resolve(tmp_path / "empty", "HEAD")


def test_a_branch_that_only_the_remote_has_is_found_there_and_said(
    top: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_git(tmp_path, "clone", "-q", str(top), "clone")
    first = run_git(top, "rev-parse", "v1")
    assert resolve(tmp_path / "clone", "feature/faster") == Revision("origin/feature/faster", first)
    assert capsys.readouterr().err == (
        "bench: --base feature/faster is no local branch: origin/feature/faster is taken\n"
    )
    assert resolve(tmp_path / "clone", "origin/feature/faster").commit == first
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageError, match="no such branch"):
        resolve(tmp_path / "clone", "HEAD~7")


def test_a_shallow_clone_says_how_to_get_the_base_and_then_has_it(top: Path, tmp_path: Path) -> None:
    run_git(tmp_path, "clone", "-q", "--depth=1", f"file://{top}", "shallow")
    clone = tmp_path / "shallow"
    with pytest.raises(UsageError, match=r"shallow: fetch-depth: 0 in CI, or git fetch --unshallow$"):
        resolve(clone, "HEAD~1")
    with pytest.raises(UsageError, match=r"fetch-depth: 0 in CI, or (git fetch origin v1) and --base FETCH_HEAD$"):
        resolve(clone, "v1")
    run_git(clone, "fetch", "-q", "origin", "v1")
    assert resolve(clone, "FETCH_HEAD").commit == run_git(top, "rev-parse", "v1")


def test_asking_for_the_commit_writes_nothing(top: Path) -> None:
    os.utime(top / "module.py", (0, 0))  # git would note down that the file is the same all the same
    index = (top / ".git/index").read_bytes()
    assert commit(top) == run_git(top, "rev-parse", "HEAD")[:12]
    assert (top / ".git/index").read_bytes() == index


def test_a_worktree_has_the_files_of_its_commit_and_leaves_the_repository_as_it_was(top: Path) -> None:
    write(top, {"module.py": "VALUE = 3\n", "staged.py": "", "untracked.py": ""})
    run_git(top, "stash")
    write(top, {"module.py": "VALUE = 4\n", "staged.py": "1\n"})
    run_git(top, "add", "staged.py")
    hook = top / ".git/hooks/post-checkout"
    write(top, {".git/hooks/post-checkout": "#!/bin/sh\ntouch '" + str(top / "hook-ran") + "'\n"})
    hook.chmod(0o755)
    asked = (["status", "--porcelain"], ["for-each-ref"], ["stash", "list"], ["rev-parse", "HEAD"], ["reflog"])
    before = [run_git(top, *words) for words in asked]
    index = (top / ".git/index").read_bytes()
    with worktree(top, resolve(top, "v1")) as tree:
        assert (tree / "module.py").read_text() == "VALUE = 1\n"
        assert sorted(path.name for path in tree.iterdir()) == [".git", "module.py"]
        assert tree.name == top.name
        assert not tree.is_relative_to(top)
    assert (top / ".git/index").read_bytes() == index
    assert [run_git(top, *words) for words in asked] == before
    assert nothing_is_left(top)


def test_a_check_may_run_from_a_hook(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = repository_of(tmp_path / "other", {"other.py": ""})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    index = (other / ".git/index").read_bytes()
    assert repository(top) == top
    with worktree(top, resolve(top, "v1")) as tree:
        assert (tree / "module.py").is_file()
    assert (other / ".git/index").read_bytes() == index
    assert not {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"} & set(clean_environment())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_worktree_goes_away_on_every_way_out(top: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), worktree(top, resolve(top, "HEAD")) as tree:  # noqa: PT012
        write(tree, {"left/behind.py": "", "module.py": "changed"})
        raise error
    assert nothing_is_left(top)


def test_a_checkout_that_git_cannot_make_leaves_nothing(top: Path) -> None:
    with (
        pytest.raises(UsageError, match="--base gone: git cannot check it out: "),
        worktree(top, Revision("gone", "1" * 40)),
    ):
        pass
    assert nothing_is_left(top)


def test_a_temporary_folder_inside_the_checkout_is_refused(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(top / "scratch"))
    with pytest.raises(UsageError, match="is inside the checkout: set TMPDIR"), worktree(top, resolve(top, "HEAD")):
        pass
    assert list((top / "scratch").iterdir()) == []


def test_a_filter_that_is_not_installed_leaves_pointers(top: Path, tmp_path: Path) -> None:
    write(top, {".gitattributes": "*.bin filter=lfs\n", "data.bin": "version https://git-lfs.github.com/spec/v1\n"})
    commit_all(top)
    settings = "smudge = no-such-lfs smudge\nprocess = no-such-lfs\nrequired = true\n"
    write(tmp_path, {"gitconfig": f'[filter "lfs"]\n{settings}'})
    with worktree(top, resolve(top, "HEAD")) as tree:
        assert (tree / "data.bin").read_text().startswith("version")


def test_sigterm_is_an_interrupt_that_cleans_up(top: Path) -> None:
    with holder(top) as (process, tree):
        assert (tree / "module.py").is_file()
        process.terminate()
        assert process.wait() == -signal.SIGINT
    assert nothing_is_left(top)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_that_the_caller_handles_stays_the_caller_s(top: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with worktree(top, resolve(top, "HEAD")):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_what_a_killed_check_left_is_removed_by_the_next(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with holder(top) as (process, tree):
        process.kill()
        process.wait()
        assert (tree / "module.py").is_file()
        with worktree(top, resolve(top, "HEAD")) as other:
            assert not tree.parent.exists()
            assert len(worktrees(top)) == 2
            assert other.is_dir()
    assert capsys.readouterr().err == f"bench: removed {tree.parent}, which a killed check left behind\n"
    assert nothing_is_left(top)


def test_a_killed_check_whose_folder_is_gone_too_is_forgotten(top: Path, tmp_path: Path) -> None:
    with holder(top) as (process, tree):
        process.kill()
        process.wait()
        tree.parent.rename(tmp_path / "elsewhere")
        assert len(worktrees(top)) == 2
        with worktree(top, resolve(top, "HEAD")):
            assert len(worktrees(top)) == 2
    assert nothing_is_left(top)


def test_a_dead_process_may_have_had_the_number_of_this_one(top: Path, tmp_path: Path) -> None:
    left = tmp_path / f"temporary/bench-speed-base.{_host()}.{os.getpid()}.abc/repo"
    run_git(top, "worktree", "add", "-q", "--detach", str(left))
    with worktree(top, resolve(top, "HEAD")):
        assert not left.exists()
    assert nothing_is_left(top)


def test_two_checks_at_once_leave_each_other_alone(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with holder(top) as (process, tree):
        with worktree(top, resolve(top, "v1")) as ours, worktree(top, resolve(top, "v1")) as also_ours:
            assert (tree / "module.py").read_text() == "VALUE = 2\n"
            assert ours != also_ours
            assert len(worktrees(top)) == 4
        assert (tree / "module.py").is_file()
        assert run_git(tree, "status", "--porcelain") == ""
        process.communicate()
        assert process.returncode == 0
    assert capsys.readouterr().err == ""
    assert nothing_is_left(top)


def test_worktrees_of_the_user_and_of_other_machines_are_left_alone(top: Path, tmp_path: Path) -> None:
    names = ["mine", "bench-speed-base.another-host.999999999.abc/repo", f"bench-speed-base.x.{os.getpid()}/repo"]
    for name in names:
        run_git(top, "worktree", "add", "-q", "--detach", str(tmp_path / name))
    (tmp_path / "mine").rename(tmp_path / "unplugged")
    with worktree(top, resolve(top, "HEAD")):
        assert len(worktrees(top)) == 5
    assert len(worktrees(top)) == 4
