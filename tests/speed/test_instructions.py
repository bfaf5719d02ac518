"""Counted instructions: what callgrind writes, and, where asked for, callgrind itself."""

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.speed.arms import Code
from bench.speed.instructions import _TOTAL, count_instructions, require_callgrind

#: As valgrind 3.22 writes it: a dump that the program asked for, and what was left at its end.
DUMP = """# callgrind format
version: 1
creator: callgrind-3.22.0
pid: 4711
cmd:  python arm.py
part: 1


desc: I1 cache:
desc: Timerange: Basic block 0 - 48211
desc: Trigger: Client Request

positions: line
events: Ir
summary: 301234


ob=(1) /usr/lib/libc.so.6
fl=(1) ???
fn=(1) memcpy
0 301234

totals: 301234
"""
EMPTY = "# callgrind format\nversion: 1\nevents: Ir\nsummary: 0\n\n\ntotals: 0\n"


@pytest.mark.parametrize(
    ("text", "totals"),
    [
        (DUMP, ["301234", "301234"]),
        (EMPTY, ["0", "0"]),
        ("totals: 12 3 4\n", ["12"]),
        ("desc: totals: 5\nevents: Ir\n  totals: 6\nsubtotals: 7\n", []),
        ("", []),
    ],
)
def test_totals_are_read_from_what_callgrind_writes(text: str, totals: list[str]) -> None:
    assert _TOTAL.findall(text) == totals


def test_without_valgrind_the_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="--instructions: valgrind is not on the PATH"):
        require_callgrind()
    program = tmp_path / "valgrind"
    program.touch()
    program.chmod(stat.S_IRWXU)
    assert require_callgrind() == str(program)


@pytest.mark.skipif(
    shutil.which("valgrind") is None or os.environ.get("BENCH_CALLGRIND") != "1",
    reason="takes minutes: needs valgrind and BENCH_CALLGRIND=1",
)
def test_twice_the_work_is_twice_the_instructions(tmp_path: Path) -> None:
    codes = []
    for label, times in (("base", 10_000), ("head", 20_000)):
        folder = tmp_path / label
        folder.mkdir()
        body = f"import torch\n\n\ndef test_it(benchmark):\n    benchmark(sum, range({times}))\n"
        body += "\n\ndef test_fails(benchmark):\n    raise ValueError\n"
        (folder / "test_it.py").write_text(body)
        codes.append(Code(label, sys.executable, folder, (folder,), ("-q", "test_it.py")))
    said: list[str] = []
    cases = ["test_it.py::test_it", "test_it.py::test_fails"]
    found = count_instructions(codes[0], codes[1], cases, said.append)
    assert list(found) == cases[:1]
    base, head = found[cases[0]]
    assert base > 10_000
    assert head / base == pytest.approx(2, rel=0.05)
    assert said[0] == "counting instructions in base: test_it"
