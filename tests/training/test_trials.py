"""Stacked trials end as they do alone: to the last bit on a CPU, whatever is trained, however they stop."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks.layers import STACKED
from bench.tasks.models import logreg, mlp
from bench.tasks.problem import Split
from bench.tasks.task import Task
from bench.training import stack as stack_module
from bench.training import trials as trials_module
from bench.training.compiled import CompiledGradients
from bench.training.loop import Plan, Trial
from bench.training.rehearsal import Rehearsal
from bench.training.seeds import Start
from bench.training.stack import Layout
from bench.training.stepper import Method
from bench.training.trials import APART, ONE_BY_ONE, Choice, Trials, _parts
from tests.cases import builder, plan_of, toy_task

#: Elementwise, in all three implementations; and some that look at a whole tensor.
ELEMENTWISE = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "nadam", "radam", "adamax")
OTHERS = ("adafactor", "rprop", "asgd", "adadelta", "muon")
DIVERGES = 1e30


def image_task(hidden: int = 32, examples: int = 50, classes: int = 10) -> Task:
    """Noisy images of 8 × 8 pixels: large enough for products that round alike, stacked or not."""
    generator = torch.Generator().manual_seed(0)
    split = Split(
        torch.randn(examples, 1, 8, 8, generator=generator),
        torch.randint(0, classes, (examples,), generator=generator),
    )
    return Task("images", mlp((1, 8, 8), classes, hidden), split, split, split, split, classes)


def starts_of(lrs: Sequence[float], seeds: Sequence[int], order: int | None = None) -> list[Start]:
    return [Start(lr, seed, 10 + seed, order or 20 + seed, 30 + seed) for lr in lrs for seed in seeds]


def trials_of(task: Task, name: str, starts: Sequence[Start], implementation: str = "default", **plan: Any) -> Trials:
    return Trials(task, builder(name, implementation), plan_of(len(task.train), **plan), starts)


def let_round(monkeypatch: pytest.MonkeyPatch, where: Callable[[Sequence[Start], Layout], bool]) -> None:
    """Let rehearsals find other bits in some stacks, as on a processor whose kernels round otherwise there."""
    why_not = Rehearsal.why_not

    def found(rehearsal: Rehearsal, block: Sequence[Start], layout: Layout) -> str | None:
        return "rounds" if rehearsal.exact and where(block, layout) else why_not(rehearsal, block, layout)

    monkeypatch.setattr(Rehearsal, "why_not", found)


def told(trained: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return what a trial says of itself, but for the clock."""
    found = []
    for trial in sorted(trained, key=lambda trial: (trial.seed, trial.lr)):
        fields = dataclasses.asdict(trial)
        for evaluation in fields["evaluations"]:
            del evaluation["train_seconds"]
            # As text, so that NaN equals itself.
            evaluation["metrics"] = {name: repr(value) for name, value in evaluation["metrics"].items()}
        found.append(fields)
    return found


def alone(trials: Trials) -> list[dict[str, Any]]:
    return told(list(trials.train(trials.choose("off"), None)))


def stacked(trials: Trials, size: int) -> tuple[Choice, list[dict[str, Any]]]:
    """Train in stacks of at most `size`, in the bits of each alone."""
    fits, reason = trials.fits([size], exact=True)
    assert fits, reason
    choice = trials._stacked(size, fits[size], True)
    return choice, told(list(trials.train(choice, None)))


@st.composite
def cells(draw: st.DrawFn) -> tuple[Trials, int]:
    name = draw(st.sampled_from(ELEMENTWISE + OTHERS))
    offered = ("default",) if name in ("adafactor", "muon", "rprop", "asgd") else ("default", "foreach")
    task = image_task(draw(st.sampled_from([16, 32, 48])), draw(st.integers(20, 60)), draw(st.sampled_from([8, 10])))
    lrs = draw(st.lists(st.sampled_from([1e-3, 0.01, 0.1, 1.0, DIVERGES]), min_size=1, max_size=4, unique=True))
    seeds = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))
    size = draw(st.integers(1, 20))
    plan = {
        "batch_size": size,
        "steps": draw(st.integers(1, 60)),
        "remainder": draw(st.sampled_from(["keep", "drop", "carry"] if size < 20 else ["keep"])),
        "reshuffle": draw(st.booleans()),
    }
    order = draw(st.sampled_from([None, 7]))
    trials = trials_of(task, name, starts_of(lrs, seeds, order), draw(st.sampled_from(offered)), **plan)
    return trials, draw(st.integers(2, max(2, len(lrs) * len(seeds))))


