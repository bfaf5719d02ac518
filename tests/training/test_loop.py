"""The training loop beside a loop written by hand, and how trials end."""

import dataclasses
import functools
import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.optimizers.registry import CLOSURE, GRADIENT_GRAPH, SPARSE, implementations, optimizer_class
from bench.tasks.problem import Model, Split
from bench.tasks.task import Task
from bench.training import loop
from bench.training import stepper as stepper_module
from bench.training.batches import BatchOrder
from bench.training.evaluations import evaluation_points
from bench.training.loop import Plan, Trial, parameters_hash, train_trial
from bench.training.stepper import Method, Stepper
from tests.cases import OPTIMIZERS, builder, needs_of, plan_of, step_as_required, toy_task

METRICS = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy"]


def train(task: Task, plan: Plan, name: str = "sgd", lr: float = 0.1, **changes: Any) -> Trial:
    seeds = {"seed": 0, "init_seed": 1, "order_seed": 2}
    return train_trial(task, builder(name), plan, lr, **(seeds | changes))


# --- the same bits as a loop written by hand -------------------------------------------------------------------------


def by_hand(task: Task, name: str, implementation: str, plan: Plan, lr: float) -> nn.Module:
    """Train the way a tutorial does: a module, `backward`, `zero_grad`, one index_select per batch, closures."""
    start = task.initialise(1)
    (hidden, inputs), (classes, _) = start[0].shape, start[2].shape
    module = nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    module.to(task.dtype)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), start, strict=True):
            parameter.copy_(value)
    optimizer = builder(name, implementation)(list(module.parameters()), lr)
    generator = torch.Generator().manual_seed(2)
    needs = needs_of(name)
    steps = 0
    while True:
        for chosen in torch.randperm(len(task.train), generator=generator).split(plan.batch_size):

            def closure(chosen: Tensor = chosen) -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(module(task.train.inputs[chosen]), task.train.labels[chosen])
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*create_graph=True")
                    loss.backward(create_graph=GRADIENT_GRAPH in needs)
                return loss

            step_as_required(optimizer, closure, needs)
            steps += 1
            if steps == plan.steps:
                return module


#: No model of these tasks gives sparse gradients; `test_sparse_gradients…` has one that does.
DENSE = [name for name in OPTIMIZERS if SPARSE not in needs_of(name)]


@pytest.mark.parametrize(
    ("name", "implementation", "size"),
    [
        *((name, "default", 300) for name in DENSE),
        *((name, way, 64) for name in ("momentum", "adam") for way in ("forloop", "foreach", "fused")),
        ("sgd", "default", 1),
        ("sgd", "default", 511),  # larger batches sum the loss in another order
    ],
)
def test_a_trial_ends_with_the_bits_of_a_loop_by_hand(task: Task, name: str, implementation: str, size: int) -> None:
    target = OPTIMIZERS[name]["target"]
    assert implementation in implementations(target)
    small = dataclasses.replace(task, train_evaluation=Split(task.train.inputs[:50], task.train.labels[:50]))
    # A matrix of parameters × parameters is no thing for 101 770 of them.
    if hasattr(optimizer_class(target), "most_parameters"):
        small, size = toy_task(), 20
    needs, examples = needs_of(name), len(small.train)
    method = Method(closure=CLOSURE in needs, gradient_graph=GRADIENT_GRAPH in needs)
    plan = plan_of(examples, batch_size=size, steps=5 if CLOSURE in needs else 20, method=method)
    trial = train_trial(small, builder(name, implementation), plan, 0.01, 0, init_seed=1, order_seed=2)
    module = by_hand(small, name, implementation, plan, 0.01)
    assert trial.status == "complete"
    assert trial.parameters_sha256 == parameters_hash(list(module.parameters()))
    assert trial.parameters_sha256 != parameters_hash(small.initialise(1))
    with torch.no_grad():
        logits = module(small.val.inputs)
    assert trial.evaluations[-1].metrics["val_loss"] == pytest.approx(
        nn.functional.cross_entropy(logits, small.val.labels).item(), rel=1e-5
    )
    accuracy = (logits.argmax(1) == small.val.labels).double().mean().item()
    assert trial.evaluations[-1].metrics["val_accuracy"] == pytest.approx(accuracy)


