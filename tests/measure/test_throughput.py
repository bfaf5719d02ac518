"""Rounds of windows: what is visited when, and times on a clock of our own. No time of the machine is asserted."""

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.errors import BenchError
from bench.measure.throughput import BETWEEN, Contestant, Protocol, measure_throughput, visits
from bench.training import stepper as stepper_module
from bench.training.batches import BatchOrder
from bench.training.stepper import Stepper
from tests.cases import toy_task

PROTOCOL = Protocol(rounds=6, warmup_steps=3, window_seconds=0.05)


@given(st.integers(1, 40), st.integers(0, 5))
def test_a_round_visits_every_cell_once_and_the_control_at_both_ends_and_between(count: int, seed: int) -> None:
    order = list(visits(count, random.Random(seed)))
    assert sorted(index for index in order if index is not None) == list(range(count))
    assert order[0] is None
    assert order[-1] is None
    gaps = "".join("c" if index is None else "." for index in order).strip("c").split("c")
    assert all(1 <= len(gap) <= BETWEEN for gap in gaps)


class Clock:
    now = 0.0
    pace = 1.0

    def perf_counter(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds * self.pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stepper_module, "time", SimpleNamespace(perf_counter=made.perf_counter))
    return made


def contestant(clock: Clock, size: int, lr: float = 0.01) -> Contestant:
    """A trial whose step takes 1 ms and 0.1 ms an example on the clock; an epoch has 50 examples."""
    task = toy_task()

    def loss(weights: Any, inputs: Tensor, labels: Tensor) -> Tensor:
        clock.spend(1e-3 + 1e-4 * len(labels))
        return type(task).loss(task, weights, inputs, labels)

    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, size, "keep", True, 0)
    stepper = Stepper(task, parameters, torch.optim.SGD(parameters, lr=lr), order)
    slow = SimpleNamespace(loss=loss, device=task.device, train=task.train, after_step=None)
    stepper.task = slow  # type: ignore[assignment]
    return Contestant("sgd", size, -(-50 // size), stepper)


def test_every_window_is_steps_examples_and_their_time(clock: Clock) -> None:
    sizes = (1, 10, 20, 50)
    told: list[tuple[int, int]] = []
    samples = measure_throughput(
        [contestant(clock, size) for size in sizes],
        contestant(clock, 1),
        PROTOCOL,
        lambda done, of: told.append((done, of)),
    )
    assert Counter((s.batch_size, s.control) for s in samples) == {
        **{(size, False): 6 for size in sizes},
        (1, True): 12,
    }
    assert told[-1] == (len(samples), len(samples))
    for sample in samples:
        assert sample.seconds == pytest.approx(1e-3 * sample.steps + 1e-4 * sample.examples)
        # Whole epochs, remainders included, where a window holds one: of 20, 20 and 10 examples here.
        if sample.batch_size > 1:
            assert sample.examples % 50 == 0
    assert len({tuple(s.batch_size for s in samples if s.round == number) for number in range(6)}) > 1


def test_orders_follow_the_seed(clock: Clock) -> None:
    def order(seed: int) -> list[int]:
        cells = [contestant(clock, size) for size in (2, 3, 5, 7)]
        made = measure_throughput(cells, contestant(clock, 2), Protocol(5, 1, 0.005, seed))
        return [sample.batch_size for sample in made]

    assert order(1) == order(1) != order(2)


def test_a_trial_that_diverges_is_named(clock: Clock) -> None:
    with pytest.raises(BenchError, match="sgd at batch size 5 diverged while it was timed; give a smaller lr"):
        measure_throughput([contestant(clock, 5, lr=1e300)], contestant(clock, 1), PROTOCOL)
