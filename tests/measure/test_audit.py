"""The self-audit passes on what the suite ships, and every check fails on the defect it is there for."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional

from bench.measure import audit
from bench.measure.audit import Subject, audit_data, audit_training
from bench.report.messages import messages
from bench.results.record import AuditCheck
from bench.tasks.problem import Model, Problem, Split
from bench.tasks.task import Task, build_task
from bench.training import batches
from bench.training.batches import Batch, BatchOrder
from tests.cases import OPTIMIZERS, builder, plan_of, toy_task
from tests.report.chinese import strange

SIZES = (4000, 500, 500)


@pytest.fixture
def subject(task: Task) -> Subject:
    return Subject(task, builder("sgd"), plan_of(4000, batch_size=64), 0.1)


def with_task(subject: Subject, **changes: Any) -> Subject:
    return dataclasses.replace(subject, task=dataclasses.replace(subject.task, **changes))


def with_forward(subject: Subject, forward: Callable[[Sequence[Tensor], Tensor], Tensor]) -> Subject:
    return with_task(subject, model=dataclasses.replace(subject.task.model, forward=forward))


def failures(subject: Subject) -> set[str]:
    """Names of the checks of training that do not hold."""
    return {check.check for check in audit_training(subject) if not check.passed}


def data_failures(task: Task, sizes: tuple[int, int, int] = SIZES) -> set[str]:
    return {check.check for check in audit_data(task, sizes) if not check.passed}


# --- what the suite ships passes -------------------------------------------------------------------------------------


def assert_all_pass(checks: list[AuditCheck]) -> None:
    assert [check for check in checks if not check.passed] == []
    for check in checks:
        assert check.check
        assert check.value
        assert check.expected
        # What a Chinese report makes of it.
        for text in (check.check, check.value, check.expected):
            assert strange(messages("zh").retold("audit", text), ["ln"]) == [], text
    assert len({check.check for check in checks}) == len(checks)


@pytest.mark.parametrize("model", ["logreg", "mlp", "lenet5"])
@pytest.mark.parametrize(("name", "size"), [("sgd", 1), ("adam", 64), ("momentum", 512)])
def test_every_task_passes(tasks: dict[str, Task], model: str, name: str, size: int) -> None:
    low, high = OPTIMIZERS[name]["lr_log2"]
    subject = Subject(tasks[model], builder(name), plan_of(4000, batch_size=size), 2.0 ** ((low + high) // 2))
    assert_all_pass(audit_training(subject))


@pytest.mark.parametrize("model", ["logreg", "mlp", "lenet5"])
def test_the_gradient_check_has_room_to_spare(tasks: dict[str, Task], model: str) -> None:
    task = tasks[model]
    for start in range(0, 640, 64):
        others = Split(task.train.inputs[start:], task.train.labels[start:])
        check = audit.gradient(Subject(dataclasses.replace(task, train=others), builder("sgd"), plan_of(), 0.1))
        assert float(check.value.removeprefix("relative error ")) <= 1e-5


@pytest.mark.parametrize("model", ["logreg", "mlp", "lenet5"])
def test_the_data_of_every_task_pass(tasks: dict[str, Task], model: str) -> None:
    assert_all_pass(audit_data(tasks[model], SIZES))


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_other_precisions_pass(problems: dict[str, Problem], precision: str) -> None:
    task = build_task("mnist5k/mlp", problems["mlp"], torch.device("cpu"), precision, 200, 0)
    subject = Subject(task, builder("adam"), plan_of(4000, batch_size=64), 1e-3)
    assert_all_pass([*audit_data(task, SIZES), *audit_training(subject)])


@pytest.mark.parametrize("remainder", ["keep", "drop"])
@pytest.mark.parametrize("reshuffle", [True, False])
def test_every_declared_order_passes(subject: Subject, remainder: str, reshuffle: bool) -> None:
    for size in (1, 300, 1024, 4000):
        plan = plan_of(4000, batch_size=size, remainder=remainder, reshuffle=reshuffle)
        assert audit.batch_order(dataclasses.replace(subject, plan=plan)).passed


def test_a_plan_in_seconds_passes(subject: Subject) -> None:
    plan = plan_of(4000, steps=None, seconds=1e9)
    assert_all_pass(audit_training(dataclasses.replace(subject, plan=plan)))


def test_the_audit_trains_nothing_that_is_kept(subject: Subject) -> None:
    inputs = subject.task.train.inputs.clone()
    random_state = torch.get_rng_state()
    assert failures(subject) == set()
    assert torch.equal(subject.task.train.inputs, inputs)
    assert torch.equal(torch.get_rng_state(), random_state)


# --- planted defects: data -------------------------------------------------------------------------------------------


def changed_inputs(task: Task, change: Callable[[Tensor], Tensor]) -> Task:
    return dataclasses.replace(task, train=Split(change(task.train.inputs), task.train.labels))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: (x - 0.1307) / 0.3081, id="twice"),
        pytest.param(lambda x: x * 0.3081 + 0.1307, id="never"),
        pytest.param(lambda x: (x * 0.3081 + 0.1307) * 255, id="raw pixels"),
        pytest.param(lambda x: x + 0.01, id="mean"),
        pytest.param(lambda x: x * 1.01, id="scale"),
        pytest.param(lambda x: x * math.nan, id="not a number"),
    ],
)
def test_inputs_standardised_otherwise(task: Task, change: Callable[[Tensor], Tensor]) -> None:
    assert data_failures(changed_inputs(task, change)) >= {"inputs standardised"}


def test_a_split_of_another_size(task: Task) -> None:
    assert data_failures(dataclasses.replace(task, val=head(task.val, 499))) == {"split sizes"}
    assert data_failures(task, (4000, 500, 501)) == {"split sizes"}


def head(split: Split, count: int) -> Split:
    return Split(split.inputs[:count], split.labels[:count])


@pytest.mark.parametrize("name", ["val", "test"])
@pytest.mark.parametrize("shared", [1, 500])
def test_splits_that_share_images(task: Task, name: str, shared: int) -> None:
    held_out = task.split(name)
    leaky = Split(torch.cat([task.train.inputs[-shared:], held_out.inputs[shared:]]), held_out.labels)
    leaking = dataclasses.replace(task, **{name: leaky})
    assert data_failures(leaking) == {"splits disjoint"}
    (check,) = [check for check in audit_data(leaking, SIZES) if not check.passed]
    assert f"{shared} {name}" in check.value


# --- planted defects: model and loss ---------------------------------------------------------------------------------


def test_probabilities_where_logits_belong(subject: Subject, tasks: dict[str, Task]) -> None:
    for task in tasks.values():
        forward = task.model.forward
        planted = with_forward(
            dataclasses.replace(subject, task=task),
            lambda parameters, inputs, forward=forward: forward(parameters, inputs).softmax(1),  # type: ignore[misc]
        )
        assert "outputs are logits" in failures(planted)


def test_an_untrained_model_that_is_sure_of_itself(subject: Subject) -> None:
    forward = subject.task.model.forward
    planted = with_forward(subject, lambda parameters, inputs: 50 * forward(parameters, inputs))
    assert "untrained loss" in failures(planted)


def test_a_model_of_too_few_or_too_many_classes(subject: Subject) -> None:
    forward = subject.task.model.forward
    more = with_forward(subject, lambda p, x: torch.cat([forward(p, x), forward(p, x)], dim=1))
    assert "untrained loss" in failures(more)


def test_a_start_that_is_declared_uniform_and_is_not(subject: Subject) -> None:
    assert subject.task.untrained is not None
    exactly = subject.task.untrained._replace(tolerance=1e-5)
    assert failures(with_task(subject, untrained=exactly)) == {"untrained loss"}


class WrongSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class SlightlyWrong(WrongSign):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 1.001 * gradients[0]


@pytest.mark.parametrize("function", [WrongSign, SlightlyWrong])
def test_a_broken_gradient(subject: Subject, function: type[WrongSign]) -> None:
    forward = subject.task.model.forward
    planted = with_forward(subject, lambda p, x: function.apply(forward(p, x)))  # type: ignore[no-untyped-call]
    assert failures(planted) == {"gradient"}


def test_a_layer_cut_out_of_the_graph(subject: Subject) -> None:
    forward = subject.task.model.forward
    planted = with_forward(subject, lambda p, x: forward([p[0].detach() + 0 * p[0], *p[1:]], x))
    assert failures(planted) == {"gradient", "steps move"}


def test_an_evaluation_that_depends_on_its_batch(subject: Subject) -> None:
    forward = subject.task.model.forward

    def batch_normalised(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        return forward(parameters, inputs - inputs.mean(0))

    assert failures(with_forward(subject, batch_normalised)) == {"evaluation batch"}


class MeanOfMeans(Task):
    """Averages the batches' means: off wherever the last batch is smaller."""

    def evaluate(self, parameters: Sequence[Tensor], split: Split, batch_size: int) -> Tensor:
        parts = [
            super(MeanOfMeans, self).evaluate(parameters, Split(inputs, labels), batch_size)
            for inputs, labels in zip(split.inputs.split(batch_size), split.labels.split(batch_size), strict=True)
        ]
        return torch.stack(parts).mean(0)


