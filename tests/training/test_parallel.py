"""Shares of a batch: together they are the batch, each example once; and what ranks agree on."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.devices import NAMES, check_single, count_of, is_parallel, part_of
from bench.errors import BenchError, DeviceUnavailable, UsageError
from bench.tasks.problem import Stream
from bench.training import devices
from bench.training.batches import Batches, BatchOrder, FreshBatches
from bench.training.devices import prepare, why_unavailable
from bench.training.parallel import DataParallel, Shares, share_of
from tests.cases import builder, plan_of, toy_task
from tests.training.test_devices import machine


@given(st.integers(0, 1000), st.integers(1, 64))
def test_shares_are_the_whole_in_order_and_differ_by_one_at_most(examples: int, size: int) -> None:
    parts = [range(*share_of(examples, rank, size)) for rank in range(size)]
    assert [number for part in parts for number in part] == list(range(examples))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1
    assert lengths[0] == max(lengths)


def order(batch_size: int, remainder: str, examples: int) -> BatchOrder:
    inputs = torch.arange(2 * examples, dtype=torch.float32).view(examples, 2)
    return BatchOrder(inputs, torch.arange(examples), batch_size, remainder, True, seed=3)


@given(
    st.integers(1, 20),
    st.integers(20, 45),
    st.sampled_from(["keep", "drop", "carry"]),
    st.integers(1, 4),
    st.integers(1, 12),
)
def test_shares_of_all_ranks_are_the_batches_of_one(
    batch_size: int, examples: int, remainder: str, size: int, steps: int
) -> None:
    taken_alone = order(batch_size, remainder, examples).take(steps)
    alone = [(inputs.clone(), labels.clone()) for several in taken_alone for inputs, labels in several]
    ranks = [Shares(order(batch_size, remainder, examples), rank, size) for rank in range(size)]
    taken: list[list[tuple[Tensor, Tensor, int]]] = [[] for _ in ranks]
    for rank, shares in enumerate(ranks):
        for [(inputs, labels)] in shares.take(steps):
            taken[rank].append((inputs.clone(), labels.clone(), shares.whole))
    assert {len(some) for some in taken} == {len(alone)}
    for number, (inputs, labels) in enumerate(alone):
        assert torch.equal(torch.cat([some[number][0] for some in taken]), inputs)
        assert torch.equal(torch.cat([some[number][1] for some in taken]), labels)
        assert {some[number][2] for some in taken} == {len(labels)}
    assert {shares.examples_seen for shares in ranks} == {sum(len(labels) for _, labels in alone)}


def test_shares_of_the_whole_split_and_after_a_change_of_batch_size() -> None:
    first, second = (Shares(order(9, "keep", 9), rank, 2) for rank in range(2))
    shares = [next(iter(part.take(1)))[0][1].tolist() for part in (first, second)]
    assert shares == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    for part in (first, second):
        part.resize(2)
    assert (first.batch_size, second.batch_size) == (2, 2)
    together = [sorted(a[0][1].tolist() + b[0][1].tolist()) for a, b in zip(first.take(5), second.take(5), strict=True)]
    assert sorted(number for batch in together for number in batch) == list(range(9))


def test_shares_of_examples_that_are_drawn_afresh() -> None:
    def draw(batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(batch_size, 2, generator=generator), torch.zeros(batch_size)

    def fresh() -> Batches:
        stream = Stream(draw, lambda: (torch.zeros(1, 2), torch.zeros(1)), 100)
        return FreshBatches(stream, 5, torch.device("cpu"), torch.float32, seed=4)

    parts = [Shares(fresh(), rank, 2) for rank in range(2)]
    both = [torch.cat([next(iter(part.take(1)))[0][0] for part in parts]) for _ in range(2)]
    alone = [batch[0] for several in fresh().take(2) for batch in several]
    assert all(torch.equal(a, b) for a, b in zip(both, alone, strict=True))


def test_a_copy_moves_on_its_own() -> None:
    shares = Shares(order(4, "keep", 12), 0, 2)
    assert len(list(copy.copy(shares).take(3))) == 3
    assert shares.examples_seen == 0


@dataclass(frozen=True)
class Saying:
    """A group whose ranks say given hashes."""

    found: list[str]

    def say(self, command: object) -> None:
        assert command is not None

    def hashes(self, own: str) -> list[str]:
        return self.found


def test_ranks_that_end_with_other_parameters_are_an_error() -> None:
    task = toy_task()

    class Ended:
        evaluated = task.initialise(0)

    def agree(found: list[str]) -> None:
        group: Any = Saying(found)
        stepper: Any = Ended()
        DataParallel(group, task, builder("sgd"), plan_of()).agree(stepper)

    agree(["a", "a", "a"])
    with pytest.raises(BenchError, match="rank 2 ends with other parameters than rank 0"):
        agree(["a", "a", "b"])


# --- names of devices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parallel", "count", "parts"),
    [
        ("cpu", False, 1, ["cpu"]),
        ("cuda", False, 1, ["cuda"]),
        # As ever: the device of that index, not so many of them.
        ("cuda:2", False, 1, ["cuda:2"]),
        ("mps", False, 1, ["mps"]),
        ("cpu:1", True, 1, ["cpu"]),
        ("cpu:3", True, 3, ["cpu", "cpu", "cpu"]),
        ("cuda:all", True, 4, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        ("cuda:0-1", True, 2, ["cuda:0", "cuda:1"]),
    ],
)
def test_what_names_stand_for(name: str, parallel: bool, count: int, parts: list[str]) -> None:
    assert name in NAMES
    assert is_parallel(name) is parallel
    assert count_of(name, cuda_devices=4) == count
    assert [part_of(name, rank) for rank in range(count)] == parts


def test_names_are_each_once() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {"cpu:64", "cuda:63", "cuda:0-63"} < set(NAMES)
    assert not {"cpu:0", "cpu:65", "cuda:0-0", "cuda:64", "mps:2"} & set(NAMES)


@pytest.mark.parametrize(
    ("cuda", "name", "reason"),
    [
        (0, "cpu:4", None),
        (0, "cpu:5", "this machine has 4 cores, 5 are asked for"),
        (0, "cuda:all", "no CUDA device on this machine"),
        (2, "cuda:all", None),
        (2, "cuda:0-1", None),
        (2, "cuda:0-2", "this machine has 2 CUDA devices, 3 are asked for"),
        (1, "cuda:0-1", "this machine has 1 CUDA device, 2 are asked for"),
    ],
)
def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch, cuda: int, name: str, reason: str | None) -> None:
    machine(monkeypatch, cuda)
    monkeypatch.setattr(devices, "usable_cores", lambda: 4)
    monkeypatch.setattr(torch.distributed, "is_backend_available", lambda backend: True)
    assert why_unavailable(name) == reason
    if reason is not None:
        with pytest.raises(DeviceUnavailable) as caught:
            prepare(name, 1, "float32")
        assert str(caught.value) == f"device {name}: {reason}"


def test_a_torch_without_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: 4)
    monkeypatch.setattr(torch.distributed, "is_backend_available", lambda backend: False)
    assert why_unavailable("cpu:2") == "this torch was built without gloo"


def test_what_measures_a_single_device_says_so() -> None:
    check_single("cuda:1", "bench frontier")
    with pytest.raises(UsageError, match="device=cpu:2: bench frontier measures a single device, such as cpu;"):
        check_single("cpu:2", "bench frontier")
