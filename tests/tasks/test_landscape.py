"""Gradient noise that is exactly zero in the mean, and landscapes."""

import pytest
import torch
from torch import Generator

from bench.errors import UsageError
from bench.tasks.landscape import check_noise, landscape, noisy_splits, zero_mean_noise


@pytest.mark.parametrize("sd", [0.037, 1.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mean_is_zero_to_the_last_bit_in_any_order(sd: float, dtype: torch.dtype) -> None:
    noise = zero_mean_noise(256, 3, sd, Generator().manual_seed(0)).to(dtype)
    for seed in range(5):
        order = torch.randperm(256, generator=Generator().manual_seed(seed))
        assert torch.equal(noise[order].sum(0), torch.zeros(3, dtype=dtype))


@pytest.mark.parametrize("examples", [2, 10, 256])
def test_the_standard_deviation_is_the_one_asked_for(examples: int) -> None:
    noise = zero_mean_noise(examples, 4, 0.3, Generator().manual_seed(1))
    torch.testing.assert_close(
        noise.square().mean(0).sqrt(), torch.full((4,), 0.3, dtype=torch.float64), rtol=1e-3, atol=0
    )


def test_batches_drawn_without_replacement_have_the_variance_of_a_finite_population() -> None:
    """Variance of the mean of 8 of 32, over 20 000 draws, against σ²/B · (N − B)/(N − 1), within 5 % (about 5 standard
    errors)."""
    noise = zero_mean_noise(32, 1, 2.0, Generator().manual_seed(2)).squeeze(1)
    order = torch.rand(20_000, 32, generator=Generator().manual_seed(3)).argsort(1)[:, :8]
    assert noise[order].mean(1).square().mean().item() == pytest.approx(4 / 8 * 24 / 31, rel=0.05)


def test_no_noise_is_zeros_and_held_out_examples_have_none() -> None:
    splits = noisy_splits(4, 2, 0.0, 0.5, 0)
    assert not splits.train.inputs.any()
    noisy = noisy_splits(4, 2, 1.0, 0.5, 0)
    assert noisy.train.inputs.all()
    assert not noisy.val.inputs.any()
    assert not noisy.test.inputs.any()
    assert noisy.train.labels.tolist() == [0.5] * 4
    assert not noisy.distinct


def test_rows_of_a_landscape_ascend_in_y_and_columns_in_x() -> None:
    assert landscape(lambda x, y: x + 10 * y, (0, 2, 3, 5), points=3) == [30, 31, 32, 40, 41, 42, 50, 51, 52]
    assert min(landscape(lambda x, y: x * 0 - 1e-20, (0, 1, 0, 1), points=2)) == 0


@pytest.mark.parametrize(
    ("noise", "examples", "message"),
    [
        (-1.0, 2, "task.knobs.noise=-1: must be at least 0"),
        (0.0, 3, "task.knobs.examples=3: must be even"),
        (0.0, 0, "task.knobs.examples=0: must be even"),
    ],
)
def test_noise_out_of_range_is_one_line(noise: float, examples: int, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        check_noise(noise, examples)
