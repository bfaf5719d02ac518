"""The processes of a speed check: started, asked, watched, and ended whatever happens."""

import contextlib
import copy
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from bench.errors import BenchError
from bench.speed import layout
from bench.speed.result import Facts
from bench.speed.worktrees import clean_environment

ARM = Path(__file__).with_name("arm.py")
#: Seconds that an arm may take to import and collect; under callgrind everything takes some fifty times as long.
COLLECT_SECONDS = 180.0
#: Seconds within which an arm that was asked to end ends.
QUIT_SECONDS = 5.0
#: One thread, and nothing that depends on a hash.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    # Asking whether there is a GPU must not spoil the forks that then use it.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # glibc's allocator: huge pages, so that the luck of which physical pages a process gets decides less; and from the
    # first call on what it grows to by itself: big blocks are kept for the next call, neither mapped anew nor given
    # back. Whatever is no glibc takes no notice.
    "GLIBC_TUNABLES": ":".join(
        ("glibc.malloc.hugetlb=1", "glibc.malloc.mmap_threshold=33554432", "glibc.malloc.trim_threshold=8589934592")
    ),
    "THP_MEM_ALLOC_ENABLE": "1",
}


class ArmFailed(BenchError):
    """An arm could not be started or stopped answering."""

    exit_code = 5


class CaseEnded(Exception):
    """A case ended before the check was done with it.

    Attributes:
        outcome: "failed", "skipped" or "died".
        reason: In one line.
        arm: "base" or "head".
    """

    def __init__(self, outcome: str, reason: str, arm: str = "") -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.arm = outcome, reason, arm


@dataclass(frozen=True)
class Code:
    """What an arm runs.

    Attributes:
        label: "base" or "head", for messages.
        python: Interpreter.
        root: Working directory and pytest's root.
        paths: First on its path.
        arguments: pytest's arguments: case files, selection.
        environment: Name of what the interpreter belongs to, where two environments are compared.
    """

    label: str
    python: str
    root: Path
    paths: tuple[Path, ...]
    arguments: tuple[str, ...]
    environment: str = ""


@dataclass(frozen=True)
class Collected:
    """What an arm found.

    Attributes:
        cases: Node ids of the tests that use the benchmark fixture, in order.
        errors: Files that could not be collected, and why.
        python: Version.
        torch: Version; None where there is none.
        capability: Instruction set that torch uses; None where there is no torch.
    """

    cases: tuple[str, ...]
    errors: Mapping[str, str]
    python: str
    torch: str | None
    capability: str | None


