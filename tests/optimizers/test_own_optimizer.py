"""The example of docs/your-own-optimizer.md, run as the page says."""

import re
from pathlib import Path

import pytest
import torch

from bench.cli import main
from bench.optimizers.registry import build_optimizer, moves_at_zero, requirements, state_bytes

ROOT = Path(__file__).resolve().parents[2]
TARGET = f"{ROOT / 'examples' / 'sign_descent.py'}:SignDescent"


def test_the_example_is_what_it_says() -> None:
    assert requirements(TARGET) == set()
    assert moves_at_zero(TARGET) == ""
    x = torch.tensor([1.0, -3.0, 0.0], requires_grad=True)
    optimizer = build_optimizer(TARGET, "default", {"momentum": 0.5}, [x], 0.25)
    x.grad = torch.tensor([2.0, -0.1, 0.0])
    optimizer.step()
    assert x.tolist() == [0.75, -2.75, 0.0]
    # The averages, ½ of the gradient before, still outweigh a smaller gradient of the other sign.
    x.grad = torch.tensor([-0.5, 0.01, 1.0])
    optimizer.step()
    assert x.tolist() == [0.5, -2.5, -0.25]
    assert state_bytes(optimizer) == 12


def test_the_command_of_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "your-own-optimizer.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^bench run (optimizer\.target=examples/.*)$", page, re.MULTILINE)
    monkeypatch.chdir(ROOT)
    overrides = [word.strip("'") for word in command.split()]
    small = ["task=regression/linear", "seeds=1", "lr=[0.0625]", "budget.epochs=4", "budget.steps=null"]
    with pytest.raises(SystemExit) as ended:
        main(["run", *overrides, *small, "measure.speed=false", f"results_root={tmp_path}"])
    assert ended.value.code == 0
    (record,) = tmp_path.rglob("record.json")
    assert '"status": "complete"' in record.read_text(encoding="utf-8")
