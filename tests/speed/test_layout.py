"""One address-space layout for all arms, and the processor they share."""

import os
import subprocess
import sys

import pytest

from bench.speed import layout

ADDRESS = (
    "import ctypes; print(ctypes.addressof(ctypes.c_int.in_dll(ctypes.pythonapi, 'Py_OptimizeFlag')), id(object()))"
)


def address() -> str:
    words = [sys.executable, "-S", "-c", ADDRESS]
    return subprocess.run(words, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "0"}).stdout


@pytest.mark.skipif(not layout.can_fix(), reason="the system does not let a layout be fixed")
def test_programs_started_meanwhile_lie_alike_and_afterwards_do_not() -> None:
    with layout.fixed() as allowed:
        assert allowed
        assert len({address() for _ in range(3)}) == 1
    assert len({address() for _ in range(3)}) > 1


def test_where_there_is_no_such_call_nothing_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_personality", lambda persona: None)
    with layout.fixed() as allowed:
        assert not allowed
    assert not layout.can_fix()


def test_the_persona_is_put_back_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(layout, "_personality", lambda persona: set_to.append(persona) or 7)
    with pytest.raises(KeyError), layout.fixed():
        raise KeyError
    assert set_to == [layout._ASK, 7 | layout._NO_RANDOM_LAYOUT, 7]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no processor can be chosen here")
def test_of_the_allowed_processors_the_one_with_least_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout.psutil, "cpu_percent", lambda seconds, percpu: [0.0, 90.0, 40.0, 60.0])
    for allowed, expected in (({1, 2, 3}, 2), ({0, 1, 2, 3}, 0), ({1}, 1), ({1, 17}, 1), ({17}, None)):
        monkeypatch.setattr(layout.os, "sched_getaffinity", lambda pid, allowed=allowed: allowed)
        assert layout.quietest_processor() == expected


def test_where_none_can_be_chosen_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(layout.os, "sched_getaffinity", raising=False)
    assert layout.quietest_processor() is None
