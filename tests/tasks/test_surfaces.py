"""Surfaces: minimisers, noise, pictures, and that descent gets somewhere."""

import pytest
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.tasks.surfaces import SURFACES
from tests.tasks.problems import descend, fresh, gradients, load, mean_loss

NAMES = sorted(SURFACES)

#: Gradient descent from the surface's own start without noise: learning rate, steps, loss it gets below.
DESCENTS = {
    "rosenbrock": (2**-10, 500, 2.5),
    "beale": (2**-5, 100, 0.01),
    "branin": (2**-3, 100, 0.01),
    "himmelblau": (2**-7, 50, 0.01),
    "rastrigin": (2**-9, 50, 2.0),
    "ackley": (2**-8, 500, 6.6),
    "saddle": (2**-1, 30, 0.01),
    "valley": (2**-3, 300, 0.01),
}


def value(name: str, point: Tensor) -> Tensor:
    return SURFACES[name].value(point[0], point[1])


def minimisers(name: str) -> list[Tensor]:
    return [torch.tensor(point, dtype=torch.float64) for point in SURFACES[name].minimisers]


@pytest.mark.parametrize("name", NAMES)
def test_known_minimisers_take_the_known_minimum_and_nothing_near_is_lower(name: str) -> None:
    """Value within 1e-12 of the minimum; 1000 points around each minimiser are no lower than it."""
    generator = torch.Generator().manual_seed(0)
    for point in minimisers(name):
        assert value(name, point).item() == pytest.approx(SURFACES[name].minimum, abs=1e-12)
        around = point[:, None] + 0.1 * torch.randn(2, 1000, generator=generator, dtype=torch.float64)
        assert (value(name, around) > SURFACES[name].minimum).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_at_known_minimisers_is_zero(name: str) -> None:
    """Within 1e-10 in float64; ackley's minimum is the tip of a cone, where the subgradient 0 is taken."""
    for point in minimisers(name):
        (gradient,) = torch.autograd.grad(value(name, point.requires_grad_()), point)
        assert gradient.abs().max().item() < 1e-10


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ackley"])
def test_the_hessian_at_known_minimisers_is_positive_definite(name: str) -> None:
    for point in minimisers(name):
        hessian = torch.autograd.functional.hessian(lambda p: value(name, p), point)
        assert torch.linalg.eigvalsh(hessian)[0].item() > 0


def test_ackley_is_a_cone_at_its_minimum() -> None:
    """Slope 20 · 0.2 · √½ = 2√2 in every direction, within 1e-4 at a distance of 1e-6."""
    angle = torch.arange(16, dtype=torch.float64) * torch.pi / 8
    ring = 1e-6 * torch.stack([angle.cos(), angle.sin()])
    torch.testing.assert_close(
        value("ackley", ring) / 1e-6, torch.full((16,), 8**0.5, dtype=torch.float64), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_point_of_the_landscape_is_below_the_minimum_and_every_minimiser_is_in_it(name: str) -> None:
    picture = load(f"surface/{name}").picture
    assert picture is not None
    x_lo, x_hi, y_lo, y_hi = picture.extent
    assert len(picture.cell["landscape"]) == 101 * 101
    assert min(picture.cell["landscape"]) >= 0
    drawn = list(zip(picture.cell["minimisers"][::2], picture.cell["minimisers"][1::2], strict=True))
    assert drawn == [tuple(point) for point in SURFACES[name].minimisers]
    for x, y in [*drawn, SURFACES[name].start]:
        assert x_lo < x < x_hi
        assert y_lo < y < y_hi
    # Where the landscape is lowest, a minimiser is near: x runs along rows, y down them.
    lowest = min(range(101 * 101), key=lambda i: picture.cell["landscape"][i])
    x, y = x_lo + (x_hi - x_lo) * (lowest % 101) / 100, y_lo + (y_hi - y_lo) * (lowest // 101) / 100
    assert min(abs(x - a) + abs(y - b) for a, b in drawn) < 0.1 * (x_hi - x_lo)


def test_known_values_of_the_surfaces() -> None:
    """Values worked out by hand from the formulas at simple points."""
    at = {
        ("rosenbrock", (-1.2, 1.0)): 24.2,
        ("rosenbrock", (0.0, 0.0)): 1.0,
        ("beale", (0.0, 0.0)): 1.5**2 + 2.25**2 + 2.625**2,
        ("branin", (0.0, 6.0)): 20 - 10 / (8 * torch.pi),
        ("himmelblau", (0.0, 0.0)): 11.0**2 + 7**2,
        ("rastrigin", (1.0, 1.0)): 2.0,
        ("rastrigin", (0.5, 0.5)): 40.5,
        ("ackley", (0.0, 0.0)): 0.0,
        ("saddle", (0.0, 0.0)): 0.0,
        ("saddle", (2.0, 0.0)): 2.0,
        ("valley", (1.0, 1.0)): 0.1,
        ("valley", (1.0, -1.0)): 10.0,
    }
    for (name, point), expected in at.items():
        assert value(name, torch.tensor(point, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_full_batch_is_the_exact_gradient(name: str) -> None:
    noisy, exact = load(f"surface/{name}", noise=3.0), load(f"surface/{name}", noise=0.0)
    parameters = fresh(noisy, dtype=torch.float32)
    (ours,) = gradients(noisy, parameters, noisy.splits.train)
    (theirs,) = gradients(exact, parameters, exact.splits.val)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_descent_from_the_start_gets_below(name: str) -> None:
    lr, steps, below = DESCENTS[name]
    problem = load(f"surface/{name}", noise=0.0)
    parameters = fresh(problem)
    assert mean_loss(problem, parameters, problem.splits.val).item() > below
    descend(problem, parameters, lr, steps)
    assert mean_loss(problem, parameters, problem.splits.val).item() < below


def test_where_it_starts() -> None:
    own, given = load("surface/beale"), load("surface/beale", start=[2, 0.25])
    assert fresh(own)[0].tolist() == [1, 1]
    assert fresh(given)[0].tolist() == [2, 0.25]
    spread = load("surface/beale", spread=0.5)
    starts = torch.stack([fresh(spread, seed)[0].detach() for seed in range(400)])
    assert spread.untrained is None
    torch.testing.assert_close(starts.mean(0), torch.ones(2, dtype=torch.float64), rtol=0, atol=0.1)
    torch.testing.assert_close(starts.std(0), torch.full((2,), 0.5, dtype=torch.float64), rtol=0.15, atol=0)


@pytest.mark.parametrize(
    ("knob", "given", "message"),
    [
        ("start", [1.0], r"task.knobs.start=\[1.0\]: must be two numbers \[x, y\], or null"),
        ("spread", -0.1, "task.knobs.spread=-0.1: must be at least 0"),
        ("noise", -2.0, "task.knobs.noise=-2: must be at least 0"),
        ("examples", 7, "task.knobs.examples=7: must be even and at least 2"),
    ],
)
def test_knobs_out_of_range_are_one_line(knob: str, given: object, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        load("surface/valley", **{knob: given})
