"""A pytest plugin that slows every benchmark down: how plain pytest-benchmark is given the slowdowns of the self-test.

Loaded by path with `-p slowdown`, so it imports nothing of this suite. `BENCH_SLOWDOWN` is the fraction. The time that
a call takes is found before pytest-benchmark starts, as the fastest of several blocks.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

_WARM_CALLS, _BLOCKS, _BLOCK_NS = 3, 20, 700_000


@pytest.fixture(autouse=True)
def _slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fixture time a function that spins after every call."""
    fraction = float(os.environ.get("BENCH_SLOWDOWN", "0"))
    plain: Callable[..., Any] = BenchmarkFixture.__call__

    def call(self: Any, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not fraction:
            return plain(self, function_to_benchmark, *args, **kwargs)
        function = functools.partial(function_to_benchmark, *args, **kwargs)
        now, delay = time.perf_counter_ns, round(fraction * _fastest_ns(function))

        def slowed() -> Any:
            result = function()
            end = now() + delay
            while now() < end:
                pass
            return result

        return plain(self, slowed)

    monkeypatch.setattr(BenchmarkFixture, "__call__", call)


def _fastest_ns(function: Callable[[], Any]) -> float:
    def block(calls: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(calls):
            function()
        return (time.perf_counter_ns() - start) / calls

    block(_WARM_CALLS)
    calls = max(1, round(_BLOCK_NS / max(1.0, block(1))))
    return min(block(calls) for _ in range(_BLOCKS))
