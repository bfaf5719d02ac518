"""The bigram model: its entropy, its sparse gradient, its chain."""

import math

import pytest
import torch
import torch.nn.functional as F

from bench.errors import UsageError
from bench.tasks.bigram import bigram_counts, conditional_entropy
from bench.tasks.problem import Problem, Split
from tests.tasks.problems import fresh, gradients, load, mean_loss, minimise


@pytest.fixture(scope="module")
def problem() -> Problem:
    return load("embedding/bigram", tokens=8, examples=4000)


@pytest.mark.parametrize("tokens", [2, 8, 64])
def test_the_untrained_loss_is_ln_v(tokens: int) -> None:
    problem = load("embedding/bigram", tokens=tokens, examples=400)
    assert mean_loss(problem, fresh(problem), problem.splits.train).item() == pytest.approx(math.log(tokens), abs=1e-12)


def test_the_optimum_on_a_split_is_its_conditional_entropy(problem: Problem) -> None:
    """Logits of log counts reach it within 1e-12, with a gradient of zero, and L-BFGS ends within 1e-4 above it."""
    train = problem.splits.train
    entropy = conditional_entropy(train, 8)
    counts = bigram_counts(train, 8)
    # A pair that never occurs has the logit −40 instead of −∞, which is as good within e⁻⁴⁰.
    table = counts.log().clamp_min(-40).requires_grad_()
    assert mean_loss(problem, [table], train).item() == pytest.approx(entropy, abs=1e-12)
    assert gradients(problem, [table], train)[0].abs().max().item() < 1e-12
    parameters = fresh(problem)
    assert entropy < minimise(problem, parameters, train) < entropy + 1e-4


def test_the_conditional_entropy_of_pairs_counted_by_hand() -> None:
    """0 → 0, 0, 1, 1 and 1 → 1, 1, 1, 1: half the pairs have ln 2, half nothing. Token 2 never comes."""
    split = Split(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 1, 1, 1, 1, 1, 1]))
    assert conditional_entropy(split, 3) == pytest.approx(math.log(2) / 2, abs=1e-15)
    assert bigram_counts(split, 3).tolist() == [[2, 2, 0], [0, 4, 0], [0, 0, 0]]


def test_the_sparse_gradient_is_the_dense_one(problem: Problem) -> None:
    inputs, labels = problem.splits.train.inputs[:5], problem.splits.train.labels[:5]
    assert problem.model.sparse_forward is not None
    table = [torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()]
    found = []
    for forward in (problem.model.forward, problem.model.sparse_forward):
        outputs = forward(table, inputs)
        found.append((outputs, *torch.autograd.grad(F.cross_entropy(outputs, labels), table)))
    (dense_outputs, dense), (sparse_outputs, sparse) = found
    assert torch.equal(dense_outputs, sparse_outputs)
    assert sparse.is_sparse
    assert not dense.is_sparse
    torch.testing.assert_close(sparse.to_dense(), dense)
    assert sorted(set(sparse.coalesce().indices()[0].tolist())) == sorted(set(inputs.tolist()))


def test_sparse_adam_trains_it(problem: Problem) -> None:
    parameters = fresh(problem, dtype=torch.float32)
    optimizer = torch.optim.SparseAdam(parameters, lr=0.05)
    generator = torch.Generator().manual_seed(0)
    assert problem.model.sparse_forward is not None
    for _ in range(300):
        chosen = torch.randint(0, 4000, (32,), generator=generator)
        outputs = problem.model.sparse_forward(parameters, problem.splits.train.inputs[chosen])
        loss = F.cross_entropy(outputs, problem.splits.train.labels[chosen])
        (parameters[0].grad,) = torch.autograd.grad(loss, parameters)
        optimizer.step()
    assert mean_loss(problem, parameters, problem.splits.val).item() < problem.target


def test_splits_are_sequences_of_one_chain(problem: Problem) -> None:
    """Each label is the next input; transitions of the splits agree: same chain, other draws."""
    for split in (problem.splits.train, problem.splits.val, problem.splits.test):
        assert torch.equal(split.inputs[1:], split.labels[:-1])
        assert split.inputs.dtype == split.labels.dtype == torch.int64
        assert split.inputs.min() >= 0
        assert split.inputs.max() < 8
    assert not torch.equal(problem.splits.val.inputs, problem.splits.test.inputs)
    chances = [
        (counts / counts.sum(1, keepdim=True).clamp_min(1))
        for counts in (bigram_counts(s, 8) for s in (problem.splits.train, problem.splits.val))
    ]
    common = bigram_counts(problem.splits.train, 8).sum(1) > 400
    assert common.sum() >= 3
    assert (chances[0] - chances[1])[common].abs().max().item() < 0.12


def test_no_sharpness_is_a_uniform_next_token() -> None:
    """Conditional entropy against ln 4: below it by about 3 · 4 / (2 · 8000) for the counting, no more than .003."""
    problem = load("embedding/bigram", tokens=4, examples=8000, sharpness=0.0)
    entropy = conditional_entropy(problem.splits.train, 4)
    assert math.log(4) - 0.003 < entropy < math.log(4)
    assert problem.target == pytest.approx(math.log(4) + 0.1)


@pytest.mark.parametrize(
    ("knob", "given", "message"),
    [
        ("tokens", 1, "tokens=1: must be at least 2"),
        ("examples", 0, "examples=0: must be at least 4"),
        ("sharpness", -0.5, "sharpness=-0.5: must be at least 0"),
    ],
)
def test_knobs_out_of_range_are_one_line(knob: str, given: float, message: str) -> None:
    with pytest.raises(UsageError, match=f"^task.knobs.{message}$"):
        load("embedding/bigram", **{knob: given})
