"""Ask everything of a sweep that somebody or something has changed, and say what of the answers should not be."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import pandas as pd

import bench.launching.retry
import bench.launching.verify
from bench.config import Cell
from bench.launching.cell import failed_record
from bench.results.csv import FORMULA_STARTS
from bench.results.record import Record
from tests.fuzzing.calls import Called, call, fresh
from tests.fuzzing.mutations import MARKUP, Mutation, sweep_of
from tests.fuzzing.template import BESIDE, SWEEP

#: What is asked of each changed sweep; the report of some only, for it takes longer than all others together.
QUESTIONS: tuple[tuple[str, ...], ...] = (
    ("status", SWEEP),
    ("status", SWEEP, "--json"),
    ("export", SWEEP, "-o", "out/export"),
    ("export", SWEEP, "-o", "out/parquet", "--format", "parquet", "--skip-unreadable"),
    ("merge", BESIDE, SWEEP, "-o", "out/merged"),
    ("merge", SWEEP, BESIDE, "--dry-run"),
    ("compare", SWEEP, BESIDE, "-o", "out/compare"),
    ("verify", SWEEP),
    ("retry", SWEEP, "--status", "failed,oom,interrupted,unavailable"),
    ("wandb-check", SWEEP),
)
REPORTS: tuple[tuple[str, ...], ...] = (
    ("report", SWEEP, "-o", "out/report"),
    ("report", BESIDE, "-o", "out/also", "--also", SWEEP, "--skip-unreadable"),
    ("report", SWEEP, "-o", "out/skipped", "--skip-unreadable"),
)
#: Markup of the suite's own pages has none of these.
_UNESCAPED = re.compile(r"<script>fuzz|<img src=x|<svg onload=fuzz")


def ask(template: Path, folder: Path, mutation: Mutation, reports: bool) -> list[tuple[Called, list[str]]]:
    """Change a copy of the template's sweep and ask everything of it; return each answer with what should not be.

    Args:
        template: What `tests.fuzzing.template.make_template` made.
        folder: Folder to work in; emptied first.
        mutation: What is done to the sweep.
        reports: Whether to ask for reports too.
    """
    name, change = mutation
    work = fresh(template, folder, {})
    change(sweep_of(work))
    answers = []
    # Cells are trained again only where nothing of their configuration was changed: to what end.
    with (
        mock.patch.object(bench.launching.verify, "run_cell", _not_run),
        mock.patch.object(bench.launching.retry, "run_again", return_value=0),
        mock.patch("tests.fuzzing.calls.DRAWN_OF", 1),
    ):
        for words in (*QUESTIONS, *(REPORTS if reports else ())):
            called = call(words, work)
            answers.append((called, [*complaints(called, work), *_about_files(work, name)]))
    return answers


def _not_run(cell: Cell) -> tuple[Record, pd.DataFrame, pd.DataFrame]:
    return failed_record(cell, "not run")


def complaints(called: Called, work: Path) -> list[str]:
    """What of an answer should not be."""
    found = called.complaints
    if called.ended != "exit":
        found.append(f"ended: {called.ended}")
    if outside := [name for name in called.changed if not name.startswith("work/out")]:
        found.append(f"changed {outside}")
    if called.code == 2 and not re.search(r"[0-9a-f]{16}|plan\.json|mirror\.json|sweep", called.err):
        found.append(f"does not name what it refuses: {called.err[:300]!r}")
    for line in (called.out + called.err).splitlines():
        if "\x1b" in line:
            found.append(f"escapes to the terminal: {line[:100]!r}")
    return found


def _about_files(work: Path, name: str) -> list[str]:
    found = []
    if (work / "ran").exists():
        found.append("imported what a record names")
    out = work / "out"
    for path in sorted(out.rglob("*")) if out.exists() else ():
        if path.suffix in (".html", ".md", ".svg"):
            text = path.read_text(encoding="utf-8")
            if match := _UNESCAPED.search(text):
                found.append(f"{path.relative_to(work)}: unescaped {text[match.start() - 60 : match.end() + 60]!r}")
        elif path.suffix == ".csv":
            found += [f"{path.relative_to(work)}: a formula {field!r}" for field in _formulas(path)]
    return found


def _formulas(path: Path) -> Sequence[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            field
            for row in csv.reader(file)
            for field in row
            if field.startswith(FORMULA_STARTS) and not _is_number(field)
        ]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text


assert all(_UNESCAPED.search(text) for text in MARKUP[:2])
