"""The statistics of the speed check: one number a pair, the rule that decides, and what the rule can see.

Changes are logarithms of head / base: 0 is no change, log(1.05) five per cent slower. All functions are pure.
"""

import math
from collections.abc import Callable, Sequence
from enum import Enum
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

#: A first pair below this passes.
SUSPICION = math.log(1.015)
#: Every pair of an alarm lies beyond this, and a second pair below it passes.
EVERY_PAIR = math.log(1.01)
#: Pairs that decide.
PAIRS = 3
#: Slowdown of the median pair that fails, as a fraction.
DEFAULT_GATE = 0.025
#: Expected false alarms a check beyond which a gate is refused.
FALSE_ALARMS = 0.01
#: Probability with which the detectable slowdown is found.
POWER = 0.95


class Step(Enum):
    """What to do after some pairs."""

    PASS = "pass"
    ANOTHER = "another"
    SLOWER = "slower"
    FASTER = "faster"


def pair_change(base: npt.NDArray[np.float64], head: npt.NDArray[np.float64]) -> float:
    """Return the change of a pair: Hodges-Lehmann estimate over rounds of log(fastest block head / base).

    The median of the averages of all two rounds: nearly as sharp as the mean where rounds are normal, and untouched by
    the rounds that something else disturbed (Hodges and Lehmann, Annals of Mathematical Statistics 34, 1963).

    Args:
        base: Times, rounds × blocks.
        head: Times, rounds × blocks, visited in the same rounds.
    """
    ratios = np.log(head.min(axis=1) / base.min(axis=1))
    first, second = np.triu_indices(len(ratios))
    return float(np.median((ratios[first] + ratios[second]) / 2))


def decide(changes: Sequence[float], gate: float) -> Step:
    """Return what some pairs say: only passing may stop early, so that looking again never adds alarms.

    Pair 1 within ±1.5 % passes; so does pair 2 within ±1 % or on the other side. Of three pairs an alarm needs all
    beyond 1 % on one side and their median beyond the gate. Faster is slower, mirrored.

    Args:
        changes: One to three pairs, in the order measured.
        gate: Slowdown that fails, as a fraction.
    """
    side = math.copysign(1, changes[0])
    signed = [side * change for change in changes]
    if signed[0] < SUSPICION or any(change <= EVERY_PAIR for change in signed[1:]):
        return Step.PASS
    if len(signed) < PAIRS:
        return Step.ANOTHER
    return alarms(changes, gate)


def alarms(changes: Sequence[float], gate: float) -> Step:
    """Return what three pairs say: SLOWER or FASTER where all lie beyond 1 % and their median past the gate, else PASS.

    Args:
        changes: Three pairs.
        gate: Slowdown that fails, as a fraction.
    """
    for side, step in ((1, Step.SLOWER), (-1, Step.FASTER)):
        signed = sorted(side * change for change in changes)
        if signed[0] > EVERY_PAIR and signed[len(signed) // 2] > math.log1p(gate):
            return step
    return Step.PASS


def noise(changes: Sequence[float]) -> float | None:
    """Return the standard deviation of pairs of identical code, whose true change is 0; None without pairs."""
    return math.sqrt(sum(change**2 for change in changes) / len(changes)) if changes else None


def alarm_probability(slowdown: float, deviation: float, gate: float) -> float:
    """Return how likely a case that is so much slower fails: both stages, normal pairs.

    Of three pairs all must exceed a and two of them b ≥ a: P = q³ + 3 q² (p - q) with p = P(x > a), q = P(x > b). At
    first sight the first pair must exceed s as well: P = r (q² + 2 q (p - q)) + t q² with r = P(x > b and x > s),
    t = P(s < x < b).

    Args:
        slowdown: True slowdown, as a fraction.
        deviation: Standard deviation of a pair's change, > 0.
        gate: Slowdown that fails, as a fraction.
    """
    pairs = NormalDist(math.log1p(slowdown), deviation)
    p, q = 1 - pairs.cdf(EVERY_PAIR), 1 - pairs.cdf(max(EVERY_PAIR, math.log1p(gate)))
    suspicious = 1 - pairs.cdf(SUSPICION)
    r, t = min(q, suspicious), max(0.0, suspicious - q)
    return float((r * (q**2 + 2 * q * (p - q)) + t * q**2) * (q**3 + 3 * q**2 * (p - q)))


def detectable(deviation: float, gate: float) -> float:
    """Return the smallest slowdown, as a fraction, that is found with probability POWER.

    Args:
        deviation: Standard deviation of a pair's change.
        gate: Slowdown that fails, as a fraction.
    """
    return _bisect(lambda slowdown: alarm_probability(slowdown, max(deviation, 1e-9), gate) >= POWER)


def tightest_gate(deviation: float, cases: int) -> float:
    """Return the smallest gate, as a fraction, with no more than FALSE_ALARMS expected false alarms a check.

    Args:
        deviation: Standard deviation of a pair's change.
        cases: Cases of the check.
    """
    limit = FALSE_ALARMS / max(cases, 1)
    return _bisect(lambda gate: alarm_probability(0.0, max(deviation, 1e-9), gate) <= limit)


def _bisect(holds: Callable[[float], bool]) -> float:
    """Return the smallest fraction from 0 to 100 from which on something holds."""
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
