"""`bench speed history`: where each case stands, when it changed, and the figure of it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis import words
from bench.errors import UsageError, printable, unknown
from bench.listing import print_table
from bench.results.csv import write_csv
from bench.speed.history import History, fingerprint_id, read, table
from bench.speed.history_figure import commit_name, draw, duration, short_names, signed_percent
from bench.speed.trend import change_points, series, summary

Rows = Sequence[Sequence[str]]
STANDING = (
    "case",
    "checks",
    "latest",
    "one call",
    "head / base",
    "verdict",
    "level since",
    "on this machine",
    "changes",
)
CHANGES = ("case", "day", "between", "change", "by pairs", "cause", "checks", "machine")


@dataclass(frozen=True)
class View:
    """A history, worked out.

    Attributes:
        summary: As `bench.speed.trend.summary` returns it.
        series: As `bench.speed.trend.series` returns it.
        changes: As `bench.speed.trend.change_points` returns it.
        machines: Fingerprint id → what it is, in a few words.
        names: Node id of a case → its short name.
    """

    summary: pd.DataFrame
    series: pd.DataFrame
    changes: pd.DataFrame
    machines: dict[str, str]
    names: dict[str, str]


def show_history(path: Path, out: Path | None = None, select: str = "") -> int:
    """Print where every case stands and when its speed changed; write it to a folder if one is given.

    Args:
        path: The history file.
        out: Folder for history.csv, history.md and history.svg; None prints only.
        select: Part of the names of the cases wanted, or a pattern with * and ?; "" for all.

    Returns:
        Exit code 0.

    Raises:
        UsageError: There is no such file, no check in it can be read, no case is called so, or the folder cannot be
            written.
    """
    found = read(path)
    made = view(found, path, select)
    for problem in found.problems:
        print(printable(f"warning: {path}, {problem}: left out"), file=sys.stderr)
    print_table(f"{path}: {_counts(made)}", STANDING, _standing(made))
    print()
    if len(made.changes):
        print_table("changes of level", CHANGES, _changes(made))
    else:
        print("No change of level.")
    if out is not None:
        _write(made, out)
        print(f"history: {out}")
    return 0


def view(found: History, path: Path, select: str = "") -> View:
    """Work a history out.

    Args:
        found: What the file holds.
        path: The file, for messages.
        select: As `show_history`.

    Raises:
        UsageError: No check can be read, or no case is called so.
    """
    if not found.checks:
        why = "is empty" if path.exists() and not found.problems else "does not exist"
        why = f"has no check that can be read ({found.problems[0]})" if found.problems else why
        raise UsageError(f"history {path} {why}; `bench speed check` writes one line per check")
    rows = table(found.checks)
    cases = list(dict.fromkeys(rows["case"]))
    wanted = [case for case in cases if _matches(case, select)]
    if not wanted:
        if not cases:
            raise UsageError(f"history {path}: its checks have no cases")
        raise unknown("case", select, cases)
    rows = rows[rows["case"].isin(wanted)]
    line = series(rows)
    machines = {fingerprint_id(check.fingerprint): machine(check.fingerprint) for check in found.checks}
    return View(summary(rows, line), line, change_points(line), machines, short_names(wanted))


def machine(fingerprint: dict[str, Any]) -> str:
    """Describe a fingerprint in a few words."""
    parts = [
        ("{}", "cpu"),
        ("{}", "cpu_capability"),
        ("{} cores", "cores"),
        ("{} GiB", "memory_gib"),
        ("{}", "platform"),
        ("Python {}", "python"),
        ("torch {}", "torch"),
    ]
    return ", ".join(form.format(fingerprint[name]) for form, name in parts if fingerprint.get(name) is not None)


def markdown(made: View) -> str:
    """Return a history as Markdown, with the figure that lies beside it."""
    lines = [f"# Speed history: {_counts(made)}", ""]
    if len(made.series):
        lines += ["![Seconds of one call of every case, check by check](history.svg)", ""]
    lines += [*_table(STANDING, _standing(made)), ""]
    lines += ["## Changes of level", ""]
    lines += _table(CHANGES, _changes(made)) if len(made.changes) else ["None."]
    lines += ["", "## Machines", ""]
    used = [(name, made.machines[name]) for name in dict.fromkeys(made.series["fingerprint"])]
    lines += [*_table(("machine", "what it is"), used), ""]
    lines += [
        "Levels and their changes are found in the seconds of one machine alone, by optimal partitioning with a "
        "bounded loss; at least three checks make a level. *By pairs* is the same change from ratios of head to base "
        "alone, which were measured in turns: the cause is the code where they see it too, else the machine. "
        "Data: [history.csv](history.csv).",
        "",
    ]
    return "\n".join(lines)


def _matches(case: str, select: str) -> bool:
    # The brackets of a node id are no character class here.
    pattern = select.replace("[", "[[]")
    return fnmatchcase(case, f"*{pattern}*")


def _counts(made: View) -> str:
    checks = int(made.summary["checks"].max())
    counted = words.plural(checks, "check"), words.plural(len(made.summary), "case")
    return f"{counted[0]} of {counted[1]} on {words.plural(made.series['fingerprint'].nunique(), 'machine')}"


def _standing(made: View) -> Rows:
    return [
        (
            made.names[row["case"]],
            str(row["checks"]),
            _day(row["time"]),
            duration(row["seconds"]),
            signed_percent(row["change"]),
            row["verdict"],
            f"{_day(row['since'])} {commit_name(row['since_commit'])}" if pd.notna(row["since"]) else "–",
            signed_percent(row["total"]),
            str(row["changes"]),
        )
        for row in made.summary.to_dict("records")
    ]


def _changes(made: View) -> Rows:
    return [
        (
            made.names[row["case"]],
            _day(row["time"]),
            f"{commit_name(row['before_commit'])} … {commit_name(row['commit'])}",
            signed_percent(row["change"]),
            signed_percent(row["paired"]),
            row["cause"],
            f"{row['checks_before']} + {row['checks_after']}",
            row["fingerprint"],
        )
        for row in made.changes.to_dict("records")
    ]


def _day(time: pd.Timestamp) -> str:
    return time.strftime("%Y-%m-%d")


def _table(header: Sequence[str], rows: Rows) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    # Names and processors come from outside: as code, nothing in them is markup.
    return lines + [f"| {' | '.join([_code(row[0]), *map(_escaped, row[1:])])} |" for row in rows]


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`".replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    plain = " ".join(text.split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _write(made: View, out: Path) -> None:
    shown = made.series.assign(time=made.series["time"].map(lambda time: time.isoformat()) if len(made.series) else [])
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_csv(shown, out / "history.csv")
        (out / "history.md").write_text(markdown(made), encoding="utf-8")
        if len(made.series):
            drawing = draw(made.series, made.changes, made.machines)
            (out / "history.svg").write_text(drawing.file, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror or error})") from None
