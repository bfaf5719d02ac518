"""One pair: two processes that take turns on one case, visited equally often, in the order A B B A."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError
from bench.speed.arms import Arm, Case
from bench.speed.result import Facts, Pair
from bench.speed.statistics import pair_change

#: Aimed-at nanoseconds of a block: long beside the clock, short beside a time slice of the scheduler.
BLOCK_NS = 700_000
#: A call this long (ns) needs fewer blocks a visit, see `blocks_of`.
LONG_NS, VERY_LONG_NS = 1_000_000, 10_000_000
ROUNDS = 50
LEAST_ROUNDS = 9
#: Aimed-at seconds of a pair whose calls are long.
PAIR_SECONDS = 0.8
#: Calls that both arms make before the first block, for what is built lazily.
WARM_CALLS = 5
NS = 1e9


class TooSlow(BenchError):
    """A case that cannot be measured in the time that it may take."""

    exit_code = 3


@dataclass(frozen=True)
class How:
    """How a pair is measured.

    Attributes:
        fork: A child for each arm; else the arms themselves, which can then run one case only.
        facts: Whether to collect what repeats exactly.
        values: Folder for the numbers behind digests; None where they are not wanted.
        most_seconds: What a pair may take.
        patience: Seconds that any one answer may take.
        slowdown: Fraction by which to slow head down (self-test).
    """

    fork: bool = True
    facts: bool = True
    values: Path | None = None
    most_seconds: float = 30.0
    patience: float = 120.0
    slowdown: float = 0.0


@dataclass(frozen=True)
class Measured:
    """A pair and, where asked for, what repeats exactly.

    Attributes:
        pair: The times.
        base: Facts of the base.
        head: Facts of head.
    """

    pair: Pair
    base: Facts | None
    head: Facts | None


def measure_pair(base: Arm, head: Arm, case: str, how: How) -> Measured:
    """Measure a case once in both arms.

    Raises:
        CaseEnded: It does not run in one of them; its `arm` says which.
        TooSlow: A pair would take longer than it may.
        ArmFailed: An arm is dead; both have to be started again.
    """
    with base.case(case, how.fork, how.patience) as a, head.case(case, how.fork, how.patience) as b:
        seconds = max(a.call(), b.call())
        _affordable(seconds, how)
        facts: list[Facts | None] = [None, None]
        if how.facts:
            paths = [how.values / name if how.values else None for name in ("base", "head")]
            facts = [a.facts(paths[0]), b.facts(paths[1])]
        else:
            for _ in range(WARM_CALLS - 1):
                a.call()
                b.call()
        return Measured(_take_turns(a, b, how), facts[0], facts[1])


def blocks_of(ns: float) -> tuple[int, int]:
    """Return how many blocks a visit has and how many at its start are left out, by the nanoseconds of a call.

    The first block after the other arm's visit finds cold caches.
    """
    if ns < LONG_NS:
        return 4, 1
    return (2, 1) if ns < VERY_LONG_NS else (1, 0)


def _affordable(seconds: float, how: How) -> None:
    blocks, _ = blocks_of(seconds * NS)
    least = seconds * 2 * (WARM_CALLS + 4 + LEAST_ROUNDS * blocks)
    if seconds > PAIR_SECONDS / LEAST_ROUNDS and least > how.most_seconds:
        raise TooSlow(
            f"{seconds:.2g} s a call: a pair of {LEAST_ROUNDS} rounds takes {least:.0f} s, "
            f"and one may take {how.most_seconds:.0f} s of --budget"
        )


def _take_turns(a: Case, b: Case, how: How) -> Pair:
    ns = _call_ns(a, b)
    if how.slowdown:
        # By the time of the slowed arm itself, each at its own fastest.
        b.delay(max(1, round(how.slowdown * ns[1])))
    call = min(ns)
    calls = max(1, round(BLOCK_NS / call))
    blocks, cold = blocks_of(call)
    visit = blocks * calls * call / NS
    rounds = int(np.clip(PAIR_SECONDS / (2 * visit), LEAST_ROUNDS, ROUNDS))
    times: tuple[list[list[int]], list[list[int]]] = ([], [])
    for number in range(rounds):
        for arm in (0, 1) if number % 2 == 0 else (1, 0):
            times[arm].append((a, b)[arm].visit(calls, blocks))
    base, head = (np.array(side, dtype=np.float64)[:, cold:] / calls / NS for side in times)
    return Pair(
        change=pair_change(base, head),
        base=_fastest(base),
        head=_fastest(head),
        base_median=float(np.median(base)),
        head_median=float(np.median(head)),
        base_p95=float(np.quantile(base, 0.95)),
        head_p95=float(np.quantile(head, 0.95)),
        rounds=rounds,
        calls=calls,
    )


def _call_ns(a: Case, b: Case) -> tuple[float, float]:
    """Return the nanoseconds of one call in both arms; both are visited alike."""
    first = max(1.0, min(*a.visit(1, 2), *b.visit(1, 2)))
    calls = max(1, round(BLOCK_NS / first))
    return max(1.0, min(a.visit(calls, 2)) / calls), max(1.0, min(b.visit(calls, 2)) / calls)


def _fastest(times: npt.NDArray[np.float64]) -> float:
    return float(np.median(times.min(axis=1)))
