"""A check as people read it: a row a case, then the sentinel, what could have been seen, and what repeats it."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.speed.check import differs_from_itself, refusal, short
from bench.speed.result import CaseResult, CheckResult, Pair, Verdict

HEADER = ("case", "base µs", "head µs", "change", "pairs", "confirmed", "median", "p95", "verdict", "")
_STYLES = {
    Verdict.OK: "green",
    Verdict.IMPROVEMENT: "bold green",
    Verdict.SKIPPED: "dim",
    Verdict.NEW: "cyan",
    Verdict.INCONCLUSIVE: "yellow",
}


def print_check(result: CheckResult) -> None:
    """Print a check; a pipe gets full lines."""
    console = Console()
    piped = not console.is_terminal
    rows = [_row(case) for case in result.cases]
    # Columns that are empty all the way down say nothing.
    shown = [i for i, name in enumerate(HEADER) if name != "confirmed" or any(row[i] for row in rows)]
    if piped:
        widths = [max(len(HEADER[i]), *(len(row[i]) for row in rows)) + 2 for i in shown]
        console = Console(width=max(80, sum(widths)))
    title = f"{_side(result.base.name, result.base.commit)} → {_side(result.head.name, result.head.commit)}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for i in shown:
        table.add_column(HEADER[i], justify="right" if HEADER[i] in HEADER[1:4] else "left", no_wrap=piped or i < 9)
    for case, row in zip(result.cases, rows, strict=True):
        style = _STYLES.get(case.verdict, "bold red")
        table.add_row(*(Text(row[i], style=style if HEADER[i] == "verdict" else "") for i in shown))
    console.print(table)
    for line in summary(result):
        console.print(Text(line), soft_wrap=True)


def summary(result: CheckResult) -> list[str]:
    """Return the lines under the table."""
    lines = []
    for row in result.sentinels:
        changes = " ".join(_percent(math.expm1(pair.change)) for pair in row.pairs)
        lines.append(f"sentinel {short(row.case)}: base against itself {changes}: {row.verdict}")
    if result.noise is not None and result.detectable is not None:
        lines.append(
            f"a pair of identical code differed by {result.noise:.2%} (root mean square): with a gate of "
            f"{result.gate:.1%} a slowdown of {result.detectable:.1%} is found with probability .95"
        )
    tightest = refusal(result)
    if tightest is not None:
        lines.append(
            f"inconclusive: a gate of {result.gate:.1%} is tighter than this machine's noise; "
            f"--gate {math.ceil(tightest * 1000) / 10:g} holds"
        )
    names = {"pressure": "something waited for a processor", "steal": "the host took", "load": "load"}
    found = [
        f"{names[name]} {value:.2f}" if name == "load" else f"{names[name]} {value:.0%} of the time"
        for name, value in result.pressure.items()
    ]
    lines.append(f"machine: {', '.join(found) or 'tells nothing'}")
    for case in result.cases:
        if case.instructions is not None:
            base, head = case.instructions
            lines.append(f"instructions {short(case.case)}: {base:,.0f} → {head:,.0f} ({_percent(head / base - 1)})")
    counts = {verdict: sum(case.verdict is verdict for case in result.cases) for verdict in Verdict}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    lines.append(f"{len(result.cases)} cases in {result.seconds:.0f} s: {said}")
    worst = [case.case for case in result.cases if case.verdict.exit_code]
    if worst and result.command:
        lines.append(f"again, this case alone: {result.command} -k '{_keyword(worst[0])}'")
    if differs_from_itself(result):
        lines.append("the check failed its own check: base differed from itself, so no verdict above can be trusted")
    return lines


def markdown(result: CheckResult) -> str:
    """Return the table as Markdown, for a job summary or a committed example."""
    lines = [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in _row(case))} |" for case in result.cases]
    return "\n".join([*lines, "", *(f"* {line}" for line in summary(result)), ""])


def _row(case: CaseResult) -> tuple[str, ...]:
    times = (case.confirmation or case.pairs) and middle_pair(case.confirmation or case.pairs)
    change = case.change
    pairs, confirmed = (
        " ".join(_percent(math.expm1(pair.change)) for pair in measured) for measured in (case.pairs, case.confirmation)
    )
    if not times or change is None:
        return short(case.case), "", "", "", "", "", "", "", str(case.verdict), case.reason
    return (
        short(case.case),
        _micro(times.base),
        _micro(times.head),
        _percent(change),
        pairs,
        confirmed,
        _percent(times.head_median / times.base_median - 1),
        _percent(times.head_p95 / times.base_p95 - 1),
        str(case.verdict),
        case.reason,
    )


def middle_pair(pairs: Sequence[Pair]) -> Pair:
    """Return the pair whose change is the middle one, the lower of two."""
    return sorted(pairs, key=lambda pair: pair.change)[(len(pairs) - 1) // 2]


def _side(name: str, commit: str | None) -> str:
    return f"{name} ({commit})" if commit and commit != name else name


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.3g}" if seconds < 1e-4 else f"{seconds * 1e6:.0f}"


def _percent(fraction: float) -> str:
    return f"{fraction:+.1%}"


def _keyword(case: str) -> str:
    """Return what -k takes for a case: the name of the test, without its parameters' punctuation."""
    name, _, parameters = short(case).partition("[")
    return parameters.rstrip("]") or name
