"""What a speed check found: plain data that is printed, stored as one JSON line, and exported."""

import dataclasses
import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bench.results.private import private

SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """What is said of one case."""

    OK = "ok"
    IMPROVEMENT = "improvement"
    REGRESSION = "REGRESSION"
    MEMORY = "MEMORY"  # not slower, but a step or its state holds more bytes
    CHANGED_MATH = "CHANGED-MATH"  # the arms end with other numbers
    BROKEN = "BROKEN"  # base ran it, head cannot
    GONE = "GONE"
    NEW = "NEW"
    SKIPPED = "skipped"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        """What the check exits with where this is the worst of its verdicts."""
        if self in (Verdict.REGRESSION, Verdict.MEMORY):
            return 1
        if self in (Verdict.CHANGED_MATH, Verdict.BROKEN, Verdict.GONE):
            return 4
        return 3 if self is Verdict.INCONCLUSIVE else 0


@dataclass(frozen=True)
class Pair:
    """One pair of processes, one with each arm's code, that took turns.

    Attributes:
        change: Median over rounds of log(head / base); 0 is no change, .05 about 5 % slower.
        base: Seconds of one call: median over rounds of the fastest block.
        head: The same for head.
        base_median: Seconds of one call, median of all blocks. Advisory.
        head_median: The same for head.
        base_p95: 95th percentile of all blocks. Advisory.
        head_p95: The same for head.
        rounds: How often both were visited.
        calls: Calls in a block, the same for both.
    """

    change: float
    base: float
    head: float
    base_median: float
    head_median: float
    base_p95: float
    head_p95: float
    rounds: int
    calls: int


@dataclass(frozen=True)
class Facts:
    """What repeats exactly about a case in one arm.

    Attributes:
        implementation: What the optimizer ran: "forloop", "foreach", "fused"; None where no torch.optim step was seen.
        operators: Operators that one call dispatches; 0 where torch was not used.
        synchronisations: How many of them wait for a number, as `.item()` does.
        digest: Hash of parameters and buffers after a fixed number of calls, or of what the call returned; None where
            it has neither.
        state_bytes: Bytes of the optimizer's state.
        peak_bytes: Most bytes that tensors made during one call held at a time; None where it cannot be counted.
    """

    implementation: str | None
    operators: int
    synchronisations: int
    digest: str | None
    state_bytes: int
    peak_bytes: int | None


@dataclass(frozen=True)
class CaseResult:
    """One case of a check.

    Attributes:
        case: Node id that pytest gives it, relative to the repository.
        verdict: What is said of it.
        reason: Why, where the numbers alone don't say it.
        pairs: Pairs measured, in order.
        confirmation: Pairs of freshly started interpreters, where the first ones alarmed.
        base: What repeats exactly in base; None where it did not run.
        head: The same in head.
        instructions: Instructions of one call (base, head) under callgrind, where asked for.
    """

    case: str
    verdict: Verdict
    reason: str = ""
    pairs: tuple[Pair, ...] = ()
    confirmation: tuple[Pair, ...] = ()
    base: Facts | None = None
    head: Facts | None = None
    instructions: tuple[float, float] | None = None

    @property
    def change(self) -> float | None:
        """Slowdown of head as a fraction, .05 for 5 % slower: the median pair's; None where nothing was measured."""
        changes = sorted(pair.change for pair in (self.confirmation or self.pairs))
        if not changes:
            return None
        middle = len(changes) // 2
        median = changes[middle] if len(changes) % 2 else (changes[middle - 1] + changes[middle]) / 2
        return math.expm1(median)


@dataclass(frozen=True)
class Side:
    """One arm of a check.

    Attributes:
        name: A git reference, "working tree", or the name of an environment.
        commit: Twelve digits, with "+" where files differ from it; None outside git.
        python: Version of Python.
        torch: Version of torch; None where it is not installed.
    """

    name: str
    commit: str | None
    python: str
    torch: str | None


@dataclass(frozen=True)
class CheckResult:
    """One check.

    Attributes:
        time: When it started, ISO 8601 in UTC.
        suite: Version of this suite.
        command: What repeats it.
        base: The arm compared with.
        head: The arm checked.
        fingerprint: What has to be the same for two checks to be compared: processor, cores, memory, operating system,
            versions, threads. Never the current clock rate.
        gate: Slowdown that fails, as a fraction.
        cases: Every case, in the order of the files.
        sentinels: Cases compared with themselves: base against base.
        noise: Standard deviation of a pair's change between identical code, from the sentinels; None without any.
        detectable: Smallest slowdown that this check finds with probability .95, as a fraction; None without sentinels.
        pressure: Share of the time that something waited for a processor ("pressure"), that the host took
            ("steal"), and the load average ("load"); what the system does not tell is missing.
        seconds: How long the check took.
        exit_code: What it exited with.
    """

    time: str
    suite: str
    command: str
    base: Side
    head: Side
    fingerprint: dict[str, Any]
    gate: float
    cases: tuple[CaseResult, ...]
    sentinels: tuple[CaseResult, ...]
    noise: float | None
    detectable: float | None
    pressure: dict[str, float]
    seconds: float
    exit_code: int

    def to_line(self) -> str:
        """Return it as one line of JSON."""
        return private(
            json.dumps({"schema": SCHEMA_VERSION} | dataclasses.asdict(self), separators=(",", ":"), allow_nan=False)
        )


def from_line(line: str) -> CheckResult:
    """Return the check that a line of JSON holds.

    Raises:
        ValueError: Not such a line, or of another schema.
    """
    try:
        fields: dict[str, Any] = json.loads(line)
        schema = fields.pop("schema")
        if schema != SCHEMA_VERSION:
            raise ValueError(f"schema {schema}, this version reads {SCHEMA_VERSION}")
        for name in ("cases", "sentinels"):
            fields[name] = tuple(_case(case) for case in fields[name])
        for name in ("base", "head"):
            fields[name] = Side(**fields[name])
        return CheckResult(**fields)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not a check: {type(error).__name__}: {error}") from None


def _case(fields: dict[str, Any]) -> CaseResult:
    for name in ("pairs", "confirmation"):
        fields[name] = tuple(Pair(**pair) for pair in fields[name])
    for name in ("base", "head"):
        fields[name] = Facts(**fields[name]) if fields[name] else None
    fields["verdict"] = Verdict(fields["verdict"])
    fields["instructions"] = tuple(fields["instructions"]) if fields["instructions"] else None
    return CaseResult(**fields)
