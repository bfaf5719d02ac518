"""The example of a repository that checks the speed of its own optimizer works once it is copied elsewhere."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bench.speed.result import Verdict
from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "speedcheck"


@pytest.fixture(scope="module")
def optimizer() -> ModuleType:
    found = importlib.util.spec_from_file_location("signstep_optimizer", EXAMPLE / "src" / "signstep" / "optimizer.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_its_cases_run_where_it_was_copied_to(tmp_path: Path) -> None:
    copy = tmp_path / "signstep"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--benchmark-disable", "-p", "no:cacheprovider", "-q"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(r"^4 passed", found.stdout, re.MULTILINE)


@pytest.mark.parametrize("foreach", [False, True])
def test_its_steps(optimizer: ModuleType, foreach: bool) -> None:
    parameter = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    idle = torch.ones(2, requires_grad=True)
    one = optimizer.SignMomentum([parameter, idle], lr=0.25, momentum=0.5, foreach=foreach)
    parameter.grad = torch.tensor([4.0, -1.0, 0.0])
    one.step()
    assert parameter.tolist() == [0.75, -1.75, 3.0]
    # Averages 2, −.5, 0, then 1 − 2, −.25 + 1, 2: the second sign is the newer gradient's, half of it remembered.
    parameter.grad = torch.tensor([-4.0, 2.0, 4.0])
    one.step()
    assert parameter.tolist() == [1.0, -2.0, 2.75]
    assert one.state[parameter]["average"].tolist() == [-1.0, 0.75, 2.0]
    assert idle.tolist() == [1.0, 1.0]
    assert idle not in one.state


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": -1.0}, {"momentum": 1.0}, {"momentum": -0.1}])
def test_it_refuses_values_out_of_range(optimizer: ModuleType, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        optimizer.SignMomentum([torch.ones(1)], **wrong)


def test_its_page_names_every_verdict_with_its_exit_code() -> None:
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[3].isdigit():
            rows |= dict.fromkeys(cells[0].split(", "), int(cells[3]))
    assert rows == {verdict.value: verdict.exit_code for verdict in Verdict}