@settings(max_examples=15)
@given(cells())
def test_stacked_is_single_bit_for_bit(cell: tuple[Trials, int]) -> None:
    trials, size = cell
    fits, _ = trials.fits([size], exact=True)
    if size in fits:
        _, found = stacked(trials, size)
        assert found == alone(trials)


@pytest.mark.parametrize(
    ("name", "implementation"),
    [*((name, "default") for name in ELEMENTWISE), ("adam", "foreach"), ("momentum", "fused")],
)
def test_elementwise_optimizers_stack_exactly(name: str, implementation: str) -> None:
    trials = trials_of(image_task(), name, starts_of([0.01, 0.1, DIVERGES], [0, 1]), implementation, steps=20)
    expected = alone(trials)
    for size in (6, 2):
        choice, found = stacked(trials, size)
        assert choice.most == size
        assert found == expected
    assert {trial["status"] for trial in found} == {"complete", "diverged"}


def test_metrics_are_taken_together_only_where_they_are_those_of_each_also_of_weights_that_began_at_zero() -> None:
    task = dataclasses.replace(image_task(), model=logreg((1, 8, 8), 10))
    assert not any(parameter.any() for parameter in task.initialise(0))
    starts = starts_of((0.01, 0.02, 0.04, 0.08), range(4))
    trials = trials_of(task, "sgd", starts)
    stack = trials.stack(starts, APART[0])
    stack.run(20, lambda: False)
    together = task.evaluate_stacked(stack.evaluated, task.test, 1000)
    singly = torch.stack([task.evaluate(stack.evaluated_of(number), task.test, 1000) for number in range(len(starts))])
    assert torch.allclose(together, singly)
    assert torch.equal(together, singly) or not trials._rehearsal(exact=True).evaluates_together(starts, 1000)


def test_a_learning_rate_at_which_all_trials_diverged_stops_costing(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    real = trials_module.Stack._take

    def watched(stack: Any, steps: int, stop: Any) -> None:
        widths.append(len(stack.starts))
        real(stack, steps, stop)

    task = image_task()
    trials = trials_of(task, "adam", starts_of([0.01, DIVERGES, 0.1], [0, 1]), steps=40)
    fits, _ = trials.fits([6], exact=True)
    monkeypatch.setattr(trials_module.Stack, "_take", watched)
    found = list(trials.train(trials._stacked(6, fits[6], True), None))
    assert (widths[0], widths[-1]) == (6, 4)
    assert [trial.status for trial in found if trial.lr == DIVERGES] == ["diverged", "diverged"]


def test_schedules_and_averages_are_stacked_exactly() -> None:
    task = image_task()
    for method in (Method(factor=lambda step: 1 / (1 + step)), Method(average=0.9)):
        trials = trials_of(task, "momentum", starts_of([0.01, 0.1], [0, 1]), steps=30, method=method)
        assert stacked(trials, 4)[1] == alone(trials)


def test_full_batches_are_one_batch_for_all() -> None:
    trials = trials_of(image_task(), "momentum", starts_of([0.01, 0.1], [0, 1, 2]), batch_size=50, steps=20)
    choice, found = stacked(trials, 6)
    assert found == alone(trials)
    assert [len(inputs) for inputs, _ in next(trials.stack(choice.blocks[0], choice.layout).batches.take(1))] == [50]


def test_interrupted_trials_say_so() -> None:
    task = image_task()
    trials = trials_of(task, "sgd", starts_of([0.01, DIVERGES], [0, 1]), steps=500)
    fits, _ = trials.fits([4], exact=True)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 60

    found = list(trials.train(trials._stacked(4, fits[4], True), None, stop))
    assert {(trial.lr, trial.status) for trial in found} == {(0.01, "interrupted"), (DIVERGES, "diverged")}
    assert all(trial.parameters_sha256 for trial in found)
    assert 0 < found[0].evaluations[-1].step < 500


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seconds": 1.0}, "a budget in seconds"),
        ({"method": Method(clip_norm=1.0)}, "gradients are clipped"),
        ({"method": Method(micro_batch=4)}, "micro-batches"),
        ({"method": Method(closure=True)}, "the optimizer calls for the loss itself"),
        ({"steps": 99}, "fewer than 100 steps"),
    ],
)
def test_what_cannot_be_stacked_is_trained_one_by_one_and_says_why(changes: dict[str, Any], reason: str) -> None:
    trials = trials_of(toy_task(), "sgd", starts_of([0.1, 0.2], [0]), **{"steps": 200} | changes)
    choice = trials.choose("auto")
    assert (choice.path, choice.reason, choice.most) == (ONE_BY_ONE, reason, 1)


