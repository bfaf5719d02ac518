"""Energy: a counter made up by hand, read as NVML's is; the real one where there is a device with it."""

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.launching.cell import fresh_trial
from bench.measure import energy as module
from bench.measure.energy import EnergyUnavailable, energy_counter, measure_energy, with_energy
from bench.training import stepper as stepper_module
from bench.training.batches import BatchOrder
from bench.training.devices import prepare
from bench.training.stepper import Stepper
from tests.cases import toy_task
from tests.results.records import record
from tests.small import small_cell

CUDA = torch.device("cuda", 1)


class Refused(Exception):
    """What the library raises."""


class Library:
    """Answers like pynvml: a device of so many watts on a clock of our own, whose counter moves in ticks."""

    NVMLError = Refused

    def __init__(self, watts: float = 200.0, tick: float = 0.02, lacks: str = "") -> None:
        self.watts, self.tick, self.lacks, self.now = watts, tick, lacks, 0.0
        self.asked: list[str] = []

    def nvmlInit(self) -> None:
        self.refuse("nvmlInit", "Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.refuse("nvmlDeviceGetHandleByUUID", "Not Found")
        self.asked.append(uuid)
        return f"handle of {uuid}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self.refuse("nvmlDeviceGetTotalEnergyConsumption", "Not Supported")
        assert handle == "handle of GPU-1"
        # The clock's sums are not exact; a tick is.
        return round(1e3 * self.watts * self.tick * int(self.now / self.tick + 1e-6))

    def refuse(self, function: str, why: str) -> None:
        if function == self.lacks:
            raise self.NVMLError(why)

    def perf_counter(self) -> float:
        return self.now


def counter_of(library: Library) -> module.Counter:
    return energy_counter(CUDA, library, lambda device: f"GPU-{device.index}")


def trial(library: Library, step_seconds: float, size: int = 20) -> Stepper:
    """A trial whose step takes so long on the library's clock."""
    task = toy_task()

    def loss(*arguments: Any) -> Tensor:
        library.now += step_seconds
        return type(task).loss(task, *arguments)

    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, size, "keep", True, 0)
    stepper = Stepper(task, parameters, torch.optim.SGD(parameters, lr=0.01), order)
    slow = SimpleNamespace(loss=loss, device=task.device, train=task.train, after_step=None)
    stepper.task = slow  # type: ignore[assignment]
    return stepper


@pytest.mark.parametrize("step_seconds", [0.001, 0.003, 0.013, 0.1])
def test_joules_of_a_known_power(step_seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(watts=200.0)
    monkeypatch.setattr(stepper_module, "time", SimpleNamespace(perf_counter=library.perf_counter))
    counter = counter_of(library)
    assert library.asked == ["GPU-1"]
    found = measure_energy(trial(library, step_seconds), counter, 2.0)
    assert 2.0 <= found.seconds <= 2.0 + 2 * max(library.tick, step_seconds)
    assert found.steps == pytest.approx(found.seconds / step_seconds)
    # Both ends are met to within a look at the counter, which is no longer than a few steps.
    late = max(module.LOOK_SECONDS, step_seconds)
    assert found.millijoules / 1e3 / 200.0 == pytest.approx(found.seconds, abs=late + 1e-6)
    # An epoch has 50 examples in batches of 20, 20 and 10.
    assert found.examples == pytest.approx(found.steps * 50 / 3, abs=20)
    assert found.per_step == found.millijoules / found.steps
    assert found.per_example == found.millijoules / found.examples


def test_a_counter_that_does_not_move(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(watts=0.0)
    monkeypatch.setattr(stepper_module, "time", SimpleNamespace(perf_counter=library.perf_counter))
    with pytest.raises(EnergyUnavailable, match="has not moved in 5 s of training"):
        measure_energy(trial(library, 0.01), counter_of(library), 2.0)


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("nvmlInit", "NVML: Driver Not Loaded"),
        ("nvmlDeviceGetHandleByUUID", "NVML: Not Found"),
        ("nvmlDeviceGetTotalEnergyConsumption", "NVML: Not Supported"),
    ],
)
def test_what_the_library_refuses_is_the_reason(lacks: str, said: str) -> None:
    with pytest.raises(EnergyUnavailable, match=said):
        counter_of(Library(lacks=lacks))


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_no_other_device_has_a_counter(name: str) -> None:
    with pytest.raises(EnergyUnavailable, match=f"device {name}: only NVIDIA devices"):
        energy_counter(torch.device(name), Library())


def test_a_speed_says_what_it_took_or_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(watts=100.0)
    monkeypatch.setattr(stepper_module, "time", SimpleNamespace(perf_counter=library.perf_counter))
    speed = record().speed
    assert speed is not None
    speed = replace(speed, energy_mj_per_step=None, energy_mj_per_example=None)
    stepper = trial(library, 0.02, size=50)
    found = with_energy(speed, stepper, 1.0, counter_of(library))
    # 100 W for 20 ms are 2 J a step of 50 examples.
    assert found.energy_mj_per_step == pytest.approx(2000, rel=0.05)
    assert found.energy_mj_per_example == pytest.approx(40, rel=0.05)
    assert found.energy_reason is None
    assert found.step_ms == speed.step_ms
    elsewhere = with_energy(speed, stepper, 1.0)
    assert (elsewhere.energy_mj_per_step, elsewhere.energy_mj_per_example) == (None, None)
    assert elsewhere.energy_reason == "device cpu: only NVIDIA devices have a counter that is read here"
    assert with_energy(speed, stepper, 0.0) == speed


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(EnergyUnavailable, match=r"nvidia-ml-py is not installed \(pip install"):
        energy_counter(CUDA)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_device() -> None:
    pytest.importorskip("pynvml")
    device = torch.device("cuda")
    try:
        counter = energy_counter(device)
    except EnergyUnavailable as error:
        pytest.skip(str(error))
    stepper = fresh_trial(small_cell("device=cuda"), prepare("cuda", 1, "float32"))
    stepper.run(20, lambda: False)
    found = measure_energy(stepper, counter, 1.0)
    # Any such device draws more than 5 W and less than 2 kW.
    assert 5 < found.millijoules / 1e3 / found.seconds < 2000