class SumOfMeans(Task):
    """Sums the batches' means and divides by nothing."""

    def evaluate(self, parameters: Sequence[Tensor], split: Split, batch_size: int) -> Tensor:
        return super().evaluate(parameters, split, batch_size) * -(-len(split) // batch_size)


@pytest.mark.parametrize("kind", [MeanOfMeans, SumOfMeans])
def test_an_evaluation_off_by_the_batch_count(subject: Subject, kind: type[Task]) -> None:
    task = subject.task
    planted = kind(**{field.name: getattr(task, field.name) for field in dataclasses.fields(task)})
    assert "evaluation batch" in failures(dataclasses.replace(subject, task=planted))


def test_a_model_with_dropout_that_never_stops(subject: Subject) -> None:
    forward = subject.task.model.forward
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        planted = with_forward(subject, lambda p, x: forward(p, functional.dropout(x, 0.5)))
        # Training alone would not show: a trial seeds the generator that its dropout draws from.
        assert {"evaluation batch", "gradient"} <= failures(planted)


def test_an_initialisation_that_does_not_heed_its_seed(subject: Subject) -> None:
    initialise = subject.task.model.initialise
    seeds = itertools.count()

    def careless(_: Generator) -> list[Tensor]:
        return initialise(Generator().manual_seed(next(seeds)))

    model = Model("careless", careless, subject.task.model.forward)
    assert failures(with_task(subject, model=model)) == {"same seed twice"}


# --- planted defects: optimizer --------------------------------------------------------------------------------------


class Restless(torch.optim.SGD):
    """Moves a parameter whatever its learning rate."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        with torch.no_grad():
            self.param_groups[0]["params"][-1] += 1e-6


class Lazy(torch.optim.SGD):
    """Forgets its last parameter."""

    def __init__(self, parameters: list[Tensor], lr: float) -> None:
        super().__init__(parameters[:-1], lr=lr)


class Asleep(torch.optim.SGD):
    """Does nothing."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        return None


class Noisy(torch.optim.SGD):
    """Adds noise from no seed of the trial's."""

    generator = Generator().manual_seed(0)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = parameter.grad + torch.randn(parameter.shape, generator=self.generator)
        super().step(closure)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (Restless, {"learning rate 0"}),
        (Lazy, {"steps move"}),
        (Asleep, {"steps move"}),
        (Noisy, {"same seed twice"}),
    ],
)
def test_broken_optimizers(subject: Subject, optimizer: Callable[..., Any], expected: set[str]) -> None:
    planted = dataclasses.replace(subject, build=lambda parameters, lr: optimizer(parameters, lr=lr))
    assert failures(planted) == expected


