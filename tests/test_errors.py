"""Errors name the value, what is allowed and the nearest match, in one line."""

import pytest

from bench import errors
from bench.errors import (
    BenchError,
    DataUnavailable,
    DeviceUnavailable,
    EngineUnavailable,
    Incompatible,
    NotComparable,
    UsageError,
    nearest,
    unknown,
)


@pytest.mark.parametrize(
    ("name", "close"),
    [("adm", "adam"), ("ADAM", "adam"), ("sdg", "SGD"), ("momentun", "momentum"), ("zzz", None), ("", None)],
)
def test_nearest(name: str, close: str | None) -> None:
    assert nearest(name, ["adam", "SGD", "momentum"]) == close
    assert nearest(name, iter(["momentum", "SGD", "adam"])) == close
    assert nearest(name, []) is None


def test_unknown() -> None:
    error = unknown("optimizer", "adm", {"sgd", "adam"})
    assert isinstance(error, UsageError)
    assert str(error) == "unknown optimizer 'adm'; did you mean 'adam'? (allowed: adam, sgd)"
    assert str(unknown("size", 7, ["big"])) == "unknown size '7' (allowed: big)"


def test_exit_codes() -> None:
    codes = {BenchError: 1, UsageError: 2, Incompatible: 2, DataUnavailable: 2, NotComparable: 4}
    codes |= {DeviceUnavailable: 1, EngineUnavailable: 1}
    for kind, code in codes.items():
        assert kind("x").exit_code == code
        assert issubclass(kind, BenchError)
    public = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)}
    assert public == set(codes)
