"""Speed: what is counted and how it hangs together. No time is asserted, but for those of a clock of our own."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.measure import speed
from bench.measure.speed import measure_speed
from bench.results.record import Interval
from bench.training import stepper as stepper_module
from bench.training.batches import BatchOrder
from bench.training.stepper import Method, Stepper
from tests.cases import builder, toy_task


def ordered(interval: Interval) -> bool:
    return 0 < interval.lo <= interval.median <= interval.hi


@pytest.mark.parametrize("windows", [1, 5])
def test_intervals_hang_together(windows: int) -> None:
    task = toy_task()
    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, 10, "keep", True, 0)
    stepper = Stepper(task, parameters, builder("adam")(parameters, 1e-3), order)
    result = measure_speed(stepper, 4, windows, 1e-4, 2)
    assert (result.warmup_steps, result.concurrent_workers) == (4, 2)
    assert result.steps_per_window >= speed.MINIMUM_STEPS
    assert result.optimizer_step_ms is not None
    for interval in (result.examples_per_second, result.step_ms, result.optimizer_step_ms):
        assert interval.n == windows
        assert ordered(interval)
    # Every batch has 10 examples, so each window's rate is 10 over its time per step.
    assert result.examples_per_second.median == pytest.approx(10 / (result.step_ms.median / 1e3), rel=1e-9)
    assert result.examples_per_second.lo == pytest.approx(10 / (result.step_ms.hi / 1e3), rel=1e-9)
    for part in (result.data_ms, result.forward_ms, result.control_ms):
        assert part is not None
        assert part.n == windows
        assert ordered(part)
    assert result.backward_ms is not None
    assert result.first_step_ms is not None
    assert result.first_step_ms > 0
    assert (result.drift is None) == (windows < 4)
    # Warm-up, two probes, windows.
    assert stepper.steps == 4 + 2 * speed.MINIMUM_STEPS + windows * result.steps_per_window
    assert all(p.isfinite().all() for p in parameters)


def test_an_optimizer_that_asks_for_the_loss_has_no_step_apart_from_the_rest() -> None:
    task = toy_task()
    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, 10, "keep", True, 0)
    stepper = Stepper(task, parameters, builder("lbfgs")(parameters, 0.1), order, Method(closure=True))
    result = measure_speed(stepper, 1, 5, 1e-4, 1)
    assert (result.optimizer_step_ms, result.data_ms, result.forward_ms, result.backward_ms) == (None,) * 4
    assert ordered(result.step_ms)
    assert stepper.steps == 1 + 2 * speed.MINIMUM_STEPS + 5 * result.steps_per_window


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_times_on_a_clock_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for module in (stepper_module, speed):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock.perf_counter))

    class Timed(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            clock.now += 0.001
            super().step(closure)

    task = toy_task()

    def loss(*arguments: Any) -> Tensor:
        clock.now += 0.003
        return type(task).loss(task, *arguments)

    ticks = iter(range(10**9))

    def control(device: torch.device) -> Any:
        # Half a millisecond at first, then one.
        def call() -> None:
            clock.now += 0.0005 if next(ticks) < 6 + 3 * 48 else 0.001

        return call

    monkeypatch.setattr(speed, "_control", control)
    # 50 examples in batches of 20 and a remainder of 10: a step sees 16.7 examples on average.
    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, 20, "keep", True, 0)
    stepper = Stepper(task, parameters, Timed(parameters, lr=0.01), order)
    slow = SimpleNamespace(loss=loss, device=task.device, train=task.train, after_step=None)
    stepper.task = slow  # type: ignore[assignment]
    result = measure_speed(stepper, 3, 5, 0.048, 1)
    assert result.steps_per_window == 12
    assert result.step_ms.median == pytest.approx(4.0)
    assert result.optimizer_step_ms is not None
    assert result.optimizer_step_ms.median == pytest.approx(1.0)
    assert result.examples_per_second.median == pytest.approx(50 / 3 / 0.004)
    assert result.step_ms.lo == pytest.approx(result.step_ms.hi)
    assert result.forward_ms is not None
    assert result.forward_ms.median == pytest.approx(3.0)
    assert result.backward_ms is not None
    assert result.backward_ms.median == pytest.approx(0.0)
    assert result.first_step_ms == pytest.approx(4.0)
    # Six calls to see how long one takes, then windows of 48, three of them fast: of five the last two are late.
    assert result.drift == pytest.approx(1.0)


def test_a_window_is_never_shorter_than_three_steps() -> None:
    assert speed.calls_per_window(lambda steps: steps * 10.0, 0.05) == 3
    assert speed.calls_per_window(lambda steps: steps * 0.001, 0.05) == 50
    assert speed.calls_per_window(lambda steps: 0.0, 1e-9) == 3
    assert speed.calls_per_window(lambda steps: 0.0, 1.0) == speed.MOST_CALLS
