"""The noisy quadratic model as a task: its noise, its start, and that it does what the recursion says."""

import pytest
import torch

from bench.errors import UsageError
from bench.tasks.nqm import curvatures
from bench.tasks.nqm_recursion import NoisyQuadratic
from bench.tasks.problem import Split
from bench.tasks.task import build_task
from bench.training.batches import batches_of
from bench.training.stepper import Stepper
from tests.tasks.problems import fresh, gradients, load, mean_loss


def test_the_noise_of_a_batch_has_variance_h_over_b_and_is_drawn_afresh() -> None:
    """Variance of 4000 draws per coordinate against h/B, within 10 % (over four standard errors)."""
    stream = load("nqm", dimension=5).stream
    assert stream is not None
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([stream.draw(16, generator)[0] for _ in range(4000)])
    assert rows.shape == (4000, 5)
    torch.testing.assert_close(rows.var(0).double(), curvatures(5) / 16, rtol=0.1, atol=0)
    assert rows.mean(0).abs().max().item() < 0.02
    correlations = torch.corrcoef(rows.T) - torch.eye(5)
    assert correlations.abs().max().item() < 0.07


def test_the_gradient_is_h_theta_plus_the_noise_and_the_evaluated_loss_has_none() -> None:
    problem = load("nqm", dimension=100)
    assert problem.stream is not None
    parameters, h = fresh(problem), curvatures(100)
    noise, labels = problem.stream.draw(4, torch.Generator().manual_seed(1))
    (gradient,) = gradients(problem, parameters, Split(noise, labels))
    torch.testing.assert_close(gradient, (h * parameters[0] + noise[0]).detach(), rtol=1e-6, atol=1e-7)
    loss = mean_loss(problem, parameters, problem.splits.val)
    torch.testing.assert_close(loss, (h * parameters[0].square()).sum() / 2, rtol=1e-6, atol=0)
    inputs, _ = problem.stream.exact()
    assert not inputs.any()


def test_the_untrained_loss_is_half_the_sum_of_the_curvatures_in_the_mean() -> None:
    """Mean of 400 starts against ½ Σ 1/i = 4.8938, within three standard errors (.907/√400 each)."""
    problem = load("nqm")
    assert problem.untrained is not None
    assert problem.untrained.loss == pytest.approx(4.8938, abs=5e-5)
    losses = [mean_loss(problem, fresh(problem, seed), problem.splits.val).item() for seed in range(400)]
    assert sum(losses) / 400 == pytest.approx(4.8938, abs=3 * 0.907 / 20)


@pytest.mark.parametrize(("batch", "lr", "momentum"), [(4, 0.5, 0.0), (64, 1.5, 0.0), (4, 0.1, 0.9)])
def test_training_is_the_recursion(batch: int, lr: float, momentum: float) -> None:
    """Mean loss of 64 trials in 20 dimensions against E L after 1, 10 and 40 steps, within three standard errors.

    The optimizer is `torch.optim.SGD`. Cost: 2560 steps, 1 to 2 s.
    """
    task = build_task("nqm", load("nqm", dimension=20), torch.device("cpu"), "float32", None, 0)
    expected = NoisyQuadratic.harmonic(20).expected_losses(batch, lr, momentum, 40)
    points = (1, 10, 40)
    losses = torch.empty(64, len(points), dtype=torch.float64)
    for seed in range(64):
        parameters = task.initialise(seed)
        batches = batches_of(task, batch, "keep", True, 0, 1000 + seed)
        stepper = Stepper(task, parameters, torch.optim.SGD(parameters, lr, momentum=momentum), batches)
        for column, point in enumerate(points):
            stepper.run(point - stepper.steps, lambda: False)
            losses[seed, column] = task.evaluate(stepper.weights, task.val, 1)[0]
    errors = losses.std(0) / 8
    for column, point in enumerate(points):
        assert losses[:, column].mean().item() == pytest.approx(expected[point], abs=3 * errors[column].item())


def test_a_full_batch_has_no_noise() -> None:
    """As large as what is called an epoch, SGD is gradient descent: θ ← (1 − ηh) θ, within rounding of float32."""
    task = build_task("nqm", load("nqm", dimension=20), torch.device("cpu"), "float32", None, 0)
    parameters = task.initialise(0)
    start = parameters[0].detach().clone()
    stepper = Stepper(
        task, parameters, torch.optim.SGD(parameters, 0.5), batches_of(task, task.examples, "keep", True, 0, 0)
    )
    stepper.run(3, lambda: False)
    expected = start.double() * (1 - 0.5 * curvatures(20)) ** 3
    torch.testing.assert_close(parameters[0].detach().double(), expected, rtol=1e-5, atol=1e-6)


def test_a_dimension_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^task.knobs.dimension=0: must be at least 1$"):
        load("nqm", dimension=0)
