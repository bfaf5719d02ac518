"""Arms: real processes over small cases, in an interpreter without torch where torch is not the point."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.speed.arms import Arm, ArmFailed, CaseEnded, Code, Collected
from bench.speed.result import Facts

PATIENCE = 60.0
NEEDED = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "pytest_benchmark", "cpuinfo", "py.py")
CASES = """
import os
import random
import signal

import pytest

def test_sum(benchmark):
    assert benchmark(sum, (1, 2, 3)) == 6


def test_keywords(benchmark):
    assert benchmark(sorted, [2, 3, 1], reverse=True) == [3, 2, 1]


@pytest.mark.parametrize("size", [1, 2], ids=["one", "two"])
def test_parameters(benchmark, size):
    benchmark.group = "sizes"
    benchmark.extra_info["size"] = size
    assert benchmark.name == f"test_parameters[{benchmark.param}]"
    assert benchmark.params == {"size": size}
    assert benchmark(lambda: size * 2) == 2 * size
    assert benchmark.extra_info == {"size": size}
    assert benchmark.stats is None


def test_pedantic(benchmark):
    assert benchmark.pedantic(divmod, args=(7,), rounds=5, iterations=2) is None


def test_pedantic_plain(benchmark):
    assert benchmark.pedantic(sorted, args=([2, 1],), kwargs={"reverse": True}, rounds=3, warmup_rounds=1) == [2, 1]


def test_set_up(benchmark):
    made, torn = [], []

    def setup():
        made.append(len(made))
        return (made[-1],), {"more": 1}

    def target(number, more):
        assert len(made) == len(torn) + 1
        return number + more

    def teardown(number, more):
        torn.append(number)

    last = benchmark.pedantic(target, setup=setup, teardown=teardown, rounds=3)
    assert made == torn
    assert last == len(made)
    assert len(made) == 1 + 2 * 3


def test_count(benchmark):
    calls = []
    benchmark(calls.append, 0)
    raise AssertionError(f"{len(calls)} calls")


def test_fails_before(benchmark):
    raise KeyError("no data")


def test_fails_in_call(benchmark):
    benchmark(lambda: 1 // 0)


def test_fails_after_five(benchmark):
    left = list(range(5))
    benchmark(left.pop)


def test_never(benchmark):
    pass


def test_twice(benchmark):
    benchmark(int)
    benchmark(int)


def test_weave(benchmark):
    benchmark.weave("os.path")


def test_exits(benchmark):
    os._exit(3)


def test_crashes(benchmark):
    benchmark(os.kill, os.getpid(), signal.SIGSEGV)


def test_exits_later(benchmark):
    left = list(range(3))
    benchmark(lambda: left.pop() if left else os._exit(4))


def test_skipped(benchmark):
    pytest.skip("no such device")


@pytest.mark.skip(reason="by mark")
def test_skip_mark(benchmark):
    benchmark(int)


@pytest.fixture
def broken_afterwards():
    yield
    raise OSError("cannot clean up")


def test_teardown_fails(benchmark, broken_afterwards):
    benchmark(int)


DRAWN = []


def test_random(benchmark):
    DRAWN.append(random.random())
    assert len(DRAWN) == 1, "a fork sees another's draw"
    benchmark(lambda: DRAWN[0])


def test_random_again(benchmark):
    DRAWN.append(random.random())
    assert len(DRAWN) == 1, "a fork sees another's draw"
    benchmark(lambda: DRAWN[0])


def test_hangs(benchmark):
    benchmark(signal.pause)


def test_starts_another(benchmark):
    import subprocess
    import sys

    subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    benchmark(int)


def test_other_fixture(tmp_path):
    pass
"""
TORCH_CASES = """
import pytest
import torch


@pytest.mark.parametrize("foreach", [False, True], ids=["forloop", "foreach"])
def test_adam(benchmark, foreach):
    parameters = [torch.ones(3, 4, requires_grad=True), torch.ones(5, requires_grad=True)]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 0.5)
    benchmark(torch.optim.Adam(parameters, lr=0.1, foreach=foreach).step)


def test_other_rate(benchmark):
    parameter = torch.ones(3, requires_grad=True)
    parameter.grad = torch.ones(3)
    benchmark(torch.optim.SGD([parameter], lr=0.2).step)


def test_rate(benchmark):
    parameter = torch.ones(3, requires_grad=True)
    parameter.grad = torch.ones(3)
    benchmark(torch.optim.SGD([parameter], lr=0.1).step)


def test_items(benchmark):
    numbers = torch.arange(3.0)
    assert benchmark(lambda: numbers.sum().item() + numbers[1].item()) == 4.0


def test_peak(benchmark):
    def call():
        return torch.zeros(1000) + torch.zeros(1000)

    benchmark(call)


