"""quadratic/deep against what DeepOBS 1.1.2 is known to be and has published."""

import statistics

import numpy as np
import pytest
import torch

from bench.tasks.quadratic import deep_hessian, rotation
from bench.tasks.task import build_task
from bench.training.batches import batches_of
from bench.training.seeds import named_seed
from bench.training.stepper import Stepper
from tests.tasks.problems import fresh, gradients, load, mean_loss

PUBLISHED = {1: 105.330, 10: 92.978, 100: 87.397}
PUBLISHED_SD = {1: 0.166, 10: 0.169, 100: 0.169}
PUBLISHED_LR = 0.015848931925


def test_deepobs_1_1_2_constants_of_quadratic_deep() -> None:
    """Largest and smallest eigenvalue, trace and untrained test loss, to the digits given."""
    eigenvalues = torch.linalg.eigvalsh(deep_hessian())
    assert eigenvalues[-1].item() == pytest.approx(53.12902, abs=5e-6)
    assert eigenvalues[0].item() == pytest.approx(0.00552, abs=5e-6)
    assert eigenvalues.sum().item() == pytest.approx(477.6123, abs=5e-5)
    problem = load("quadratic/deep")
    assert len(problem.splits.train) == 1000
    assert len(problem.splits.test) == 896
    assert mean_loss(problem, fresh(problem), problem.splits.test).item() == pytest.approx(353.4468, abs=1e-4)


def test_deepobs_1_1_2_published_sgd_losses_of_quadratic_deep() -> None:
    """Mean test loss of 10 seeds after epochs 1, 10 and 100, within three standard errors of the difference.

    Published: mean and standard deviation of 10 seeds; so both means have a standard error of .17/√10, and the
    tolerance is 3 · .17 · √(2/10) = .23. Seen: .04 below. Cost: 7000 steps, 2 to 8 s.
    """
    task = build_task("quadratic/deep", load("quadratic/deep"), torch.device("cpu"), "float32", None, 0)
    seen: dict[int, list[float]] = {epoch: [] for epoch in PUBLISHED}
    for seed in range(10):
        parameters = task.initialise(0)
        batches = batches_of(task, 128, "drop", False, named_seed("order", seed), 0)
        stepper = Stepper(task, parameters, torch.optim.SGD(parameters, PUBLISHED_LR), batches)
        for epoch, values in seen.items():
            stepper.run(7 * epoch - stepper.steps, lambda: False)
            values.append(task.evaluate(stepper.weights, task.test, 1000)[0].item())
    for epoch, values in seen.items():
        tolerance = 3 * PUBLISHED_SD[epoch] * (2 / 10) ** 0.5
        assert statistics.mean(values) == pytest.approx(PUBLISHED[epoch], abs=tolerance)
        assert 0.5 < statistics.stdev(values) / PUBLISHED_SD[epoch] < 2


@pytest.mark.parametrize("dimension", [2, 4, 10, 100])
def test_rotations_are_orthogonal_with_determinant_one(dimension: int) -> None:
    turn = rotation(dimension, np.random.RandomState(7))
    np.testing.assert_allclose(turn @ turn.T, np.eye(dimension), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_the_gradient_is_q_times_the_distance_from_the_mean_example() -> None:
    """Worked out by hand: ∇ = Q(θ − mean x), within rounding of the float32 problem."""
    problem = load("quadratic/deep")
    parameters = fresh(problem)
    (gradient,) = gradients(problem, parameters, problem.splits.train)
    expected = deep_hessian() @ (parameters[0] - problem.splits.train.inputs.double().mean(0))
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-5, atol=1e-5)


def test_the_target_is_above_the_floor_and_below_the_start() -> None:
    """No θ has an expected loss below ½ · .6² · tr Q = 85.97; the mean of the training data is nearly as good.

    The tolerance is three standard errors of 1000 rows: 3 · .36 · √(½ tr Q² / 1000) = 3.5.
    """
    problem = load("quadratic/deep")
    best = [problem.splits.train.inputs.double().mean(0)]
    reached = mean_loss(problem, best, problem.splits.val).item()
    assert reached == pytest.approx(85.97, abs=3.5)
    assert reached < problem.target
    assert problem.target < mean_loss(problem, fresh(problem), problem.splits.val).item()


def test_the_data_seed_changes_nothing() -> None:
    first, other = load("quadratic/deep", seed=0), load("quadratic/deep", seed=1)
    assert torch.equal(first.splits.train.inputs, other.splits.train.inputs)