def test_large_models_have_to_take_more_steps() -> None:
    trials = trials_of(image_task(hidden=200), "sgd", starts_of([0.1, 0.2], [0]), steps=499)
    assert trials.choose("auto").reason == "fewer than 500 steps"


def test_off_and_single_trials() -> None:
    task = toy_task()
    assert trials_of(task, "sgd", starts_of([0.1, 0.2], [0])).choose("off").reason == "training.stack=off"
    assert trials_of(task, "sgd", starts_of([0.1], [0])).choose("auto").reason == "a single trial"


def test_an_optimizer_that_mixes_its_parameters_is_not_stacked() -> None:
    class Mixed(torch.optim.SGD):
        """Scales its gradients by their norm, all parameters together."""

        def step(self, closure: Any = None) -> Any:
            parameters = [p for group in self.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, 1e-3)
            return super().step()

    task = image_task()
    one_rate = Trials(task, lambda p, lr: Mixed(p, lr), plan_of(steps=200), starts_of([0.1], [0, 1]))
    choice = one_rate.choose("auto")
    assert (choice.path, choice.reason) == (ONE_BY_ONE, "trials end otherwise when they are stacked")
    # Of several learning rates each has an optimizer of its own, which then mixes nothing but one trial.
    several = Trials(task, lambda p, lr: Mixed(p, lr), plan_of(steps=200), starts_of([0.1, 0.2], [0]))
    fits, _ = several.fits([2], exact=True)
    assert fits == {2: APART[0]._replace(views=True)}


