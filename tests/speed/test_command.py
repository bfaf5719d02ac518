"""`bench speed check` from end to end: scratch repositories, real processes, real times.

Slowdowns are large and gates wide, so that what else the machine does changes no verdict: how small a change is found
is the business of the self-test.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.cli import main
from bench.speed.history import read
from bench.speed.result import CaseResult, CheckResult
from tests.conftest import ROOT
from tests.speed.repositories import commit_all, contents, repository_of, run_git, write

pytestmark = pytest.mark.usefixtures("person")

EXAMPLE = ROOT / "examples" / "speedcheck"
OPTIMIZER = "src/signstep/optimizer.py"

#: A package without torch, which starts in no time.
STEPS = "def total(n):\n    return sum(range(n))\n"
CASES = "from steps import total\n\ndef test_total(benchmark):\n    assert benchmark(total, 2000) == 1999000\n"
PLAIN = {"pyproject.toml": "", "src/steps/__init__.py": STEPS, "tests/speed/test_steps.py": CASES}

UPDATE = "                update(parameters"
CHOICE = 'update = _all_at_once if group["foreach"] else _one_by_one'


@dataclass(frozen=True)
class Answer:
    """What a check said, and what it stored."""

    code: int
    out: str
    err: str
    stored: CheckResult | None

    @property
    def result(self) -> CheckResult:
        assert self.stored is not None, self.err
        return self.stored

    @property
    def verdicts(self) -> dict[str, str]:
        return {row.case.rpartition("::")[2]: str(row.verdict) for row in self.result.cases}

    @property
    def row(self) -> CaseResult:
        (row,) = self.result.cases
        return row


Ask = Callable[..., Answer]


@pytest.fixture
def ask(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Run `bench speed check` in this process."""

    def run(*words: str) -> Answer:
        history = tmp_path / "history.jsonl"
        with pytest.raises(SystemExit) as ended:
            main(["speed", "check", "--history", str(history), *words])
        out, err = capfd.readouterr()
        stored = read(history).checks[-1] if history.exists() else None
        history.unlink(missing_ok=True)
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, out, err, stored)

    return run


def nothing_is_left(root: Path) -> bool:
    # torch keeps a cache of its own there.
    return len(run_git(root, "worktree", "list").splitlines()) == 1 and not temporary(root)


def temporary(root: Path) -> list[Path]:
    return list((root.parent / "temporary").glob("bench-speed*"))


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with a function and a case; the current folder. No check leaves anything behind."""
    root = repository_of(tmp_path / "steps", PLAIN)
    monkeypatch.chdir(root)
    yield root
    assert nothing_is_left(root)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example's repository; the current folder."""
    files = {name: text for name, text in contents(EXAMPLE).items() if not name.endswith(".pyc")}
    root = repository_of(tmp_path / "signstep", files)
    monkeypatch.chdir(root)
    yield root
    assert nothing_is_left(root)


def edit(root: Path, file: str, before: str, after: str) -> None:
    text = (root / file).read_text(encoding="utf-8")
    assert before in text
    write(root, {file: text.replace(before, after)})


ITEM = f"                [gradient.sum().item() for gradient in gradients]\n{UPDATE}"
WASTE = f"                [torch.ones(128, 128) for _ in parameters]\n{ITEM}"


AVERAGE = 'state["average"] = torch.zeros_like(parameter)'
SPARE = f'{AVERAGE}\n            state["spare"] = torch.zeros_like(parameter)'
RATE = "alpha=-lr"

