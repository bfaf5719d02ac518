"""A problem made of arrays and a torch module trains as the module itself would."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from bench.errors import UsageError
from bench.tasks import own
from bench.tasks.problem import CROSS_ENTROPY, Model, Problem

GENERATOR = Generator().manual_seed(0)
POINTS = torch.randn(60, 3, generator=GENERATOR)
CLASSES = torch.arange(60) % 4
DATA: dict[str, Any] = {
    "train": (POINTS[:40], CLASSES[:40]),
    "val": (POINTS[40:50], CLASSES[40:50]),
    "test": (POINTS[50:], CLASSES[50:]),
}


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4))


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4))


class Tied(nn.Module):
    """One matrix used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3, bias=False)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.two(self.one(inputs).tanh())


class Recurrent(nn.Module):
    """Reads an example as a sequence of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.gru(inputs.unsqueeze(2))[0][:, -1])


def make(**changes: Any) -> Problem:
    return own.problem(**{**DATA, "model": net, "target": 0.9, **changes})


@pytest.mark.parametrize("build", [net, normalised, Recurrent], ids=["plain", "batch norm", "recurrent"])
def test_training_it_is_training_the_module(build: Callable[[], nn.Module]) -> None:
    model = make(model=build).model
    parameters = [p.requires_grad_() for p in model.initialise(Generator().manual_seed(7))]
    buffers = model.buffers()
    module = build()
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), parameters, strict=True):
            parameter.copy_(value)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    forward = model.training_forward or model.forward
    for start in (0, 10, 20):
        batch, labels = POINTS[start : start + 10], CLASSES[start : start + 10]
        gradients = torch.autograd.grad(
            functional.cross_entropy(forward([*parameters, *buffers], batch), labels), parameters
        )
        optimizer.zero_grad()
        functional.cross_entropy(module(batch), labels).backward()
        optimizer.step()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.1 * gradient
    for theirs, ours in zip(module.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs)
    for theirs, ours in zip(module.buffers(), buffers, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(model.forward([*parameters, *buffers], POINTS), module.eval()(POINTS))


def test_modes_are_two_functions_only_where_they_differ() -> None:
    assert make().model.training_forward is None
    assert make().model.buffers() == []
    model = make(model=normalised).model
    assert model.training_forward is not None
    assert [tuple(b.shape) for b in model.buffers()] == [(8,), (8,), ()]


def test_evaluation_leaves_buffers_alone_and_trials_share_none() -> None:
    model = make(model=normalised).model
    assert model.training_forward is not None
    parameters, mine, others = model.initialise(Generator().manual_seed(0)), model.buffers(), model.buffers()
    model.forward([*parameters, *mine], POINTS)
    assert all(torch.equal(a, b) for a, b in zip(mine, others, strict=True))
    model.training_forward([*parameters, *mine], POINTS)
    assert not torch.equal(mine[0], others[0])
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), others, strict=True))


def test_initial_parameters_are_the_modules_draw_and_depend_on_the_generator_alone() -> None:
    model = make().model
    state = torch.get_rng_state()
    first, again, other = (model.initialise(Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert [tuple(p.shape) for p in first] == [(8, 3), (8,), (4, 8), (4,)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    # As nn.Linear draws them: U(−1/√inputs, 1/√inputs).
    assert 0.5 / 3**0.5 < first[0].abs().max() <= 1 / 3**0.5
    assert not any(p.requires_grad for p in first)


def test_tied_parameters_are_one() -> None:
    model = own.module_model(Tied, POINTS)
    (weight,) = model.initialise(Generator().manual_seed(0))
    torch.testing.assert_close(model.forward([weight], POINTS), (POINTS @ weight.t()).tanh() @ weight.t())


def test_arrays_and_lists_are_taken() -> None:
    problem = make(
        train=(POINTS[:40].double().numpy(), CLASSES[:40].numpy().astype(np.int32)),
        val=([[1.0, 2.0, 3.0]], [2]),
    )
    assert problem.splits.train.inputs.dtype == torch.float32
    assert torch.equal(problem.splits.train.inputs, POINTS[:40])
    assert torch.equal(problem.splits.train.labels, CLASSES[:40])
    assert problem.splits.val.inputs.tolist() == [[1, 2, 3]]
    assert problem.splits.val.labels.dtype == torch.int64


def test_cross_entropy_has_classes_and_accuracy() -> None:
    problem = make()
    assert problem.objective is CROSS_ENTROPY
    assert (problem.target_metric, problem.target, problem.classes) == ("val_accuracy", 0.9, 4)


def test_squared_error_waits_for_the_loss() -> None:
    problem = make(loss="half_squared_error")
    assert (problem.target_metric, problem.classes, problem.objective.correct) == ("val_loss", None, None)
    (loss,) = problem.objective.losses(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
    assert loss == 2.5


def test_a_loss_of_ones_own_with_an_accuracy() -> None:
    def absolute(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - labels).abs().sum(1)

    def near(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - labels).abs().amax(1) < 1

    problem = make(loss=absolute, correct=near)
    assert problem.objective.name == "absolute"
    assert problem.target_metric == "val_accuracy"
    assert problem.objective.correct is near
    assert problem.objective.losses(torch.ones(2, 3), torch.zeros(2, 3)).tolist() == [3, 3]


def test_a_functional_model_is_taken_as_it_is() -> None:
    model = Model("zero", lambda _: [torch.zeros(4, 3)], lambda weights, inputs: inputs @ weights[0].t())
    problem = make(model=model)
    assert problem.model is model
    assert problem.classes == 4


class Replacing(nn.Module):
    """A buffer that is not changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen = self.seen + 1
        return self.linear(inputs)


def frozen() -> nn.Module:
    module = nn.Linear(3, 4)
    module.bias.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"train": POINTS}, "train: must be a pair (inputs, labels)"),
        ({"val": (POINTS, "abc")}, "val: labels are no array of numbers"),
        ({"test": (POINTS, 3)}, "test: labels are a single number, must be one for each example"),
        ({"test": (POINTS.to(torch.complex64), CLASSES)}, "test: inputs are complex, must be real or integers"),
        ({"loss": "crossentropy"}, "unknown loss 'crossentropy'; did you mean 'cross_entropy'?"),
        ({"model": net()}, "model: is a module, must be a function that makes a fresh one for every seed"),
        ({"model": 3}, "model: is of type int, must be a function that returns a torch module"),
        ({"model": lambda: 3}, "model: returned a int, must return a torch.nn.Module"),
        ({"model": nn.Tanh}, "model: the module has no parameters to train"),
        ({"model": lambda: nn.LazyLinear(4)}, "model: parameter weight has no shape yet"),
        (
            {"model": lambda: nn.Linear(3, 4).double()},
            "model: parameter weight is float64 on cpu, must be float32 on cpu",
        ),
        ({"model": frozen}, "model: parameter bias is frozen (requires_grad=False); make it a buffer"),
        ({"model": Replacing}, "model: buffer seen is replaced in the forward pass, must be changed in place"),
        (
            {"model": lambda: nn.Sequential(net(), nn.Dropout(0.1))},
            "model: draws random numbers in its forward pass (dropout?), so a trial would not repeat",
        ),
        ({"model": lambda: nn.Linear(5, 4)}, "model: cannot take (40, 3): RuntimeError: "),
        ({"model": lambda: nn.LSTM(3, 4)}, "model: returns a tuple, must return a tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_what_cannot_be_used_is_said_in_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as error:
        make(**changes)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
