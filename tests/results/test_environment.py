"""The environment explains differences between machines and names nobody."""

import getpass
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import bench
from bench.results import environment as module
from bench.results.environment import PACKAGES, environment

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    module._machine.cache_clear()
    yield
    module._machine.cache_clear()


def test_what_is_said() -> None:
    made = environment(CPU, 3)
    assert (made["device"], made["threads"], made["accelerator"]) == ("cpu", 3, None)
    assert made["hardware"] == made["cpu"]
    assert made["suite"] == bench.__version__
    assert set(made["packages"]) == set(PACKAGES)
    assert torch.__version__.startswith(made["packages"]["torch"].partition("+")[0])
    assert made["cores"] >= 1
    assert made["memory_gib"] > 0
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_switches_are_those_of_now() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    try:
        for value in (True, False):
            matmul.allow_tf32 = value
            assert environment(CPU, 1)["tf32"] is value
    finally:
        matmul.allow_tf32 = before


def test_nobody_and_no_place_is_named() -> None:
    text = json.dumps(environment(CPU, 1))
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert str(Path(bench.__file__).parents[1]) not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_accelerators_are_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"accelerator of {device}")
    made = environment(torch.device("cuda:1"), 1)
    assert made["hardware"] == made["accelerator"] == "accelerator of cuda:1"
    assert environment(torch.device("mps"), 1)["hardware"] == "Apple GPU"


def run_says(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    def run(*arguments: Any, **keywords: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return SimpleNamespace(stdout=answer)

    monkeypatch.setattr(module.subprocess, "run", run)


def test_the_commit_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "bench").mkdir(parents=True)
    monkeypatch.setattr(bench, "__file__", str(checkout / "bench" / "__init__.py"))
    run_says(monkeypatch, "0123456789ab+\n")
    assert module._commit() is None
    (checkout / ".git").mkdir()
    assert module._commit() == "0123456789ab+"
    for error in (FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")):
        run_says(monkeypatch, error)
        assert module._commit() is None