def test_drawn(benchmark):
    drawn = torch.rand(4)
    benchmark(lambda: drawn)


def test_drawn_again(benchmark):
    drawn = torch.rand(4)
    benchmark(lambda: drawn)
"""


@pytest.fixture(scope="session")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An interpreter that has pytest-benchmark and what that needs but no torch, and the folder it has them in."""
    folder = tmp_path_factory.mktemp("plain")
    packages = folder / "packages"
    packages.mkdir()
    for entry in Path(pytest.__file__).parents[1].iterdir():
        distribution = entry.name.partition("-")[0] if entry.suffix == ".dist-info" else ""
        if entry.name in NEEDED or distribution in NEEDED:
            (packages / entry.name).symlink_to(entry)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    return str(python), packages


Start = Callable[..., Arm]


@pytest.fixture
def start(tmp_path: Path, plain_python: tuple[str, Path]) -> Iterator[Start]:
    """Starts arms over a file of cases, and ends them."""
    python, packages = plain_python
    started: list[Arm] = []

    def start(cases: str = CASES, twin: bool = False, arguments: tuple[str, ...] = ("-q", "test_it.py")) -> Arm:
        (tmp_path / "test_it.py").write_text(cases)
        arm = Arm(Code("head", python, tmp_path, (tmp_path, packages), arguments), with_twin=twin)
        started.append(arm)
        return arm

    yield start
    for arm in started:
        if not arm._log.closed:
            arm.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, plain_python: tuple[str, Path]) -> Iterator[tuple[Arm, Collected]]:
    folder = tmp_path_factory.mktemp("cases")
    python, packages = plain_python
    (folder / "test_it.py").write_text(CASES)
    (folder / "test_broken.py").write_text("import no_such_module\n")
    arm = Arm(Code("head", python, folder, (folder, packages), ("-q", "test_it.py", "test_broken.py")))
    yield arm, arm.collect(PATIENCE)
    arm.close()


@pytest.fixture(scope="module")
def with_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Arm, Collected]]:
    folder = tmp_path_factory.mktemp("cases")
    (folder / "test_it.py").write_text(TORCH_CASES)
    arm = Arm(Code("base", sys.executable, folder, (folder,), ("-q", "test_it.py")))
    yield arm, arm.collect(PATIENCE)
    arm.close()


def measured(arm: Arm, name: str) -> Facts:
    """Call once, ask for the facts, visit."""
    with arm.case(f"test_it.py::{name}", True, PATIENCE) as case:
        assert case.call() > 0
        facts = case.facts(None)
        times = case.visit(2, 3)
        assert len(times) == 3
        assert min(times) > 0
    return facts


def ended(arm: Arm, name: str) -> CaseEnded:
    with pytest.raises(CaseEnded) as caught:
        measured(arm, name)
    assert caught.value.arm == arm.code.label
    # The arm goes on.
    measured(arm, "test_sum")
    return caught.value


def test_an_interpreter_without_torch_collects_the_tests_that_take_the_fixture(plain: tuple[Arm, Collected]) -> None:
    _, collected = plain
    names = [case.removeprefix("test_it.py::") for case in collected.cases]
    assert names[:4] == ["test_sum", "test_keywords", "test_parameters[one]", "test_parameters[two]"]
    assert "test_other_fixture" not in names
    assert collected.python == sys.version.split()[0]
    assert collected.torch is collected.capability is None


def test_a_file_that_cannot_be_collected_says_why_and_the_others_are_there(plain: tuple[Arm, Collected]) -> None:
    errors = plain[1].errors
    assert list(errors) == ["test_broken.py"]
    assert "no_such_module" in errors["test_broken.py"]


def test_an_arm_tells_which_modules_it_loaded_and_from_where(plain: tuple[Arm, Collected]) -> None:
    arm, _ = plain
    measured(arm, "test_sum")
    assert arm.modules["test_it"] == str(arm.code.root / "test_it.py")
    assert arm.modules["sys"] is None


@pytest.mark.parametrize(
    "name",
    [
        "test_sum",
        "test_keywords",
        "test_parameters[one]",
        "test_parameters[two]",
        "test_pedantic_plain",
    ],
)
def test_the_fixture_stands_in_for_that_of_pytest_benchmark(plain: tuple[Arm, Collected], name: str) -> None:
    facts = measured(plain[0], name)
    assert facts.digest is not None
    assert (facts.implementation, facts.operators, facts.state_bytes, facts.peak_bytes) == (None, 0, 0, None)


def test_set_up_and_teardown_surround_every_call(plain: tuple[Arm, Collected]) -> None:
    with plain[0].case("test_it.py::test_set_up", True, PATIENCE) as case:
        case.call()
        assert len(case.visit(3, 2)) == 2