@pytest.mark.parametrize("holds", [False, True])
def test_copied_gradients_may_be_replaced_but_not_held_on_to(holds: bool) -> None:
    class Difference(torch.optim.SGD):
        """Adds what the gradient has changed by since the last step."""

        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    gradient = parameter.grad
                    before = self.state[parameter].get("before", gradient)
                    self.state[parameter]["before"] = gradient if holds else gradient.clone()
                    parameter.grad = gradient + (gradient - before)
            return super().step()

    task = image_task()
    trials = Trials(task, lambda p, lr: Difference(p, lr), plan_of(steps=200), starts_of([0.1, 0.2], [0, 1]))
    assert bool(trials.fits([4], exact=True)[0]) is not holds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack_module, "COPIED", 0)
        assert trials.fits([4], exact=True)[0]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_stack_of_a_given_size_keeps_every_bit_where_a_layout_does(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where kernels are such that a wide product rounds otherwise than those of each trial."""
    let_round(monkeypatch, lambda block, layout: layout.wide)
    trials = trials_of(image_task(), "sgd", starts_of([0.01, 0.1], [0, 1]))
    if compiled:
        trials = dataclasses.replace(trials, compiled=CompiledGradients(trials.task, {}))
    choice = trials.choose(4)
    assert (choice.most, choice.exact, choice.layout.wide) == (4, not compiled, compiled)


def test_models_without_stacked_layers_go_through_vmap(task: Task) -> None:
    small = Split(task.train.inputs[:60], task.train.labels[:60])
    model = dataclasses.replace(task.model, stacked_forward=None)
    plain = dataclasses.replace(task, model=model, train=small, train_evaluation=small, val=small, test=small)
    trials = trials_of(plain, "sgd", starts_of([0.01, 0.1], [0, 1]), steps=30)
    choice = trials.choose(4)
    assert (choice.path, choice.most, choice.together) == ("vmap", 4, False)
    for a, b in zip(told(list(trials.train(choice, None))), alone(trials), strict=True):
        for left, right in zip(a["evaluations"], b["evaluations"], strict=True):
            values = ([float(value) for value in side["metrics"].values()] for side in (left, right))
            assert next(values) == pytest.approx(next(values), rel=1e-5)


def test_blocks_share_batches_as_long_as_they_can() -> None:
    task, starts = toy_task(), starts_of([1.0, 2.0, 3.0, 4.0], [0, 1, 2])
    sizes = {most: [len(b) for b in trials_of(task, "sgd", starts).blocks(most)] for most in (1, 2, 3, 4, 7, 8, 12)}
    assert sizes == {
        1: [1] * 12,
        2: [2] * 6,
        3: [2] * 6,
        4: [4] * 3,
        7: [4] * 3,
        8: [4, 8],
        12: [12],
    }
    for most in sizes:
        blocks = trials_of(task, "sgd", starts).blocks(most)
        assert sorted(start for block in blocks for start in block) == sorted(starts)
    assert _parts([1, 2, 3, 4, 5], 2) == [[1], [2, 3], [4, 5]]


def test_the_fastest_is_chosen_and_a_stack_that_gains_nothing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    task = image_task()
    trials = trials_of(task, "sgd", starts_of([0.01, 0.02, 0.1], [0, 1]), steps=200)
    monkeypatch.setattr(Trials, "_gains", lambda *_: {6: 1.5, 3: 2.0, 2: 1.0})
    assert trials.choose("auto").most == 3
    monkeypatch.setattr(Trials, "_gains", lambda *_: {6: 1.0, 3: 1.0, 2: 1.0})
    choice = trials.choose("auto")
    assert (choice.path, choice.reason) == (ONE_BY_ONE, "stacked, trials are 1.00 times as fast")


@pytest.mark.parametrize(("steps", "window"), [(200, 0.01), (10**9, 0.1)])
def test_the_longer_trials_take_the_longer_candidates_are_timed(
    steps: int, window: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []

    def step_seconds(stepper: Any, window: float) -> float:
        timed.append(window)
        return 1e-3

    monkeypatch.setattr(trials_module, "_step_seconds", step_seconds)
    trials = trials_of(image_task(), "sgd", starts_of([0.01, 0.02], [0, 1]), steps=steps)
    assert trials.choose("auto").most == 4
    # One by one first, to see how long that takes; then that and stacks of four and of two, in turns.
    assert timed == [0.01, *[window] * 6]


def test_a_stack_that_fails_while_it_is_timed_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    step_seconds = trials_module._step_seconds

    def failing(stepper: Any, window: float) -> float:
        if stepper.trials == 4:
            raise RuntimeError("out of something")
        return step_seconds(stepper, window) / stepper.trials**2

    monkeypatch.setattr(trials_module, "_step_seconds", failing)
    trials = trials_of(image_task(), "sgd", starts_of([0.01, 0.02], [0, 1]), steps=200)
    assert trials.choose("auto").most == 2
    monkeypatch.setattr(Trials, "sizes", lambda self: [4])
    assert trials.choose("auto").reason == "stacked, trials are 0.00 times as fast"


def test_stacks_of_tiny_models_whose_batches_leave_the_cache_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    task = dataclasses.replace(image_task(), model=logreg((1, 8, 8), 10))
    trials = trials_of(task, "sgd", starts_of([0.01, 0.02], [0, 1]), batch_size=2, steps=200)
    batch = 2 * 64 * 4
    for most, size in ((4 * batch, 4), (4 * batch - 1, 2), (0, 2)):
        monkeypatch.setattr(trials_module, "TINY_BYTES", most)
        assert trials.choose("auto").most == size


@pytest.mark.parametrize("gain", [0.0, 1.0, 100.0])
def test_no_timing_decides_how_tiny_models_are_trained(gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trials, "_gains", lambda *_: {2: gain})
    task = dataclasses.replace(image_task(), model=logreg((1, 8, 8), 10))
    choice = trials_of(task, "adam", starts_of((0.01, 0.1), (0,)), batch_size=2, steps=200).choose("auto")
    assert (choice.path, choice.most) == ("native", 2)


@pytest.mark.parametrize("keeps", [2, 4])
def test_tiny_models_are_not_stacked_in_fewer_for_the_sake_of_bits(keeps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    let_round(monkeypatch, lambda block, layout: len(block) > keeps)
    task = dataclasses.replace(image_task(examples=64), model=logreg((1, 8, 8), 10))
    choice = trials_of(task, "sgd", starts_of([0.01, 0.02], [0, 1]), batch_size=32, steps=200).choose("auto")
    assert choice.most == 4
    assert choice.exact <= (keeps == 4)


def test_stacks_stay_within_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = trials_of(image_task(), "sgd", starts_of([0.01, 0.1], [0, 1, 2]), steps=200)
    assert trials.sizes() == [6, 2]
    monkeypatch.setattr(trials_module, "_free_bytes", lambda device: 1)
    assert trials.sizes() == []
    assert trials.choose("auto").reason == "no stack fits the memory"


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", ["mlp", "lenet5", "f1", "simple_cnn", "mlp_deepobs", "logreg"])
def test_stacked_layers_are_the_layers_of_each_trial(name: str, shared: bool) -> None:
    from bench.tasks import models

    model = {"simple_cnn": models.simple_cnn}.get(name, getattr(models, name))((1, 28, 28), 10)
    drawn = [model.initialise(torch.Generator().manual_seed(seed)) for seed in range(3)]
    buffers = model.buffers()
    weights = [torch.stack(several).double() for several in zip(*drawn, strict=True)]
    weights += [b.double().expand(3, *b.shape).clone() for b in buffers]
    inputs = torch.randn(4, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    batches = inputs if shared else torch.stack([inputs, inputs + 1, -inputs])
    for stacked_forward, forward in (
        (model.stacked_forward, model.forward),
        (model.stacked_training_forward, model.training_forward),
    ):
        if forward is None:
            assert stacked_forward is None
            continue
        assert stacked_forward is not None
        ours = [w.clone() for w in weights]
        outputs = stacked_forward(ours, batches)
        for trial in range(3):
            single = [w[trial].clone() for w in weights]
            expected = forward(single, batches if shared else batches[trial])
            torch.testing.assert_close(outputs[trial], expected, rtol=1e-10, atol=1e-12)
            for moved, as_alone in zip(ours, single, strict=True):
                torch.testing.assert_close(moved[trial], as_alone, rtol=1e-10, atol=1e-12)


def test_stacked_rows_of_pixels() -> None:
    images = torch.arange(48.0).view(2, 4, 1, 2, 3)
    assert torch.equal(STACKED.pixels(images), images.flatten(2))
    assert torch.equal(STACKED.pixels(images[0]), images[0].flatten(1))


def test_a_plan_s_own_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials with orders of their own see, each, the batches they see alone."""
    task = toy_task(dtype=torch.float32)
    plan: Plan = plan_of(steps=20)
    trials = Trials(task, builder("sgd"), plan, starts_of([0.1], [3, 4]))
    block = trials.blocks(2)[0]
    together = trials.stack(block, APART[0]).batches
    single = [trials.stepper(start).batches for start in block]
    taken = [[tuple(t.clone() for t in batch) for some in b.take(20) for batch in some] for b in (together, *single)]
    for (inputs, labels), *others in zip(*taken, strict=True):
        for number, (own_inputs, own_labels) in enumerate(others):
            assert torch.equal(inputs[number], own_inputs)
            assert torch.equal(labels[number], own_labels)