# --- planted defects: batch order ------------------------------------------------------------------------------------


def plant_order(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Let every epoch's order be changed; `change` sees the first epoch's and this one's."""

    class Planted(BatchOrder):
        first: Tensor | None = None

        def _next_epoch(self) -> None:
            super()._next_epoch()
            if len(self._order):
                if self.first is None:
                    self.first = self._order
                self._order = change(self.first, self._order)

    monkeypatch.setattr(audit, "BatchOrder", Planted)


def repeated(first: Tensor, order: Tensor) -> Tensor:
    order = order.clone()
    order[0] = order[1]
    return order


@pytest.mark.parametrize(
    ("change", "reshuffle"),
    [
        pytest.param(lambda first, order: first, True, id="never reshuffled"),
        pytest.param(lambda first, order: torch.arange(len(order)), True, id="never shuffled"),
        pytest.param(lambda first, order: order[torch.randperm(len(order))], False, id="reshuffled undeclared"),
        pytest.param(repeated, True, id="one example twice"),
        pytest.param(lambda first, order: torch.randint(len(order), (len(order),)), True, id="with replacement"),
    ],
)
@pytest.mark.parametrize("size", [1, 64, 1024])
def test_broken_orders(
    subject: Subject,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Tensor, Tensor], Tensor],
    reshuffle: bool,
    size: int,
) -> None:
    plan = plan_of(4000, batch_size=size, reshuffle=reshuffle)
    subject = dataclasses.replace(subject, plan=plan)
    assert audit.batch_order(subject).passed
    plant_order(monkeypatch, change)
    with torch.random.fork_rng(devices=[]):
        assert not audit.batch_order(subject).passed