def test_calls_are_as_many_as_asked_for(plain: tuple[Arm, Collected]) -> None:
    with (  # noqa: PT012
        pytest.raises(CaseEnded, match=r"AssertionError: 22 calls$"),
        plain[0].case("test_it.py::test_count", True, PATIENCE) as case,
    ):
        case.call()
        case.call()
        case.visit(4, 5)


def test_what_was_compared_is_what_five_calls_left(plain: tuple[Arm, Collected]) -> None:
    with (  # noqa: PT012
        pytest.raises(CaseEnded, match=r"AssertionError: 5 calls$"),
        plain[0].case("test_it.py::test_count", True, PATIENCE) as case,
    ):
        case.call()
        case.facts(None)


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("test_pedantic", "failed", "TypeError: divmod expected 2 arguments, got 1"),
        ("test_fails_before", "failed", "KeyError: 'no data'"),
        ("test_fails_in_call", "failed", "ZeroDivisionError"),
        ("test_fails_after_five", "failed", "IndexError: pop from empty list"),
        ("test_never", "failed", "the test never called benchmark(…)"),
        ("test_twice", "failed", "the benchmark fixture can be used once in a test"),
        ("test_weave", "failed", "cases that weave or patch cannot be paced"),
        ("test_teardown_fails", "failed", "cannot clean up"),
        ("test_exits", "died", "ended with exit code 3"),
        ("test_exits_later", "died", "ended with exit code 4"),
        ("test_crashes", "died", "killed by SIGSEGV"),
        ("test_skipped", "skipped", "no such device"),
        ("test_skip_mark", "skipped", "by mark"),
    ],
)
def test_a_case_that_ends_early_says_how_and_the_arm_goes_on(
    plain: tuple[Arm, Collected], name: str, outcome: str, reason: str
) -> None:
    found = ended(plain[0], name)
    assert found.outcome == outcome
    assert reason in found.reason
    assert "\n" not in found.reason


def test_a_case_that_the_check_leaves_early_is_left(plain: tuple[Arm, Collected]) -> None:
    arm, _ = plain
    with (  # noqa: PT012
        pytest.raises(CaseEnded, match="the other arm's"),
        arm.case("test_it.py::test_sum", True, PATIENCE) as case,
    ):
        case.call()
        raise CaseEnded("failed", "the other arm's", "base")
    measured(arm, "test_sum")


def test_a_fork_starts_every_case_from_the_same_state(plain: tuple[Arm, Collected]) -> None:
    names = ["test_random", "test_random_again", "test_random"]
    assert len({measured(plain[0], name).digest for name in names}) == 1


def test_a_delay_is_spun_in_every_call(plain: tuple[Arm, Collected]) -> None:
    for name in ("test_sum", "test_set_up"):
        calls, ns = 3, 2_000_000
        with plain[0].case(f"test_it.py::{name}", True, PATIENCE) as case:
            case.call()
            case.delay(ns)
            visit = case.visit(calls, 2)
        assert min(visit) >= calls * ns


def test_facts_of_a_step_by_implementation(with_torch: tuple[Arm, Collected]) -> None:
    arm, collected = with_torch
    loop, foreach = (measured(arm, f"test_adam[{name}]") for name in ("forloop", "foreach"))
    assert collected.torch is not None
    assert collected.capability is not None
    assert (loop.implementation, foreach.implementation) == ("forloop", "foreach")
    # Two moments of 12 + 5 numbers, two counts of steps, 4 bytes each.
    assert loop.state_bytes == foreach.state_bytes == 4 * (2 * 17 + 2)
    assert 0 < foreach.operators < loop.operators
    # Both counts of steps are read, once each.
    assert loop.synchronisations == 2
    assert loop.digest == foreach.digest is not None
    assert loop.peak_bytes is not None
    assert foreach.peak_bytes is not None
    assert min(loop.peak_bytes, foreach.peak_bytes) > 0


def test_other_numbers_have_another_digest_and_the_same_ones_the_same(with_torch: tuple[Arm, Collected]) -> None:
    arm, _ = with_torch
    first, again, other = (measured(arm, name).digest for name in ("test_rate", "test_rate", "test_other_rate"))
    assert first == again != other


def test_numbers_read_are_counted(with_torch: tuple[Arm, Collected]) -> None:
    facts = measured(with_torch[0], "test_items")
    assert facts.synchronisations == 2
    assert facts.implementation is None
    assert facts.state_bytes == 0


def test_peak_is_what_a_call_holds_at_a_time(with_torch: tuple[Arm, Collected]) -> None:
    assert measured(with_torch[0], "test_peak").peak_bytes == 3 * 4000


def test_torch_draws_the_same_in_every_fork(with_torch: tuple[Arm, Collected]) -> None:
    assert len({measured(with_torch[0], name).digest for name in ("test_drawn", "test_drawn_again")}) == 1


