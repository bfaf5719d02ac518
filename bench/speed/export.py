"""A check as pytest-benchmark's JSON, so that its own tools and those around it read it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest_benchmark
from pytest_benchmark.stats import Stats

from bench.errors import UsageError
from bench.speed.history import fingerprint_id
from bench.speed.result import CaseResult, CheckResult, Pair, Side

#: Written without annotations there.
_new_stats: Callable[[], Any] = Stats


def to_benchmark_json(result: CheckResult) -> dict[str, Any]:
    """Return a check in the format of `pytest --benchmark-json` (pytest-benchmark 5).

    A datum is one pair's seconds of one call of head, and `rounds` counts pairs, those of the confirmation too;
    pytest-benchmark's own code makes the statistics. `iterations` is the fewest calls in a timed block. What compares
    base and head is in `extra_info`. Names of hosts, parameters' values, options and branches are not known here and
    left empty.

    Args:
        result: The check. Cases without a measured pair have no statistics: `bench_speed` names them beside the
            benchmarks, where pytest-benchmark looks at nothing.
    """
    measured = [case for case in result.cases if case.pairs or case.confirmation]
    return {
        "machine_info": _machine(result),
        "commit_info": _commit(result.head),
        "benchmarks": [_benchmark(case, result) for case in measured],
        "datetime": result.time,
        "version": pytest_benchmark.__version__,
        "bench_speed": {
            "suite": result.suite,
            "command": result.command,
            "base": {"name": result.base.name, "commit": result.base.commit},
            "head": {"name": result.head.name, "commit": result.head.commit},
            "gate": result.gate,
            "noise": result.noise,
            "detectable": result.detectable,
            "exit_code": result.exit_code,
            "unmeasured": [
                {"fullname": case.case, "verdict": str(case.verdict), "reason": case.reason}
                for case in result.cases
                if case not in measured
            ],
        },
    }


def write_benchmark_json(result: CheckResult, path: Path) -> None:
    """Write a check as pytest-benchmark's JSON.

    Raises:
        UsageError: The file cannot be written.
    """
    text = json.dumps(to_benchmark_json(result), indent=4, allow_nan=False)
    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from None


def _benchmark(case: CaseResult, result: CheckResult) -> dict[str, Any]:
    pairs = [*case.pairs, *case.confirmation]
    stats = _new_stats()
    for pair in pairs:
        stats.update(pair.head)
    test, bracket, parameters = case.case.partition("[")
    return {
        "group": None,
        "name": test.split("::")[-1] + bracket + parameters,
        "fullname": case.case,
        "params": None,
        "param": parameters.removesuffix("]") if bracket else None,
        "extra_info": _extra(case, pairs, result),
        "options": {},
        "stats": stats.as_dict() | {"data": list(stats.data), "iterations": min(pair.calls for pair in pairs)},
    }


def _extra(case: CaseResult, pairs: Sequence[Pair], result: CheckResult) -> dict[str, Any]:
    extra: dict[str, Any] = {
        "verdict": str(case.verdict),
        "reason": case.reason,
        "change": case.change,
        "pair_log_changes": [pair.change for pair in pairs],
        "confirmation_pairs": len(case.confirmation),
        "base_commit": result.base.commit,
        "base_seconds": [pair.base for pair in pairs],
    }
    for name, facts in (("base", case.base), ("head", case.head)):
        if facts is not None:
            extra[f"{name}_implementation"] = facts.implementation
            extra[f"{name}_state_bytes"] = facts.state_bytes
            extra[f"{name}_peak_bytes"] = facts.peak_bytes
    if case.instructions is not None:
        extra["base_instructions"], extra["head_instructions"] = case.instructions
    return extra


def _machine(result: CheckResult) -> dict[str, Any]:
    """Put the fingerprint under the names that pytest-benchmark has for its parts; the whole of it beside them."""
    found = result.fingerprint
    system, _, machine = str(found.get("platform") or "").partition(" ")
    return {
        "system": system,
        "machine": machine,
        "python_version": result.head.python,
        "cpu": {"brand_raw": found.get("cpu"), "count": found.get("cores")},
        "fingerprint": {"id": fingerprint_id(found), **found},
    }


def _commit(side: Side) -> dict[str, Any]:
    commit = side.commit or "unversioned"
    return {
        "id": commit.removesuffix("+"),
        "time": None,
        "author_time": None,
        "dirty": commit.endswith("+"),
        "branch": "(unknown)",
    }