#: One optimizer each, so that one check judges every commit: name → what it was, what it becomes, what is said of it:
#: verdict, least change, words of the reason.
COMMITS = {
    "foreach_off": (CHOICE, "update = _one_by_one", "REGRESSION", 0.12, ["ran foreach → forloop"]),
    "waste": (UPDATE, WASTE, "REGRESSION", 0.5, [".item() 0 → 60", "peak of a call"]),
    "faster": (ITEM, UPDATE, "improvement", -0.25, [".item() 60 → 0"]),
    "comments": (UPDATE, f"                # All of them.\n{UPDATE}", "ok", None, []),
    "grown": (AVERAGE, SPARE, "MEMORY", None, ["state 32 640 → 65 280 bytes"]),
    # Five steps of 2⁻¹³ are so much farther, relative to parameters of 1; see --rounding below.
    "rounded": (RATE, f"{RATE} * (1 + 2**-9)", "ok", None, ["numbers differ by 1e-06"]),
    "mathematics": (
        RATE,
        f"{RATE} * (1 + 2**-6)",
        "CHANGED-MATH",
        None,
        ["the arms end with other numbers: up to 1e-05"],
    ),
}
VARIANTS = """
import importlib

import pytest
import torch


@pytest.mark.parametrize("name", {names})
def test_step(benchmark, name):
    parameters = [torch.ones(shape, requires_grad=True) for shape in [(16, 16), (16,)] * 30]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    module = importlib.import_module(f"signstep.{{name}}")
    benchmark(module.SignMomentum(parameters, lr=2.0**-13).step)
"""


@pytest.mark.slow
def test_commits_that_change_the_speed_of_a_step_what_it_holds_or_its_numbers_and_one_that_does_not(
    example: Path, ask: Ask
) -> None:
    """Foreach saves a fourth of this step, so the gate is 8 %; everything else lies far from it."""
    text = (example / OPTIMIZER).read_text(encoding="utf-8")
    for name in COMMITS:
        before = text.replace(UPDATE, ITEM) if name == "faster" else text
        write(example, {f"src/signstep/{name}.py": before})
    write(example, {"tests/test_variants.py": VARIANTS.format(names=list(COMMITS))})
    base = commit_all(example, "an optimizer for each commit")
    for name, (before, after, *_) in COMMITS.items():
        edit(example, f"src/signstep/{name}.py", before, after)
        sha = commit_all(example, name)
    answer = ask("--base", base, "--cases", "tests/test_variants.py", "--gate", "8", "--rounding", "3e-6")
    assert answer.code == 1, answer.out
    assert answer.verdicts == {f"test_step[{name}]": verdict for name, (_, _, verdict, _, _) in COMMITS.items()}
    assert answer.result.head.commit == sha[:12]
    assert [str(row.verdict) for row in answer.result.sentinels] == ["ok"]
    for row, (name, (_, _, _, least, said)) in zip(answer.result.cases, COMMITS.items(), strict=True):
        assert name in row.case
        if least is None:
            assert [row.reason] == (said or [""])
            assert (row.base == row.head) is (name == "comments")
            continue
        assert all(words in row.reason for words in said), row.reason
        assert row.change is not None
        assert row.change > least if least > 0 else row.change < least
        assert len(row.pairs) == len(row.confirmation) == 3
    assert "-k foreach_off" in answer.out.replace("'", "")
    assert answer.err == ""


def test_a_renamed_case_is_gone_and_new(plain: Path, ask: Ask) -> None:
    edit(plain, "tests/speed/test_steps.py", "test_total", "test_sum")
    commit_all(plain, "rename")
    answer = ask("--base", "HEAD~1")
    assert answer.code == 4, answer.err
    assert answer.verdicts == {"test_sum": "NEW", "test_total": "GONE"}
    assert "1 GONE, 1 NEW" in answer.out


def test_a_case_that_is_deleted_is_gone(plain: Path, ask: Ask) -> None:
    write(plain, {"tests/speed/test_steps.py": "def test_nothing(): ...\n"})
    answer = ask("--base", "HEAD")
    assert (answer.code, answer.verdicts) == (4, {"test_total": "GONE"}), answer.err


