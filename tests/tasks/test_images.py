"""Splitting and standardising."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.tasks.images import Split, split_indices, standardised


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=5), seed=st.integers(0, 2**63 - 1))
def test_subsets_are_disjoint_and_cover_everything(sizes: list[int], seed: int) -> None:
    parts = split_indices(sum(sizes), tuple(sizes), seed)
    assert [len(part) for part in parts] == sizes
    for part in parts:
        assert torch.equal(part, part.sort().values)
    assert sorted(torch.cat(parts).tolist()) == list(range(sum(sizes)))


def test_the_seed_draws_the_subsets() -> None:
    first, again, other = (split_indices(1000, (900, 100), seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_all_splits_are_standardised_by_the_training_split() -> None:
    labels = torch.tensor([0, 1], dtype=torch.uint8)
    train = torch.tensor([[[0, 255], [0, 255]], [[255, 0], [255, 0]]], dtype=torch.uint8)
    val = torch.tensor([[[0, 0], [0, 51]], [[255, 255], [255, 255]]], dtype=torch.uint8)
    splits = standardised((train, labels), (val, labels), (val[1:], labels[1:]))
    # Half zeros, half ones: mean ½, standard deviation ½.
    assert (splits.mean, splits.std) == (0.5, 0.5)
    assert splits.train.inputs.tolist() == [[[[-1, 1], [-1, 1]]], [[[1, -1], [1, -1]]]]
    # 51/255 = .2, and (.2 − .5)/.5 = −.6.
    assert splits.val.inputs.flatten().tolist() == pytest.approx([-1, -1, -1, -0.6, 1, 1, 1, 1], abs=1e-6)
    assert splits.test.inputs.flatten().tolist() == [1, 1, 1, 1]
    assert splits.train.inputs.shape == (2, 1, 2, 2)
    assert splits.train.inputs.dtype == torch.float32
    assert splits.train.labels.dtype == torch.int64
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [2, 2, 1]


def test_moving_a_split_changes_the_type_of_its_inputs_alone() -> None:
    split = Split(torch.randn(3, 1, 2, 2).transpose(2, 3), torch.tensor([2, 0, 1]))
    moved = split.to(torch.device("cpu"), torch.float64)
    assert moved.inputs.dtype == torch.float64
    assert moved.inputs.is_contiguous()
    assert torch.equal(moved.inputs, split.inputs.double())
    assert torch.equal(moved.labels, split.labels)
    assert moved.labels.dtype == torch.int64