def test_sparse_gradients_end_with_the_bits_of_a_loop_by_hand() -> None:
    def forward(weights: Sequence[Tensor], inputs: Tensor, sparse: bool = False) -> Tensor:
        return nn.functional.embedding(inputs, weights[0], sparse=sparse).sum(1)

    def initialise(generator: torch.Generator) -> list[Tensor]:
        return [torch.randn(30, 3, generator=generator)]

    words = torch.randint(30, (50, 4), generator=torch.Generator().manual_seed(3))
    train = Split(words, words.sum(1) % 3)
    model = Model("bag", initialise, forward, sparse_forward=functools.partial(forward, sparse=True))
    splits = {"train": train, "train_evaluation": train, "val": train, "test": train}
    task = dataclasses.replace(toy_task(), model=model, sparse=True, **splits)
    trial = train_trial(task, builder("sparse_adam"), plan_of(), 0.1, 0, init_seed=1, order_seed=2)

    module = nn.EmbeddingBag(30, 3, mode="sum", sparse=True)
    with torch.no_grad():
        module.weight.copy_(task.initialise(1)[0])
    optimizer = torch.optim.SparseAdam(list(module.parameters()), lr=0.1)
    generator, steps = torch.Generator().manual_seed(2), 0
    while steps < 20:
        for chosen in torch.randperm(50, generator=generator).split(8)[: 20 - steps]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(words[chosen]), train.labels[chosen]).backward()
            optimizer.step()
            steps += 1
    assert task.initialise(1)[0].dtype == torch.float32
    torch.testing.assert_close(trial.evaluations[-1].metrics["val_loss"], evaluated(module, train), rtol=1e-6, atol=0)
    assert trial.evaluations[-1].metrics["val_loss"] < 0.7 * trial.evaluations[0].metrics["val_loss"]


def evaluated(module: nn.Module, split: Split) -> float:
    with torch.no_grad():
        return nn.functional.cross_entropy(module(split.inputs).double(), split.labels).item()


def test_one_step_by_hand() -> None:
    # Logistic regression from zero: every probability is ⅓, so ∂loss/∂bias_k = ⅓ − (share of class k), and
    # ∂loss/∂weight_k = mean of (⅓ − [label is k]) · input.
    task = toy_task("logreg")
    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, 50, "keep", True, 0)
    Stepper(task, parameters, builder("sgd")(parameters, 0.5), order).run(1, lambda: False)
    one_hot = torch.eye(3, dtype=torch.float64)[task.train.labels]
    errors = 1 / 3 - one_hot
    weight, bias = parameters
    torch.testing.assert_close(bias.detach(), -0.5 * errors.mean(0), rtol=1e-12, atol=1e-14)
    expected = -0.5 * errors.T @ task.train.inputs.flatten(1) / 50
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-14)


def test_gradients_do_not_accumulate_over_steps() -> None:
    task = toy_task()
    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, 50, "keep", True, 0)
    stepper = Stepper(task, parameters, builder("sgd")(parameters, 1e-300), order)
    stepper.run(1, lambda: False)
    first = [p.grad.clone() for p in parameters if p.grad is not None]
    stepper.run(3, lambda: False)
    assert len(first) == len(parameters)
    assert all(torch.equal(a, p.grad) for a, p in zip(first, parameters, strict=True) if p.grad is not None)


@settings(max_examples=40)
@given(pieces=st.lists(st.integers(1, 9), min_size=1, max_size=6), size=st.sampled_from([1, 8, 20, 50]))
def test_steps_do_not_depend_on_the_pieces_they_are_taken_in(pieces: list[int], size: int) -> None:
    task = toy_task()

    def run(splitting: Sequence[int]) -> Stepper:
        parameters = task.initialise(3)
        order = BatchOrder(task.train.inputs, task.train.labels, size, "keep", True, 4)
        stepper = Stepper(task, parameters, builder("adam")(parameters, 0.01), order)
        for steps in splitting:
            stepper.run(steps, lambda: False)
        return stepper

    whole, split = run([sum(pieces)]), run(pieces)
    assert parameters_hash(whole.parameters) == parameters_hash(split.parameters)
    assert whole.steps == split.steps == sum(pieces)
    assert whole.batches.examples_seen == split.batches.examples_seen


@pytest.mark.parametrize("changes", [{"per_octave": 7}, {"every_epoch": 0}, {"evaluation_batch_size": 50}])
def test_evaluating_changes_no_parameter(changes: dict[str, int]) -> None:
    task, plan = toy_task(), plan_of()
    usual, other = train(task, plan), train(task, dataclasses.replace(plan, **changes))
    assert usual.parameters_sha256 == other.parameters_sha256
    assert usual.evaluations[-1].metrics == pytest.approx(other.evaluations[-1].metrics, rel=1e-12)


