"""Batch normalisation is torch's, and ghost batch normalisation is batch normalisation of micro-batches."""

from collections.abc import Sequence

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from bench.errors import UsageError
from bench.tasks.batch_norm import batch_norm, training_batch_norm
from bench.tasks.image_knobs import BatchNormKnobs
from bench.tasks.models import Model, f1
from bench.tasks.registry import task_spec

SHAPE, CLASSES, CHANNELS = (1, 3, 4), 3, 6


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def layer(seed: int = 0) -> tuple[nn.BatchNorm1d, list[Tensor]]:
    """Return torch's layer, and scale, shift, running mean and running variance with the same values."""
    module = nn.BatchNorm1d(CHANNELS).double()
    values = [normal(CHANNELS, seed=seed + index) for index in range(4)]
    values[3] = values[3].abs() + 0.1
    assert module.running_mean is not None
    assert module.running_var is not None
    targets: list[Tensor] = [module.weight, module.bias, module.running_mean, module.running_var]
    with torch.no_grad():
        for target, value in zip(targets, values, strict=True):
            target.copy_(value)
    return module, values


def running(module: nn.BatchNorm1d) -> list[Tensor]:
    assert module.running_mean is not None
    assert module.running_var is not None
    return [module.running_mean, module.running_var]


@pytest.mark.parametrize("chunk", [None, 9, 20])
def test_values_and_running_statistics_are_those_of_torchs_layer(chunk: int | None) -> None:
    module, values = layer()
    for step in range(3):
        inputs = normal(9, CHANNELS, seed=100 + step)
        torch.testing.assert_close(training_batch_norm(inputs, *values, chunk), module(inputs), rtol=1e-12, atol=1e-13)
        for ours, theirs in zip(values[2:], running(module), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    module.eval()
    inputs = normal(4, CHANNELS, seed=200)
    torch.testing.assert_close(batch_norm(inputs, *values), module(inputs), rtol=1e-12, atol=1e-13)


def test_statistics_by_hand() -> None:
    # Mean 2; variance 1 (biased) normalises, 2 (unbiased) is kept.
    mean, variance = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    inputs = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    out = training_batch_norm(inputs, one, zero, mean, variance, None)
    assert out.flatten().tolist() == pytest.approx([-1, 1], abs=1e-5)
    assert mean.item() == pytest.approx(0.2, rel=1e-12)
    assert variance.item() == pytest.approx(0.9 + 0.1 * 2, rel=1e-12)


@pytest.mark.parametrize("examples", [8, 10, 9], ids=["multiple", "smaller last chunk", "last chunk of one"])
def test_chunks_are_normalised_one_after_the_other(examples: int) -> None:
    module, values = layer()
    inputs = normal(examples, CHANNELS, seed=7)
    expected = []
    for part in inputs.split(4):
        module.train(len(part) > 1)
        expected.append(module(part))
    torch.testing.assert_close(training_batch_norm(inputs, *values, 4), torch.cat(expected), rtol=1e-12, atol=1e-13)
    for ours, theirs in zip(values[2:], running(module), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_one_example_is_normalised_by_the_running_statistics_and_leaves_them() -> None:
    _, values = layer()
    before = [value.clone() for value in values]
    inputs = normal(1, CHANNELS, seed=3)
    torch.testing.assert_close(training_batch_norm(inputs, *values, None), batch_norm(inputs, *values))
    assert all(torch.equal(a, b) for a, b in zip(values, before, strict=True))
    # One image has many values per channel, so it has a variance.
    image = normal(1, CHANNELS, 2, 2, seed=4)
    out = training_batch_norm(image, torch.ones(CHANNELS).double(), torch.zeros(CHANNELS).double(), *values[2:], None)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(CHANNELS).double(), rtol=0, atol=1e-12)
    assert not torch.equal(values[2], before[2])


def gradients(model: Model, weights: Sequence[Tensor], parameters: Sequence[Tensor], inputs: Tensor, labels: Tensor):  # type: ignore[no-untyped-def]
    assert model.training_forward is not None
    loss = functional.cross_entropy(model.training_forward(weights, inputs), labels)
    return torch.autograd.grad(loss, parameters)


@pytest.mark.parametrize(("examples", "chunk"), [(12, 4), (14, 4), (9, 4), (12, 12), (12, 50)])
def test_ghost_batch_norm_is_accumulation_over_micro_batches(examples: int, chunk: int) -> None:
    plain, ghost = f1(SHAPE, CLASSES), f1(SHAPE, CLASSES, BatchNormKnobs(ghost_batch=chunk))
    parameters = [p.double().requires_grad_() for p in plain.initialise(Generator().manual_seed(1))]
    inputs, labels = normal(examples, *SHAPE, seed=2), torch.arange(examples) % CLASSES
    buffers, theirs = ([b.double() for b in plain.buffers()] for _ in range(2))
    at_once = gradients(ghost, [*parameters, *buffers], parameters, inputs, labels)
    accumulated = [torch.zeros_like(p) for p in parameters]
    for part, part_labels in zip(inputs.split(chunk), labels.split(chunk), strict=True):
        for total, value in zip(
            accumulated, gradients(plain, [*parameters, *theirs], parameters, part, part_labels), strict=True
        ):
            total += value * len(part) / examples
    for ours, expected in zip(at_once, accumulated, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)
    for ours, expected in zip(buffers, theirs, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
    if chunk < examples:
        whole = gradients(plain, [*parameters, *plain_buffers(plain)], parameters, inputs, labels)
        assert not torch.allclose(at_once[0], whole[0], rtol=1e-3)


def plain_buffers(model: Model) -> list[Tensor]:
    return [b.double() for b in model.buffers()]


def test_the_knob_belongs_to_networks_with_batch_norm() -> None:
    spec, turned = task_spec("mnist5k/f1", "mnist5k", "f1", None, {"ghost_batch": 32, "inputs": "unit"})
    assert turned == {"label_noise": 0.0, "subset": None, "inputs": "unit", "ghost_batch": 32}
    assert dict(spec.knobs) == {"inputs": "unit", "ghost_batch": 32}
    again, _ = task_spec("mnist5k/f1", "mnist5k", "f1", None, turned)
    assert again == spec
    with pytest.raises(UsageError, match=r"task.knobs.ghost_batch=32: mlp has no such knob, only f1"):
        task_spec("mnist5k/mlp", "mnist5k", "mlp", None, {"ghost_batch": 32})
    with pytest.raises(UsageError, match=r"unknown knob .*'ghost_batsh'; did you mean 'ghost_batch'"):
        task_spec("mnist5k/f1", "mnist5k", "f1", None, {"ghost_batsh": 32})
    for value in (1, 0, -3):
        with pytest.raises(UsageError, match=r"ghost_batch=.*must be at least 2"):
            task_spec("mnist5k/f1", "mnist5k", "f1", None, {"ghost_batch": value})
