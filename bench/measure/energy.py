"""Energy of training steps, from the counter of the device itself: NVML's total energy.

The counter is of the whole device, in millijoules since the driver was loaded: its idle power and other processes are
in it. It moves in ticks of some ten milliseconds, so a window begins and ends with one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.results.record import Speed
from bench.training.stepper import Stepper

#: Steps between two looks at the counter take about so many seconds: how exactly a tick is met.
LOOK_SECONDS = 0.005
#: A counter that has not moved for so many seconds of training never will.
PATIENCE_SECONDS = 5.0
#: Steps whose time tells how many there are between two looks.
PROBE_STEPS = 3

#: Returns millijoules.
Counter = Callable[[], int]


@dataclass(frozen=True)
class Energy:
    """What training steps took.

    Attributes:
        millijoules: Energy of the device in the window.
        steps: Steps in it.
        examples: Examples in it.
        seconds: Its length.
    """

    millijoules: int
    steps: int
    examples: int
    seconds: float

    @property
    def per_step(self) -> float:
        """Millijoules a step."""
        return self.millijoules / self.steps

    @property
    def per_example(self) -> float:
        """Millijoules an example, which are joules per 1000 examples."""
        return self.millijoules / self.examples


class EnergyUnavailable(Exception):
    """Nothing here counts energy; the message says why, in one line."""


def energy_counter(
    device: torch.device, library: Any = None, uuid: Callable[[torch.device], str] | None = None
) -> Counter:
    """Return what reads the energy counter of a device.

    Args:
        device: The device.
        library: Module `pynvml` of the package nvidia-ml-py, or what answers like it; None imports it.
        uuid: Names a device as NVML does; None asks torch, whose numbers of devices are not NVML's.

    Raises:
        EnergyUnavailable: It is no CUDA device, nvidia-ml-py is not installed, or NVML or the device has no counter.

    Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption (Volta and later).
    """
    if device.type != "cuda":
        raise EnergyUnavailable(f"device {device.type}: only NVIDIA devices have a counter that is read here")
    nvml = library or _installed()
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID((uuid or _uuid)(device))
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        raise EnergyUnavailable(f"NVML: {error}") from None
    return lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))


def measure_energy(stepper: Stepper, counter: Counter, seconds: float) -> Energy:
    """Measure the energy of whole training steps.

    Steps are taken, a few at a time and synchronised, until the counter moves; from there until it moves for the first
    time after `seconds`.

    Args:
        stepper: A trial that is warm; it is moved on.
        counter: Reads the device's counter.
        seconds: Least length of the window, > 0.

    Raises:
        EnergyUnavailable: The counter does not move.
    """
    before = stepper.seconds
    stepper.run(PROBE_STEPS, lambda: False)
    each = max((stepper.seconds - before) / PROBE_STEPS, 1e-9)
    few = max(1, round(LOOK_SECONDS / each))

    def tick() -> int:
        """Train until the counter moves, and return what it then says."""
        value, since = counter(), stepper.seconds
        while stepper.seconds - since < PATIENCE_SECONDS:
            stepper.run(few, lambda: False)
            now = counter()
            if now != value:
                return now
        raise EnergyUnavailable(f"the device's counter has not moved in {PATIENCE_SECONDS:g} s of training")

    start = tick()
    steps, seen, since = stepper.steps, stepper.batches.examples_seen, stepper.seconds
    while stepper.seconds - since < seconds:
        stepper.run(few, lambda: False)
    end = tick()
    return Energy(end - start, stepper.steps - steps, stepper.batches.examples_seen - seen, stepper.seconds - since)


def with_energy(speed: Speed, stepper: Stepper, seconds: float, counter: Counter | None = None) -> Speed:
    """Return a speed with the energy of its steps, or with the reason why there is none.

    Args:
        speed: The speed.
        stepper: A trial that is warm; it is moved on.
        seconds: Least length of the window, seconds; 0 to measure none.
        counter: Reads the device's counter; None finds it.
    """
    if seconds == 0:
        return speed
    try:
        found = measure_energy(stepper, counter or energy_counter(stepper.task.device), seconds)
    except EnergyUnavailable as error:
        return replace(speed, energy_reason=str(error))
    return replace(speed, energy_mj_per_step=found.per_step, energy_mj_per_example=found.per_example)


def _installed() -> Any:
    try:
        import pynvml
    except ImportError:
        raise EnergyUnavailable("nvidia-ml-py is not installed (pip install 'batch-size-bench[gpu]')") from None
    return pynvml


def _uuid(device: torch.device) -> str:
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
