"""Checks with hand-made numbers."""

from collections.abc import Sequence
from typing import Any

from bench.speed.result import CaseResult, CheckResult, Facts, Pair, Side, Verdict

MACHINE = {"cpu": "Example 9000", "cores": 2, "memory_gib": 8, "python": "3.11", "torch": "2.11.0", "threads": 1}
STEP = "tests/speed/test_steps.py::test_step[Adam-fused-mlp]"


def pair(change: float = 0.0, head: float = 4e-4, calls: int = 7) -> Pair:
    """Return one pair: log(head / base) and head's seconds."""
    base = head / 2.718281828459045**change
    return Pair(change, base, head, 1.1 * base, 1.1 * head, 1.4 * base, 1.4 * head, 40, calls)


def case(name: str = STEP, heads: Sequence[float] = (4e-4,), change: float = 0.0, **more: Any) -> CaseResult:
    """Return one case, with a pair for each of head's times."""
    return CaseResult(name, more.pop("verdict", Verdict.OK), pairs=tuple(pair(change, h) for h in heads), **more)


def check(day: int, base: str | None = "a" * 12, head: str | None = "b" * 12, **more: Any) -> CheckResult:
    """Return the check of a day of January."""
    fields = {
        "time": f"2026-01-{day:02}T12:00:00+00:00",
        "suite": "0.1.0",
        "command": "bench speed check --base main",
        "base": Side("main", base, "3.11.9", "2.11.0"),
        "head": Side("working tree", head, "3.11.9", "2.11.0"),
        "fingerprint": MACHINE,
        "gate": 0.03,
        "cases": (case(),),
        "sentinels": (),
        "noise": 0.004,
        "detectable": 0.04,
        "pressure": {"pressure": 0.1, "load": 1.5},
        "seconds": 12.5,
        "exit_code": 0,
    }
    return CheckResult(**(fields | more))


FACTS = Facts("fused", 12, 0, "ab12", 4096, 8192)
