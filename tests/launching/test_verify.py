"""Verify: a record is data, and what it names is not run unless that is allowed."""

from pathlib import Path

import pytest

from bench.launching.cell import run_cell
from bench.launching.verify import compare, foreign_code
from tests.small import small_cell


@pytest.mark.parametrize(
    ("config", "foreign"),
    [
        ({"task": {"module": None}, "optimizer": {"target": "SGD", "fallback": None}}, []),
        ({"optimizer": {"target": "bench.optimizers.newton:Newton"}}, []),
        ({"task": {"module": "examples/ring.py:ring"}}, ["examples/ring.py:ring"]),
        ({"task": {"module": "ours.tasks:ring"}}, ["ours.tasks:ring"]),
        ({"optimizer": {"target": "torch.optim:SGD"}}, ["torch.optim:SGD"]),
        ({"optimizer": {"target": "Muon", "fallback": {"target": "mine.py:Mine"}}}, ["mine.py:Mine"]),
        # The suite's name is no way in for a file.
        ({"optimizer": {"target": "bench.py:Mine"}}, ["bench.py:Mine"]),
        ({"task": {"module": "bench.d/ring.py:ring"}}, ["bench.d/ring.py:ring"]),
    ],
)
def test_foreign_code_is_what_a_record_would_import(config: dict[str, object], foreign: list[str]) -> None:
    assert foreign_code(config) == foreign


def test_foreign_code_is_run_only_where_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A file that says so when it is run.
    said = "from pathlib import Path\nPath('was run').touch()\nimport torch\n"
    Path("bench.py").write_text(said + "class Mine(torch.optim.SGD):\n    pass\n", encoding="utf-8")
    cell = small_cell("optimizer.target=bench.py:Mine")
    record, curves, _ = run_cell(cell)
    assert record.status == "complete"
    Path("bench.py").write_text(said + "class Mine(torch.optim.SGD):\n    more = 1\n", encoding="utf-8")
    Path("was run").unlink()
    comparison = compare(record, curves)
    assert comparison.verdict == "not comparable"
    assert comparison.detail == "it runs bench.py:Mine, code outside the suite; --allow-code lets it"
    assert not Path("was run").exists()
    comparison = compare(record, curves, allow_code=True)
    assert (comparison.verdict, comparison.detail[:32]) == ("not comparable", "its configuration now has the id")
    Path("bench.py").write_text(said + "class Mine(torch.optim.SGD):\n    pass\n", encoding="utf-8")
    assert compare(record, curves, allow_code=True).verdict == "equal"
