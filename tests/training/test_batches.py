"""Batch order: every example once an epoch, however the batches are gathered and asked for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.tasks.problem import Stream
from bench.training import batches
from bench.training.batches import BatchOrder, FreshBatches

Case = tuple[int, int, str, bool, int, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Examples, batch size, remainder, reshuffle, seed, and how many examples are gathered at once."""
    examples = draw(st.integers(1, 40))
    return (
        examples,
        draw(st.integers(1, examples)),
        draw(st.sampled_from(["keep", "drop"])),
        draw(st.booleans()),
        draw(st.integers(0, 2**63 - 1)),
        draw(st.sampled_from([1, 3, 8, 512])),
    )


def stream(case: Case, splitting: list[int]) -> tuple[list[list[int]], BatchOrder]:
    """Return the batches of a stream, each as its labels, checking every batch while it is valid."""
    examples, size, remainder, reshuffle, seed, gather = case
    inputs = torch.arange(examples * 6.0).reshape(examples, 1, 2, 3)
    labels = torch.arange(examples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "GATHER_EXAMPLES", gather)
        order = BatchOrder(inputs, labels, size, remainder, reshuffle, seed)
    taken: list[list[int]] = []
    for steps in splitting:
        before = len(taken)
        for gathered in order.take(steps):
            for batch_inputs, batch_labels in gathered:
                assert torch.equal(batch_inputs, inputs[batch_labels])
                taken.append(batch_labels.tolist())
        assert len(taken) - before == steps
    assert torch.equal(inputs, torch.arange(examples * 6.0).reshape(examples, 1, 2, 3))
    return taken, order


def per_epoch(case: Case) -> int:
    examples, size, remainder, *_ = case
    return examples // size if remainder == "drop" else -(-examples // size)


