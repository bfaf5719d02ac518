"""Speed of one training step of a single trial, apart from convergence."""

import time
from collections.abc import Callable

import torch

from bench.measure.intervals import median_interval
from bench.results.record import Speed
from bench.training.stepper import Stepper, synchronise

MINIMUM_STEPS = 3


def measure_speed(
    stepper: Stepper, warmup_steps: int, windows: int, window_seconds: float, concurrent_workers: int
) -> Speed:
    """Measure whole training steps and the optimizer's step alone, in interleaved windows.

    Clocks are read after the device has finished. Warm-up steps, which pay for first-time work, are not counted.
    The optimizer alone steps on the gradients of the last training step, over and over; it moves the parameters of
    `stepper`, which must not be used for anything else. An optimizer that calls for the loss itself has no step apart
    from the rest, so none is measured.

    Args:
        stepper: A fresh trial of the cell to measure.
        warmup_steps: Steps before the first clock, ≥ 1.
        windows: Windows of each kind, ≥ 1.
        window_seconds: Aimed-at length of a window, seconds; a window is never shorter than 3 steps.
        concurrent_workers: Worker processes training on this machine meanwhile, for the record.
    """
    device = stepper.task.device
    stepper.run(warmup_steps, lambda: False)
    per_window = _steps_per_window(lambda steps: _training_window(stepper, steps)[0], window_seconds)
    apart = not stepper.method.closure
    per_optimizer_window = 0
    if apart:
        per_optimizer_window = _steps_per_window(
            lambda steps: _optimizer_window(stepper.optimizer, steps, device), window_seconds / 2
        )
    examples_per_second, step_ms, optimizer_ms = [], [], []
    for _ in range(windows):
        seconds, examples = _training_window(stepper, per_window)
        examples_per_second.append(examples / seconds)
        step_ms.append(1e3 * seconds / per_window)
        if apart:
            seconds = _optimizer_window(stepper.optimizer, per_optimizer_window, device)
            optimizer_ms.append(1e3 * seconds / per_optimizer_window)
    return Speed(
        examples_per_second=median_interval(examples_per_second),
        step_ms=median_interval(step_ms),
        optimizer_step_ms=median_interval(optimizer_ms) if apart else None,
        warmup_steps=warmup_steps,
        steps_per_window=per_window,
        concurrent_workers=concurrent_workers,
    )


def _steps_per_window(run: Callable[[int], float], window_seconds: float) -> int:
    """Return how many steps fill a window, from the faster of two short probes."""
    seconds = min(run(MINIMUM_STEPS), run(MINIMUM_STEPS)) / MINIMUM_STEPS
    return max(MINIMUM_STEPS, round(window_seconds / max(seconds, 1e-9)))


def _training_window(stepper: Stepper, steps: int) -> tuple[float, int]:
    """Take training steps; return their seconds and the examples they saw."""
    seconds, examples = stepper.seconds, stepper.batches.examples_seen
    stepper.run(steps, lambda: False)
    return stepper.seconds - seconds, stepper.batches.examples_seen - examples


def _optimizer_window(optimizer: torch.optim.Optimizer, steps: int, device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.step()
    synchronise(device)
    return time.perf_counter() - start
