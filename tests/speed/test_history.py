"""The history file loses no check, and what is shown of it says where and when a case changed."""

import dataclasses
import errno
import getpass
import json
import math
import os
import platform
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.speed import history as module
from bench.speed.history import COLUMNS, append, fingerprint, fingerprint_id, read, table
from bench.speed.history_command import show_history
from bench.speed.history_figure import duration, short_names, signed_percent
from bench.speed.result import CheckResult, Side, Verdict
from tests.results.files import fail
from tests.speed.checks import FACTS, MACHINE, STEP, case, check, pair

OTHER = STEP.replace("Adam", "SGD")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".bench-speed.jsonl"


def test_what_is_appended_is_read(path: Path) -> None:
    full = case(
        verdict=Verdict.REGRESSION,
        confirmation=(pair(0.05),),
        base=FACTS,
        head=dataclasses.replace(FACTS, peak_bytes=None),
        instructions=(1000.0, 1010.0),
        reason="slower, “twice”\n",
    )
    checks = (check(1, cases=(full, case(OTHER))), check(2, base=None, noise=None, detectable=None, cases=()))
    for made in checks:
        append(path, made)
    assert read(path).checks == checks
    assert read(path).problems == ()
    assert path.read_bytes().count(b"\n") == 2


def test_a_file_that_is_not_there_has_no_checks(path: Path) -> None:
    assert read(path).checks == ()
    assert not path.exists()


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_a_torn_last_line_costs_itself_alone(path: Path, cut: int) -> None:
    append(path, check(1))
    append(path, check(2))
    path.write_bytes(path.read_bytes()[:-cut])
    append(path, check(3))
    found = read(path)
    assert found.checks == ((check(1), check(2), check(3)) if cut == 1 else (check(1), check(3)))
    assert found.problems == (() if cut == 1 else ("line 2: cut off",))


@given(st.binary(max_size=300))
def test_whatever_stands_in_the_file_no_check_is_lost(tmp_path_factory: pytest.TempPathFactory, dirt: bytes) -> None:
    path = tmp_path_factory.mktemp("history") / "h.jsonl"
    append(path, check(1))
    with path.open("ab") as file:
        file.write(dirt)
    append(path, check(2))
    found = read(path)
    assert found.checks == (check(1), check(2))
    assert len(found.problems) == sum(bool(line.strip()) for line in dirt.split(b"\n"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"schema":1', '"schema":99', "schema 99"),
        ('"2026-01-02T12', '"noon', "not a check"),
        ('"head":0.0004', '"head":"fast"', "not a check"),
        ('"noise":0.004', '"noise":{}', "not a check"),
        ('"verdict":"ok"', '"verdict":"fine"', "not a check"),
        ('"sentinels"', '"watchmen"', "not a check"),
    ],
)
def test_a_line_that_is_no_check_is_named_and_left_out(path: Path, old: str, new: str, said: str) -> None:
    for day in (1, 2, 3):
        append(path, check(day))
    lines = path.read_text().splitlines()
    assert old in lines[1]
    path.write_text("\n".join([lines[0], lines[1].replace(old, new), "", lines[2], lines[0]]) + "\n")
    found = read(path)
    assert found.checks == (check(1), check(3))
    assert len(found.problems) == 1
    assert re.match(f"line 2: {said}", found.problems[0])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(("name", "call"), [("write", 2), ("fsync", 1)])
def test_a_disk_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, number: int
) -> None:
    append(path, check(1))
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(module.os, "write", lambda descriptor, data: write(descriptor, data[:100]))
    fail(monkeypatch, module.os, name, number, call)
    with pytest.raises(UsageError, match=rf"the check cannot be stored \({os.strerror(number)}\)"):
        append(path, check(2))
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"^/dev/full: the check cannot be stored \(No space left on device\)$"):
        append(Path("/dev/full"), check(1))


def test_a_folder_is_no_history(tmp_path: Path) -> None:
    for call in (lambda: append(tmp_path, check(1)), lambda: read(tmp_path), lambda: show_history(tmp_path)):
        with pytest.raises(UsageError, match="Is a directory"):
            call()
    with pytest.raises(UsageError, match="No such file"):
        append(tmp_path / "missing" / "h.jsonl", check(1))


def test_writers_wait_for_one_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    write = os.write
    # Short writes: without the lock, the pieces of two lines would mix.
    monkeypatch.setattr(module.os, "write", lambda descriptor, data: write(descriptor, data[:64]))
    checks = [check(day) for day in range(1, 25)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda made: append(path, made), checks))
    found = read(path)
    assert found.problems == ()
    assert sorted(found.checks, key=lambda made: made.time) == checks


