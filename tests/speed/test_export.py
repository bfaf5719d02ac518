"""A check in pytest-benchmark's JSON: read by its own tools, and nothing in it made up."""

import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.speed.export import to_benchmark_json, write_benchmark_json
from bench.speed.history import fingerprint_id
from bench.speed.result import CheckResult, Verdict
from tests.speed.checks import FACTS, MACHINE, STEP, case, check, pair

OTHER = STEP.replace("Adam-fused", "SGD-foreach")
PLAIN = "tests/speed/test_data.py::test_batches"


@pytest.fixture
def made() -> CheckResult:
    slow = case(
        heads=(4.2e-4, 4.4e-4, 4.3e-4),
        change=0.05,
        verdict=Verdict.REGRESSION,
        confirmation=(pair(0.06, 4.5e-4, calls=6), pair(0.05, 4.6e-4)),
        base=FACTS,
        head=FACTS,
        instructions=(1e4, 2e4),
    )
    cases = (slow, case(OTHER), case(PLAIN, (2e-3,)), case(f"{PLAIN}[old]", (), verdict=Verdict.GONE, reason="no test"))
    machine = MACHINE | {"platform": "Linux x86_64"}
    return check(3, "a" * 12, f"{'b' * 12}+", cases=cases, fingerprint=machine)


def test_statistics_are_those_of_the_pairs(made: CheckResult) -> None:
    stats = to_benchmark_json(made)["benchmarks"][0]["stats"]
    data = [4.2e-4, 4.4e-4, 4.3e-4, 4.5e-4, 4.6e-4]
    assert stats["data"] == data
    assert (stats["min"], stats["max"], stats["rounds"], stats["iterations"]) == (4.2e-4, 4.6e-4, 5, 6)
    assert stats["mean"] == pytest.approx(statistics.mean(data))
    assert stats["stddev"] == pytest.approx(statistics.stdev(data))
    assert stats["median"] == pytest.approx(4.4e-4)
    assert stats["ops"] == pytest.approx(1 / statistics.mean(data))
    assert stats["total"] == pytest.approx(sum(data))


def test_names_are_taken_apart_as_pytest_does(made: CheckResult) -> None:
    found = to_benchmark_json(made)["benchmarks"]
    names = [(one["name"], one["fullname"], one["param"], one["params"]) for one in found]
    assert names == [
        ("test_step[Adam-fused-mlp]", STEP, "Adam-fused-mlp", None),
        ("test_step[SGD-foreach-mlp]", OTHER, "SGD-foreach-mlp", None),
        ("test_batches", PLAIN, None, None),
    ]
    odd = check(1, cases=(case("tests/t.py::Cases::test_x[a::b[0]]"),))
    (one,) = to_benchmark_json(odd)["benchmarks"]
    assert (one["name"], one["param"]) == ("test_x[a::b[0]]", "a::b[0]")


def test_what_only_a_check_knows_goes_along(made: CheckResult) -> None:
    document = to_benchmark_json(made)
    extra = document["benchmarks"][0]["extra_info"]
    assert extra["verdict"] == "REGRESSION"
    assert extra["change"] == pytest.approx(made.cases[0].change)
    assert extra["pair_log_changes"] == [0.05, 0.05, 0.05, 0.06, 0.05]
    assert extra["base_seconds"] == [pair.base for pair in (*made.cases[0].pairs, *made.cases[0].confirmation)]
    assert (extra["base_commit"], extra["confirmation_pairs"]) == ("a" * 12, 2)
    assert (extra["head_implementation"], extra["head_instructions"]) == ("fused", 2e4)
    assert "head_instructions" not in document["benchmarks"][1]["extra_info"]
    assert document["commit_info"] == {
        "id": "b" * 12,
        "time": None,
        "author_time": None,
        "dirty": True,
        "branch": "(unknown)",
    }
    machine = document["machine_info"]
    assert (machine["system"], machine["machine"], machine["python_version"]) == ("Linux", "x86_64", "3.11.9")
    assert machine["cpu"] == {"brand_raw": "Example 9000", "count": 2}
    assert machine["fingerprint"]["id"] == fingerprint_id(made.fingerprint)
    assert "node" not in machine
    gone = {"fullname": f"{PLAIN}[old]", "verdict": "GONE", "reason": "no test"}
    assert document["bench_speed"]["unmeasured"] == [gone]


def test_the_fields_are_those_of_pytest_benchmark(made: CheckResult, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(benchmark): benchmark(int)\n")
    theirs = tmp_path / "theirs.json"
    words = ["-q", "-p", "no:cacheprovider", "--benchmark-max-time=0.01", "--benchmark-warmup=off"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *words, f"--benchmark-json={theirs}", "test_it.py"],
        cwd=tmp_path,
        # Under xdist, which these tests may run under themselves, pytest-benchmark does nothing.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        check=True,
    )
    real, own = json.loads(theirs.read_text()), to_benchmark_json(made)
    assert set(real) == set(own) - {"bench_speed"}
    for one in own["benchmarks"]:
        assert set(one) == set(real["benchmarks"][0])
        assert set(one["stats"]) == set(real["benchmarks"][0]["stats"])
    assert set(own["commit_info"]) <= set(real["commit_info"]) | {"branch"}


def test_its_own_command_line_compares_two_checks(made: CheckResult, tmp_path: Path) -> None:
    write_benchmark_json(made, tmp_path / "new.json")
    write_benchmark_json(check(2), tmp_path / "old.json")
    shown = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "old.json", "new.json", "--csv=table.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Failed to load" not in shown.stdout + shown.stderr
    for name in ("test_step[Adam-fused-mlp] (old)", "test_step[Adam-fused-mlp] (new)", "test_batches (new)"):
        assert name in shown.stdout
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    times = sorted(float(row["median"]) for row in rows if row["name"] == STEP)
    assert times == pytest.approx([4e-4, 4.4e-4])


def test_a_check_without_a_time_is_a_file_without_benchmarks(tmp_path: Path) -> None:
    empty = check(1, None, None, cases=(), fingerprint={}, noise=None, detectable=None)
    document = to_benchmark_json(empty)
    assert document["benchmarks"] == []
    assert document["commit_info"]["id"] == "unversioned"
    write_benchmark_json(empty, tmp_path / "empty.json")
    assert json.loads((tmp_path / "empty.json").read_text()) == document


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_benchmark_json(check(1), tmp_path)
