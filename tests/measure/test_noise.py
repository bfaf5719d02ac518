"""Gradient noise against loops over examples, closed forms, and enumeration of every batch."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bench.measure import noise as module
from bench.measure.fixed_loss import FixedLoss, flat
from bench.measure.noise import Sampler, batch_sharpness, gradient_noise, two_batch_estimate, two_batch_noise
from bench.tasks.models import lenet5
from bench.tasks.problem import HALF_SQUARED_ERROR, Model, Split
from bench.tasks.regression import linear_hessian, linear_optimum
from bench.tasks.task import Task
from tests.cases import toy_task
from tests.measure.points import loss_of, normalised_task, problem_task


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_loop(task: Task, weights: Sequence[Tensor]) -> tuple[float, float]:
    """tr Σ and |G|² from the gradient of each example, one after the other."""
    loss, vector = loss_of(task, weights), flat(weights[: len(weights) - len(task.buffers())])
    each = []
    for number in range(len(task.train)):
        some = slice(number, number + 1)
        one = FixedLoss(loss.task, loss.shapes, loss.buffers, Split(task.train.inputs[some], task.train.labels[some]))
        each.append(one.gradient(vector)[1])
    rows = torch.stack(each)
    mean = rows.mean(0)
    return (rows - mean).square().sum(1).mean().item(), mean.square().sum().item()


def tied_task() -> Task:
    """A network that uses one matrix twice: no linear layer has it alone."""
    inputs = torch.randn(12, 3, generator=generator(2), dtype=torch.float64)
    split = Split(inputs, inputs.cos())
    model = Model(
        "tied",
        lambda g: [torch.randn(3, 3, generator=g, dtype=torch.float64)],
        lambda weights, x: torch.nn.functional.linear(torch.nn.functional.linear(x, weights[0]).tanh(), weights[0]),
    )
    return Task("tied", model, split, split, split, split, None, HALF_SQUARED_ERROR)


def convolutional_task() -> Task:
    images = torch.randn(6, 1, 16, 16, generator=generator(3), dtype=torch.float64)
    split = Split(images, torch.arange(6) % 3)
    return Task("images", lenet5((1, 16, 16), 3), split, split, split, split, 3)


TASKS = {
    "mlp": (toy_task, True),
    "logreg": (lambda: toy_task("logreg"), True),
    "chebyshev": (lambda: problem_task("chebyshev", hidden=4), True),
    "quadratic": (lambda: problem_task("quadratic/deep"), False),
    "tied": (tied_task, False),
    "lenet5": (convolutional_task, False),
}


@pytest.mark.parametrize("name", TASKS)
def test_exact_noise_is_that_of_a_loop_over_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By norms of linear layers where every parameter belongs to one; else by vmap, here in chunks of 5 examples."""
    make, linear = TASKS[name]
    task = make()
    weights = [*task.initialise(1), *task.buffers()]
    parameters = len(weights) - len(task.buffers())
    shortcut = module._linear_norms(task, weights, parameters, task.train)
    assert (shortcut is not None) == linear
    monkeypatch.setattr(module, "MOST_NUMBERS", 5 * sum(p.numel() for p in weights[:parameters]))
    found = gradient_noise(task, weights, task.train, task.train)
    trace, norm2 = by_loop(task, weights)
    assert found.trace == pytest.approx(trace, rel=1e-9)
    assert found.norm2 == pytest.approx(norm2, rel=1e-9)
    assert found.scale == pytest.approx(trace / norm2, rel=1e-9)


def test_both_ways_agree_on_a_part_of_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy_task()
    weights, some = task.initialise(0), Split(task.train.inputs[:7], task.train.labels[:7])
    shortcut = gradient_noise(task, weights, task.train, some)
    monkeypatch.setattr(module, "_linear_norms", lambda *_: None)
    slow = gradient_noise(task, weights, task.train, some)
    assert shortcut.trace == pytest.approx(slow.trace, rel=1e-9)
    assert shortcut.norm2 == slow.norm2


def test_parts_of_the_examples_are_unbiased() -> None:
    """The mean of tr Σ over all ten parts of five examples is that of the fifty."""
    task = toy_task()
    weights = task.initialise(0)
    parts = [Split(task.train.inputs[i : i + 5], task.train.labels[i : i + 5]) for i in range(0, 50, 5)]
    mean = sum(gradient_noise(task, weights, task.train, part).trace for part in parts) / 10
    assert mean == pytest.approx(gradient_noise(task, weights, task.train, task.train).trace, rel=1e-9)


def test_linear_regression_in_closed_form() -> None:
    """Gradients r·x: tr Σ = mean r²‖x‖² − |G|² and G = H(w − w*), with x ending in 1 for the bias."""
    task = problem_task("regression/linear")
    weights = task.initialise(0)
    rows = torch.cat([task.train.inputs, torch.ones(len(task.train), 1, dtype=torch.float64)], 1)
    residual = rows @ flat(weights) - task.train.labels.squeeze(1)
    gradient = linear_hessian(task.train) @ (flat(weights) - flat(linear_optimum(task.train)))
    norm2 = gradient.square().sum().item()
    trace = (residual.square() * rows.square().sum(1)).mean().item() - norm2
    found = gradient_noise(task, weights, task.train, task.train)
    assert found.norm2 == pytest.approx(norm2, rel=1e-6)
    assert found.trace == pytest.approx(trace, rel=1e-6)