def test_an_epoch_that_is_counted_wrong(subject: Subject) -> None:
    for per_epoch in (62, 64):
        plan = plan_of(4000, batch_size=64, per_epoch=per_epoch)
        assert failures(dataclasses.replace(subject, plan=plan)) == {"batch order"}


def test_a_remainder_dropped_undeclared(subject: Subject) -> None:
    plan = plan_of(4000, batch_size=64)
    planted = dataclasses.replace(subject, plan=dataclasses.replace(plan, remainder="drop"))
    assert failures(planted) == {"batch order"}


def test_a_buffer_overwritten_too_early_is_seen(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    class Early(BatchOrder):
        def _gather(self, start: int, end: int) -> list[Batch]:
            return [(inputs, labels.fill_(0)) for inputs, labels in super()._gather(start, end)]

    monkeypatch.setattr(audit, "BatchOrder", Early)
    assert "batch order" in failures(subject)
    assert batches.BatchOrder is BatchOrder


def test_mps_has_no_float64_to_check_gradients_in(subject: Subject) -> None:
    class OnMps(Task):
        @property
        def device(self) -> torch.device:
            return torch.device("mps")

    task = subject.task
    there = OnMps(**{field.name: getattr(task, field.name) for field in dataclasses.fields(task)})
    check = audit.gradient(dataclasses.replace(subject, task=there))
    assert check.passed
    assert "skipped" in check.value


def test_examples_that_are_close_are_not_the_same() -> None:
    near = torch.linspace(0, 1e-4, 2000, dtype=torch.float64).view(-1, 1)
    labels = torch.zeros(len(near), dtype=torch.int64)
    task = dataclasses.replace(toy_task(), train=Split(near, labels), val=Split(near + 1e-9, labels))
    assert audit.disjoint_splits(task).passed
    assert not audit.disjoint_splits(dataclasses.replace(task, val=Split(near.clone(), labels))).passed
