"""Memory: what autograd keeps, by hand; what the optimizer keeps; peaks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measure import memory
from bench.measure.memory import activation_bytes, measure_memory
from bench.tasks.problem import Problem
from bench.tasks.registry import task_spec
from bench.tasks.task import Task, build_task, load_task
from bench.training.batches import BatchOrder
from bench.training.stepper import Method, Stepper
from tests.cases import builder

F32, INT64 = 4, 8


def stepper_of(task: Task, size: int, name: str = "sgd") -> Stepper:
    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, size, "keep", True, 0)
    return Stepper(task, parameters, builder(name)(parameters, 0.01), order)


#: Saved for backward, per example. Linear keeps its input; ReLU keeps its output, which is the next layer's input;
#: the cross-entropy keeps the log-probabilities, the labels and, once a batch, the total weight (one float).
#: LeNet-5 besides: a convolution keeps its input, max-pooling its input and the int64 index of each maximum.
PER_EXAMPLE = {
    "logreg": 784 * F32 + 10 * F32 + INT64,
    "mlp": 784 * F32 + 128 * F32 + 10 * F32 + INT64,
    "lenet5": (784 + 6 * 28 * 28 + 6 * 14 * 14 + 16 * 10 * 10 + 16 * 5 * 5 + 120 + 84 + 10) * F32
    + (6 * 14 * 14 + 16 * 5 * 5) * INT64
    + INT64,
}


@pytest.mark.parametrize("model", PER_EXAMPLE)
@pytest.mark.parametrize("size", [1, 2, 64, 1000])
def test_activation_bytes_by_hand(tasks: dict[str, Task], model: str, size: int) -> None:
    assert activation_bytes(stepper_of(tasks[model], size)) == size * PER_EXAMPLE[model] + F32


def test_activation_bytes_of_the_full_batch_and_in_float64(
    tasks: dict[str, Task], problems: dict[str, Problem]
) -> None:
    assert activation_bytes(stepper_of(tasks["logreg"], 4000)) == 4000 * PER_EXAMPLE["logreg"] + F32
    wide = build_task("wide", problems["logreg"], torch.device("cpu"), "float64", None, 0)
    assert activation_bytes(stepper_of(wide, 10)) == 10 * (794 * 8 + INT64) + 8


def test_a_step_in_passes_keeps_what_one_pass_keeps(tasks: dict[str, Task]) -> None:
    stepper = stepper_of(tasks["mlp"], 64)
    stepper.method = Method(micro_batch=16)
    assert activation_bytes(stepper) == 16 * PER_EXAMPLE["mlp"] + F32
    stepper.method = Method(micro_batch=64)
    assert activation_bytes(stepper) == 64 * PER_EXAMPLE["mlp"] + F32


def test_counting_changes_nothing(task: Task) -> None:
    stepper = stepper_of(task, 8)
    before = [p.detach().clone() for p in stepper.parameters]
    assert activation_bytes(stepper) == activation_bytes(stepper)
    assert stepper.steps == stepper.batches.examples_seen == 0
    assert all(torch.equal(a, b) and a.grad is None for a, b in zip(stepper.parameters, before, strict=True))


@pytest.mark.parametrize(("name", "state"), [("sgd", 0), ("momentum", 407_080), ("adam", 2 * 407_080 + 16)])
def test_memory_of_a_step(task: Task, name: str, state: int) -> None:
    stepper = stepper_of(task, 32, name)
    result = measure_memory(stepper)
    assert stepper.steps == memory.PEAK_STEPS
    assert result.parameter_bytes == result.gradient_bytes == 4 * 101_770
    assert result.state_bytes == state
    assert result.activation_bytes == 32 * PER_EXAMPLE["mlp"] + F32
    assert result.peak_allocated_mib is None
    assert result.peak_reserved_mib is None
    assert (result.peak_rss_mib is None) == (result.base_rss_mib is None)
    if result.base_rss_mib is not None and result.peak_rss_mib is not None:
        # A process with torch and 5000 images in it has more than 50 MiB and, here, less than a terabyte.
        assert 50 < result.base_rss_mib < 2**20
        assert 50 < result.peak_rss_mib < 2**20


def test_a_sparse_gradient_is_its_values_and_their_indices() -> None:
    spec, _ = task_spec("embedding/bigram", "embedding/bigram", None, None, {"tokens": 5, "examples": 12})
    task = load_task(spec, "", False, torch.device("cpu"), "float32", None, 0, True)
    result = measure_memory(stepper_of(task, 12))
    assert result.parameter_bytes == 5 * 5 * F32
    # The full batch: as many rows as examples, before equal ones are added up.
    assert result.gradient_bytes == 12 * (5 * F32 + INT64)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc/self/clear_refs on this system")
def test_the_peak_sees_what_a_step_allocates(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    stepper = stepper_of(task, 32)
    run = stepper.run

    def hungry(*arguments: Any) -> None:
        # 64 MiB, touched and freed again: only a high-water mark sees it.
        torch.ones(2**24).sum()
        run(*arguments)

    monkeypatch.setattr(stepper, "run", hungry)
    first = measure_memory(stepper)
    monkeypatch.undo()
    if first.base_rss_mib is None or first.peak_rss_mib is None:
        pytest.skip("this kernel resets no resident peak")
    assert first.peak_rss_mib - first.base_rss_mib > 60
    # The mark is reset for the next cell.
    second = measure_memory(stepper)
    assert second.base_rss_mib is not None
    assert second.peak_rss_mib is not None
    assert second.peak_rss_mib - second.base_rss_mib < 32


def test_where_the_kernel_tells_nothing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    result = measure_memory(stepper_of(task, 4))
    assert (result.base_rss_mib, result.peak_rss_mib) == (None, None)
    assert result.activation_bytes == 4 * PER_EXAMPLE["mlp"] + F32
    monkeypatch.setattr(Path, "read_text", refuse)
    assert memory.status_mib("VmHWM") is None


def test_a_status_without_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "Name:\tbench\nVmHWM:\t  2048 kB\n")
    assert memory.status_mib("VmHWM") == 2.0
    assert memory.status_mib("VmRSS") is None


def test_another_c_library(monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert measure_memory(stepper_of(task, 4)).parameter_bytes == 407_080
