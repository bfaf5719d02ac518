"""Schedules: how the learning rate and the batch size move during a trial.

Pure functions of the step. They give what the schedulers of `torch.optim.lr_scheduler` give, without an object that
has to be stepped, so that any step's learning rate can be told without the steps before it.
"""

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from bench.schema import BatchScheduleConfig, ScheduleConfig

SCHEDULES = ("constant", "step", "cosine", "one_cycle")
BATCH_SCHEDULES = ("constant", "growth")


@dataclass(frozen=True)
class Phases:
    """Batch sizes and when each of them begins.

    Attributes:
        sizes: Batch sizes, in order.
        starts: First step of each, ascending from 0.
        steps: Steps of the whole trial.
        progress: Share of the budget that is used up when each begins, from 0; of examples or of steps, whichever the
            milestones are fractions of.
    """

    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    steps: int
    progress: tuple[float, ...]

    def at(self, step: int) -> tuple[int, int | None]:
        """Return the batch size of a step (counted from 0) and the step at which it ends; None for never."""
        index = bisect.bisect_right(self.starts, step) - 1
        return self.sizes[index], self.starts[index + 1] if index + 1 < len(self.starts) else None

    def position(self, step: int) -> float:
        """Return how many of `steps` equal shares of the budget are used up before a step."""
        index = bisect.bisect_right(self.starts, step) - 1
        begin, share = self.starts[index], self.progress[index]
        last = index + 1 == len(self.starts)
        end, share_after = (self.steps, 1.0) if last else (self.starts[index + 1], self.progress[index + 1])
        return self.steps * (share + (share_after - share) * (step - begin) / (end - begin))


def phases_in_steps(schedule: BatchScheduleConfig, batch_size: int, most: int, steps: int) -> Phases:
    """Return the phases of a growing batch size whose milestones are fractions of the steps.

    Args:
        schedule: Milestones and factor.
        batch_size: Examples per step at the start.
        most: Largest batch size.
        steps: Steps of the trial.
    """
    begun = [(batch_size, 0, 0.0)]
    for milestone in schedule.milestones:
        _begin(begun, min(begun[-1][0] * schedule.factor, most), round(milestone * steps), milestone)
    return _phases(begun, steps)


def phases_in_examples(
    schedule: BatchScheduleConfig, batch_size: int, most: int, wanted: Fraction, examples: int, remainder: str
) -> Phases:
    """Return the phases of a growing batch size whose milestones are fractions of the examples seen.

    Args:
        schedule: Milestones and factor.
        batch_size: Examples per step at the start.
        most: Largest batch size.
        wanted: Examples of the whole trial.
        examples: Examples in an epoch; its last batch may be smaller, as `remainder` says.
        remainder: "keep" or "drop".
    """
    begun = [(batch_size, 0, 0.0)]
    seen, step, position = 0, 0, 0
    for milestone in (*schedule.milestones, 1.0):
        size = begun[-1][0]
        goal = wanted * Fraction(str(milestone))
        while seen < goal:
            left = examples - position
            if left == 0 or (left < size and remainder == "drop"):
                position, left = 0, examples
            count = max(1, min(left // size, math.ceil((goal - seen) / size)))
            taken = min(count * size, left)
            seen, step, position = seen + taken, step + count, position + taken
        if milestone < 1:
            _begin(begun, min(size * schedule.factor, most), step, milestone)
    return _phases(begun, step)


def _begin(begun: list[tuple[int, int, float]], size: int, start: int, share: float) -> None:
    """Begin a phase (batch size, first step, share of the budget); one that would have no steps is replaced."""
    if begun[-1][1] == start:
        begun[-1] = (size, start, share)
    elif size != begun[-1][0]:
        begun.append((size, start, share))


def _phases(begun: list[tuple[int, int, float]], steps: int) -> Phases:
    kept = [phase for phase in begun if phase[1] < steps]
    sizes, starts, progress = zip(*kept, strict=True)
    return Phases(sizes, starts, steps, progress)


def learning_rate_factor(
    schedule: ScheduleConfig, steps: int | None, phases: Phases | None
) -> Callable[[int], float] | None:
    """Return the factor on every learning rate as a function of the steps taken; None for a constant one.

    Args:
        schedule: The schedule.
        steps: Steps of the trial; needed by all but the constant schedule.
        phases: The phases of a batch size that moves too; None for one batch size.
    """
    if schedule.name == "constant" and not schedule.warmup:
        return None
    assert steps is not None
    total = steps
    warm = round(schedule.warmup * total)
    shape = SHAPES[schedule.name]

    def factor(step: int) -> float:
        position = phases.position(step) if phases else step
        if position < warm:
            return (position + 1) / warm
        return shape(schedule, position - warm, total - warm)

    return factor


def _constant(schedule: ScheduleConfig, position: float, total: int) -> float:
    return 1.0


def _step(schedule: ScheduleConfig, position: float, total: int) -> float:
    """As `torch.optim.lr_scheduler.MultiStepLR`."""
    passed = sum(position >= round(milestone * total) for milestone in schedule.milestones)
    return float(schedule.gamma**passed)


def _cosine(schedule: ScheduleConfig, position: float, total: int) -> float:
    """As `torch.optim.lr_scheduler.CosineAnnealingLR` (arXiv 1608.03983, without restarts)."""
    return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * position / total)) / 2


def _one_cycle(schedule: ScheduleConfig, position: float, total: int) -> float:
    """As `torch.optim.lr_scheduler.OneCycleLR` with a constant momentum (arXiv 1708.07120)."""
    peak, end = schedule.peak_at * total - 1, total - 1
    start = 1 / schedule.start_divisor
    if position <= peak:
        return _annealed(start, 1.0, position / peak if peak > 0 else 1.0)
    return _annealed(1.0, start / schedule.end_divisor, (position - peak) / (end - peak))


def _annealed(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (math.cos(math.pi * min(share, 1.0)) + 1)


SHAPES: dict[str, Callable[[ScheduleConfig, float, int], float]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}


def ascending_fractions(values: Sequence[float]) -> bool:
    """Whether values are strictly ascending and strictly between 0 and 1."""
    return all(0 < value < 1 for value in values) and list(values) == sorted(set(values))
