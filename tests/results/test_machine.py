"""What the machine is."""

from pathlib import Path

import pytest

from bench.results import machine


def test_the_name_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: "processor\t: 0\nmodel name\t: Fast One 3000 \nflags: x\n")
    assert machine.cpu_name() == "Fast One 3000"
    monkeypatch.setattr(Path, "read_text", lambda self: "nothing\n")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    assert machine.cpu_name() == "arm64"

    def missing(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    assert machine.cpu_name() == "arm"
