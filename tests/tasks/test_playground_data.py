"""The six data sets of the TensorFlow Playground are what their definition says: moments, labels, noise."""

import itertools
import math

import pytest
import torch
from torch import Generator, Tensor

from bench.tasks.playground_data import BUMPS, DRAWS

SEEDS = range(20)
POINTS = 500


def drawn(name: str, noise: float = 0.0, points: int = POINTS, seed: int = 0) -> tuple[Tensor, Tensor]:
    return DRAWS[name][0](points, noise, Generator().manual_seed(seed))


def over_seeds(name: str, noise: float) -> tuple[Tensor, Tensor]:
    """20 data sets of 500 points, one after the other."""
    sets = [drawn(name, noise, seed=seed) for seed in SEEDS]
    return torch.cat([points for points, _ in sets]), torch.cat([labels for _, labels in sets])


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_a_draw_is_points_and_labels_of_its_seed(name: str, noise: float) -> None:
    points, labels = drawn(name, noise)
    assert points.shape == (POINTS, 2)
    assert labels.shape == (POINTS,)
    assert points.dtype == labels.dtype == torch.float64
    again, other = drawn(name, noise), drawn(name, noise, seed=1)
    assert torch.equal(points, again[0])
    assert torch.equal(labels, again[1])
    # A spiral without noise draws nothing.
    assert torch.equal(points, other[0]) == (name == "spiral" and noise == 0)
    if DRAWS[name][1]:
        assert labels.unique().tolist() == [-1, 1]


@pytest.mark.parametrize("name", ["spiral", "circle", "gauss"])
def test_classes_are_halves(name: str) -> None:
    assert drawn(name)[1].sum() == 0


def test_spiral_by_its_formula() -> None:
    points, labels = drawn("spiral")
    for index in (0, 1, 100, 249):
        radius, angle = 5 * index / 250, 1.75 * 2 * math.pi * index / 250
        assert points[index].tolist() == pytest.approx([radius * math.sin(angle), radius * math.cos(angle)])
        # The other arm is the first, turned by half a circle.
        assert points[250 + index].tolist() == pytest.approx((-points[index]).tolist())
        assert (labels[index], labels[250 + index]) == (1, -1)


def test_spiral_noise_moves_points_uniformly() -> None:
    for noise in (0.1, 0.5):
        moved = over_seeds("spiral", noise)[0] - over_seeds("spiral", 0)[0]
        assert moved.abs().max() <= noise
        # Of 20 000 draws of U(−a, a): largest above .99 a; standard deviation a/√3, its error .3 %.
        assert moved.abs().max() > 0.99 * noise
        assert moved.std().item() == pytest.approx(noise / math.sqrt(3), rel=0.02)


def test_circle_moments() -> None:
    points, labels = over_seeds("circle", 0)
    radius = points.norm(dim=1)
    for label, low, high in ((1, 0.0, 2.5), (-1, 3.5, 5.0)):
        inside = radius[labels == label]
        assert len(inside) == 5000
        assert low <= inside.min()
        assert inside.max() <= high
        assert inside.mean().item() == pytest.approx((low + high) / 2, abs=0.05)
        assert inside.std().item() == pytest.approx((high - low) / math.sqrt(12), rel=0.03)
    # The angle is uniform: the mean of the directions has length 0, with an error of 1/√10 000 a coordinate.
    assert (points / radius.unsqueeze(1)).mean(0).norm() < 0.04


def circle_flips(noise: float) -> float:
    """Share of labels that noise turns, by the midpoint rule over radius and both offsets (the angle is no matter
    for the distance, but is for the square of offsets, so it is averaged over too)."""

    def middles(low: float, high: float, count: int) -> Tensor:
        return low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count

    share = 0.0
    offset = middles(-5 * noise, 5 * noise, 50)
    for low, high, inner in ((0.0, 2.5, True), (3.5, 5.0, False)):
        radius, angle = middles(low, high, 40).view(-1, 1, 1, 1), middles(0, math.pi / 4, 12).view(-1, 1, 1)
        x = radius * angle.sin() + offset.view(-1, 1)
        y = radius * angle.cos() + offset
        share += ((x.square() + y.square() < 6.25) != inner).double().mean().item() / 2
    return share


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.5])
def test_circle_noise_flips_labels_and_leaves_points(noise: float) -> None:
    points, labels = over_seeds("circle", noise)
    clean, right = over_seeds("circle", 0)
    assert torch.equal(points, clean)
    # 10 000 points: the standard error of the share is below .005.
    assert (labels != right).double().mean().item() == pytest.approx(circle_flips(noise), abs=0.015)


