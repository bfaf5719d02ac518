"""Timing cases: training steps of mnist5k/mlp, and the data path alone; see speed_cases.py.

The examples are random numbers of the digits' shape: reading the digits takes longer than all else that a
case sets up.
"""

from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from speed_cases import BATCHES, CONFIGURATIONS, EXAMPLES, EXAMPLES_PER_CALL, TRAINING, Case, drawn, each, synchronise
from torch import Generator, Tensor

from bench.optimizers.registry import build
from bench.tasks.models import mlp
from bench.tasks.problem import Split
from bench.tasks.task import Task
from bench.training.batches import BatchOrder
from bench.training.stepper import Stepper

SHAPE, CLASSES = (1, 28, 28), 10
#: Learning rate so small that however many steps are timed, the parameters stay finite.
TINY = 2.0**-13


def examples(device: str) -> Split:
    (inputs,) = drawn([(EXAMPLES, *SHAPE)], 0, device)
    return Split(inputs, torch.randint(CLASSES, (EXAMPLES,), generator=Generator().manual_seed(0)).to(device))


@each(TRAINING)
def test_training_steps(benchmark: BenchmarkFixture, case: Case) -> None:
    """A call is as many steps as share one gather of examples, so far as a batch is not larger."""
    split = examples(case.device)
    task = Task(
        name="", model=mlp(SHAPE, CLASSES), train=split, train_evaluation=split, val=split, test=split, classes=CLASSES
    )
    parameters = task.initialise(0)
    before = [p.detach().clone() for p in parameters]
    optimizer = build(CONFIGURATIONS[case.optimizer], parameters, TINY, case.implementation)
    # The order is kept: drawing another would make every hundredth call a longer one.
    batches = BatchOrder(split.inputs, split.labels, case.batch_size, "keep", False, 0)
    stepper = Stepper(task, parameters, optimizer, batches)
    steps = max(1, EXAMPLES_PER_CALL // case.batch_size)
    benchmark.group = f"training steps, {case.device}"
    benchmark.extra_info["steps_per_call"] = steps
    benchmark(stepper.run, steps, lambda: False)
    assert stepper.steps % steps == 0
    assert stepper.steps * case.batch_size == batches.examples_seen > 0
    assert not any(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    assert all(p.isfinite().all() for p in parameters)


@each(BATCHES)
def test_batches(benchmark: BenchmarkFixture, case: Case) -> None:
    """A call is an epoch in a new order; it returns the last batch."""
    inputs = examples(case.device).inputs
    order = BatchOrder(inputs, torch.arange(EXAMPLES).to(case.device), case.batch_size, "keep", True, 0)
    steps = EXAMPLES // case.batch_size

    def epoch() -> tuple[Tensor, Tensor]:
        for gathered in order.take(steps):
            last = gathered[-1]
        # Its inputs lie in a buffer that the next call fills again.
        kept = last[0].clone(), last[1]
        synchronise(case.device)
        return kept

    benchmark.group = f"batches, {case.device}"
    benchmark.extra_info["batches_per_call"] = steps
    found: Any = benchmark(epoch)
    assert torch.equal(found[0], inputs[found[1]])
    labels = torch.cat([batch[1] for gathered in order.take(steps) for batch in gathered])
    assert torch.equal(labels.sort().values, torch.arange(EXAMPLES).to(case.device))
