"""Pairs: both sides are visited alike, and what would take too long is said before it is begun."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.speed.arms import Arm, CaseEnded, Code
from bench.speed.pairs import (
    BLOCK_NS,
    LEAST_ROUNDS,
    LONG_NS,
    PAIR_SECONDS,
    ROUNDS,
    VERY_LONG_NS,
    WARM_CALLS,
    How,
    TooSlow,
    _take_turns,
    blocks_of,
    measure_pair,
)
from bench.speed.result import Facts

FACTS = Facts("fused", 1, 0, "ab", 8, 16)


class FakeCase:
    """A case whose calls take as long as it is told, and which writes down what it is asked."""

    def __init__(self, name: str, ns: int, log: list[tuple[str, str, int, int]]) -> None:
        self.name, self.ns, self.log = name, ns, log

    def call(self) -> float:
        self.log.append((self.name, "call", 1, 1))
        return self.ns / 1e9

    def facts(self, values: Path | None) -> Facts:
        self.log.append((self.name, f"facts {values.name if values else None}", 1, 1))
        return FACTS

    def delay(self, ns: int) -> None:
        self.log.append((self.name, "delay", ns, 1))
        self.ns += ns

    def visit(self, calls: int, blocks: int) -> list[int]:
        self.log.append((self.name, "visit", calls, blocks))
        # The first block of a visit is cold.
        return [self.ns * calls * (2 if blocks > 1 and number == 0 else 1) for number in range(blocks)]


class FakeArm(Arm):
    """An arm that runs one such case, without a process."""

    def __init__(
        self, label: str, ns: int, log: list[tuple[str, str, int, int]], ends: CaseEnded | None = None
    ) -> None:
        self.code = Code(label, "python", Path(), (), ())
        self.fake, self.ends = FakeCase(label, ns, log), ends
        self.left = False

    @contextlib.contextmanager
    def case(self, name: str, fork: bool, seconds: float) -> Iterator[FakeCase]:  # type: ignore[override]
        if self.ends is not None:
            raise self.ends
        try:
            yield self.fake
        finally:
            self.left = True


def arms(base_ns: int, head_ns: int) -> tuple[FakeArm, FakeArm, list[tuple[str, str, int, int]]]:
    log: list[tuple[str, str, int, int]] = []
    return FakeArm("base", base_ns, log), FakeArm("head", head_ns, log), log


@pytest.mark.parametrize(
    ("ns", "blocks"),
    [(1, (4, 1)), (LONG_NS - 1, (4, 1)), (LONG_NS, (2, 1)), (VERY_LONG_NS - 1, (2, 1)), (VERY_LONG_NS, (1, 0))],
)
def test_long_calls_have_fewer_blocks_and_one_is_left_that_counts(ns: float, blocks: tuple[int, int]) -> None:
    assert blocks_of(ns) == blocks
    assert blocks[0] > blocks[1]


@pytest.mark.parametrize(
    "ns", [50, 10_000, 200_000, 699_999, LONG_NS, 3_000_000, VERY_LONG_NS, 60_000_000, 300_000_000]
)
@pytest.mark.parametrize("slower", [1.0, 1.5])
def test_both_sides_are_visited_alike_in_the_order_a_b_b_a(ns: int, slower: float) -> None:
    base, head, log = arms(ns, round(ns * slower))
    pair = measure_pair(base, head, "case", How(most_seconds=1e9)).pair
    ours, theirs = ([entry[1:] for entry in log if entry[0] == name] for name in ("base", "head"))
    assert ours == theirs
    blocks, _ = blocks_of(ns)
    visits = [name for name, what, calls, count in log if what == "visit"][-2 * pair.rounds :]
    assert visits == (["base", "head", "head", "base"] * pair.rounds)[: 2 * pair.rounds]
    assert log[-1][2:] == (pair.calls, blocks)
    assert LEAST_ROUNDS <= pair.rounds <= ROUNDS


@pytest.mark.parametrize("ns", [50, 200_000, 3_000_000, 60_000_000])
def test_times_are_those_of_one_call_and_a_cold_block_is_left_out(ns: int) -> None:
    base, head, _ = arms(ns, 2 * ns)
    pair = measure_pair(base, head, "case", How(most_seconds=1e9)).pair
    assert pair.change == pytest.approx(math.log(2))
    assert (pair.base, pair.base_median, pair.base_p95) == pytest.approx((ns / 1e9,) * 3)
    assert (pair.head, pair.head_median, pair.head_p95) == pytest.approx((2 * ns / 1e9,) * 3)


def test_blocks_and_pairs_are_as_long_as_aimed_at() -> None:
    base, head, _ = arms(10_000, 10_000)
    pair = measure_pair(base, head, "case", How()).pair
    assert pair.calls * 10_000 == pytest.approx(BLOCK_NS, rel=0.1)
    assert pair.rounds == ROUNDS
    base, head, _ = arms(20_000_000, 20_000_000)
    pair = measure_pair(base, head, "case", How()).pair
    assert (pair.calls, pair.rounds) == (1, PAIR_SECONDS / (2 * 0.02))


def test_a_case_too_slow_is_said_after_one_call_and_left() -> None:
    base, head, log = arms(1_000, 2_000_000_000)
    with pytest.raises(TooSlow, match=r"^2 s a call: a pair of 9 rounds takes 72 s, and one may take 30 s of --budget"):
        measure_pair(base, head, "case", How())
    assert log == [("base", "call", 1, 1), ("head", "call", 1, 1)]
    assert base.left
    assert head.left
    measure_pair(base, head, "case", How(most_seconds=72.0))


def test_a_slow_first_call_of_a_fast_case_is_no_reason() -> None:
    base, head, _ = arms(50_000_000, 50_000_000)
    measure_pair(base, head, "case", How(most_seconds=0.001))


def test_facts_are_asked_for_once_a_side_after_one_call(tmp_path: Path) -> None:
    base, head, log = arms(1_000_000, 1_000_000)
    measured = measure_pair(base, head, "case", How(values=tmp_path))
    assert (measured.base, measured.head) == (FACTS, FACTS)
    assert [entry[:2] for entry in log[:4]] == [
        ("base", "call"),
        ("head", "call"),
        ("base", "facts base"),
        ("head", "facts head"),
    ]


def test_without_facts_both_sides_are_warmed() -> None:
    base, head, log = arms(1_000_000, 1_000_000)
    measured = measure_pair(base, head, "case", How(facts=False))
    assert measured.base is measured.head is None
    for name in ("base", "head"):
        assert [entry[1] for entry in log if entry[0] == name][: WARM_CALLS + 1] == [*["call"] * WARM_CALLS, "visit"]


@pytest.mark.parametrize("slowdown", [0.05, 1.0])
def test_a_slowdown_is_that_of_head_by_its_own_time(slowdown: float) -> None:
    log: list[tuple[str, str, int, int]] = []
    base, head = FakeCase("base", 100_000, log), FakeCase("head", 200_000, log)
    pair = _take_turns(base, head, How(slowdown=slowdown))  # type: ignore[arg-type]
    assert [entry for entry in log if entry[1] == "delay"] == [("head", "delay", round(slowdown * 200_000), 1)]
    assert pair.change == pytest.approx(math.log(2 * (1 + slowdown)))


def test_a_case_that_ends_early_says_in_which_arm() -> None:
    base, head, _ = arms(1_000, 1_000)
    head.ends = CaseEnded("failed", "no reason", "head")
    with pytest.raises(CaseEnded) as caught:
        measure_pair(base, head, "case", How())
    assert caught.value.arm == "head"
    assert base.left
    base.ends = CaseEnded("failed", "no reason", "base")
    with pytest.raises(CaseEnded) as caught:
        measure_pair(base, head, "case", How())
    assert caught.value.arm == "base"