def test_xor_moments() -> None:
    points, labels = over_seeds("xor", 0)
    size = points.abs()
    assert size.min() >= 0.3
    assert size.max() <= 5.3
    assert size.mean().item() == pytest.approx(2.8, abs=0.04)
    assert size.std().item() == pytest.approx(5 / math.sqrt(12), rel=0.02)
    assert torch.equal(labels, points.prod(1).sign())
    # Each quadrant has a quarter, with a standard error of .0043.
    for signs in itertools.product((1, -1), repeat=2):
        share = (points.sign() == torch.tensor(signs)).all(1).double().mean().item()
        assert share == pytest.approx(0.25, abs=0.016)


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.5])
def test_xor_noise_flips_labels_and_leaves_points(noise: float) -> None:
    points, labels = over_seeds("xor", noise)
    clean, right = over_seeds("xor", 0)
    assert torch.equal(points, clean)
    # |x| ~ U(.3, 5.3) and an offset of U(−a, a): the sign turns with probability ∫ (a − x)/2a dx/5 over .3 … a; the
    # label turns where exactly one of two signs does.
    reach = 5 * noise
    one = (reach - 0.3) ** 2 / (20 * reach)
    assert (labels != right).double().mean().item() == pytest.approx(2 * one * (1 - one), abs=0.015)


@pytest.mark.parametrize(("noise", "variance"), [(0.0, 0.5), (0.25, 2.25), (0.5, 4.0)])
def test_gauss_moments(noise: float, variance: float) -> None:
    points, labels = over_seeds("gauss", noise)
    for label in (1, -1):
        cloud = points[labels == label]
        # 5 000 draws a coordinate: the standard error of the mean is at most .03, of the variance 2 %.
        assert cloud.mean(0).tolist() == pytest.approx([2 * label, 2 * label], abs=0.11)
        assert cloud.var(0).tolist() == pytest.approx([variance, variance], rel=0.08)
        assert torch.corrcoef(cloud.t())[0, 1].abs() < 0.06


@pytest.mark.parametrize("name", ["reg_plane", "reg_gauss"])
def test_regression_points_fill_the_square_at_any_noise(name: str) -> None:
    points, _ = over_seeds(name, 0)
    assert points.abs().max() <= 6
    assert points.mean(0).abs().max() < 0.14
    assert points.var(0).tolist() == pytest.approx([12, 12], rel=0.04)
    assert torch.equal(points, over_seeds(name, 0.5)[0])


def test_plane_labels() -> None:
    points, labels = over_seeds("reg_plane", 0)
    torch.testing.assert_close(labels, points.sum(1) / 10, rtol=1e-12, atol=1e-12)
    noisy = over_seeds("reg_plane", 0.5)[1] - labels
    # (nx + ny)/10 with nx, ny ~ U(−3, 3): variance 2·3/100.
    assert noisy.abs().max() <= 0.6
    assert noisy.mean().item() == pytest.approx(0, abs=0.01)
    assert noisy.var().item() == pytest.approx(0.06, rel=0.05)


def test_cones_by_scalars() -> None:
    points, labels = drawn("reg_gauss", points=200)
    for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
        best = 0.0
        for centre_x, centre_y, sign in BUMPS:
            height = sign * min(max(1 - math.hypot(x - centre_x, y - centre_y) / 2, 0), 1)
            if abs(height) > abs(best):
                best = height
        assert label == pytest.approx(best, abs=1e-12)


def test_cones_cover_what_geometry_says() -> None:
    labels = over_seeds("reg_gauss", 0)[1]
    # Six discs of radius 2 that lie whole and apart in a square of 144: half positive. E|label| = share/3 (a cone).
    share = 6 * math.pi * 4 / 144
    assert (labels != 0).double().mean().item() == pytest.approx(share, abs=0.02)
    assert labels.mean().item() == pytest.approx(0, abs=0.012)
    assert labels.abs().mean().item() == pytest.approx(share / 3, abs=0.01)
    assert labels.square().mean().item() == pytest.approx(share / 6, abs=0.008)
