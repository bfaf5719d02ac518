"""Splitting, standardising, and the knobs of every image task."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.errors import UsageError
from bench.tasks.image_knobs import ImageKnobs
from bench.tasks.images import Images, RawSplits, scaled, split_indices, turned
from bench.tasks.problem import Split
from bench.tasks.registry import load_images, load_problem, task_facts, task_spec


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


def squares() -> RawSplits:
    """Two training images of 2 × 2 pixels, half black and half white, and others."""
    labels = torch.tensor([0, 1], dtype=torch.uint8)
    train = torch.tensor([[[0, 255], [0, 255]], [[255, 0], [255, 0]]], dtype=torch.uint8)
    val = torch.tensor([[[0, 0], [0, 51]], [[255, 255], [255, 255]]], dtype=torch.uint8)
    return RawSplits(Images(train, labels), Images(val, labels), Images(val[1:], labels[1:]))


def test_all_splits_are_standardised_by_the_training_split() -> None:
    splits = scaled(squares(), "standardised")
    # Half zeros, half ones: mean ½, standard deviation ½.
    assert splits.train.inputs.tolist() == [[[[-1, 1], [-1, 1]]], [[[1, -1], [1, -1]]]]
    # 51/255 = .2, and (.2 − .5)/.5 = −.6.
    assert splits.val.inputs.flatten().tolist() == pytest.approx([-1, -1, -1, -0.6, 1, 1, 1, 1], abs=1e-6)
    assert splits.test.inputs.flatten().tolist() == [1, 1, 1, 1]
    assert splits.train.inputs.shape == (2, 1, 2, 2)
    assert splits.train.inputs.dtype == torch.float32
    assert splits.train.labels.dtype == torch.int64
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [2, 2, 1]
    assert splits.standardised


def test_unit_inputs_are_pixels_from_zero_to_one() -> None:
    splits = scaled(squares(), "unit")
    assert splits.train.inputs.flatten().tolist() == [0, 1, 0, 1, 1, 0, 1, 0]
    assert splits.val.inputs.flatten().tolist() == pytest.approx([0, 0, 0, 0.2, 1, 1, 1, 1])
    assert not splits.standardised


def test_moving_a_split_changes_the_type_of_its_inputs_alone() -> None:
    split = Split(torch.randn(3, 1, 2, 2).transpose(2, 3), torch.tensor([2, 0, 1]))
    moved = split.to(torch.device("cpu"), torch.float64)
    assert moved.inputs.dtype == torch.float64
    assert moved.inputs.is_contiguous()
    assert torch.equal(moved.inputs, split.inputs.double())
    assert torch.equal(moved.labels, split.labels)
    assert moved.labels.dtype == torch.int64


def numbered(examples: int, classes: int) -> RawSplits:
    """Images that carry their own number."""

    def images(count: int, first: int) -> Images:
        numbers = torch.arange(first, first + count)
        pixels = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8).unsqueeze(1)
        return Images(pixels, numbers % classes)

    return RawSplits(images(examples, 0), images(50, 3_000), images(50, 4_000))


def numbers(images: Images) -> Tensor:
    return images.pixels[:, 0, 0].long() * 256 + images.pixels[:, 0, 1].long()


@given(
    rate=st.floats(0, 0.5), examples=st.integers(1, 400), classes=st.sampled_from([2, 10, 47]), seed=st.integers(0, 99)
)
def test_label_noise_changes_exactly_its_share_and_only_there(
    rate: float, examples: int, classes: int, seed: int
) -> None:
    raw = numbered(examples, classes)
    noisy = turned(raw, ImageKnobs(label_noise=rate), classes, seed)
    changed = noisy.train.labels != raw.train.labels
    assert changed.sum().item() == round(rate * examples)
    assert set(noisy.train.labels.tolist()) <= set(range(classes))
    assert torch.equal(noisy.train.pixels, raw.train.pixels)
    assert torch.equal(raw.train.labels, torch.arange(examples) % classes)
    assert noisy.val is raw.val
    assert noisy.test is raw.test


def test_wrong_labels_are_uniform_over_the_other_classes() -> None:
    classes = 5
    raw = RawSplits(Images(torch.zeros(80_000, 1, 1, dtype=torch.uint8), torch.arange(80_000) % classes), *[None] * 2)  # type: ignore[arg-type]
    noisy = turned(raw, ImageKnobs(label_noise=0.5), classes, 0).train.labels
    shift = (noisy - raw.train.labels) % classes
    counts = shift[shift != 0].bincount(minlength=classes)[1:]
    # 10 000 of each of four; five standard deviations of a binomial of p ¼.
    assert counts.sum().item() == 40_000
    assert (counts - 10_000).abs().max() < 5 * (40_000 * 0.25 * 0.75) ** 0.5


def test_the_subset_is_drawn_by_the_data_seed() -> None:
    raw = numbered(300, 10)
    first, again, other = (turned(raw, ImageKnobs(subset=40), 10, seed) for seed in (0, 0, 1))
    assert len(first.train.labels) == 40
    kept = numbers(first.train)
    assert len(kept.unique()) == 40
    assert torch.equal(first.train.labels, kept % 10)
    assert torch.equal(kept, numbers(again.train))
    assert not torch.equal(kept, numbers(other.train))
    assert first.val is raw.val
    assert first.test is raw.test
    assert torch.equal(numbers(turned(raw, ImageKnobs(subset=300), 10, 0).train), numbers(raw.train))


def test_noise_is_a_share_of_the_subset() -> None:
    raw = numbered(300, 10)
    noisy = turned(raw, ImageKnobs(subset=40, label_noise=0.25), 10, 0).train
    assert (noisy.labels != numbers(noisy) % 10).sum().item() == 10
    # The same examples are kept with noise as without.
    assert torch.equal(numbers(noisy), numbers(turned(raw, ImageKnobs(subset=40), 10, 0).train))


def test_knobs_at_their_defaults_change_nothing() -> None:
    raw = numbered(30, 10)
    same = turned(raw, ImageKnobs(), 10, 0)
    assert all(a is b for a, b in zip(same.train, raw.train, strict=True))


def test_a_cut_split_is_standardised_by_itself() -> None:
    spec, _ = task_spec("mnist5k/mlp", "mnist5k", "mlp", None, {"subset": 50, "label_noise": 0.2})
    problem, raw = load_problem(spec, "", False, 0), load_images("mnist5k", "", False, 0)
    inputs = problem.splits.train.inputs.double()
    assert inputs.shape == (50, 1, 28, 28)
    assert inputs.mean().item() == pytest.approx(0, abs=1e-6)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert len(problem.splits.val) == 500
    assert torch.equal(problem.splits.val.labels, raw.val.labels)
    # Validation is scaled by the same two numbers: its black pixels are the training split's.
    assert problem.splits.val.inputs.min() == problem.splits.train.inputs.min()
    assert task_facts(spec).train_examples == 50


def test_a_problem_of_unit_inputs() -> None:
    spec, _ = task_spec("mnist5k/mlp_deepobs", "mnist5k", "mlp_deepobs", None, {"inputs": "unit"})
    splits = load_problem(spec, "", False, 0).splits
    assert not splits.standardised
    for split in (splits.train, splits.val, splits.test):
        assert (split.inputs.min().item(), split.inputs.max().item()) == (0, 1)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"label_noise": 0.51}, "task.knobs.label_noise=0.51: must be from 0 to 0.5"),
        ({"label_noise": -0.1}, "task.knobs.label_noise=-0.1: must be from 0 to 0.5"),
        ({"label_noise": "much"}, "task.knobs.label_noise=much: must be a number"),
        ({"subset": 0}, "task.knobs.subset=0: must be at least 1, or null for all"),
        ({"subset": 4001}, "task.knobs.subset=4001: the training split of mnist5k has only 4000 examples"),
        ({"subset": 10.5}, "task.knobs.subset=10.5: must be an integer"),
        ({"inputs": "raw"}, "task.knobs.inputs=raw: must be standardised or unit"),
        (
            {"labelnoise": 0.1},
            "unknown knob (task.knobs) 'labelnoise'; did you mean 'label_noise'? "
            "(allowed: inputs, label_noise, subset)",
        ),
    ],
)
def test_knobs_that_cannot_be_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        task_spec("mnist5k/mlp", "mnist5k", "mlp", None, knobs)
    assert str(caught.value) == message
