"""The largest batch that fits: the line, the search, and attempts of a process that is held to its memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.frontier import PRECISION, Attempt, Line, activation_line, attempt, largest, search, through
from bench.measure.memory import activation_bytes_of
from bench.tasks.models import f1, lenet5, mlp
from bench.tasks.problem import Model, Split
from bench.tasks.task import Task
from tests.cases import builder, toy_task

MODELS = {"mlp": mlp, "lenet5": lenet5, "f1": f1}


def image_task(model: Model) -> Task:
    inputs = torch.randn(3000, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    split = Split(inputs, torch.arange(3000) % 10)
    return Task("images", model, split, split, split, split, 10)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sizes", [(2, 3, 8, 64, 200, 511), (512, 600, 1024, 2000)])
def test_what_autograd_keeps_is_a_line_in_the_batch_size_to_the_byte(name: str, sizes: tuple[int, ...]) -> None:
    task = image_task(MODELS[name]((1, 28, 28), 10))
    line = activation_line(task, sizes[:2])
    weights = [*task.initialise(0), *task.buffers()]
    assert [line.at(size) for size in sizes] == [activation_bytes_of(task, weights, size) for size in sizes]


def test_a_batch_may_be_larger_than_the_training_split() -> None:
    task = toy_task()
    weights = task.initialise(0)
    line = activation_line(task, (10, 20))
    assert activation_bytes_of(task, weights, 130) == line.at(130)
    inputs, labels = task.example_batch(130)
    assert torch.equal(inputs[:30], inputs[100:])
    assert torch.equal(labels[:50], task.train.labels)


def test_lines() -> None:
    line = through((10, 130.0), (20, 230.0))
    assert line == Line(30.0, 10.0)
    assert (line.largest(135), line.largest(129.9), line.largest(0)) == (10, 9, 0)
    assert Line(5.0, 0.0).largest(100) == 0


@given(frontier=st.integers(0, 5000), start=st.integers(-5, 10_000), most=st.integers(1, 8000))
def test_the_search_ends_near_the_frontier_or_at_the_most(frontier: int, start: int, most: int) -> None:
    asked: list[int] = []

    def try_size(size: int) -> Attempt:
        asked.append(size)
        return Attempt(size, 1 if size <= frontier else None)

    found = largest(search(try_size, start, most))
    assert len(set(asked)) == len(asked) <= 40
    assert all(1 <= size <= most for size in asked)
    truth = min(frontier, most)
    assert truth / (1 + PRECISION) - 1 <= found <= truth
    assert (found == truth) or frontier < most


def test_an_attempt_tells_its_peak_and_leaves_nothing_behind() -> None:
    task = image_task(mlp((1, 28, 28), 10))
    build = builder("adam")
    attempt(task, build, 16)
    small, large = attempt(task, build, 2000), attempt(task, build, 20_000)
    if not small.peak_bytes:
        pytest.skip("this kernel does not tell the resident peak of a part of a process's life")
    assert large.peak_bytes is not None
    # 18 000 examples more of 784 inputs and 128 hidden units: at least those, and not ten times as much.
    least = 18_000 * (784 + 128) * 4
    assert least < large.peak_bytes - small.peak_bytes < 4 * least


def test_an_attempt_that_asks_for_too_much_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy_task()
    monkeypatch.setattr(Task, "loss", lambda *_: torch.empty(2**60))
    tried = attempt(task, builder("sgd"), 8)
    assert not tried.fits
    assert "allocate memory" in str(tried.reason)
    monkeypatch.setattr(Task, "loss", lambda *_: torch.zeros(3) @ torch.zeros(4))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        attempt(task, builder("sgd"), 8)