def test_arxiv_1712_06559_without_label_noise_the_scale_is_the_trace_over_the_largest_eigenvalue() -> None:
    """Off the optimum along the first eigenvector of normal inputs, B_simple = tr H/λ₁ + 1; within 3 %.

    E (x·e)²‖x‖² = λ₁ tr H + 2λ₁² by the fourth moments of a normal distribution, less |G|² = λ₁². 20 000 examples.
    """
    task = problem_task("regression/linear", examples=20_000, noise=0)
    values, vectors = torch.linalg.eigh(linear_hessian(task.train))
    best = flat(linear_optimum(task.train)) + vectors[:, -1]
    found = gradient_noise(task, [best[None, :-1], best[-1:]], task.train, task.train)
    assert found.scale == pytest.approx(values.sum().item() / values[-1].item() + 1, rel=0.03)


def test_arxiv_1907_04164_nqm_has_the_noise_it_is_defined_by() -> None:
    """tr Σ = Σ 1/i of draws of one example, within 5 % of 2000; |G|² = Σ (θ/i)² exactly."""
    task = problem_task("nqm", dimension=20)
    assert task.stream is not None
    sampler, weights = Sampler(task, generator()), [*task.initialise(0), *task.buffers()]
    drawn = [sampler.draw(1, True) for _ in range(2000)]
    noisy = Split(torch.cat([d.inputs for d in drawn]), torch.cat([d.labels for d in drawn]))
    found = gradient_noise(task, weights, Split(*task.stream.exact()).to(task.device, task.dtype), noisy)
    h = 1 / torch.arange(1, 21, dtype=torch.float64)
    assert found.norm2 == pytest.approx((h * weights[0].detach()).square().sum().item(), rel=1e-6)
    assert found.trace == pytest.approx(h.sum().item(), rel=0.05)


def test_no_gradient_is_no_number() -> None:
    assert math.isinf(module.GradientNoise(1.0, 0.0).scale)
    assert math.isnan(module.GradientNoise(0.0, 0.0).scale)


def test_a_batch_that_is_normalised_together_is_refused() -> None:
    task = normalised_task()
    with pytest.raises(ValueError, match="normalised together"):
        gradient_noise(task, [*task.initialise(0), *task.buffers()], task.train, task.train)


def test_two_batch_estimates_are_unbiased_over_every_possible_batch() -> None:
    """Of 5 gradients, all 25 ordered pairs as big batch, its two members as small ones: the means are exact."""
    rows = torch.randn(5, 3, generator=generator(), dtype=torch.float64) + 1
    norm2 = rows.mean(0).square().sum().item()
    trace = (rows - rows.mean(0)).square().sum(1).mean().item()
    pairs = [(rows[i], rows[j]) for i, j in itertools.product(range(5), repeat=2)]
    small = [(a.square().sum() + b.square().sum()).item() / 2 for a, b in pairs]
    big = [((a + b) / 2).square().sum().item() for a, b in pairs]
    estimate, mean_trace, mean_norm2 = two_batch_estimate(small, big, 1, 2)
    assert mean_trace == pytest.approx(trace, rel=1e-12)
    assert mean_norm2 == pytest.approx(norm2, rel=1e-12)
    assert estimate.value == pytest.approx(trace / norm2, rel=1e-12)
    assert estimate.lo < estimate.value < estimate.hi


def test_two_batch_noise_finds_the_exact_scale() -> None:
    """Of a small network: the exact number lies within the interval of 400 repeats, which is narrower than ±15 %."""
    task = toy_task()
    weights = task.initialise(0)
    exact = gradient_noise(task, weights, task.train, task.train).scale
    sampler = Sampler(task, generator())
    found, _, _ = two_batch_noise(lambda some: loss_of(task, weights, some), flat(weights), sampler, 4, 8, 400)
    assert found.lo < exact < found.hi
    assert found.hi - found.lo < 0.3 * exact


def test_arxiv_2412_20553_batch_sharpness_of_the_full_batch_along_an_eigenvector_is_its_eigenvalue() -> None:
    """quadratic/deep at its minimum plus the first eigenvector: g = λ₁v, and gᵀHg/‖g‖² = 53.12902."""
    task = problem_task("quadratic/deep")
    (hessian,) = task.buffers()
    first = torch.linalg.eigh(hessian).eigenvectors[:, -1]
    vector = task.train.inputs.mean(0) + first
    sampler = Sampler(task, generator())
    weights = [vector, hessian]
    found = batch_sharpness(lambda some: loss_of(task, weights, some), vector, sampler, len(task.train), 9)
    assert found.value == pytest.approx(53.12902, rel=1e-6)
    assert math.isnan(found.lo)


def test_batch_sharpness_is_the_mean_over_batches() -> None:
    task = toy_task()
    weights = task.initialise(0)
    found = batch_sharpness(lambda some: loss_of(task, weights, some), flat(weights), Sampler(task, generator()), 8, 5)
    sampler, each = Sampler(task, generator()), []
    for _ in range(5):
        batch = sampler.draw(8, False)
        assert len(batch.inputs.flatten(1).unique(dim=0)) == 8
        loss = loss_of(task, weights, batch)
        _, gradient = loss.gradient(flat(weights))
        # The curvature along a line, by differences of slopes.
        unit, step = gradient / gradient.norm(), 1e-5
        ahead, behind = (loss.gradient(flat(weights) + sign * step * unit)[1].dot(unit) for sign in (1, -1))
        each.append((ahead - behind).item() / (2 * step))
    assert found.value == pytest.approx(sum(each) / 5, rel=1e-4)
    assert found.lo < found.value < found.hi
