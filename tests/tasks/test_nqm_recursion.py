"""The solver of the noisy quadratic model against its recursion, and against numbers known from elsewhere."""

import math

import numpy as np
import pytest

from bench.tasks.nqm_recursion import Decay, NoisyQuadratic, transient_steps

#: Batch size → fewest steps to E L < .01 over 120 constant learning rates, and the best one, to three digits.
KNOWN = {
    4: (1_511_461, 0.0131),
    16: (378_621, 0.0552),
    64: (95_994, 0.209),
    256: (25_820, 0.794),
    1024: (10_357, 1.63),
}


@pytest.fixture(scope="module")
def model() -> NoisyQuadratic:
    return NoisyQuadratic.harmonic()


@pytest.mark.parametrize("batch", KNOWN)
def test_steps_to_target_of_the_model_of_arxiv_1907_04164(batch: int, model: NoisyQuadratic) -> None:
    """Fewest steps of SGD to E L < .01 with the best of 120 learning rates, exactly. Cost: .2 s a batch size."""
    lr, steps = model.best_lr(batch)
    assert steps == KNOWN[batch][0]
    assert lr == pytest.approx(KNOWN[batch][1], rel=5e-3)


def test_the_untrained_loss_of_the_model_of_arxiv_1907_04164(model: NoisyQuadratic) -> None:
    """½ Σ 1/i for i up to 10⁴, to the digits given."""
    assert model.expected_losses(1, 0.1, 0, 0)[0] == pytest.approx(4.8938, abs=5e-5)


def test_the_best_learning_rate_is_proportional_to_the_batch_size_below_saturation(model: NoisyQuadratic) -> None:
    """Slope of log η* on log B between 4 and 64, on a grid ten times as fine, within 2 % of 1."""
    grid = np.geomspace(5e-3, 0.5, 461)
    small, large = (model.best_lr(batch, learning_rates=grid)[0] for batch in (4, 64))
    assert math.log(large / small) / math.log(16) == pytest.approx(1, abs=0.02)


def test_momentum_pays_at_large_batches_alone(model: NoisyQuadratic) -> None:
    """At B = 4096 momentum .9 needs less than half the steps of SGD; at B = 16 about as many (arXiv 1907.04164)."""
    few = [model.best_lr(4096, momentum, learning_rates=np.geomspace(0.2, 1.9999, 30))[1] for momentum in (0.0, 0.9)]
    many = [model.best_lr(16, momentum, learning_rates=np.geomspace(1e-3, 0.1, 40))[1] for momentum in (0.0, 0.9)]
    assert few[1] < few[0] / 2
    assert many[1] == pytest.approx(many[0], rel=0.05)


def test_the_recursion_is_that_of_its_two_by_two_covariances() -> None:
    """Against the covariance of (θ, v), advanced as a matrix: C ← A C Aᵀ + N, for SGD and momentum."""
    h = np.array([1.0, 0.3, 0.01])
    for momentum, lr, batch in ((0.0, 0.7, 3.0), (0.9, 0.2, 5.0), (0.5, 2.5, 1.0)):
        losses = np.zeros(41)
        for curvature in h:
            step = np.array([[1 - lr * curvature, momentum], [-lr * curvature, momentum]])
            noise = lr**2 * curvature / batch * np.ones((2, 2))
            covariance = np.diag([1.0, 0.0])
            for t in range(41):
                losses[t] += curvature * covariance[0, 0] / 2
                covariance = step @ covariance @ step.T + noise
        np.testing.assert_allclose(NoisyQuadratic(h).expected_losses(batch, lr, momentum, 40), losses, rtol=1e-12)


def cases(count: int) -> list[tuple[float, float, float, float]]:
    """Batch size, momentum, learning rate (up to the edge of stability) and target, all over the place."""
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(count):
        momentum = float(random.choice([0, 0.25, 0.5, 0.9, 0.97]))
        lr = 10 ** random.uniform(-3, math.log10(2)) * (1 + momentum) * 0.999
        drawn.append((10 ** random.uniform(-1, 4), momentum, lr, 10 ** random.uniform(-3, 0.4)))
    return drawn