def test_seeds_decide_what_they_are_for() -> None:
    task, plan = toy_task(), plan_of()
    usual = train(task, plan)
    assert train(task, plan).parameters_sha256 == usual.parameters_sha256
    assert train(task, plan, seed=9).parameters_sha256 == usual.parameters_sha256
    other_init, other_order = train(task, plan, init_seed=5), train(task, plan, order_seed=5)
    assert len({usual.parameters_sha256, other_init.parameters_sha256, other_order.parameters_sha256}) == 3
    assert other_init.evaluations[0].metrics != usual.evaluations[0].metrics
    assert other_order.evaluations[0].metrics == usual.evaluations[0].metrics


# --- what a trial holds ----------------------------------------------------------------------------------------------


def test_evaluations_stand_at_the_points_of_the_schedule() -> None:
    plan = plan_of(steps=20)
    trial = train(toy_task(), plan, lr=0.25, seed=7)
    assert (trial.lr, trial.seed, trial.status, trial.reason) == (0.25, 7, "complete", None)
    # 50 examples in batches of 8: 7 steps an epoch, the last of 2 examples.
    assert [e.step for e in trial.evaluations] == list(evaluation_points(20, 2, 7, 2))
    by_step = {e.step: e for e in trial.evaluations}
    assert (by_step[0].epoch, by_step[0].examples, by_step[0].train_seconds) == (0.0, 0, 0.0)
    assert (by_step[6].epoch, by_step[6].examples) == (0.96, 48)
    assert (by_step[7].epoch, by_step[7].examples) == (1.0, 50)
    assert (by_step[8].epoch, by_step[8].examples) == (1.16, 58)
    assert (by_step[20].epoch, by_step[20].examples) == (2.96, 148)
    clock = [e.train_seconds for e in trial.evaluations]
    assert clock == sorted(clock)
    assert clock[-1] > 0
    assert all(list(e.metrics) == METRICS for e in trial.evaluations)


def test_dropped_remainders_are_not_counted_as_seen() -> None:
    trial = train(toy_task(), plan_of(steps=12, remainder="drop"))
    last = trial.evaluations[-1]
    assert (last.step, last.examples, last.epoch) == (12, 96, 1.92)


def test_training_learns() -> None:
    trial = train(toy_task(), plan_of(steps=100), lr=0.3)
    first, last = trial.evaluations[0].metrics, trial.evaluations[-1].metrics
    assert first["train_loss"] == pytest.approx(math.log(3), abs=0.3)
    assert last["train_loss"] < 0.6 * first["train_loss"]
    assert last["test_accuracy"] > first["test_accuracy"]


def test_training_metrics_are_those_of_the_evaluation_part() -> None:
    task = toy_task()
    part = dataclasses.replace(task, train_evaluation=task.test)
    trial = train(part, plan_of(steps=5))
    for evaluation in trial.evaluations:
        assert evaluation.metrics["train_loss"] == evaluation.metrics["test_loss"]
    assert trial.parameters_sha256 == train(task, plan_of(steps=5)).parameters_sha256


def test_the_hash_is_that_of_the_bytes_in_order() -> None:
    a, b = torch.tensor([[1.0, -2.0]], requires_grad=True), torch.tensor([0.5])
    expected = hashlib.sha256(a.detach().numpy().tobytes() + b.numpy().tobytes()).hexdigest()
    assert parameters_hash([a, b]) == expected
    assert parameters_hash([b, a]) != expected
    assert parameters_hash([a, torch.nextafter(b, b + 1)]) != expected
    assert parameters_hash([a.double(), b.double()]) != expected
    turned = torch.tensor([[1.0, 3.0], [2.0, 4.0]]).T
    assert parameters_hash([turned]) == parameters_hash([turned.contiguous()])


# --- divergence and targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e4, 1e30, 1e300])
def test_divergence_is_a_result(lr: float) -> None:
    trial = train(toy_task(), plan_of(steps=400), lr=lr)
    assert trial.status == "diverged"
    last = trial.evaluations[-1]
    assert last.step < 400
    assert trial.reason is not None
    assert f"at step {last.step}" in trial.reason
    untrained = trial.evaluations[0].metrics["train_loss"]
    for evaluation in trial.evaluations[:-1]:
        assert evaluation.metrics["train_loss"] <= 100 * untrained
    loss = last.metrics["train_loss"]
    assert not math.isfinite(loss) or loss > 100 * untrained
    assert len(trial.parameters_sha256) == 64