CRASHES = """
import os
import pytest
import steps

def test_total(benchmark):
    benchmark(steps.total, 2000)

def test_answer(benchmark):
    benchmark(steps.answer)

def test_aborts_now(benchmark):
    benchmark(steps.aborts_now)

def test_raises_now(benchmark):
    benchmark(steps.raises_now)

def test_aborted_before(benchmark):
    benchmark(steps.aborted_before)

def test_never_works(benchmark):
    benchmark(steps.missing)

def test_skipped(benchmark):
    pytest.skip("not on this machine")
"""
WORKING = "    return sum(range(2000))\n"


def test_cases_that_do_not_run_are_told_apart_and_spoil_no_other(plain: Path, ask: Ask) -> None:
    names = ("answer", "aborts_now", "raises_now", "aborted_before")

    def steps(**bodies: str) -> str:
        functions = "".join(f"def {name}():\n{bodies.get(name, WORKING)}\n" for name in names)
        return f"import os\n{STEPS}\n{functions}"

    abort = "    os.abort()\n"
    write(plain, {"src/steps/__init__.py": steps(aborted_before=abort), "tests/speed/test_steps.py": CRASHES})
    commit_all(plain)
    now = {"aborts_now": abort, "raises_now": "    raise ValueError('no')\n", "answer": "    return sum(range(1999))\n"}
    write(plain, {"src/steps/__init__.py": steps(**now)})
    answer = ask("--base", "HEAD", "--gate", "25")
    assert answer.code == 4
    assert answer.verdicts == {
        "test_total": "ok",
        "test_answer": "CHANGED-MATH",
        "test_aborts_now": "BROKEN",
        "test_raises_now": "BROKEN",
        "test_aborted_before": "NEW",
        "test_never_works": "BROKEN",
        "test_skipped": "skipped",
    }
    reasons = {row.case.rpartition("::")[2]: row.reason for row in answer.result.cases}
    assert reasons == {
        "test_total": "",
        "test_answer": "the arms end with other numbers",
        "test_aborts_now": "head cannot run it: killed by SIGABRT",
        "test_raises_now": "head cannot run it: ValueError: no",
        "test_aborted_before": "base cannot run it: killed by SIGABRT",
        "test_never_works": "neither arm can run it: AttributeError: module 'steps' has no attribute 'missing'",
        "test_skipped": "not on this machine",
    }
    assert "the check failed its own check" not in answer.out

    alone = ask("--base", "HEAD", "-k", "aborts_now or skipped")
    assert (alone.code, alone.verdicts) == (4, {"test_aborts_now": "BROKEN", "test_skipped": "skipped"}), alone.err
    assert "the check failed its own check" not in alone.out
    alone = ask("--base", "HEAD", "-k", "aborted_before")
    assert (alone.code, alone.out, alone.stored) == (4, "", None)
    assert alone.err.splitlines()[-1] == (
        "bench: nothing could be compared: tests/speed/test_steps.py::test_aborted_before: "
        "base cannot run it: killed by SIGABRT"
    )