def test_jumping_ahead_is_walking() -> None:
    """First step below the target, equal, and expected losses within 1e-9, for 100 settings of 50 dimensions.

    About half never meet their target within the 1500 steps. Cost: 150 000 steps, 1 to 4 s.
    """
    model = NoisyQuadratic.harmonic(50)
    met = 0
    for batch, momentum, lr, target in cases(100):
        walked = model.expected_losses(batch, lr, momentum, 1500)
        below = np.flatnonzero(walked < target)
        expected = float(below[0]) if len(below) else math.inf
        assert model.steps_to_target(batch, lr, momentum, target, 1500) == expected
        met += len(below) > 0
        for step in (1, 100, 1499):
            assert model.expected_loss(batch, lr, momentum, step) == pytest.approx(walked[step], rel=1e-9)
    assert 25 < met < 75


def test_a_loss_that_falls_and_rises_again_is_below_the_target_at_the_right_step() -> None:
    """c + a·e⁻ᵗ − b·e^(−t/100) is below the target between two of its steps alone, found among 10⁹."""
    for dip in (0.5, 2.0, 40.0):
        decay = Decay(10.0, np.array([1.0, -dip]), np.array([-1.0, -0.01]))
        values = np.array([decay.at(t) for t in range(1000)])
        for target in (values.min() - 1e-9, values.min() + 1e-9, 9.9):
            below = np.flatnonzero(values[1:] < target)
            expected = float(below[0] + 1) if len(below) else math.inf
            assert decay.first_below(target, 10**9) == expected


def test_momentum_at_critical_damping() -> None:
    """Both roots are equal where ηh = (1 − √m)², as for η = m = ¼, h = 1: walking and jumping agree."""
    model = NoisyQuadratic(np.array([1.0, 0.1]))
    walked = model.expected_losses(8, 0.25, 0.25, 400)
    for step in (1, 26, 27, 28, 400):
        assert model.expected_loss(8, 0.25, 0.25, step) == pytest.approx(walked[step], rel=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_fixed_point_is_where_the_recursion_ends(momentum: float) -> None:
    model = NoisyQuadratic(np.array([1.0, 0.5]))
    end = model.expected_losses(4, 0.3, momentum, 2000)[-1]
    assert end == pytest.approx(model.curvatures @ model.stationary(4, 0.3, momentum) / 2, rel=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_edge_of_stability_is_two_plus_two_m_over_the_largest_curvature(momentum: float) -> None:
    """Without noise, just inside the target is met, just outside the loss grows."""
    model = NoisyQuadratic(np.array([1.0, 0.5]))
    edge = 2 * (1 + momentum)
    assert math.isfinite(model.steps_to_target(math.inf, 0.99 * edge, momentum))
    assert model.steps_to_target(math.inf, edge, momentum) == math.inf
    assert model.steps_to_target(math.inf, 1.01 * edge, momentum) == math.inf
    walked = model.expected_losses(math.inf, 1.01 * edge, momentum, 2000)
    assert walked[-1] > 1e3


def test_edges_of_steps_to_target() -> None:
    model = NoisyQuadratic.harmonic(10)
    assert model.steps_to_target(64, 0.1, target=100.0) == 0
    first = model.steps_to_target(1024, 0.1)
    assert model.steps_to_target(1024, 0.1, limit=int(first)) == first
    assert model.steps_to_target(1024, 0.1, limit=int(first) - 1) == math.inf
    assert model.steps_to_target(1e-3, 0.1) == math.inf
    lr, steps = model.best_lr(1e-9)
    assert math.isnan(lr)
    assert steps == math.inf
    assert transient_steps(0.0) == 0
    assert 0.9 ** transient_steps(0.9) < 1e-16
