"""How many seeds are needed, and what a number of seeds can show."""

import bisect
import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.analysis.intervals import CONFIDENCE, t_quantile
from bench.errors import UsageError

Array = npt.NDArray[np.float64]

POWER = 0.9
#: More pairs than anybody trains.
MOST = 10**6

#: Midpoints of equal shares of a sample variance's distribution: power to about 1e-4.
_SHARES = (np.arange(2000) + 0.5) / 2000


def paired_power(effect: float, sd: float, pairs: int, confidence: float = CONFIDENCE) -> float:
    """Return how likely the t interval of a mean paired difference excludes 0.

    Args:
        effect: True mean difference.
        sd: True standard deviation of a difference, > 0, in the same unit.
        pairs: Seeds, ≥ 2.
        confidence: Of the interval, 0 … 1.

    Returns:
        0 … 1, both signs counted.

    Source: noncentral t, Cohen, Statistical Power Analysis (1988), 2.
    """
    _check(sd, pairs)
    critical = t_quantile((1 + confidence) / 2, pairs - 1)
    shift = abs(effect) / sd * math.sqrt(pairs)
    # Where the distribution function is 0 to all digits, scipy's can be nan: far below, and for the other sign.
    below = special.nctdtr(pairs - 1, shift, critical) if shift < critical + 40 else 0.0
    other = special.nctdtr(pairs - 1, shift, -critical) if shift < 7 else 0.0
    return float(1 - below + other)


def _check(sd: float, pairs: int) -> None:
    if not (sd > 0 and math.isfinite(sd)) or pairs < 2:
        raise UsageError(f"power at a standard deviation of {sd} and {pairs} pairs: needs > 0 and at least 2")


def pairs_needed(sd: float, effect: float, power: float = POWER, confidence: float = CONFIDENCE) -> float:
    """Return the fewest seeds with which an effect is told from 0.

    Args:
        sd: Standard deviation of a within-seed difference, ≥ 0; nan where unknown.
        effect: The smallest one that matters, in the same unit, not 0.
        power: Probability of finding it, 0 … 1.
        confidence: Of the interval, 0 … 1.

    Returns:
        ≥ 2; nan where the deviation is unknown, inf beyond a million.
    """
    return _fewest(lambda pairs: paired_power(effect, sd, pairs, confidence) >= power, sd)


def pairs_for_verdict(
    sd: float, margin: float, power: float = POWER, confidence: float = CONFIDENCE, floor: float = 0.0
) -> float:
    """Return the fewest seeds with which no effect is seen to be none: "equivalent" with this power.

    So many seeds also tell an effect of two margins from 0 more often than that. One effect stays undecided with any
    number: that of exactly one margin is found at least the margin in half of all studies.

    Args:
        sd: Standard deviation of a within-seed difference, ≥ 0; nan where unknown.
        margin: > 0, in the same unit.
        power: 0 … 1.
        confidence: Of the interval, 0 … 1.
        floor: Standard error that seeds do not remove (`bench.analysis.statistics.estimates.Estimate.floor`).

    Returns:
        ≥ 2; nan where the deviation is unknown, inf where the floor alone is too wide for the margin.
    """
    if floor > 0:
        z = special.ndtri((1 + confidence) / 2) + special.ndtri((1 + power) / 2)
        room = (margin / z) ** 2 - floor**2
        return max(2.0, math.ceil(sd**2 / room)) if room > 0 else math.inf
    return _fewest_inside(sd, margin, power, confidence)


def _fewest(enough: Callable[[int], bool], sd: float) -> float:
    """Return the smallest number of pairs that is enough, by doubling and halving."""
    if math.isnan(sd):
        return math.nan
    if sd == 0:
        return 2.0
    high = 2
    while not enough(high):
        high *= 2
        if high > MOST:
            return math.inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return float(high)


def _fewest_inside(sd: float, margin: float, power: float, confidence: float) -> float:
    """Return the fewest pairs of `pairs_for_verdict`, the same that `_fewest` finds, without trying each number.

    Whether a number of pairs is enough depends on the margin in standard errors alone, and what that has to be
    (`_room`) is needed by thousands of verdicts: it is worked out once for few numbers of pairs, and read between them.
    """
    if math.isnan(sd):
        return math.nan
    if sd == 0:
        return 2.0
    _check(sd, 2)
    ratio = margin / sd

    def tried(pairs: int) -> bool:
        return verdict_probabilities(0.0, sd, pairs, margin, confidence)["inside"] >= power

    def enough(pairs: int) -> bool:
        have, need = ratio * math.sqrt(pairs), _room(pairs, power, confidence)
        return have > need if abs(have - need) > 1e-9 * need else tried(pairs)

    if not enough(_NODES[-1]):
        return math.inf
    place = bisect.bisect_left(_NODES, True, key=enough)
    if _NODES[place] <= _EACH:
        return float(_NODES[place])
    between = _between(ratio, place, power, confidence)
    near = round(between)
    # The curve is known far better than to a hundredth of a pair, but not to the last digit.
    if abs(between - near) < 0.01:
        return float(near if tried(near) else near + 1)
    return float(math.ceil(between))


