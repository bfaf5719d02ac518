"""What else the machine did: shares of known counters, and of the real ones."""

from types import SimpleNamespace

import pytest

from bench.speed import pressure
from bench.speed.pressure import Pressure


def test_shares_are_of_the_time_since(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"seconds": 100.0, "waited": 1e6, "steal": 5.0}
    monkeypatch.setattr(pressure.time, "monotonic", lambda: now["seconds"])
    monkeypatch.setattr(pressure, "_waited", lambda: now["waited"])
    monkeypatch.setattr(pressure.psutil, "cpu_times", lambda: SimpleNamespace(steal=now["steal"]))
    monkeypatch.setattr(pressure.psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(pressure.os, "getloadavg", lambda: (1.25, 9.0, 9.0))
    watched = Pressure()
    now |= {"seconds": 110.0, "waited": 3.5e6, "steal": 6.0}
    assert watched.shares() == {"pressure": 0.25, "steal": 0.05, "load": 1.25}


def test_what_the_system_does_not_tell_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "_waited", lambda: None)
    monkeypatch.setattr(pressure.psutil, "cpu_times", lambda: SimpleNamespace(user=1.0))
    monkeypatch.delattr(pressure.os, "getloadavg", raising=False)
    assert Pressure().shares() == {}


def test_shares_of_this_machine_are_shares() -> None:
    shares = Pressure().shares()
    assert set(shares) <= {"pressure", "steal", "load"}
    assert 0 <= shares.get("pressure", 0) <= 1
    assert all(value >= 0 for value in shares.values())
