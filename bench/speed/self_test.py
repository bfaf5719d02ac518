"""`bench speed self-test`: how often the check cries wolf on this machine, and what it catches.

Identical code is checked against itself, two fresh checkouts of one commit; then every case of one of them is slowed
by a known fraction. Plain pytest-benchmark runs of the same cases stand beside it. Whatever is measured is kept at
once, so that a self-test that was interrupted goes on where it stopped.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.speed.check import Check, Options, Subject, progress
from bench.speed.command import code_of
from bench.speed.history import append_line, fingerprint_id
from bench.speed.result import CheckResult
from bench.speed.self_test_table import alarms, summary_markdown
from bench.speed.sources import Source, base_tree, project, working_tree

#: Fractions by which cases are slowed.
LEVELS = (0.03, 0.05, 0.1)
FILE = "self-test.jsonl"
#: Seconds that pytest-benchmark spends on a case; its own default is 1.
_PLAIN_SECONDS = "0.5"
_LOADS = {False: "no load", True: "CPU hog"}
#: Of so many checks of identical code, one may alarm.
_CHECKS_PER_ALARM = 24

Record = dict[str, Any]
Say = Callable[[str], None]


def self_test(asked: argparse.Namespace) -> int:
    """Measure, print, write; return 0, or 5 where identical code alarmed more than once in 24 checks.

    Raises:
        UsageError: A value that cannot be used.
    """
    for name in ("checks", "injections", "plain"):
        if getattr(asked, name) < 0:
            raise UsageError(f"--{name} {getattr(asked, name)}: must be at least 0")
    with contextlib.ExitStack() as stack:
        out = asked.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-speed-self-test.")))
        subject, commit = stack.enter_context(_twice(asked))
        store = Store(out)
        if asked.hog:
            stack.enter_context(hog())
        load = _LOADS[asked.hog]
        with progress() as say:
            _identical(store, subject, asked, load, say)
            _slowed(store, subject, asked, load, say)
            _plain(store, subject, asked, load, say)
        text = summary_markdown(store.records, f"{commit or 'no commit'}")
        print(text)
        if asked.out is not None:
            store.write("self-test.md", text)
            store.write("environment.json", json.dumps(_environment(), indent=1, sort_keys=True) + "\n")
    checks = [r for r in store.records if r["load"] == load and r["kind"] == "identical"]
    return 0 if sum(map(alarms, checks)) <= max(1, len(checks) / _CHECKS_PER_ALARM) else 5


class Store:
    """What was measured, one JSON line each.

    Args:
        folder: Made where it is not there.

    Attributes:
        records: All of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / FILE
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            self.records: list[Record] = [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            raise UsageError(f"--out {folder}: {FILE} cannot be read ({error})") from None

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)
        append_line(self._folder / FILE, json.dumps(record, separators=(",", ":")))

    def count(self, load: str, kind: str, level: float) -> int:
        """Return how many cases (of plain runs: runs) were measured so."""
        return sum((r["load"], r["kind"], r["level"]) == (load, kind, level) for r in self.records)

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder.

        Raises:
            UsageError: It cannot be written.
        """
        try:
            (self._folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out {self._folder}: cannot be written ({error.strerror})") from None


@contextlib.contextmanager
def hog() -> Iterator[None]:
    """Keep the last processor busy with a process that does nothing else."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _twice(asked: argparse.Namespace) -> Iterator[tuple[Subject, str | None]]:
    """Yield one commit checked out twice, and the commit; outside git, one folder that both arms run."""
    with contextlib.ExitStack() as stack:
        try:
            root = project(Path.cwd())
        except UsageError:
            one = other = working_tree(Path.cwd(), asked.cases)
        else:
            one, other = (stack.enter_context(base_tree(root, "HEAD", asked.cases)).overlay() for _ in range(2))
        base, head = (code_of(s, label, sys.executable, asked) for s, label in ((one, "base"), (other, "head")))
        sources: tuple[Source, Source] | None = (one, other) if one.root != other.root else None
        yield Subject(base, head, sources), one.commit


