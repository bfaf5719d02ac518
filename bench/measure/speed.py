"""Speed of one training step of a single trial, apart from convergence: the whole, and what it is made of."""

import copy
import random
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bench.measure.intervals import median_interval
from bench.results.record import Interval, Speed
from bench.training.stepper import Stepper, synchronise

MINIMUM_STEPS = 3
#: Part of a window's length that the windows of a step's parts, and those of the control, have.
PART_SHARE = 0.5
#: At most so many calls in a window, however short one is.
MOST_CALLS = 20_000
#: Side of the square matrices that the control multiplies.
CONTROL_SIDE = 128

#: Takes the number of calls to make; returns their seconds.
Window = Callable[[int], float]


def measure_speed(
    stepper: Stepper, warmup_steps: int, windows: int, window_seconds: float, concurrent_workers: int
) -> Speed:
    """Measure whole training steps, the parts of a step, and a control that never changes, in interleaved windows.

    Each round visits all of them in random order, so that what else the machine does meets each of them alike; how far
    the control drifts says how much that was. Clocks are read after the device has finished. Warm-up steps, which pay
    for first-time work, are not counted.

    Data are batches alone, forward is the loss of one batch, backward what its gradient takes on top of that; the
    optimizer alone steps on the gradients of the last training step, over and over. It moves the parameters of
    `stepper`, which must not be used for anything else. An optimizer that calls for the loss itself has no parts.

    Args:
        stepper: A fresh trial of the cell to measure.
        warmup_steps: Steps before the first clock, ≥ 1.
        windows: Windows of each kind, ≥ 1.
        window_seconds: Aimed-at length of a window, seconds; a window is never shorter than 3 steps.
        concurrent_workers: Worker processes training on this machine meanwhile, for the record.
    """
    device, examples = stepper.task.device, [0]
    stepper.run(1, lambda: False)
    first_ms = 1e3 * stepper.seconds
    stepper.run(warmup_steps - 1, lambda: False)

    def whole(steps: int) -> float:
        seconds, seen = stepper.seconds, stepper.batches.examples_seen
        stepper.run(steps, lambda: False)
        examples.append(stepper.batches.examples_seen - seen)
        return stepper.seconds - seconds

    contestants: dict[str, Window] = {"step": whole, "control": _timed(_control(device), device)}
    if not stepper.method.closure:
        contestants |= _parts(stepper)
    calls = {
        name: calls_per_window(run, window_seconds * (1.0 if name == "step" else PART_SHARE))
        for name, run in contestants.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    rates, shuffle = [], random.Random(0)
    for _ in range(windows):
        for name in shuffle.sample(sorted(contestants), len(contestants)):
            seconds = contestants[name](calls[name])
            taken[name].append(1e3 * seconds / calls[name])
            if name == "step":
                rates.append(examples[-1] / seconds)
    control = taken["control"]
    return Speed(
        examples_per_second=median_interval(rates),
        step_ms=median_interval(taken["step"]),
        optimizer_step_ms=_interval(taken.get("optimizer")),
        warmup_steps=warmup_steps,
        steps_per_window=calls["step"],
        concurrent_workers=concurrent_workers,
        first_step_ms=first_ms,
        data_ms=_interval(taken.get("data")),
        forward_ms=_interval(taken.get("forward")),
        backward_ms=_interval(_over(taken.get("gradient"), taken.get("forward"))),
        control_ms=median_interval(control),
        drift=_drift(control),
    )


def _parts(stepper: Stepper) -> dict[str, Window]:
    """Return windows of the parts of a step."""
    task, weights, parameters, device = stepper.task, stepper.weights, stepper.parameters, stepper.task.device
    # A stream of its own, so that the training windows see whole epochs.
    batches = copy.copy(stepper.batches)
    inputs, labels = (tensor.clone() for tensor in next(batches.take(1))[0])

    def data(steps: int) -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in batches.take(steps):
            pass
        synchronise(device)
        return time.perf_counter() - start

    def forward() -> Tensor:
        return task.loss(weights, inputs, labels)

    return {
        "data": data,
        "forward": _timed(forward, device),
        "gradient": _timed(lambda: torch.autograd.grad(forward(), parameters), device),
        "optimizer": _timed(stepper.optimizer.step, device),
    }


def _control(device: torch.device) -> Callable[[], object]:
    """Return work that is the same in every cell: a matrix product and something elementwise."""
    left = torch.linspace(-1, 1, CONTROL_SIDE**2, device=device).view(CONTROL_SIDE, CONTROL_SIDE)
    return lambda: (left @ left).relu()


def _timed(call: Callable[[], object], device: torch.device) -> Window:
    def window(calls: int) -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        synchronise(device)
        return time.perf_counter() - start

    return window


def calls_per_window(run: Window, window_seconds: float) -> int:
    """Return how many calls fill a window, from the faster of two short probes.

    Args:
        run: Makes so many calls and returns their seconds.
        window_seconds: Aimed-at length of a window, seconds.
    """
    seconds = min(run(MINIMUM_STEPS), run(MINIMUM_STEPS)) / MINIMUM_STEPS
    return min(MOST_CALLS, max(MINIMUM_STEPS, round(window_seconds / max(seconds, 1e-9))))


def _interval(samples: list[float] | None) -> Interval | None:
    return median_interval(samples) if samples else None


def _over(whole: list[float] | None, part: list[float] | None) -> list[float] | None:
    """Return what the whole takes beyond its part, round by round; never less than nothing."""
    return [max(0.0, a - b) for a, b in zip(whole, part, strict=True)] if whole and part else None


def _drift(control: list[float]) -> float | None:
    """Return by which fraction the control's later windows are slower than its earlier ones; None of too few."""
    half = len(control) // 2
    if half < 2:
        return None
    return median_interval(control[-half:]).median / median_interval(control[:half]).median - 1
