"""The verdict on a claim: an estimate with its adjusted interval, held against a margin declared before looking."""

import math
from dataclasses import dataclass

from bench.analysis.intervals import t_quantile
from bench.analysis.statistics.estimates import Estimate
from bench.analysis.statistics.power import POWER, pairs_for_verdict
from bench.errors import UsageError, unknown

#: What a claim can say of an effect.
DIRECTIONS = ("greater", "less", "different", "equal")


@dataclass(frozen=True)
class Verdict:
    """What an estimate says of a claim.

    Attributes:
        word: "supported", "refuted", "equivalent" or "inconclusive".
        n_needed: Where inconclusive, about how many units (such as seeds) would show no effect to be none; inf where no
            number of them would, nan where nothing is known or the verdict is in. Where it is at most the estimate's n,
            the effect is near the margin, and more units hardly help.
    """

    word: str
    n_needed: float = math.nan


def verdict(estimate: Estimate, margin: float, direction: str, null: float = 0.0, power: float = POWER) -> Verdict:
    """Hold an estimate against a claim.

    The effect is estimate − null. Its interval should be adjusted for the other claims of the family
    (`bench.analysis.statistics.multiplicity.adjusted`). In this order:

    | the interval | greater | less | different | equal |
    |---|---|---|---|---|
    | lies inside ± margin | equivalent | equivalent | refuted | supported |
    | lies above 0, effect ≥ margin | supported | refuted | supported | refuted |
    | lies below 0, effect ≤ −margin | refuted | supported | supported | refuted |
    | lies above 0, effect < margin | inconclusive | refuted | inconclusive | inconclusive |
    | lies below 0, effect > −margin | refuted | inconclusive | inconclusive | inconclusive |
    | otherwise, or is unknown | inconclusive | inconclusive | inconclusive | inconclusive |

    Both a wide interval and an effect near the margin end as inconclusive: an effect of just the margin does in half of
    all studies, however large. `bench.analysis.intervals.verdict`, which the tables of batch sizes take, also asks the
    margin of a refutation.

    Args:
        estimate: With its adjusted interval; one without an interval, or unbounded, is inconclusive.
        margin: Effects smaller than this do not matter; > 0, in the estimate's unit, declared before looking.
        direction: Of `DIRECTIONS`: what the claim says of the effect.
        null: The value that the claim is held against, such as −1 for a slope of perfect scaling.
        power: With which `n_needed` should decide, 0 … 1.

    Raises:
        UsageError: A margin that is not above 0, or an unknown direction.
    """
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    if not margin > 0:
        raise UsageError(f"margin {margin}: needs a number above 0")
    effect = estimate.minus(null)
    word = _word(effect, margin, direction)
    return Verdict(word, n_needed(estimate, margin, power) if word == "inconclusive" else math.nan)


def _word(effect: Estimate, margin: float, direction: str) -> str:
    if -margin < effect.lo and effect.hi < margin:
        return {"different": "refuted", "equal": "supported"}.get(direction, "equivalent")
    side = 1 if effect.lo > 0 else -1 if effect.hi < 0 else 0
    matters = side * effect.estimate >= margin
    if not side:
        return "inconclusive"
    if direction in ("greater", "less"):
        claimed = 1 if direction == "greater" else -1
        if side != claimed:
            return "refuted"
        return "supported" if matters else "inconclusive"
    if not matters:
        return "inconclusive"
    return "supported" if direction == "different" else "refuted"


def n_needed(estimate: Estimate, margin: float, power: float = POWER) -> float:
    """Return about how many units would make the interval narrow enough for the margin.

    The deviation of a unit is read off the interval's width, at the interval's own (adjusted) confidence, so it is as
    uncertain as any deviation of few units.

    Args:
        estimate: With its interval.
        margin: > 0.
        power: Probability that no effect would then be seen to be none, 0 … 1.

    Returns:
        As `bench.analysis.statistics.power.pairs_for_verdict`; nan without a bounded interval.
    """
    half = (estimate.hi - estimate.lo) / 2
    if estimate.n < 2 or not math.isfinite(half):
        return math.nan
    error = half / t_quantile((1 + estimate.confidence) / 2, estimate.n - 1)
    deviation = math.sqrt(max(error**2 - estimate.floor**2, 0.0) * estimate.n)
    return pairs_for_verdict(deviation, margin, power, estimate.confidence, estimate.floor)