def fixed_losses(monkeypatch: pytest.MonkeyPatch, losses: Sequence[float]) -> None:
    """Let the evaluations of a trial see these training losses, and .1 more validation accuracy at each."""
    left = iter(enumerate(losses))

    def evaluate(task: Task, stepper: Stepper, plan: Plan) -> loop.Evaluation:
        number, loss = next(left)
        metrics = {"train_loss": loss, "val_accuracy": 0.1 * number, "val_loss": 1 - 0.1 * number}
        return loop.Evaluation(stepper.steps, 0.0, stepper.batches.examples_seen, stepper.seconds, metrics)

    monkeypatch.setattr(loop, "evaluate", evaluate)


@pytest.mark.parametrize(
    ("losses", "status", "step", "reason"),
    [
        ([1.0, 3.0, 3.0, 3.0, 3.0], "complete", 4, None),
        ([1.0, 3.5, 0.0], "diverged", 1, "training loss 3.5 at step 1, over 3 × the untrained loss"),
        ([1.0, 2.0, math.nan], "diverged", 2, "training loss nan at step 2"),
        ([1.0, math.inf], "diverged", 1, "training loss inf at step 1"),
        ([math.nan], "diverged", 0, "training loss nan at step 0"),
    ],
)
def test_when_a_trial_is_diverged(
    monkeypatch: pytest.MonkeyPatch, losses: list[float], status: str, step: int, reason: str | None
) -> None:
    fixed_losses(monkeypatch, losses)
    trial = train(toy_task(), plan_of(steps=4, per_octave=4, divergence_factor=3.0))
    assert (trial.status, trial.evaluations[-1].step, trial.reason) == (status, step, reason)


@pytest.mark.parametrize(
    ("metric", "value", "past"),
    [
        ("val_accuracy", 0.91, True),
        ("val_accuracy", 0.9, False),
        ("val_accuracy", 0.89, False),
        ("val_accuracy", math.nan, False),
        ("val_loss", 0.91, False),
        ("val_loss", 0.9, False),
        ("val_loss", 0.89, True),
        ("val_loss", math.nan, False),
    ],
)
def test_strictly_past_the_target(metric: str, value: float, past: bool) -> None:
    assert plan_of(target_metric=metric, target=0.9).past_target(value) is past


# --- budgets and interruption, on a clock of our own -----------------------------------------------------------------