def test_a_base_that_cannot_be_imported_is_said_in_a_line(plain: Path, ask: Ask) -> None:
    write(plain, {"src/steps/__init__.py": "import no_such_module\n"})
    commit_all(plain, "cannot be imported")
    write(plain, {"src/steps/__init__.py": STEPS})
    answer = ask("--base", "HEAD")
    assert (answer.code, answer.out) == (4, "")
    said = answer.err.splitlines()
    assert said[0].endswith("+") is False
    assert said[0].endswith("it is checked as it lies")
    assert said[1:] == [
        "bench: base can run none of the 1 cases: base cannot collect it: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    ]


def test_a_head_that_cannot_be_imported_is_said_in_a_line(plain: Path, ask: Ask) -> None:
    write(plain, {"src/steps/__init__.py": "import no_such_module\n"})
    answer = ask("--base", "HEAD")
    assert answer.code == 4
    assert answer.err.splitlines()[-1].startswith("bench: head cannot collect tests/speed/test_steps.py: ModuleNotF")


def test_a_call_too_long_for_the_budget_is_inconclusive(plain: Path, ask: Ask) -> None:
    slow = (
        "import time\n\ndef total(n):\n    end = time.perf_counter() + 0.2\n    while time.perf_counter() < end: ...\n"
    )
    write(plain, {"src/steps/__init__.py": f"{slow}    return 1999000\n"})
    commit_all(plain)
    answer = ask("--base", "HEAD", "--budget", "10")
    assert (answer.code, answer.verdicts) == (3, {"test_total": "INCONCLUSIVE"}), answer.err
    assert "of --budget" in answer.row.reason
    assert "the check failed its own check" not in answer.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to compare with: give --base REF, --base-python PATH, or both"),
        (["--base", "mian"], "--base mian: no such branch, tag or commit here; did you mean 'main'?"),
        (["--base", "main", "--gate", "0.1"], "--gate 0.1: must be from 1 to 1000 (per cent)"),
        (["--base", "main", "--gate", "nan"], "--gate nan: must be from 1 to 1000 (per cent)"),
        (["--base", "main", "--budget", "0"], "--budget 0: must be above 0 and finite (seconds)"),
        (["--base", "main", "--budget", "inf"], "--budget inf: must be above 0 and finite (seconds)"),
        (["--base", "main", "--rounding", "2"], "--rounding 2: must be at least 0 and below 1"),
        (["--base-python", "no/such/python"], "--base-python no/such/python: no such file"),
        (["--base-python", "./pyproject.toml"], "--base-python ./pyproject.toml: is not a Python interpreter"),
        (["--base", "main", "--cases", "tests/sped"], "--cases tests/sped: no such file or folder"),
        (
            ["--base", "main", "-k", "nothing"],
            "no cases: no collected test uses the benchmark fixture (see --cases, -k)",
        ),
        (["--base", "main", "--markdown", "no/such/folder"], "--markdown no/such/folder: cannot be written"),
        (["--base", "main", "--json", "no/such/folder"], "--json no/such/folder: cannot be written"),
        (["--base", "main", "--history", "tests"], "--history tests: cannot be written"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(plain: Path, ask: Ask, words: list[str], said: str) -> None:
    answer = ask(*words)
    assert answer.code == 2
    assert answer.err.startswith(f"bench: {said}")
    assert len(answer.err.splitlines()) == 1


def test_an_interpreter_without_pytest_is_refused(plain: Path, ask: Ask) -> None:
    python = plain.parent / "bare-python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(0o755)
    answer = ask("--base", "main", "--base-python", str(python))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"bench: --base-python {python}: lacks pytest pytest-benchmark; "
        f"run {python} -m pip install pytest pytest-benchmark\n"
    )


def test_two_environments_are_compared_without_git(tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "steps", PLAIN)
    monkeypatch.chdir(tmp_path / "steps")
    answer = ask("--base-python", sys.executable, "--gate", "25")
    assert (answer.code, answer.verdicts, answer.err) == (0, {"test_total": "ok"}, ""), answer.out
    assert (answer.result.base.commit, answer.result.head.name) == (None, "this environment")
    refused = ask("--base", "main")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(f"bench: {tmp_path / 'steps'} is not in a git repository")
    assert temporary(tmp_path / "steps") == []


def test_an_uncommitted_change_is_checked_as_it_lies_and_what_is_stored_is_read_by_others(
    plain: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    history, exported, summary = (plain.parent / name for name in ("history.jsonl", "check.json", "summary.md"))
    write(plain, {"src/steps/__init__.py": f"# Not committed.\n{STEPS}"})
    before, sha = contents(plain), run_git(plain, "rev-parse", "HEAD")[:12]
    summary.write_text("# Summary\n")
    words = ["--base", "main", "--gate", "25", "--history", str(history), "--json", str(exported)]
    with pytest.raises(SystemExit, match="0"):
        main(["speed", "check", *words, "--markdown", str(summary)])
    assert contents(plain) == before
    assert capfd.readouterr().err == f"bench: the working tree differs from {sha}; it is checked as it lies\n"
    (check,) = read(history).checks
    assert (check.base.commit, check.head.commit) == (sha, f"{sha}+")
    with pytest.raises(SystemExit, match="0"):
        main(["speed", "history", str(history)])
    assert "test_total" in capfd.readouterr().out
    compare = [sys.executable, "-m", "pytest_benchmark", "compare", str(exported)]
    told = subprocess.run(compare, cwd=plain.parent, capture_output=True, text=True, check=True)
    assert "test_total" in told.stdout
    (benchmark,) = json.loads(exported.read_text())["benchmarks"]
    assert benchmark["extra_info"]["verdict"] == "ok"
    assert summary.read_text().startswith("# Summary\n| case | base µs |")


def test_run_prints_the_table_of_pytest_benchmark(
    plain: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Under xdist, which these tests may run under themselves, pytest-benchmark does nothing.
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit, match="0"):
        main(["speed", "run", "-k", "total", "--", "--benchmark-max-time=0.01", "--benchmark-min-rounds=2"])
    out = capfd.readouterr().out
    assert "OPS" in out
    assert "test_total" in out
    with pytest.raises(SystemExit, match="2"):
        main(["speed", "run", "-k", "nothing"])


ON_ONE = "import os, sys\nos.sched_setaffinity(0, [int(sys.argv[1])])\nfrom bench.cli import main\nmain(sys.argv[2:])\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot keep a process on a processor")
def test_one_processor_is_enough(plain: Path) -> None:
    words = [sys.executable, "-c", ON_ONE, str(max(os.sched_getaffinity(0)))]
    words += ["speed", "check", "--base", "main", "--gate", "25"]
    done = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 cases in" in done.stdout


BUSY = """
import os
import time

def total(n):
    end = time.perf_counter() + 0.02
    while time.perf_counter() < end:
        pass
    return 1999000
"""


@contextmanager
def running_check(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A check that measures: a case of it has been started. It takes seconds more."""
    telling = CASES.replace("    assert", "    os.write(os.open(os.environ['STARTED'], os.O_WRONLY), b'.')\n    assert")
    write(root, {"src/steps/__init__.py": BUSY, "tests/speed/test_steps.py": f"import os\n{telling}"})
    commit_all(root)
    fifo = root.parent / "started"
    os.mkfifo(fifo)
    started = os.open(fifo, os.O_RDWR)
    words = [sys.executable, "-m", "bench.cli", "speed", "check", "--base", "HEAD"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "STARTED": str(fifo)}
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(words, cwd=root, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                ready, _, _ = select.select([started], [], [], 60)
                assert ready, "no case was started"
                yield process
            finally:
                process.kill()
    finally:
        os.close(started)


def test_control_c_leaves_nothing_behind(plain: Path) -> None:
    with running_check(plain) as process:
        arms = psutil.Process(process.pid).children(recursive=True)
        assert len(arms) >= 2
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said == "bench: interrupted\n"
    assert [arm for arm in arms if arm.is_running() and arm.status() != psutil.STATUS_ZOMBIE] == []
    assert nothing_is_left(plain)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system cannot wait for a process that is no child")
def test_a_killed_check_ends_its_arms_and_the_next_one_cleans_up(
    plain: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_check(plain) as process:
        arms = [os.pidfd_open(arm.pid) for arm in psutil.Process(process.pid).children(recursive=True)]
        assert len(arms) >= 2
        process.kill()
        process.wait()
        # In here: outside nobody would read what a case that is starting says of itself.
        for arm in arms:
            ready, _, _ = select.select([arm], [], [], 30)
            os.close(arm)
            assert ready, "an arm outlives its check"
    assert len(run_git(plain, "worktree", "list").splitlines()) == 2
    write(plain, PLAIN)
    answer = ask("--base", "main~1", "--gate", "25")
    assert answer.code == 0, answer.out
    assert "which a killed check left behind" in answer.err
