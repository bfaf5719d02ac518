"""Replayed steps are eager ones to the last bit, leave no trace of warming up, and are refused where they are not.

A tape of operations stands for a CUDA graph; the tests marked cuda have the real thing.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.optimizers.composite import Composite
from bench.tasks.models import f1
from bench.tasks.problem import Split
from bench.tasks.task import Task
from bench.training.batches import batches_of
from bench.training.graphs import WARM_UP, CudaRecording, Graphs, Held, Recording, recording_of
from bench.training.loop import parameters_hash, train_stack, train_trial
from bench.training.seeds import Start
from bench.training.stack import Layout, Stack, numbers, stacked_batches
from bench.training.stepper import PLAIN, Method, Stepper
from bench.training.trials import Trials
from tests.cases import TOY_CLASSES, TOY_SHAPE, builder, plan_of, toy_task
from tests.training.recordings import Again, Tape

Build = Callable[[list[Tensor], float], torch.optim.Optimizer]
TASK = toy_task(dtype=torch.float32)
STARTS = [Start(lr, seed, seed, seed, seed) for lr in (0.05, 0.1) for seed in (0, 1)]


def stepper_of(
    build: Build, graphs: Graphs | None, task: Task = TASK, size: int = 8, method: Method = PLAIN
) -> Stepper:
    """A fresh trial: 50 examples in batches of 8, the last of an epoch has 2."""
    parameters = task.initialise(0)
    order = batches_of(task, size, "keep", True, 0, 0)
    return Stepper(task, parameters, build(parameters, 0.05), order, method, graphs=graphs)


def ends(stepper: Stepper) -> list[Tensor]:
    state = [numbers(stepper.optimizer.state[p]) for p in stepper.parameters if p in stepper.optimizer.state]
    return [*(w.detach() for w in stepper.weights), *(t for several in state for t in several)]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def composite(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    halves = (parameters[:2], parameters[2:])
    return Composite([(torch.optim.SGD(half, lr=lr, momentum=0.9), False) for half in halves])


BUILDS: dict[str, tuple[Build, type[Again]]] = {
    "sgd": (builder("sgd"), Tape),
    "momentum": (builder("momentum"), Tape),
    "momentum, foreach": (builder("momentum", "foreach"), Tape),
    "adam, fused": (builder("adam", "fused"), Tape),
    "two in one": (composite, Tape),
    # They read the count of their steps unless they are capturable, which on a CPU they cannot be.
    "adam": (builder("adam"), Again),
    "rmsprop": (builder("rmsprop"), Again),
}


@pytest.mark.parametrize("size", [8, 50])
@pytest.mark.parametrize("name", BUILDS)
def test_replayed_steps_are_eager_ones(name: str, size: int) -> None:
    build, recording = BUILDS[name]
    graphs = Graphs(recording())
    ours, theirs = stepper_of(build, graphs, size=size), stepper_of(build, None, size=size)
    for steps in (1, 2, 5, 20):
        ours.run(steps, lambda: False)
        theirs.run(steps, lambda: False)
        assert same(ends(ours), ends(theirs)), steps
    assert graphs.reason is None
    assert graphs.replayed
    assert (ours.steps, ours.gradient_evaluations) == (theirs.steps, theirs.gradient_evaluations) == (28, 28)
    assert ours._replay is not None
    # A graph for each shape of batch.
    assert sorted(len(key[1]) and key[1][0] for key in ours._replay._recorded) == ([2, 8] if size == 8 else [50])
    assert graphs.seconds == ours._replay.seconds > 0


def test_buffers_are_put_back_too() -> None:
    split = Split(torch.randn(40, *TOY_SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 3)
    task = dataclasses.replace(TASK, model=f1(TOY_SHAPE, TOY_CLASSES), train=split, train_evaluation=split)
    ours, theirs = (stepper_of(builder("momentum"), graphs, task, 20) for graphs in (Graphs(Tape()), None))
    for stepper in (ours, theirs):
        stepper.run(7, lambda: False)
    assert ours.why_eager is None
    assert same(ends(ours), ends(theirs))


def test_static_buffers_take_over_each_batch() -> None:
    """What a graph reads is its own: the batches that it was recorded on may be overwritten."""
    seen: list[Tensor] = []
    graphs = Graphs(Again())
    steps = graphs.steps(lambda x, y: seen.append(x), lambda x, y: None, [], [])
    batches = [(torch.full((2, 3), float(i)), torch.tensor([i, i])) for i in range(3)]
    for inputs, labels in batches:
        steps(inputs, labels)
        assert torch.equal(seen[-1], inputs)
        inputs.fill_(-1)
    # The first step is taken on the batch itself, all others on one buffer.
    assert seen[0] is batches[0][0]
    assert len(seen) == 1 + WARM_UP + 2
    assert {id(tensor) for tensor in seen[1 + WARM_UP :]} == {id(steps._recorded[(2, 3), (2,)].inputs)}  # type: ignore[index]


@pytest.mark.parametrize("views", [True, False])
@pytest.mark.parametrize("groups", [True, False])
def test_stacks_are_replayed_and_recorded_afresh_when_trials_leave(views: bool, groups: bool) -> None:
    ended, graphs = [], Graphs(Tape())
    for given in (graphs, None):
        batches = stacked_batches(TASK, STARTS, 8, "keep", True)
        layout = Layout(views=views, groups=groups, wide=False)
        stack = Stack(TASK, builder("momentum"), STARTS, batches, PLAIN, layout, graphs=given)
        stack.run(12, lambda: False)
        stack.drop({0.05})
        stack.run(12, lambda: False)
        assert (stack.steps, stack.gradient_evaluations) == (24, 24)
        ended.append([t.detach() for n in range(2) for t in (*stack.evaluated_of(n), *stack.state_of(n))])
    assert graphs.reason is None
    assert graphs.replayed
    assert same(*ended)


def test_training_of_trials_and_stacks_is_the_same_replayed() -> None:
    plan = plan_of(steps=30)
    alone = [train_trial(TASK, builder("momentum"), plan, *STARTS[0], graphs=g) for g in (Graphs(Tape()), None)]
    assert alone[0].parameters_sha256 == alone[1].parameters_sha256
    assert [e.metrics for e in alone[0].evaluations] == [e.metrics for e in alone[1].evaluations]
    assert all(e.train_seconds >= 0 for e in alone[0].evaluations)
    stacks = []
    for graphs in (Graphs(Tape()), None):
        batches = stacked_batches(TASK, STARTS, 8, "keep", True)
        layout = Layout(views=True, groups=True, wide=True)
        stack = Stack(TASK, builder("momentum"), STARTS, batches, PLAIN, layout, graphs=graphs)
        stacks.append([trial.parameters_sha256 for trial in train_stack(stack, plan, False, None)])
    assert stacks[0] == stacks[1]


@pytest.mark.parametrize("method", [Method(clip_norm=1.0), Method(average=0.9), Method(factor=lambda step: 0.5)])
def test_what_is_not_plain_is_not_recorded(method: Method) -> None:
    graphs = Graphs(Tape())
    stepper = stepper_of(builder("sgd"), graphs, method=method)
    stepper.run(5, lambda: False)
    assert not graphs.replayed
    assert graphs.seconds == 0


# --- optimizers that a graph does not hold ---------------------------------------------------------------------------


class Counting(torch.optim.SGD):
    """Halves its learning rate by a count of its own; `where` says where it counts."""

    def __init__(self, parameters: Any, lr: float, where: str) -> None:
        super().__init__(parameters, lr)
        self.where, self.count = where, 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        with torch.no_grad():
            for p in group["params"]:
                state = self.state[p]
                if self.where == "group":
                    count = group["k"] = group.get("k", 0) + 1
                elif self.where == "attribute":
                    count = self.count = self.count + 1
                elif self.where == "list":
                    state["seen"] = [*state.get("seen", []), 1]
                    count = len(state["seen"])
                elif self.where == "new tensor":
                    state["k"] = state.get("k", torch.zeros(())) + 1
                    count = 1
                elif self.where == "late":
                    self.count = 0
                    state["k" if state else "j"] = 1
                    count = 1
                elif self.where == "tensors in a list":
                    state["seen"] = [p.clone()]
                    count = 1
                elif self.where == "item":
                    state.setdefault("k", torch.zeros(())).add_(1)
                    count = int(state["k"])
                p -= group["lr"] / (1 + count) * p.grad


@pytest.mark.parametrize("where", ["group", "attribute", "list", "new tensor", "late", "tensors in a list", "item"])
def test_an_optimizer_that_counts_elsewhere_is_not_replayed(where: str) -> None:
    graphs = Graphs(Tape())
    ours, theirs = (stepper_of(lambda p, lr: Counting(p, lr, where), g) for g in (graphs, None))
    for stepper in (ours, theirs):
        stepper.run(20, lambda: False)
    # It goes on as ever, and warming up has left nothing behind.
    assert parameters_hash(ours.parameters) == parameters_hash(theirs.parameters)
    assert not graphs.replayed
    expected = (
        "a step cannot be recorded: RuntimeError: operation not permitted" if where == "item" else "the optimizer"
    )
    assert graphs.reason is not None
    assert graphs.reason.startswith(expected)


def test_a_count_off_the_device_is_noticed() -> None:
    parameter = torch.zeros(2)
    optimizer = torch.optim.Adagrad([parameter], lr=0.1)
    parameter.grad = torch.ones(2)
    for device, changed in (("cuda", True), ("cpu", False)):
        held = Held([parameter], [optimizer], torch.device(device))
        before = [t.clone() for t in numbers(optimizer.state[parameter])]
        optimizer.step()
        assert held.restore() is changed
        assert same(numbers(optimizer.state[parameter]), before)
        assert torch.equal(parameter, torch.zeros(2))


# --- rehearsals ------------------------------------------------------------------------------------------------------


def trials_of(build: Build, **changes: Any) -> Trials:
    return Trials(TASK, build, plan_of(**changes), STARTS)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_rehearsal_lets_steps_be_replayed(stacked: bool) -> None:
    trials = trials_of(builder("momentum"))
    choice = trials.choose(4) if stacked else None
    assert choice is None or choice.most == 4
    assert trials.why_not_replayed(Tape(), choice) is None


class Shifted(Tape):
    """A recording whose replays scale some tensors by a factor."""

    def __init__(self, scaled: Callable[[], list[Tensor]], factor: float) -> None:
        self.scaled, self.factor = scaled, factor

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        replay = super().record(step)

        def off() -> None:
            replay()
            for tensor in self.scaled():
                tensor.mul_(self.factor)

        return off


@pytest.mark.parametrize(
    ("moved", "factor", "reason"),
    [
        ("parameters", 1 + 1e-3, "steps end with another gradient"),
        # More than rounding, though gradients hardly show it.
        ("parameters", 1 + 5e-7, "parameters move otherwise"),
        ("state", 1 + 1e-3, "steps end with another optimizer state"),
        ("state", 1.0, None),
    ],
)
def test_a_rehearsal_refuses_what_ends_otherwise(moved: str, factor: float, reason: str | None) -> None:
    made: list[torch.optim.Optimizer] = []

    def build(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
        made.append(builder("momentum")(parameters, 1e-3 * lr))
        return made[-1]

    def scaled() -> list[Tensor]:
        parameters = made[-1].param_groups[0]["params"]
        return [p.data if moved == "parameters" else made[-1].state[p]["momentum_buffer"] for p in parameters]

    found = trials_of(build).why_not_replayed(Shifted(scaled, factor))
    assert found == (reason and f"replayed, {reason}")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": Method(clip_norm=1.0)}, "gradients are clipped"),
        ({"method": Method(closure=True)}, "the optimizer calls for the loss itself"),
        ({"method": Method(factor=lambda step: 0.5)}, "the learning rate moves"),
        ({"method": Method(average=0.5)}, "averages are kept"),
        ({"remainder": "carry"}, "batches of many sizes"),
    ],
)
def test_what_a_step_does_beyond_the_plain_one_is_named(changes: dict[str, Any], reason: str) -> None:
    assert trials_of(builder("sgd"), **changes).why_not_replayed(Tape()) == reason


def test_only_cuda_devices_record() -> None:
    assert recording_of(torch.device("cpu")) is None
    assert recording_of(torch.device("mps")) is None
    assert isinstance(recording_of(torch.device("cuda", 1)), CudaRecording)


# --- the real thing --------------------------------------------------------------------------------------------------


def on_cuda() -> Task:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    splits = {name: getattr(TASK, name).to(device, torch.float32) for name in ("train", "val", "test")}
    return dataclasses.replace(TASK, **splits, train_evaluation=splits["train"])


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "rmsprop"])
def test_cuda_graphs_are_eager_steps_to_rounding(name: str) -> None:
    task = on_cuda()
    recording: Recording = CudaRecording(task.device)
    graphs = Graphs(recording)
    ours, theirs = stepper_of(builder(name), graphs, task), stepper_of(builder(name), None, task)
    for stepper in (ours, theirs):
        stepper.run(20, lambda: False)
    assert graphs.reason is None
    assert graphs.replayed
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    trials = Trials(task, builder(name), plan_of(), STARTS)
    assert trials.why_not_replayed(recording) is None
    assert trials.why_not_replayed(recording, trials.choose(4)) is None


@pytest.mark.cuda
def test_cuda_graphs_of_a_stack_outlive_trials_that_leave() -> None:
    task, ended = on_cuda(), []
    graphs = Graphs(CudaRecording(task.device))
    for given in (graphs, None):
        batches = stacked_batches(task, STARTS, 8, "keep", True)
        layout = Layout(views=True, groups=True, wide=True)
        stack = Stack(task, builder("adam"), STARTS, batches, PLAIN, layout, graphs=given)
        stack.run(12, lambda: False)
        stack.drop({0.05})
        stack.run(12, lambda: False)
        ended.append(stack.evaluated)
    assert graphs.reason is None
    for a, b in zip(*ended, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