class Clock:
    """A clock that only training steps and evaluations move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


def timed(
    monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float]
) -> tuple[Clock, Callable[[list[Tensor], float], torch.optim.Optimizer]]:
    """Return a clock and an optimizer whose step number n takes cost(n) seconds on it."""
    clock = Clock()
    monkeypatch.setattr(stepper_module, "time", SimpleNamespace(perf_counter=clock.perf_counter))

    class Timed(torch.optim.SGD):
        steps = 0

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step(closure)
            self.steps += 1
            clock.now += cost(self.steps)

    return clock, lambda parameters, lr: Timed(parameters, lr=lr)


class SlowEvaluation(Task):
    """A task whose evaluation takes an hour on the clock it is given."""

    clock: Clock

    def evaluate(self, parameters: Sequence[Tensor], split: Split, batch_size: int) -> Tensor:
        SlowEvaluation.clock.now += 3600
        return super().evaluate(parameters, split, batch_size)


def budgeted(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, cost: Callable[[int], float] = lambda _: 0.001
) -> loop.Evaluation:
    clock, build = timed(monkeypatch, cost)
    SlowEvaluation.clock = clock
    task = toy_task()
    slow = SlowEvaluation(**{f.name: getattr(task, f.name) for f in dataclasses.fields(task)})
    trial = train_trial(slow, build, plan, 0.01, 0, 1, 2)
    assert trial.status == "complete"
    steps = [e.step for e in trial.evaluations]
    assert steps == sorted(set(steps))
    last = trial.evaluations[-1]
    expected = sum(cost(number) for number in range(1, last.step + 1))
    assert last.train_seconds == pytest.approx(expected, rel=1e-6), "the clock counts training alone"
    return last


@pytest.mark.parametrize(
    ("limits", "least", "most"),
    # A step takes a millisecond; the clock is read every 20 of them.
    [
        ({"steps": 37}, 37, 37),
        ({"steps": 1}, 1, 1),
        ({"steps": None, "seconds": 0.1}, 100, 120),
        ({"steps": 37, "seconds": 0.1, "until_largest": True}, 100, 120),
        ({"steps": 37, "seconds": 0.1, "until_largest": False}, 37, 37),
        ({"steps": 300, "seconds": 0.1, "until_largest": True}, 300, 300),
        ({"steps": 300, "seconds": 0.1, "until_largest": False}, 100, 120),
        ({"steps": None, "seconds": 1e-9}, 1, 1),
        ({"steps": 3, "seconds": 1e-9, "until_largest": True}, 3, 3),
    ],
)
def test_budgets(monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], least: int, most: int) -> None:
    assert least <= budgeted(monkeypatch, plan_of(**limits)).step <= most


@pytest.mark.parametrize(
    "cost",
    [
        pytest.param(lambda _: 0.0001, id="quick"),
        pytest.param(lambda _: 0.07, id="slow"),
        pytest.param(lambda n: 0.5 if n == 1 else 0.001, id="slow first"),
        pytest.param(lambda n: 0.001 + 0.00001 * n, id="ever slower"),
    ],
)
@pytest.mark.parametrize("seconds", [0.05, 0.3])
def test_a_budget_in_seconds_is_overshot_by_little(
    monkeypatch: pytest.MonkeyPatch, cost: Callable[[int], float], seconds: float
) -> None:
    last = budgeted(monkeypatch, plan_of(steps=None, seconds=seconds), cost)
    assert last.train_seconds >= seconds
    # A step that has begun is finished; a rate that drifts is known only up to a factor.
    assert last.train_seconds - seconds <= max(cost(last.step), cost(1), 2 * loop.CLOCK_SECONDS)


def test_zero_seconds_on_the_clock_do_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    last = budgeted(monkeypatch, plan_of(steps=50, seconds=0.001, until_largest=False), lambda n: 0.001 * (n == 20))
    assert last.step >= 20


@pytest.mark.parametrize("asked", range(1, 30, 3))
def test_interruption_keeps_what_there_is(asked: int) -> None:
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls >= asked

    plan = plan_of(steps=400)
    trial = train(toy_task(), plan, stop=stop)
    assert trial.status == "interrupted"
    last = trial.evaluations[-1]
    assert trial.reason == f"stopped after {last.step} steps"
    assert last.step < 400
    # As far as it went, it is the trial that it would have been.
    whole = train(toy_task(), dataclasses.replace(plan, steps=last.step))
    assert whole.parameters_sha256 == trial.parameters_sha256
    assert whole.evaluations[-1].metrics == last.metrics


def test_stopping_at_once_trains_nothing() -> None:
    trial = train(toy_task(), plan_of(), stop=lambda: True)
    assert (trial.status, trial.reason) == ("interrupted", "stopped after 0 steps")
    assert [e.step for e in trial.evaluations] == [0]
    assert trial.parameters_sha256 == parameters_hash(toy_task().initialise(1))


def test_a_failing_model_is_not_hushed_up() -> None:
    def forward(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        raise RuntimeError("boom")

    task = toy_task()
    broken = dataclasses.replace(task, model=Model("broken", task.model.initialise, forward))
    with pytest.raises(RuntimeError, match="boom"):
        train(broken, plan_of())


# --- a budget of gradients -------------------------------------------------------------------------------------------


class Hungry(torch.optim.SGD):
    """Asks for three gradients a step and steps on the last."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for _ in range(3):
            closure()
        super().step()


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"steps": None, "gradient_evaluations": 12}, 4),
        ({"steps": None, "gradient_evaluations": 13}, 5),
        ({"steps": 10, "gradient_evaluations": 12, "until_largest": False}, 4),
        ({"steps": 2, "gradient_evaluations": 12, "until_largest": False}, 2),
        ({"steps": 10, "gradient_evaluations": 12}, 10),
    ],
)
def test_a_budget_of_gradients_counts_what_the_optimizer_asks_for(limits: dict[str, Any], steps: int) -> None:
    plan = plan_of(**limits, method=Method(closure=True))
    build = lambda parameters, lr: Hungry(parameters, lr=lr)  # noqa: E731
    trial = train_trial(toy_task(), build, plan, 0.1, 0, init_seed=1, order_seed=2)
    assert trial.evaluations[-1].step == steps
    assert trial.gradient_evaluations == 3 * steps
    assert [e.gradient_evaluations for e in trial.evaluations] == [3 * e.step for e in trial.evaluations]


def test_a_plain_step_computes_one_gradient() -> None:
    trial = train(toy_task(), plan_of(steps=None, gradient_evaluations=17))
    assert trial.evaluations[-1].step == trial.gradient_evaluations == 17
