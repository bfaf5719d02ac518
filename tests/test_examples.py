"""The example of a task of one's own works as docs/your-own-task.md says."""

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.small import SMALL, call, records

#: As written there: from the checkout.
REFERENCE = "examples/ring.py:ring"
OWN = ["task=custom", f"task.module={REFERENCE}"]
PAGE = ROOT / "docs" / "your-own-task.md"


@pytest.fixture(autouse=True)
def _in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_page_shows_the_example_and_its_commands() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert (ROOT / "examples" / "ring.py").read_text(encoding="utf-8") in page
    assert page.count(" ".join(OWN)) == 3


def test_the_example_passes_the_audit(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("audit", *OWN, "tracker=none") == 0
    assert "audit of custom/ring sgd" in capsys.readouterr().out


def test_the_example_is_trained_and_reported(tmp_path: Path) -> None:
    small = [word for word in SMALL if not word.startswith("task=")]
    root = tmp_path / "results"
    launched = ("-m", *small, *OWN, "sweep=ring", f"results_root={root}", "hydra.launcher.workers=1")
    assert call("run", *launched, "batch_size=64,full") == 0
    found = records(root / "ring")
    assert len(found) == 2
    for record in found.values():
        assert record["status"] == "complete"
        task = record["config"]["task"]
        assert (task["name"], task["module"], task["data"]) == ("custom/ring", REFERENCE, None)
        assert len(task["source_sha256"]) == 64
    assert call("report", "ring", "--results-root", str(root), "-o", str(tmp_path / "page")) == 0
    assert "custom/ring" in (tmp_path / "page" / "report.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "page" / "manifest.json").read_text())


def test_a_task_that_cannot_be_used_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "results"
    words = ("run", "task=custom", "task.module=examples/ring.py:rnig", f"results_root={root}", "tracker=none")
    assert call(*words) == 2
    said = capsys.readouterr().err.strip()
    assert said.splitlines() == [said]
    assert "unknown function in ring.py 'rnig'; did you mean 'ring'?" in said
    assert not root.exists()


def test_a_task_of_ones_own_needs_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("audit", "task=custom", "tracker=none") == 2
    assert capsys.readouterr().err.startswith("bench: task.module is missing: name your task, path/to/file.py:function")
