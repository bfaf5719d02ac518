"""Steps beyond the plain one: closures, clipping, micro-batches, averages, schedules, growth."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.optimizers.schedules import Phases
from bench.tasks.image_knobs import BatchNormKnobs
from bench.tasks.models import f1
from bench.tasks.problem import Stream
from bench.tasks.task import Task
from bench.training.batches import BatchOrder, batches_of
from bench.training.loop import parameters_hash, train_trial
from bench.training.stepper import PLAIN, Method, Stepper, lean_step
from tests.cases import TOY_CLASSES, TOY_SHAPE, builder, plan_of, toy_split, toy_task

Build = Callable[[list[Tensor]], torch.optim.Optimizer]


def sgd(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def stepper_of(method: Method, task: Task | None = None, build: Build = sgd, batch_size: int = 8) -> Stepper:
    task = task or toy_task()
    parameters = task.initialise(0)
    return Stepper(task, parameters, build(parameters), batches_of(task, batch_size, "keep", True, 1, 1), method)


def ran(steps: int, method: Method = PLAIN, **given: Any) -> Stepper:
    stepper = stepper_of(method, **given)
    stepper.run(steps, lambda: False)
    return stepper


def distance(one: Stepper, other: Stepper) -> float:
    pairs = zip(one.parameters, other.parameters, strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def test_the_general_way_takes_the_plain_way_step_for_step() -> None:
    plain, general = ran(40), ran(40, Method(closure=True))
    assert parameters_hash(plain.parameters) == parameters_hash(general.parameters)
    assert plain.gradient_evaluations == general.gradient_evaluations == plain.steps == general.steps == 40


def test_accumulation_with_batch_norm_is_ghost_batch_norm() -> None:
    """arXiv 1705.08741: statistics per chunk are what a micro-batch has. Float64, six steps, about a second."""
    examples = toy_split(48, 5)
    big = toy_task()
    tasks = {}
    for name, knobs in (("plain", BatchNormKnobs()), ("ghost", BatchNormKnobs(ghost_batch=8))):
        tasks[name] = replace(big, model=f1(TOY_SHAPE, TOY_CLASSES, knobs), train=examples, train_evaluation=examples)
    accumulated = ran(6, Method(micro_batch=8), task=tasks["plain"], batch_size=24)
    ghost = ran(6, task=tasks["ghost"], batch_size=24)
    whole = ran(6, task=tasks["plain"], batch_size=24)
    assert distance(accumulated, ghost) < 1e-8
    assert distance(accumulated, whole) > 1e-3


@pytest.mark.parametrize("size", [1, 3, 8])
def test_accumulation_equals_the_big_batch_without_batch_norm(size: int) -> None:
    # SCIENCE.md section 2: to 1e-5; in float64 the rest is rounding.
    assert distance(ran(50), ran(50, Method(micro_batch=size))) < 1e-12


def test_a_micro_batch_is_all_a_pass_sees() -> None:
    seen: list[int] = []
    task = toy_task()

    class Watched(Task):
        def loss(self, weights: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
            seen.append(len(labels))
            return super().loss(weights, inputs, labels)

    fields = {name: getattr(task, name) for name in task.__dataclass_fields__}
    # 50 examples at 8: six batches of 8 in pieces of 3, and a last one of 2.
    ran(7, Method(micro_batch=3), task=Watched(**fields))
    assert seen == [3, 3, 2] * 6 + [2]


def test_a_clipped_gradient_is_no_longer_than_asked() -> None:
    def build(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)

    before = toy_task().initialise(0)
    clipped, free = (ran(1, method, build=build) for method in (Method(clip_norm=1e-3), PLAIN))
    moves = [
        torch.cat([(a - b).flatten() for a, b in zip(s.parameters, before, strict=True)]).detach()
        for s in (clipped, free)
    ]
    assert moves[0].norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert torch.nn.functional.cosine_similarity(*moves, dim=0).item() == pytest.approx(1)
    assert distance(ran(5, Method(clip_norm=1e9)), ran(5)) == 0


def test_the_average_is_what_is_evaluated_and_nothing_that_is_trained() -> None:
    averaged, plain = stepper_of(Method(average=0.75)), stepper_of(PLAIN)
    expected = [p.detach().clone() for p in averaged.parameters]
    for _ in range(6):
        averaged.run(1, lambda: False)
        plain.run(1, lambda: False)
        expected = [0.75 * a + 0.25 * p for a, p in zip(expected, plain.parameters, strict=True)]
    assert distance(averaged, plain) == 0
    for ours, by_hand in zip(averaged.evaluated, expected, strict=True):
        assert torch.allclose(ours, by_hand, rtol=1e-12)


def test_the_learning_rate_follows_the_factor_whatever_the_pieces() -> None:
    rates: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    stepper = stepper_of(Method(factor=lambda step: 1 / (step + 1)), build=lambda p: Watched(p, lr=0.5))
    for steps in (1, 3, 2):
        stepper.run(steps, lambda: False)
    assert rates == [0.5 / (step + 1) for step in range(6)]


def test_the_batch_grows_at_its_steps_whatever_the_pieces() -> None:
    phases = Phases((8, 16, 50), (0, 3, 5), 8, (0.0, 0.5, 0.75))
    seen = []
    for pieces in ([8], [1, 1, 1, 1, 1, 1, 1, 1], [2, 5, 1]):
        stepper = stepper_of(Method(phases=phases))
        for steps in pieces:
            stepper.run(steps, lambda: False)
        seen.append((stepper.batches.examples_seen, parameters_hash(stepper.parameters)))
    # Three batches of 8, then 16 and the 10 that are left of the first epoch, then three whole ones.
    assert seen[0][0] == 3 * 8 + 16 + 10 + 3 * 50
    assert len(set(seen)) == 1


def test_a_closure_may_be_called_several_times_and_every_gradient_counts() -> None:
    def build(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(parameters, lr=0.5, max_iter=4)

    stepper = ran(3, Method(closure=True), build=build)
    assert stepper.steps == 3
    assert 3 < stepper.gradient_evaluations <= 3 * 5


def test_a_gradient_graph_can_be_differentiated_and_does_not_stay() -> None:
    class Curious(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            closure()
            parameters = self.param_groups[0]["params"]
            slope = sum(p.grad.square().sum() for p in parameters)
            assert all(g.isfinite().all() for g in torch.autograd.grad(slope, parameters))

    stepper = ran(2, Method(closure=True, gradient_graph=True), build=lambda p: Curious(p, lr=0.1))
    assert all(p.grad is None for p in stepper.parameters)


def test_what_comes_after_a_step_sees_before_and_the_learning_rate() -> None:
    seen: list[float] = []

    def after(parameters: Sequence[Tensor], before: Sequence[Tensor], lr: float) -> None:
        seen.append(lr)
        for parameter, old in zip(parameters, before, strict=True):
            parameter.copy_(old)

    task = replace(toy_task(), after_step=after)
    stepper = ran(4, Method(factor=lambda step: 0.5**step), task=task)
    assert seen == [0.1, 0.05, 0.025, 0.0125]
    assert parameters_hash(stepper.parameters) == parameters_hash(task.initialise(0))


def test_a_stream_is_trained_on_fresh_noise_by_the_noise_seed() -> None:
    def draw(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(1, 1, 3, 4, generator=generator), torch.zeros(1, dtype=torch.int64)

    stream = Stream(draw, lambda: (torch.zeros(1, 1, 3, 4), torch.zeros(1, dtype=torch.int64)), epoch=50)
    task = replace(toy_task(), stream=stream)

    def trained(order: int, noise: int) -> str:
        build = lambda parameters, lr: torch.optim.SGD(parameters, lr=lr)  # noqa: E731
        return train_trial(task, build, plan_of(), 0.1, 0, 1, order, noise).parameters_sha256

    assert trained(1, 5) == trained(2, 5) != trained(1, 6)
    assert isinstance(batches_of(toy_task(), 8, "keep", True, 0, 0), BatchOrder)


# --- the optimizer's own step ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "adam", "lbfgs", "muon"])
def test_the_lean_step_is_the_optimizer_s_own(name: str) -> None:
    drawn = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    ended = []
    for lean in (False, True):
        parameter = drawn[0].clone().requires_grad_()
        optimizer = builder(name)([parameter], 0.1)

        def closure(parameter: Tensor = parameter) -> Tensor:
            parameter.grad = drawn[1] * parameter.detach()
            return (parameter.detach() * drawn[1]).sum()

        closure()
        for _ in range(3):
            step: Any = lean_step(optimizer) if lean else optimizer.step
            step(closure) if name == "lbfgs" else step()
        ended.append(parameter.detach())
    assert not torch.equal(ended[0], drawn[0])
    assert torch.equal(*ended)


def test_hooks_and_steps_of_an_object_s_own_are_honoured() -> None:
    parameter = torch.ones(2).requires_grad_()
    parameter.grad = torch.ones(2)
    called = []
    hooked = torch.optim.SGD([parameter], lr=0.1)
    hooked.register_step_post_hook(lambda *_: called.append("hook"))
    lean_step(hooked)()
    patched = torch.optim.SGD([parameter], lr=0.1)
    patched.step = lambda: called.append("patched")  # type: ignore[method-assign, assignment, return-value]
    lean_step(patched)()
    torch.optim.lr_scheduler.ConstantLR(plain := torch.optim.SGD([parameter], lr=0.1))
    assert lean_step(plain) == plain.step
    assert called == ["hook", "patched"]