@given(case=cases())
def test_an_epoch_covers_every_example_once(case: Case) -> None:
    examples, size, remainder, reshuffle, _, _ = case
    steps = per_epoch(case)
    taken, order = stream(case, [3 * steps])
    epochs = [taken[i * steps : (i + 1) * steps] for i in range(3)]
    rest = examples % size
    for epoch in epochs:
        seen = [label for batch in epoch for label in batch]
        assert len(set(seen)) == len(seen) == (examples - rest if remainder == "drop" else examples)
        sizes = [len(batch) for batch in epoch]
        assert sizes == [size] * (examples // size) + ([rest] if rest and remainder == "keep" else [])
    assert order.examples_seen == sum(len(batch) for batch in taken)
    if not reshuffle:
        assert epochs[0] == epochs[1] == epochs[2]


@given(case=cases(), splitting=st.lists(st.integers(0, 30), max_size=6), gather=st.sampled_from([1, 3, 8, 512]))
def test_batches_do_not_depend_on_how_they_are_asked_for_or_gathered(
    case: Case, splitting: list[int], gather: int
) -> None:
    pieces, by_pieces = stream(case, splitting)
    whole, at_once = stream((*case[:5], gather), [sum(splitting)])
    assert pieces == whole
    assert by_pieces.examples_seen == at_once.examples_seen == sum(map(len, whole))


@given(seed=st.integers(0, 2**63 - 2), size=st.sampled_from([1, 7, 64]))
def test_orders_differ_between_epochs_and_between_seeds(seed: int, size: int) -> None:
    case: Case = (64, size, "keep", True, seed, 512)
    steps = per_epoch(case)
    taken, _ = stream(case, [2 * steps])
    again, _ = stream(case, [2 * steps])
    other, _ = stream((64, size, "keep", True, seed + 1, 512), [2 * steps])
    assert taken == again
    if size < 64:
        # Two equal orders of 64 examples: one chance in 64!.
        assert taken[:steps] != taken[steps:]
        assert taken != other
        assert taken[:steps] != [list(range(i, min(64, i + size))) for i in range(0, 64, size)]


def test_the_order_is_one_permutation_an_epoch_from_the_order_seed() -> None:
    taken, _ = stream((10, 4, "keep", True, 9, 512), [6])
    generator = torch.Generator().manual_seed(9)
    expected = [part.tolist() for _ in range(2) for part in torch.randperm(10, generator=generator).split(4)]
    assert taken == expected


def test_dropping_the_remainder_drops_other_examples_each_epoch() -> None:
    taken, _ = stream((10, 4, "drop", True, 0, 512), [40])
    assert {label for batch in taken for label in batch} == set(range(10))


def test_a_full_batch_is_the_data_itself() -> None:
    inputs, labels = torch.randn(600, 2), torch.arange(600)
    order = BatchOrder(inputs, labels, 600, "keep", True, 0)
    for gathered in order.take(3):
        assert len(gathered) == 1
        assert gathered[0][0] is inputs
        assert gathered[0][1] is labels
    assert order.examples_seen == 1800


def test_large_batches_share_a_buffer_that_is_valid_until_the_next_list() -> None:
    size = batches.GATHER_EXAMPLES
    inputs = torch.arange(float(2 * size + 5)).unsqueeze(1)
    labels = torch.arange(2 * size + 5)
    addresses = set()
    kept: list[Tensor] = []
    for gathered in BatchOrder(inputs, labels, size, "keep", True, 0).take(6):
        ((batch, chosen),) = gathered
        assert torch.equal(batch.flatten(), chosen.float())
        addresses.add(batch.data_ptr())
        kept.append(chosen)
    assert len(addresses) == 1
    # Labels are copies of their own, and every epoch is whole.
    for epoch in (kept[:3], kept[3:]):
        assert torch.equal(torch.cat(epoch).sort().values, labels)


def test_small_batches_are_cut_from_one_gather() -> None:
    lists = list(BatchOrder(torch.randn(1000, 3), torch.arange(1000), 100, "keep", True, 0).take(12))
    # 2 batches of 100 fit into 256 examples; the epoch ends after 10.
    assert [len(gathered) for gathered in lists] == [2, 2, 2, 2, 2, 2]
    assert len({batch.untyped_storage().data_ptr() for batch, _ in lists[0]}) == 1


# --- carried remainders, batches that grow, batches drawn afresh -----------------------------------------------------


def test_a_carried_remainder_joins_the_next_epochs_first_batch_as_in_the_tensorflow_playground() -> None:
    # 250 points in batches of 30: eight updates leave 10 points, whose gradient the ninth update takes along.
    taken, order = stream((250, 30, "carry", False, 0, 512), [3 * 8])
    assert [len(batch) for batch in taken] == [30] * 8 + [40] + [30] * 7 + [40] + [30] * 7
    assert order.examples_seen == 250 * 3 - 10
    first = [label for batch in taken[:8] for label in batch]
    left_over = taken[8][:10]
    assert sorted(first + left_over) == list(range(250))
    assert taken[8][10:] == taken[0]  # the same order again


@given(
    examples=st.integers(2, 40),
    size=st.integers(1, 40),
    reshuffle=st.booleans(),
    gather=st.sampled_from([1, 3, 8, 512]),
    pieces=st.lists(st.integers(1, 9), min_size=1, max_size=6),
)
def test_carrying_loses_no_example(examples: int, size: int, reshuffle: bool, gather: int, pieces: list[int]) -> None:
    size = min(size, examples)
    taken, order = stream((examples, size, "carry", reshuffle, 7, gather), pieces)
    seen = [label for batch in taken for label in batch]
    assert order.examples_seen == len(seen)
    for start in range(0, len(seen) - examples + 1, examples):
        assert sorted(seen[start : start + examples]) == list(range(examples))
    assert all(size <= len(batch) < 2 * size for batch in taken)


def test_a_batch_that_grows_in_the_middle_of_an_epoch_loses_no_example() -> None:
    labels = torch.arange(30)
    order = BatchOrder(labels.float().reshape(30, 1), labels, 4, "keep", True, 3)
    before = [batch for gathered in order.take(3) for batch in gathered]
    seen = torch.cat([labels for _, labels in before]).tolist()
    order.resize(9)
    after = [(inputs.clone(), chosen) for gathered in order.take(2) for inputs, chosen in gathered]
    assert [len(chosen) for _, chosen in after] == [9, 9]
    assert all(torch.equal(inputs.flatten(), chosen.float()) for inputs, chosen in after)
    assert sorted(seen + torch.cat([chosen for _, chosen in after]).tolist()) == list(range(30))
    order.resize(30)
    (((whole, _),),) = order.take(1)
    assert torch.equal(whole.flatten(), torch.arange(30.0))


@pytest.mark.parametrize("remainder", ["keep", "drop"])
def test_a_batch_that_grows_to_the_whole_in_the_middle_of_an_epoch(remainder: str) -> None:
    labels = torch.arange(10)
    order = BatchOrder(labels.float().reshape(10, 1), labels, 4, remainder, True, 3)
    (((_, first),),) = order.take(1)
    order.resize(10)
    after = [batch for gathered in order.take(2) for batch in gathered]
    assert all(torch.equal(inputs.flatten(), chosen.float()) for inputs, chosen in after)
    # What is left of the epoch is kept or dropped like any other remainder; then every batch is the data.
    assert [len(chosen) for _, chosen in after] == ([6, 10] if remainder == "keep" else [10, 10])
    assert sorted([*first.tolist(), *after[0][1].tolist()]) == list(range(10)) or remainder == "drop"
    assert order.examples_seen == 4 + sum(len(chosen) for _, chosen in after)


def noise(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(1, 3, generator=generator) / size**0.5, torch.zeros(1)


STREAM = Stream(draw=noise, exact=lambda: (torch.zeros(1, 3), torch.zeros(1)), epoch=100)


def fresh(size: int, seed: int) -> FreshBatches:
    return FreshBatches(STREAM, size, torch.device("cpu"), torch.float64, seed)


def test_fresh_batches_repeat_by_seed_and_are_never_the_same_twice() -> None:
    one, again, other = ([b[0] for g in fresh(4, seed).take(5) for b in g] for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert len({tuple(values.flatten().tolist()) for values in one}) == 5
    assert one[0].dtype == torch.float64


def test_a_batch_as_large_as_an_epoch_has_no_noise() -> None:
    batches_ = fresh(4, 0)
    list(batches_.take(3))
    batches_.resize(100)
    ((inputs, _),) = next(iter(batches_.take(1)))
    assert torch.equal(inputs, torch.zeros(1, 3, dtype=torch.float64))
    assert batches_.examples_seen == 112
