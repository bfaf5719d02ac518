"""What a self-test found, as Markdown. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from scipy.stats import binomtest

from bench.speed.result import Verdict

STATISTICS = ("mean", "median", "min")
PLAIN_GATE = 0.05


def summary_markdown(records: Sequence[dict[str, Any]], commit: str) -> str:
    """Return the tables of a self-test.

    Args:
        records: As `bench.speed.self_test` keeps them.
        commit: What was checked.
    """
    lines = [
        "# Self-test of the speed check",
        "",
        f"`bench speed self-test`, commit {commit}. Identical code is checked against itself; then every case of head "
        "is slowed by a known fraction. Intervals are exact binomial, 95 %.",
        "",
    ]
    for load in dict.fromkeys(record["load"] for record in records):
        chosen = [record for record in records if record["load"] == load]
        lines += [f"## {load[0].upper()}{load[1:]}", "", *_check_lines(chosen), "", *_gate_lines(chosen), ""]
    return "\n".join(lines).rstrip() + "\n"


def alarms(record: dict[str, Any]) -> int:
    """Return how many cases of a check were called slower."""
    return sum(case["verdict"] == Verdict.REGRESSION for case in record["cases"])


def _check_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    identical = [record for record in records if record["kind"] == "identical"]
    if not identical:
        return []
    cases = [case for record in identical for case in record["cases"]]
    others = {
        verdict: count
        for verdict in sorted({case["verdict"] for case in cases} - {Verdict.OK, Verdict.REGRESSION})
        if (count := sum(case["verdict"] == verdict for case in cases))
    }
    noises = sorted(record["noise"] for record in identical)
    seconds = sorted(record["seconds"] for record in identical)
    first = [case["pairs"][0] for case in cases if case["pairs"]]
    return [
        f"* {len(identical)} checks of identical code, {len(cases)} cases: "
        f"**{sum(map(alarms, identical))} false alarms** in {sum(alarms(r) > 0 for r in identical)} checks",
        f"* other verdicts than ok: {', '.join(f'{n} {v}' for v, n in others.items()) or 'none'}; sentinels that "
        f"alarmed: {sum(v == Verdict.REGRESSION for r in identical for v in r['sentinels'])}",
        f"* first pairs of identical code: root mean square {_rms(first):.2%}, largest {max(map(abs, first)):.1%}; "
        f"beyond 1.5 %: {sum(abs(c) > 0.015 for c in first) / len(first):.1%}",
        f"* noise by the sentinels: median {_middle(noises):.2%}, largest {noises[-1]:.2%}",
        f"* a check took {_middle(seconds):.0f} s (median), {seconds[-1]:.0f} s at most",
    ]


def _gate_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    levels = sorted({record["level"] for record in records if record["kind"] != "identical"})
    lines = [
        f"| gate | identical code called slower | {' | '.join(f'{level:.0%} caught' for level in levels if level)} |",
        f"|---|---|{'---|' * sum(level > 0 for level in levels)}",
    ]
    ours = [_share(_verdicts(records, level)) for level in (0.0, *(level for level in levels if level))]
    lines.append(f"| `bench speed check` | {' | '.join(ours)} |")
    plain = [record for record in records if record["kind"] == "plain"]
    for name in STATISTICS if plain else ():
        found = [
            [c[name] > PLAIN_GATE for r in plain if r["level"] == level for c in r["changes"].values()]
            for level in (0.0, *(level for level in levels if level))
        ]
        lines.append(f"| `--benchmark-compare-fail={name}:5%` | {' | '.join(map(_share, found))} |")
    whole = [record for record in plain if not record["level"]]
    for name in STATISTICS if whole else ():
        failed = sum(any(c[name] > PLAIN_GATE for c in record["changes"].values()) for record in whole)
        lines.append(
            f"\n{failed} of {len(whole)} identical suites fail with {name}:5%."
            if name == "mean"
            else f"{failed} of {len(whole)} fail with {name}:5%."
        )
    return lines


def _verdicts(records: Sequence[dict[str, Any]], level: float) -> list[bool]:
    kind = "slowed" if level else "identical"
    chosen = [record for record in records if record["kind"] == kind and record["level"] == level]
    return [case["verdict"] == Verdict.REGRESSION for record in chosen for case in record["cases"]]


def _share(found: Sequence[bool]) -> str:
    if not found:
        return "–"
    interval = binomtest(sum(found), len(found)).proportion_ci()
    share = sum(found) / len(found)
    return f"{share:.1%} ({sum(found)} of {len(found)}; {interval.low:.1%} … {interval.high:.1%})"


def _middle(ordered: Sequence[float]) -> float:
    return ordered[len(ordered) // 2]


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))