#: Up to so many pairs each number is looked at, beyond that four in every doubling; `MOST` is reached by doubling.
_EACH = 64
_NODES = (*range(2, _EACH + 1), *(round(_EACH * 2 ** (quarter / 4)) for quarter in range(1, 53)))
#: So many of them a curve goes through.
_POINTS = 6


def _between(ratio: float, place: int, power: float, confidence: float) -> float:
    """Return the number of pairs, not whole, that is just enough, below a node and above the one before."""
    first = min(place - _POINTS // 2, len(_NODES) - _POINTS)
    nodes = _NODES[first : first + _POINTS]
    x, weights = _barycentric(nodes)
    rooms = [_room(pairs, power, confidence) for pairs in nodes]
    found = float(_NODES[place])
    # What is needed hardly depends on the number beyond the root, so that inserting it converges within a few rounds.
    for _ in range(100):
        at = math.log(found)
        if at in x:
            room = rooms[x.index(at)]
        else:
            parts = [weight / (at - node) for node, weight in zip(x, weights, strict=True)]
            room = sum(part * value for part, value in zip(parts, rooms, strict=True)) / sum(parts)
        last, found = found, (room / ratio) ** 2
        if abs(found - last) < 1e-4:
            break
    return found


@functools.cache
def _barycentric(nodes: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """Return logarithms of nodes and the weights of the polynomial through them.

    Source: Berrut & Trefethen, Barycentric Lagrange Interpolation, SIAM Review 46 (2004).
    """
    x = [math.log(node) for node in nodes]
    return x, [1 / math.prod(one - other for other in x if other != one) for one in x]


@functools.lru_cache(maxsize=2**16)
def _room(pairs: int, power: float, confidence: float) -> float:
    """Return the margin in standard errors with which no effect ends inside the margin with this power."""
    t = t_quantile((1 + confidence) / 2, pairs - 1)
    half = t * _deviations(pairs)

    def inside(room: float) -> tuple[float, float]:
        free = np.maximum(room - half, 0.0)
        density = np.exp(-(free**2) / 2)[free > 0].sum() * math.sqrt(2 / math.pi) / free.size
        return float((special.ndtr(free) - special.ndtr(-free)).mean()), float(density)

    low, room, high = 0.0, t + float(special.ndtri((1 + power) / 2)), math.inf
    for _ in range(200):
        value, slope = inside(room)
        low, high = (room, high) if value < power else (low, room)
        step = room + (power - value) / slope if slope > 0 else math.inf
        if high == math.inf:
            # Far below, the slope is next to nothing, and following it leads out of sight.
            step = min(step, 2 * room)
        elif not low < step < high:
            step = (low + high) / 2
        if abs(step - room) <= 1e-13 * room:
            break
        room = step
    return room


def verdict_probabilities(
    effect: float, sd: float, pairs: int, margin: float, confidence: float = CONFIDENCE
) -> dict[str, float]:
    """Return how likely a study of paired differences ends in each of the regions that verdicts are made of.

    Args:
        effect: True mean difference.
        sd: True standard deviation of a difference, > 0.
        pairs: Seeds, ≥ 2.
        margin: > 0.
        confidence: Of the interval, 0 … 1.

    Returns:
        `above` (the interval lies above 0 and the estimate is at least the margin), `below` (the mirror image),
        `inside` (the interval lies inside ± margin), `undecided` (the rest).

    Source: normal mean and independent sample variance, integrated over the latter.
    """
    _check(sd, pairs)
    degrees = pairs - 1
    error = sd / math.sqrt(pairs)
    half = t_quantile((1 + confidence) / 2, degrees) * error * _deviations(pairs)
    reach = np.maximum(half, margin)
    above = float(special.ndtr((effect - reach) / error).mean())
    below = float(special.ndtr((-effect - reach) / error).mean())
    room = np.maximum(margin - half, 0.0)
    within = special.ndtr((room - effect) / error) - special.ndtr((-room - effect) / error)
    inside = float(within.mean())
    return {"above": above, "below": below, "inside": inside, "undecided": max(0.0, 1 - above - below - inside)}


@functools.lru_cache(maxsize=1024)
def _deviations(pairs: int) -> Array:
    """Return sample standard deviations in true ones, at the midpoints of equal shares of their distribution."""
    degrees = pairs - 1
    found: Array = np.sqrt(2 * special.gammaincinv(degrees / 2, _SHARES) / degrees)
    found.setflags(write=False)
    return found


def runs_for_improvement(threshold: float = 0.75, power: float = 0.95, confidence: float = 0.95) -> int:
    """Return how many pairs of runs tell a probability of improvement from ½, one-sided.

    Args:
        threshold: The probability to be found, above ½.
        power: 0 … 1.
        confidence: 0 … 1.

    Returns:
        29 by default.

    Raises:
        UsageError: The threshold is not above ½.

    Source: Noether, JASA 82 (1987), equation 3 for the signed-rank form, as in arXiv 2103.03098, appendix C.3.
    """
    if not 0.5 < threshold <= 1:
        raise UsageError(f"threshold {threshold}: a probability of improvement above ½, at most 1")
    z = special.ndtri(confidence) + special.ndtri(power)
    return int(np.ceil((z / (math.sqrt(6) * (threshold - 0.5))) ** 2))
