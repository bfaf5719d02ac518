"""Throughput of many cells in randomised blocks: every round visits all of them, and one of them again and again.

Batch sizes measured one after the other are compared with the machine's changes in between. Here every cell's trial
stands ready in one process; a round is a block in which each has one window, in an order drawn anew, with the control
at both ends and between. What is compared is compared within a round.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.errors import BenchError
from bench.measure.speed import calls_per_window
from bench.training.stepper import Stepper

#: Fewest rounds: fewer give no interval worth the name, and no drift.
LEAST_ROUNDS = 5
#: Cells between two windows of the control.
BETWEEN = 4
#: Steps at the start of a window that are not clocked: the trial before has left its own numbers in the caches.
SETTLE_STEPS = 2


@dataclass(frozen=True)
class Contestant:
    """A cell that is measured.

    Attributes:
        optimizer: Name of its optimizer.
        batch_size: Examples per step.
        per_epoch: Steps in one pass over the training split.
        stepper: A fresh single trial of it, used for nothing else.
    """

    optimizer: str
    batch_size: int
    per_epoch: int
    stepper: Stepper


@dataclass(frozen=True)
class Protocol:
    """How windows are laid out.

    Attributes:
        rounds: Windows of each cell, ≥ `LEAST_ROUNDS`.
        warmup_steps: Steps of each trial before the first clock, ≥ 1.
        window_seconds: Aimed-at length of a window, seconds; never less than 3 steps.
        seed: Seed of the orders.
    """

    rounds: int
    warmup_steps: int
    window_seconds: float
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """One window.

    Attributes:
        round: Number of the round, from 0.
        place: Place in the round, from 0.
        optimizer: The cell's optimizer.
        batch_size: The cell's batch size, examples.
        control: Whether it is a window of the control, which is a trial of its own.
        steps: Steps clocked.
        examples: Examples seen in them; the last batch of an epoch may be smaller than the others.
        seconds: Their time, with the device synchronised at both ends.
    """

    round: int
    place: int
    optimizer: str
    batch_size: int
    control: bool
    steps: int
    examples: int
    seconds: float


def measure_throughput(
    contestants: Sequence[Contestant],
    control: Contestant,
    protocol: Protocol,
    say: Callable[[int, int], None] = lambda done, of: None,
) -> list[Sample]:
    """Measure whole training steps of all contestants, in rounds.

    Args:
        contestants: The cells.
        control: A second trial of one of them.
        protocol: How.
        say: Told after each window how many are done, of how many.

    Returns:
        One sample for each cell and round, and of the control as many as `visits` puts between them.

    Raises:
        BenchError: A trial diverged while it was timed.
    """
    steps = [_prepared(contestant, protocol) for contestant in (*contestants, control)]
    shuffle, samples = random.Random(protocol.seed), []
    per_round = len(list(visits(len(contestants), shuffle)))
    shuffle.seed(protocol.seed)
    for number in range(protocol.rounds):
        for place, index in enumerate(visits(len(contestants), shuffle)):
            visited = control if index is None else contestants[index]
            count = steps[-1 if index is None else index]
            examples, seconds = _window(visited.stepper, count)
            samples.append(
                Sample(number, place, visited.optimizer, visited.batch_size, index is None, count, examples, seconds)
            )
            say(len(samples), protocol.rounds * per_round)
    for contestant in (*contestants, control):
        if not all(bool(parameter.isfinite().all()) for parameter in contestant.stepper.parameters):
            raise BenchError(
                f"{contestant.optimizer} at batch size {contestant.batch_size} diverged while it was timed; "
                "give a smaller lr"
            )
    return samples


def visits(count: int, shuffle: random.Random) -> Iterator[int | None]:
    """Yield the order of one round: each index below `count` once, None for the control, at both ends and between."""
    for place, index in enumerate(shuffle.sample(range(count), count)):
        if place % BETWEEN == 0:
            yield None
        yield index
    yield None


def _prepared(contestant: Contestant, protocol: Protocol) -> int:
    """Warm a trial up and return the steps of its windows: whole epochs where a window holds one."""
    stepper = contestant.stepper
    stepper.run(protocol.warmup_steps, lambda: False)
    steps = calls_per_window(lambda count: _window(stepper, count)[1], protocol.window_seconds)
    whole = round(steps / contestant.per_epoch) * contestant.per_epoch
    return whole or steps


def _window(stepper: Stepper, steps: int) -> tuple[int, float]:
    """Take the steps of a window; return the examples seen and the seconds."""
    stepper.run(SETTLE_STEPS, lambda: False)
    seconds, seen = stepper.seconds, stepper.batches.examples_seen
    stepper.run(steps, lambda: False)
    return stepper.batches.examples_seen - seen, stepper.seconds - seconds