def test_a_fingerprint_is_the_same_twice_and_names_nobody() -> None:
    asked = platform.python_version(), "2.15.0", "AVX2"
    made = fingerprint(*asked)
    assert set(made) == {"cpu", "cpu_capability", "cores", "memory_gib", "platform", "python", "torch", "threads"}
    assert made == fingerprint(*asked) == json.loads(json.dumps(made))
    assert made["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (made["threads"], type(made["memory_gib"])) == (1, int)
    values = [str(value) for value in made.values()]
    assert not any(name in values for name in (socket.gethostname(), getpass.getuser()))
    assert not any("/home" in value or str(Path.cwd()) in value for value in values)


def test_an_id_stands_for_what_a_fingerprint_says() -> None:
    assert re.fullmatch("[0-9a-f]{8}", fingerprint_id(MACHINE))
    assert fingerprint_id(dict(reversed(MACHINE.items()))) == fingerprint_id(MACHINE)
    assert fingerprint_id(json.loads(json.dumps(MACHINE))) == fingerprint_id(MACHINE)
    assert len({fingerprint_id(MACHINE | change) for change in ({}, {"cores": 4}, {"torch": "2.12.0"})}) == 3


def test_a_table_has_a_row_per_check_and_case_in_order_of_time() -> None:
    slow = case(heads=(4e-4, 5e-4, 9e-4), change=math.log(1.25), verdict=Verdict.REGRESSION)
    gone = case(OTHER, heads=(), verdict=Verdict.GONE)
    other = dataclasses.replace(check(1), base=Side("old", "a" * 12, "3.11.9", "2.10.0"))
    rows = table([check(3, cases=(slow, gone), noise=None), other])
    assert tuple(rows.columns) == COLUMNS
    assert list(rows["check"]) == [1, 2, 2]
    assert list(rows["compared"]) == ["environments", "commits", "commits"]
    assert list(rows["verdict"]) == ["ok", "REGRESSION", "GONE"]
    assert list(rows["time"].dt.day) == [1, 3, 3]
    measured = rows.iloc[1]
    assert (measured["head_seconds"], measured["base_seconds"]) == pytest.approx((5e-4, 4e-4))
    assert measured["change"] == pytest.approx(0.25)
    assert rows.loc[2, ["change", "head_seconds", "base_seconds", "noise"]].isna().all()
    assert list(rows["detectable"]) == [0.04] * 3


def test_times_come_from_the_pairs_that_decided() -> None:
    flagged = case(heads=(8e-4, 8e-4, 8e-4), confirmation=(pair(0.1, 4e-4),))
    row = table([check(1, cases=(flagged,))]).iloc[0]
    assert row["head_seconds"] == 4e-4
    assert row["change"] == pytest.approx(math.expm1(0.1))


def test_a_table_of_nothing_has_its_columns() -> None:
    assert tuple(table([]).columns) == COLUMNS
    assert table([]).empty


def _step_history(path: Path) -> None:
    """Write twelve checks, each against the head of the one before; the seventh is 20 % slower."""
    for number in range(12):
        slower = number >= 6
        heads = [(4.8e-4 if slower else 4e-4) * (1 + 0.004 * (number % 3))]
        now = case(heads=heads, change=math.log(1.2) if number == 6 else 0.0)
        steady = case(OTHER, heads=[9e-5 * (1 + 0.004 * (number % 3))])
        append(path, check(number + 1, f"{number:012x}", f"{number + 1:012x}", cases=(now, steady)))


def test_what_is_shown(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _step_history(path)
    with path.open("a") as file:
        file.write("{torn")
    out = tmp_path / "made" / "here"
    assert show_history(path, out) == 0
    said = capsys.readouterr()
    assert said.err == f"warning: {path}, line 13: cut off: left out\n"
    assert "12 checks of 2 cases on 1 machine" in said.out
    adam = next(line for line in said.out.splitlines() if line.startswith("test_step[Adam"))
    assert re.split(r"\s{2,}", adam.strip())[1:] == [
        "12",
        "2026-01-12",
        "484 µs",
        "±0.0 %",
        "ok",
        "2026-01-07 000000000007",
        "+20.0 %",
        "1",
    ]
    assert "000000000006 … 000000000007" in said.out
    assert sorted(file.name for file in out.iterdir()) == ["history.csv", "history.md", "history.svg"]
    data = pd.read_csv(out / "history.csv", dtype={"head_commit": str})
    assert len(data) == 24
    assert list(data.loc[data["case"] == STEP, "segment"]) == [0] * 6 + [1] * 6
    text = (out / "history.md").read_text()
    assert (
        "| `test_step[Adam-fused-mlp]` | 2026-01-07 | 000000000006 … 000000000007 | +20.0 % | +20.0 % | code |" in text
    )
    assert f"| `{fingerprint_id(MACHINE)}` | Example 9000, 2 cores, 8 GiB, Python 3.11, torch 2.11.0 |" in text
    drawn = (out / "history.svg").read_text()
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    described = re.search("<desc>(.*?)</desc>", drawn)
    assert described is not None
    assert "test_step[Adam-fused-mlp]: 482 µs; +20.0 % at 000000000007." in described[1]
    assert "test_step[SGD-fused-mlp]: 90.4 µs; no change of level." in described[1]
    assert "+20.0 % 0000000" in drawn
    show_history(path, out)
    assert (out / "history.svg").read_text() == drawn


def test_cases_are_selected_by_a_part_of_their_name(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _step_history(path)
    for select in ("[SGD", "SGD-*-mlp", "::test_step[SGD-fused-mlp]"):
        assert show_history(path, select=select) == 0
        said = capsys.readouterr().out
        assert "SGD" in said
        assert "Adam" not in said
        assert "No change of level." in said
    with pytest.raises(UsageError, match=r"unknown case 'Adm'") as error:
        show_history(path, select="Adm")
    assert error.value.exit_code == 2


def test_a_history_without_a_check_is_one_line(path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not exist; `bench speed check` writes") as error:
        show_history(path)
    assert error.value.exit_code == 2
    path.touch()
    with pytest.raises(UsageError, match="is empty"):
        show_history(path)
    path.write_text("[]\n")
    with pytest.raises(UsageError, match=r"no check that can be read.*line 1: not a check"):
        show_history(path)
    path.unlink()
    append(path, check(1, cases=()))
    with pytest.raises(UsageError, match="its checks have no cases"):
        show_history(path)


def test_a_history_without_a_time_is_shown_without_a_figure(path: Path, tmp_path: Path) -> None:
    append(path, check(1, None, None, cases=(case(heads=(), verdict=Verdict.NEW),)))
    assert show_history(path, tmp_path / "out") == 0
    assert not (tmp_path / "out" / "history.svg").exists()
    assert "history.svg" not in (tmp_path / "out" / "history.md").read_text()


def test_unknown_commits_and_names_full_of_markup_are_written(path: Path, tmp_path: Path) -> None:
    name = "tests/speed/test_a.py::test_x[<b>|`*_]"
    for number in range(8):
        heads = (1e-3 * (1.5 if number > 3 else 1),)
        append(path, check(number + 1, None, None, cases=(case(name, heads),)))
    assert show_history(path, tmp_path / "out") == 0
    text = (tmp_path / "out" / "history.md").read_text()
    assert "| `test_x[<b>\\|'*_]` | 2026-01-05 | unknown … unknown | +50.0 % | – | unknown | 4 + 4 |" in text
    drawn = (tmp_path / "out" / "history.svg").read_text()
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert "<b>" not in drawn


@pytest.mark.parametrize("count", [1, 5, 9])
def test_many_cases_on_many_machines_are_drawn(path: Path, tmp_path: Path, count: int) -> None:
    for number in range(8):
        cases = tuple(case(f"tests/speed/test_a.py::test_x[{index}]") for index in range(count))
        append(path, check(number + 1, cases=cases, fingerprint=MACHINE | {"cores": number}))
    assert show_history(path, tmp_path) == 0
    drawn = (tmp_path / "history.svg").read_text()
    assert all(f"test_x[{index}]" in drawn for index in range(count))
    assert "3 others: " in drawn


def test_a_folder_that_cannot_be_written_is_said(path: Path, tmp_path: Path) -> None:
    append(path, check(1))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--out .*file/out: cannot be written"):
        show_history(path, tmp_path / "file" / "out")


def test_words() -> None:
    assert [duration(s) for s in (2.5, 1.234e-3, 4.12e-4, 5e-8, math.nan)] == [
        "2.50 s",
        "1.23 ms",
        "412 µs",
        "50 ns",
        "–",
    ]
    written = [signed_percent(c) for c in (0.123, -0.051, 0.0001, -0.0001, math.nan)]
    assert written == ["+12.3 %", "−5.1 %", "±0.0 %", "±0.0 %", "–"]
    names = short_names(["a/b.py::C::test[x::y]", "a/b.py::test", "c.py::test", "plain"])
    assert list(names.values()) == ["C::test[x::y]", "a/b.py::test", "c.py::test", "plain"]


def test_neither_table_nor_trend_needs_torch() -> None:
    code = "import sys, bench.speed.history, bench.speed.trend; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_check_is_what_it_was_after_a_round_trip_through_a_table(path: Path) -> None:
    append(path, check(1))
    (found,) = read(path).checks
    assert isinstance(found, CheckResult)
    assert table([found]).equals(table([check(1)]))
