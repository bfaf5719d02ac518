"""`bench speed self-test` from end to end, with a slowdown that nothing else on the machine can hide; its tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.speed import self_test
from bench.speed.self_test import FILE, Store, hog
from bench.speed.self_test_table import alarms, summary_markdown
from tests.speed.repositories import repository_of
from tests.speed.test_command import PLAIN

NAME = "tests/speed/test_steps.py::test_total"


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["speed", "self-test", *words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.slow
@pytest.mark.usefixtures("person")
def test_identical_code_passes_twice_the_time_is_caught_and_nothing_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository_of(tmp_path / "steps", PLAIN))
    monkeypatch.setattr(self_test, "LEVELS", (1.0,))
    monkeypatch.setattr(self_test, "_PLAIN_SECONDS", "0.05")
    # pytest-benchmark times nothing where it believes that others run beside it.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    out = tmp_path / "out"
    words = ("--cases", "tests/speed", "--checks", "1", "--injections", "1", "--plain", "1", "-o", str(out))
    assert ended(*words) == 0
    records = Store(out).records
    assert [(r["kind"], r["level"]) for r in records] == [
        ("identical", 0.0),
        ("slowed", 1.0),
        ("plain", 1.0),
        ("plain", 0.0),
    ]
    identical, slowed, plain, _ = records
    assert identical["cases"][0]["case"] == NAME
    assert alarms(identical) == 0
    assert alarms(slowed) == 1
    assert plain["changes"][NAME]["median"] > 0.4
    text = (out / "self-test.md").read_text(encoding="utf-8")
    assert text in capfd.readouterr().out
    assert "100% caught" in text
    assert json.loads((out / "environment.json").read_text(encoding="utf-8"))["threads"] == 1
    before = (out / FILE).read_bytes()
    assert ended(*words) == 0
    assert (out / FILE).read_bytes() == before


def test_what_cannot_be_checked_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended("-o", "out") == 2
    assert "name the cases" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["checks", "injections", "plain"])
def test_negative_counts_are_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert ended(f"--{name}", "-1") == 2
    assert f"--{name} -1: must be at least 0" in capfd.readouterr().err


def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / FILE).write_text("not JSON\n", encoding="utf-8")
    assert ended("-o", str(tmp_path)) == 2
    assert f"--out {tmp_path}: {FILE} cannot be read" in capfd.readouterr().err
    assert (tmp_path / FILE).read_text(encoding="utf-8") == "not JSON\n"


def test_the_hog_ends_with_its_block() -> None:
    import psutil

    with hog():
        (child,) = [c for c in psutil.Process().children() if "while True: pass" in c.cmdline()]
        assert child.is_running()
    assert not [c for c in psutil.Process().children() if "while True: pass" in c.cmdline()]


def check_record(load: str, kind: str, level: float, verdicts: Sequence[str]) -> dict[str, Any]:
    cases = [{"case": f"c{n}", "verdict": v, "pairs": [0.004], "confirmation": []} for n, v in enumerate(verdicts)]
    return {
        "load": load,
        "kind": kind,
        "level": level,
        "noise": 0.005,
        "seconds": 40.0,
        "sentinels": ["ok"],
        "cases": cases,
    }


def plain_record(level: float, mean: float, low: float) -> dict[str, Any]:
    changes = {"c0": {"mean": mean, "median": low, "min": low}, "c1": {"mean": low, "median": low, "min": low}}
    return {"load": "no load", "kind": "plain", "level": level, "changes": changes}


def test_the_table_counts_what_was_measured() -> None:
    records = [
        check_record("no load", "identical", 0.0, ["ok", "ok", "ok"]),
        check_record("no load", "identical", 0.0, ["ok", "REGRESSION", "ok"]),
        check_record("no load", "slowed", 0.05, ["REGRESSION", "REGRESSION", "REGRESSION", "ok"]),
        plain_record(0.05, 0.08, 0.051),
        plain_record(0.0, 0.06, 0.0),
        plain_record(0.0, 0.01, 0.0),
        check_record("CPU hog", "identical", 0.0, ["ok"]),
    ]
    lines = summary_markdown(records, "abc").splitlines()
    assert lines[4:6] == ["## No load", ""]
    assert "* 2 checks of identical code, 6 cases: **1 false alarms** in 1 checks" in lines
    ours = next(line for line in lines if line.startswith("| `bench speed check`"))
    assert "16.7% (1 of 6; " in ours
    assert "75.0% (3 of 4; " in ours
    mean = next(line for line in lines if "=mean:5%`" in line)
    assert "25.0% (1 of 4; " in mean
    assert "100.0% (2 of 2; " in mean
    assert "1 of 2 identical suites fail with mean:5%." in lines
    assert "0 of 2 fail with median:5%." in lines
    assert "## CPU hog" in lines
    assert lines[-1].startswith("| `bench speed check` | 0.0% (0 of 1; ")
