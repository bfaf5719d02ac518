"""Configurations of classes that have no file: what a newer torch would bring."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.config_store import ConfigStore

from bench.optimizers import generated
from bench.optimizers.generated import generated_config, register_optimizers, snake_case
from bench.optimizers.registry import optimizer_classes
from tests.cases import CONF, OPTIMIZERS


class LaterSGD(torch.optim.SGD):
    """A class that today's torch does not have."""

    def __init__(self, params: Any, lr: float = 0.02, wisdom: float = 1.0) -> None:
        super().__init__(params, lr)


class LaterMuon(torch.optim.Muon):
    pass


class Rateless(torch.optim.SGD):
    def __init__(self, params: Any) -> None:
        super().__init__(params, 0.1)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Hydra's store with a group "optimizer" of its own."""
    repo: dict[str, Any] = {}
    monkeypatch.setattr(ConfigStore.instance(), "repo", repo)
    return repo


def test_every_class_of_this_torch_has_a_file(store: dict[str, Any]) -> None:
    assert set(optimizer_classes()) <= {chosen["target"] for chosen in OPTIMIZERS.values()}
    assert register_optimizers(CONF) == []
    assert store == {}


def test_a_new_class_configures_itself(store: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim, "LaterSGD", LaterSGD, raising=False)
    assert register_optimizers(CONF) == ["later_sgd"]
    node = store["optimizer"]["later_sgd.yaml"].node
    assert node == {
        "name": "later_sgd",
        "target": "LaterSGD",
        "implementation": "default",
        "arguments": {},
        "weight_decay": None,
        # Its own, .02, is nearest to 2^-6.
        "lr_log2": [-11, -2],
        "batch_size": None,
        "fallback": None,
    }
    assert set(node) == set(OPTIMIZERS["sgd"])


def test_a_file_that_is_gone_is_generated(store: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(CONF / "optimizer", tmp_path / "optimizer")
    for name in ("radam", "muon"):
        (tmp_path / "optimizer" / f"{name}.yaml").unlink()
    assert sorted(register_optimizers(tmp_path)) == ["muon", "radam"]
    assert store["optimizer"]["muon.yaml"].node.fallback == {"target": "AdamW", "arguments": {}}


def test_configurations_by_what_a_class_takes() -> None:
    assert generated_config("x", "SparseAdam", torch.optim.SparseAdam)["lr_log2"] == [-15, -6]
    assert generated_config("x", "Muon", LaterMuon)["fallback"] == {"target": "AdamW", "arguments": {}}
    rateless = generated_config("x", f"{Path(__file__)}:Rateless", Rateless)
    assert rateless["lr_log2"] == [0, 0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SGD", "sgd"),
        ("LBFGS", "lbfgs"),
        ("AdamW", "adamw"),
        ("NAdam", "nadam"),
        ("RMSprop", "rmsprop"),
        ("SparseAdam", "sparse_adam"),
        ("LaterSGD", "later_sgd"),
        ("Adafactor", "adafactor"),
    ],
)
def test_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected
    assert name not in optimizer_classes() or expected in OPTIMIZERS


def test_torch_is_asked_through_its_source_where_it_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = generated._offered()
    monkeypatch.delitem(sys.modules, "torch")
    assert generated._offered() == loaded


def test_composing_does_not_load_torch() -> None:
    code = "import sys, bench.composition as c; c.register(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
