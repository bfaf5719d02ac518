"""Schedules beside torch's own, and the phases of a growing batch."""

import warnings
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from bench.optimizers.schedules import (
    Phases,
    ascending_fractions,
    learning_rate_factor,
    phases_in_examples,
    phases_in_steps,
)
from bench.schema import BatchScheduleConfig, ScheduleConfig

BASE = 0.7


def torch_rates(build: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int) -> list[float]:
    """The learning rates that one of torch's schedulers gives to each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
    with warnings.catch_warnings():
        # SequentialLR calls its schedulers in a way that torch itself deprecates.
        warnings.simplefilter("ignore", UserWarning)
        scheduler = build(optimizer)
        rates = []
        for _ in range(steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    return rates


def our_rates(schedule: ScheduleConfig, steps: int) -> list[float]:
    factor = learning_rate_factor(schedule, steps, None)
    return [BASE * (factor(step) if factor else 1.0) for step in range(steps)]


@pytest.mark.parametrize("steps", [10, 64, 1001])
def test_multi_step_of_torch(steps: int) -> None:
    ours = our_rates(ScheduleConfig("step", milestones=[0.3, 0.75], gamma=0.2), steps)
    at = [round(0.3 * steps), round(0.75 * steps)]
    assert ours == pytest.approx(torch_rates(lambda o: lr_scheduler.MultiStepLR(o, at, 0.2), steps), rel=1e-12)


@pytest.mark.parametrize("steps", [10, 64, 1001])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_annealing_of_torch(steps: int, final: float) -> None:
    ours = our_rates(ScheduleConfig("cosine", final=final), steps)
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, steps, final * BASE), steps)
    # Torch goes from one step to the next and gathers rounding on the way.
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("steps", [10, 64, 1000])
@pytest.mark.parametrize(("peak", "start", "end"), [(0.3, 25.0, 1e4), (0.5, 4.0, 10.0)])
def test_one_cycle_of_torch(steps: int, peak: float, start: float, end: float) -> None:
    ours = our_rates(ScheduleConfig("one_cycle", peak_at=peak, start_divisor=start, end_divisor=end), steps)

    def build(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(
            optimizer, BASE, steps + 1, pct_start=peak, div_factor=start, final_div_factor=end, cycle_momentum=False
        )

    # Torch refuses to be stepped once more after its last step, so it is told of one more than there are.
    scaled = torch_one_cycle(steps, peak, start, end)
    assert ours == pytest.approx(scaled, rel=1e-9)
    assert len(torch_rates(build, steps)) == steps


def torch_one_cycle(steps: int, peak: float, start: float, end: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, BASE, steps, pct_start=peak, div_factor=start, final_div_factor=end, cycle_momentum=False
    )
    rates = [float(optimizer.param_groups[0]["lr"])]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates


@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_warm_up_is_linear_lr_of_torch_followed_by_the_schedule(steps: int, name: str) -> None:
    warm = steps // 5
    ours = our_rates(ScheduleConfig(name, warmup=0.2), steps)

    def build(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LinearLR(optimizer, 1 / warm, total_iters=warm - 1)
        if name == "constant":
            return rise
        rest = lr_scheduler.CosineAnnealingLR(optimizer, steps - warm)
        return lr_scheduler.SequentialLR(optimizer, [rise, rest], [warm])

    assert ours == pytest.approx(torch_rates(build, steps), rel=1e-9, abs=1e-12)


def test_a_constant_schedule_costs_nothing() -> None:
    assert learning_rate_factor(ScheduleConfig(), 10, None) is None


def grow(milestones: list[float], factor: int = 2) -> BatchScheduleConfig:
    return BatchScheduleConfig("growth", milestones, factor)


def test_phases_in_steps() -> None:
    phases = phases_in_steps(grow([0.5, 0.75], 10), 8, 100, 100)
    assert phases == Phases((8, 80, 100), (0, 50, 75), 100, (0.0, 0.5, 0.75))
    assert [phases.at(step) for step in (0, 49, 50, 99)] == [(8, 50), (8, 50), (80, 75), (100, None)]
    assert [phases.position(step) for step in (0, 50, 75, 100)] == [0, 50, 75, 100]


def test_phases_in_examples_use_up_equal_examples() -> None:
    # 4 epochs of 100: 20 steps of 10, then 10 steps of 20, of which each epoch has exactly five.
    phases = phases_in_examples(grow([0.5]), 10, 100, Fraction(400), 100, "keep")
    assert phases == Phases((10, 20), (0, 20), 30, (0.0, 0.5))
    # Half of the budget lies at half of its equal shares, though two thirds of the steps are taken by then.
    assert phases.position(20) == pytest.approx(15)


def test_a_smaller_last_batch_counts_as_what_it_holds() -> None:
    # 25 examples at 10: steps of 10, 10 and 5.
    phases = phases_in_examples(grow([0.5]), 10, 25, Fraction(100), 25, "keep")
    assert phases == Phases((10, 20), (0, 6), 10, (0.0, 0.5))
    dropped = phases_in_examples(grow([0.5]), 10, 25, Fraction(100), 25, "drop")
    assert dropped == Phases((10, 20), (0, 5), 8, (0.0, 0.5))


@given(
    size=st.integers(1, 40),
    examples=st.integers(40, 300),
    epochs=st.integers(1, 6),
    milestones=st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.6, 0.9]), unique=True, min_size=1).map(sorted),
    remainder=st.sampled_from(["keep", "drop"]),
)
def test_phases_in_examples_beside_counting_step_by_step(
    size: int, examples: int, epochs: int, milestones: list[float], remainder: str
) -> None:
    wanted = Fraction(epochs * examples)
    phases = phases_in_examples(grow(milestones), size, examples, wanted, examples, remainder)
    seen, position = 0, 0
    for step in range(phases.steps):
        assert seen < wanted
        now = phases.at(step)[0]
        assert now == min(size * 2 ** sum(seen >= wanted * Fraction(str(m)) for m in milestones), examples)
        if position == examples or (remainder == "drop" and examples - position < now):
            position = 0
        taken = min(now, examples - position)
        seen, position = seen + taken, position + taken
    assert seen >= wanted


def test_a_learning_rate_follows_the_examples_where_the_batch_grows() -> None:
    phases = phases_in_examples(grow([0.5]), 10, 100, Fraction(400), 100, "keep")
    factor = learning_rate_factor(ScheduleConfig("step", milestones=[0.5], gamma=0.1), phases.steps, phases)
    assert factor is not None
    assert [factor(step) for step in (0, 19, 20, 29)] == pytest.approx([1, 1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("values", "right"), [([], True), ([0.5], True), ([0.5, 0.5], False), ([0.7, 0.2], False), ([0.0], False)]
)
def test_ascending_fractions(values: list[float], right: bool) -> None:
    assert ascending_fractions(values) is right
