"""`bench throughput` from end to end, in little time."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from bench.launching import throughput as module
from bench.measure.throughput import Sample
from tests.small import call

SMALL = ("task=mnist5k/logreg", "measure.window_seconds=0.0005", "measure.warmup_steps=1")
FILES = {"throughput.csv", "throughput.json", "throughput.md", "throughput.svg"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_grid_from_end_to_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    grid = ("optimizer=sgd,adam", "batch_size=1,63,64,65,full")
    assert call("throughput", "--rounds", "6", "-o", "out", *SMALL, *grid) == 0
    said = capsys.readouterr()
    assert "84 of 84 windows" in said.err
    assert "control (sgd:1)" in said.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"README.md"}
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    made = json.loads((tmp_path / "out" / "throughput.json").read_text())
    assert made["command"] == " ".join(("bench throughput --rounds 6 -o out", *SMALL, *grid))
    assert made["environment"]["device"] == "cpu"
    assert len(made["samples"]) == 84
    assert len(made["drift"]["rounds"]) == 6
    assert [row["batch_size"] for row in made["powers_of_two"]] == [64, 64]
    table = pd.read_csv(tmp_path / "out" / "throughput.csv")
    assert sorted(zip(table["optimizer"], table["batch_size"], strict=True)) == [
        (name, size) for name in ("adam", "sgd") for size in (1, 63, 64, 65, 4000)
    ]
    for name in ("examples_per_second", "step_ms", "example_us", "over_control"):
        assert (table[f"{name}_n"] == 6).all()
        assert (table[f"{name}_lo"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_hi"]).all()
    drawing = ElementTree.parse(tmp_path / "out" / "throughput.svg").getroot()
    assert "sgd" in str(drawing.findtext("{http://www.w3.org/2000/svg}desc"))
    text = (tmp_path / "out" / "throughput.md").read_text()
    assert made["command"] in text
    assert "(throughput.svg)" in text


def test_a_named_control(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("throughput", "--rounds", "5", "--control", "sgd:8", *SMALL, "batch_size=4,8") == 0
    assert "control (sgd:8)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rounds", "4"), "--rounds 4: must be at least 5"),
        (("--control", "sgd:9", "batch_size=4,8"), "unknown --control 'sgd:9'"),
        (("batch_size=4,0",), "batch_size=0: must be an integer from 1 to 4000, or full [in the cell"),
        (("optimizer=sgd,adm",), "unknown optimizer 'adm'; did you mean 'adam'?"),
        (("task=mnist5k/logreg,mnist5k/mlp",), "this grid varies task too"),
        (("lr=0.1,0.2",), "this grid has sgd:64 twice"),
        (("precision=float32,float64",), "this grid varies precision too"),
        (("optimizer=sgd,newton", "task=mnist5k/lenet5", "incompatible=record"), "Newton: keeps a matrix"),
        (("nonsense",), "cannot read the override 'nonsense'"),
        (("-o", "/proc/nothing/here"), "--out /proc/nothing/here: cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("throughput", *words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*arguments: Any) -> list[Sample]:
        assert [path.name.startswith(".out-") for path in tmp_path.iterdir()] == [True]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure_throughput", interrupted)
    assert call("throughput", "-o", "out", *SMALL) == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