def test_the_numbers_behind_a_digest_are_written(with_torch: tuple[Arm, Collected], tmp_path: Path) -> None:
    import torch

    with with_torch[0].case("test_it.py::test_rate", True, PATIENCE) as case:
        case.call()
        case.facts(tmp_path / "values")
    (numbers,) = torch.load(tmp_path / "values", weights_only=True)
    # Five steps of .1.
    torch.testing.assert_close(numbers, torch.full((3,), 0.5))


def test_an_interpreter_that_is_none_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ArmFailed, match=r"^head: cannot start /no/such/python: No such file or directory$"):
        Arm(Code("head", "/no/such/python", tmp_path, (), ()))


def test_words_that_pytest_refuses_are_said_in_a_line(start: Start) -> None:
    with pytest.raises(ArmFailed, match=r"^head: pytest cannot run the cases: .*--no-such-word"):
        start(arguments=("--no-such-word",)).collect(PATIENCE)
    with pytest.raises(ArmFailed, match=r"^head: pytest cannot run the cases: .*no_such_file\.py"):
        start(arguments=("no_such_file.py",)).collect(PATIENCE)


def test_a_file_without_cases_has_none(start: Start) -> None:
    arm = start("def test_nothing():\n    pass\n")
    assert arm.collect(PATIENCE).cases == ()


def test_an_arm_that_is_killed_says_so(start: Start) -> None:
    arm = start()
    arm.collect(PATIENCE)
    os.kill(arm._process.pid, signal.SIGKILL)
    with pytest.raises(ArmFailed, match=r"^head: the process was killed by SIGKILL: "):
        measured(arm, "test_sum")


def test_an_arm_without_its_fork_ends_with_it(start: Start) -> None:
    arm = start("import os\n\n\ndef test_ends(benchmark):\n    os._exit(7)\n")
    arm.collect(PATIENCE)
    with (
        pytest.raises(ArmFailed, match=r"^head: the process ended with exit code 7: "),
        arm.case("test_it.py::test_ends", False, PATIENCE),
    ):
        pass


def test_an_arm_without_a_fork_runs_a_case_in_itself(start: Start) -> None:
    arm = start()
    arm.collect(PATIENCE)
    with arm.case("test_it.py::test_sum", False, PATIENCE) as case:
        case.call()
        assert len(case.visit(1, 4)) == 4


def test_a_call_that_never_ends_is_given_up_and_nothing_is_left(start: Start) -> None:
    arm = start()
    arm.collect(PATIENCE)
    with (
        pytest.raises(ArmFailed, match=r"^head: no answer within 1 s$"),
        arm.case("test_it.py::test_hangs", True, 1.0) as case,
    ):
        case.call()
    assert nothing_is_left(arm)


def test_a_twin_answers_on_its_own_and_is_the_same_code(start: Start) -> None:
    arm = start(twin=True)
    arm.collect(PATIENCE)
    twin = arm.twin("twin")
    with (
        arm.case("test_it.py::test_random", True, PATIENCE) as one,
        twin.case("test_it.py::test_random", True, PATIENCE) as other,
    ):
        assert one.call() > 0
        assert len(other.visit(1, 2)) == 2
        assert len(one.visit(2, 3)) == 3
    assert measured(arm, "test_random") == measured(twin, "test_random")
    assert ended(twin, "test_crashes").reason == "killed by SIGSEGV"
    measured(arm, "test_sum")


def test_the_end_of_an_arm_is_noticed_though_its_twin_lives(start: Start) -> None:
    arm = start(twin=True)
    arm.collect(PATIENCE)
    twin = arm.twin("twin")
    measured(twin, "test_sum")
    os.kill(arm._process.pid, signal.SIGKILL)
    with pytest.raises(ArmFailed, match=r"^head: the process was killed by SIGKILL"):
        measured(arm, "test_sum")
    measured(twin, "test_sum")


def test_closing_leaves_no_process(start: Start) -> None:
    arm = start(twin=True)
    arm.collect(PATIENCE)
    twin = arm.twin("twin")
    # A case in the middle of its call, and one that leaves a process behind.
    twin._send(op="case", id="test_it.py::test_hangs", fork=True)
    assert twin._receive(PATIENCE) == {"event": "ready"}
    twin._send(op="call")
    measured(arm, "test_starts_another")
    assert len(in_group(arm)) >= 4
    arm.close()
    assert nothing_is_left(arm)


def nothing_is_left(arm: Arm) -> bool:
    """Wait for those that were killed to be gone."""
    end = time.monotonic() + PATIENCE
    while left := in_group(arm):
        if time.monotonic() > end:
            raise AssertionError(f"still running: {left}")
    return True


def in_group(arm: Arm) -> list[int]:
    """Return the processes that the arm started and that are not done."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = os.getpgid(process.pid) == arm._process.pid and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
        found += [process.pid] if ours else []
    return found