class Arm:
    """A running arm.

    Args:
        code: What it runs.
        processor: Processor to stay on; None for any.
        prefix: Words before the interpreter, such as valgrind's.
        fixed_layout: Whether its address space is laid out as every other arm's, where the system allows it. Two
            processes that run the same code in different layouts differ by a per cent or two, for as long as they live.
        with_twin: Whether it forks once more, see `twin`.

    Attributes:
        modules: Modules that it has loaded so far, and their files.
    """

    def __init__(
        self,
        code: Code,
        processor: int | None = None,
        prefix: Sequence[str] = (),
        fixed_layout: bool = True,
        with_twin: bool = False,
    ) -> None:
        self.code = code
        self.modules: dict[str, str | None] = {}
        self._ended = True
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._line, theirs = _channel()
        self._twin_line: Line | None = None
        twins: tuple[int, ...] = ()
        if with_twin:
            self._twin_line, twins = _channel()
        settings = json.dumps({"channel": theirs, "twin": twins, "processor": processor})
        try:
            with layout.fixed() if fixed_layout else contextlib.nullcontext():
                self._process = subprocess.Popen(
                    [*prefix, code.python, str(ARM), settings, "--rootdir", str(code.root), *code.arguments],
                    cwd=code.root,
                    env=_untraced() | ENVIRONMENT | {"PYTHONPATH": import_path(code.paths)},
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=(*theirs, *twins),
                    start_new_session=True,
                )
        except OSError as error:
            self._hang_up()
            raise ArmFailed(f"{code.label}: cannot start {code.python}: {error.strerror}") from None
        finally:
            for descriptor in (*theirs, *twins):
                os.close(descriptor)

    def twin(self, label: str) -> "Arm":
        """Return the arm's fork, made after it had collected: the same code once more, in the same process group.

        Args:
            label: "base" or "head", for messages.
        """
        assert self._twin_line is not None
        other = copy.copy(self)
        other.code = replace(self.code, label=label)
        other._line, other._twin_line, other._ended = self._twin_line, None, True
        return other

    def collect(self, seconds: float = COLLECT_SECONDS) -> Collected:
        """Wait until it has imported and collected the cases.

        Raises:
            ArmFailed: It ended, refused, or took too long.
        """
        reply = self._receive(seconds)
        if reply.get("event") != "collected":
            raise ArmFailed(f"{self.code.label}: pytest cannot run the cases: {self.last_words()}")
        self.modules |= reply["modules"]
        return Collected(tuple(reply["cases"]), reply["errors"], reply["python"], reply["torch"], reply["capability"])

    @contextlib.contextmanager
    def case(self, name: str, fork: bool, seconds: float) -> Iterator["Case"]:
        """Run a case up to the point where its function can be called; afterwards let it end.

        Args:
            name: Node id.
            fork: In a child of its own; else in the arm itself, once.
            seconds: Patience for any one answer.

        Raises:
            CaseEnded: It failed, was skipped or died, before, while or after it was measured.
        """
        self._ended = False
        self._send(op="case", id=name, fork=fork)
        reply = self._receive(seconds)
        if reply["event"] != "ready":
            raise self._over(reply)
        try:
            yield Case(self, seconds)
        except CaseEnded:
            # Perhaps the other arm's: this one is still waiting in the case.
            if not self._ended:
                self._leave(seconds)
            raise
        except BenchError:
            # Of an arm that is dead, the first error says why.
            with contextlib.suppress(ArmFailed):
                self._leave(seconds)
            raise
        ended = self._leave(seconds)
        if ended["outcome"] != "passed":
            raise self._over(ended)

    def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        """Send a request about the running case and return the reply."""
        self._send(**request)
        reply = self._receive(seconds)
        if reply.get("event") == "end":
            raise self._over(reply)
        return reply

    def _over(self, reply: dict[str, Any]) -> CaseEnded:
        """Return how a case ended, and in which arm: on its way out the exception may pass the other arm's case."""
        self._ended = True
        return CaseEnded(reply["outcome"], reply["reason"], self.code.label)

    def _leave(self, seconds: float) -> dict[str, Any]:
        """Let the running case end; return how it did."""
        self._ended = True
        self._send(op="stop")
        return self._receive(seconds)

    def close(self) -> None:
        """End it and everything it started."""
        for line in filter(None, (self._line, self._twin_line)):
            line.end_requests()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(QUIT_SECONDS)
        # Also what outlives it: a twin in the middle of a case, what a case has started.
        self.kill()
        self._hang_up()

    def _hang_up(self) -> None:
        for line in filter(None, (self._line, self._twin_line)):
            line.close()
        self._log.close()

    def kill(self) -> None:
        """End it now, and its children with it: it leads a group of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """Return the last line that it printed and that says something."""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 20_000))
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        signs = ("E ", "ERROR", "ImportError", "ModuleNotFoundError")
        # The second as argparse says it, after a line of usage.
        marked = [line for line in lines if line.startswith(signs) or ": error: " in line]
        return (marked or lines or ["it said nothing"])[-1].removeprefix("E ").strip()[:300]

    def _send(self, **request: Any) -> None:
        self._line.send(request)

    def _receive(self, seconds: float) -> dict[str, Any]:
        try:
            return self._line.receive(seconds)
        except TimeoutError:
            self.kill()
            raise ArmFailed(f"{self.code.label}: no answer within {seconds:.0f} s") from None
        except EOFError:
            try:
                code = self._process.wait(QUIT_SECONDS)
            except subprocess.TimeoutExpired:
                # Its fork is gone, it is not; or it has closed the line.
                self.kill()
                code = self._process.returncode
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise ArmFailed(f"{self.code.label}: the process {how}: {self.last_words()}") from None


class Line:
    """Requests to a process and its replies."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests: int | None = requests
        self._replies = replies
        self._left = b""

    def send(self, request: dict[str, Any]) -> None:
        """Send a request; where nobody reads it, the reply will tell."""
        if self._requests is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._requests, json.dumps(request).encode() + b"\n")

    def receive(self, seconds: float) -> dict[str, Any]:
        """Return the next reply.

        Raises:
            TimeoutError: There is none in time.
            EOFError: There will be none.
        """
        end = time.monotonic() + seconds
        while b"\n" not in self._left:
            ready, _, _ = select.select([self._replies], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError
            piece = os.read(self._replies, 1 << 16)
            if not piece:
                raise EOFError
            self._left += piece
        line, _, self._left = self._left.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def end_requests(self) -> None:
        """Say that there will be no more."""
        if self._requests is not None:
            os.close(self._requests)
            self._requests = None

    def close(self) -> None:
        """Hang up."""
        self.end_requests()
        os.close(self._replies)


def import_path(first: Sequence[Path]) -> str:
    """Return PYTHONPATH with some folders first; what the user has there comes after them."""
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])


def _untraced() -> dict[str, str]:
    """Return this process's environment without git's settings and coverage's, which would slow the arms down."""
    return {name: value for name, value in clean_environment().items() if not name.startswith(("COVERAGE_", "COV_"))}


def _channel() -> tuple[Line, tuple[int, int]]:
    """Return our end of a line, and the descriptors of the other: where it reads requests, where it writes replies."""
    read_requests, write_requests = os.pipe()
    read_replies, write_replies = os.pipe()
    return Line(write_requests, read_replies), (read_requests, write_replies)


@dataclass(frozen=True)
class Case:
    """A case that is ready to be called.

    Attributes:
        arm: The arm that runs it.
        seconds: Patience for any one answer.
    """

    arm: Arm
    seconds: float

    def call(self) -> float:
        """Call once; return the seconds it took. Before any block."""
        return float(self.arm.ask(self.seconds, op="call")["seconds"])

    def facts(self, values: Path | None) -> Facts:
        """Return what repeats exactly. After one call, before any block.

        Args:
            values: File for the numbers that were compared; None for none.
        """
        reply = self.arm.ask(self.seconds, op="facts", values=str(values) if values else None)
        self.arm.modules |= reply["modules"]
        return Facts(**reply["facts"])

    def visit(self, calls: int, blocks: int) -> list[int]:
        """Run so many blocks of so many calls in a row; return the nanoseconds of each."""
        return list(self.arm.ask(self.seconds, op="visit", calls=calls, blocks=blocks)["ns"])

    def delay(self, ns: int) -> None:
        """Make every call so much slower from now on."""
        self.arm.ask(self.seconds, op="delay", ns=ns)

    def instructions(self, calls: int) -> None:
        """Call so often while callgrind counts."""
        self.arm.ask(self.seconds, op="instructions", calls=calls)
