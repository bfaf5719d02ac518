"""Statistics of claims, written in their unit."""

import math

from bench.analysis import words
from bench.claims.claim import Claim
from bench.report.messages import Messages

#: Units that are written as ratios, and their base.
LOGS = {"log ratio": math.e, "log2 ratio": 2.0}
#: Ratios beyond so many powers of ten are written as none at all or as any.
MOST_DECADES = 6


def write(value: float, unit: str) -> str:
    """Write a statistic in its unit: fractions in percentage points, log ratios as ratios."""
    if unit in LOGS and abs(value) * math.log10(LOGS[unit]) > MOST_DECADES:
        # An interval so wide says nothing, and its ends would be numbers that nobody can read.
        return "×∞" if value > 0 else "×0"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if unit == "fraction":
        return words.percentage_points(value, 2)
    return words.ratio(LOGS[unit] ** value) if unit in LOGS else words.number(value)


def write_null(claim: Claim) -> str:
    """Write what a claim is held against."""
    return "0" if claim.held_against == 0 and claim.unit not in LOGS else write(claim.held_against, claim.unit)


def write_interval(lo: float, hi: float, unit: str) -> str:
    """Write an interval of a statistic; empty where there is none."""
    if math.isnan(lo) or math.isnan(hi):
        return ""
    ends = [write(end, unit).removesuffix(" pp") for end in (lo, hi)]
    return f"[{', '.join(ends)}]"


def unit_name(unit: str, say: Messages) -> str:
    """Name the unit in which `write` writes."""
    return say("unit.ratio") if unit in LOGS else say.word("unit", unit)