def _identical(store: Store, subject: Subject, asked: argparse.Namespace, load: str, say: Say) -> None:
    done = store.count(load, "identical", 0.0)
    for number in range(done, asked.checks):
        result = Check(subject, Options(), _after(say, f"identical code {number + 1}/{asked.checks}")).run()
        store.add(_record(result, load, "identical", 0.0))


def _slowed(store: Store, subject: Subject, asked: argparse.Namespace, load: str, say: Say) -> None:
    for level in LEVELS:
        while (done := _measured(store, load, level)) < asked.injections:
            words = f"{level:.0%} slower, {done}/{asked.injections} cases done"
            result = Check(subject, Options(slowdown=level), _after(say, words)).run()
            store.add(_record(result, load, "slowed", level))


def _after(say: Say, prefix: str) -> Say:
    return lambda words: say(f"{prefix}: {words}")


def _measured(store: Store, load: str, level: float) -> int:
    found = [r for r in store.records if (r["load"], r["kind"], r["level"]) == (load, "slowed", level)]
    return sum(len(record["cases"]) for record in found)


def _record(result: CheckResult, load: str, kind: str, level: float) -> Record:
    """Return what is kept of a check."""
    return {
        "load": load,
        "kind": kind,
        "level": level,
        "time": result.time,
        "commit": result.base.commit,
        "machine": fingerprint_id(result.fingerprint),
        "gate": result.gate,
        "noise": result.noise,
        "detectable": result.detectable,
        "pressure": result.pressure,
        "seconds": round(result.seconds, 1),
        "exit_code": result.exit_code,
        "sentinels": [str(row.verdict) for row in result.sentinels],
        "cases": [
            {
                "case": row.case,
                "verdict": str(row.verdict),
                "pairs": [round(pair.change, 5) for pair in row.pairs],
                "confirmation": [round(pair.change, 5) for pair in row.confirmation],
            }
            for row in result.cases
        ],
    }


def _plain(store: Store, subject: Subject, asked: argparse.Namespace, load: str, say: Say) -> None:
    """Run the cases under pytest-benchmark as it is: base, then head as it is and slowed."""
    for number in range(store.count(load, "plain", 0.0), asked.plain):
        say(f"plain pytest-benchmark {number + 1}/{asked.plain}")
        base = _plain_run(subject, True, 0.0)
        for level in (*LEVELS, 0.0):
            head = _plain_run(subject, False, level)
            changes = {
                case: {name: round(head[case][name] / base[case][name] - 1, 5) for name in ("mean", "median", "min")}
                for case in base
                if case in head
            }
            store.add({"load": load, "kind": "plain", "level": level, "time": time.time(), "changes": changes})


def _plain_run(subject: Subject, base: bool, level: float) -> dict[str, dict[str, float]]:
    code = subject.base if base else subject.head
    with tempfile.TemporaryDirectory(prefix="bench-speed-plain.") as folder:
        file = Path(folder) / "run.json"
        path = os.pathsep.join([*map(str, code.paths), str(Path(__file__).parent / "plain")])
        words = ["--benchmark-enable", "--benchmark-only", f"--benchmark-json={file}", "-p", "no:cacheprovider"]
        words += ["-p", "slowdown", f"--benchmark-max-time={_PLAIN_SECONDS}", "--rootdir", str(code.root)]
        run = subprocess.run(
            [code.python, "-m", "pytest", *words, *code.arguments],
            cwd=code.root,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "BENCH_SLOWDOWN": str(level)},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise UsageError(f"pytest-benchmark cannot run the cases: {(run.stdout.strip() or run.stderr)[-300:]}")
        return {found["fullname"]: found["stats"] for found in json.loads(file.read_text())["benchmarks"]}


def _environment() -> dict[str, Any]:
    import torch

    from bench.results.environment import environment

    return environment(torch.device("cpu"), 1)
