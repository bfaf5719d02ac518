"""docs/worked-example.md: every line redone, and held against autograd, torch.optim.SGD and the training loop."""

import ast
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.tasks.problem import Problem, Split, Splits
from bench.tasks.task import build_task
from bench.training.batches import batches_of
from bench.training.stepper import Stepper
from tests.tasks.problems import load, mean_loss

PAGE = Path(__file__).resolve().parents[1] / "docs" / "worked-example.md"
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def value_of(node: ast.expr) -> Any:
    """Work out numbers, lists of them, and sums, differences, products and quotients."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -value_of(operand)
        case ast.BinOp(left=left, op=sign, right=right):
            return OPERATORS[type(sign)](value_of(left), value_of(right))
        case ast.List(elts=items):
            return [value_of(item) for item in items]
    raise AssertionError(f"not arithmetic: {ast.unparse(node)}")


def lines() -> dict[str, list[str]]:
    """Return name → what stands between the equals signs, of every line in a fenced block."""
    found: dict[str, list[str]] = {}
    for block in re.findall(r"^```\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            name, *sides = (part.strip() for part in line.split("="))
            assert name not in found
            found[name] = sides
    return found


LINES = lines()


def says(name: str) -> Any:
    """Return the value that the page gives a name."""
    return value_of(ast.parse(LINES[name][-1], mode="eval").body)


def tensors(*names: str) -> Tensor:
    return torch.tensor([says(name) for name in names], dtype=torch.float32)


def example_problem() -> Problem:
    """The suite's linear regression, with the page's two examples as its data."""
    problem = load("regression/linear", features=2)
    split = Split(tensors("inputs_1", "inputs_2"), tensors("label_1", "label_2")[:, None])
    return Problem(
        Splits(split, split, split, distinct=False), problem.model, problem.objective, "val_loss", problem.target
    )


def start() -> list[Tensor]:
    return [tensors("weight").requires_grad_(), tensors("bias").requires_grad_()]


@pytest.mark.parametrize("name", LINES)
def test_both_sides_of_every_line_are_equal(name: str) -> None:
    """Exactly: every number is a short sum of powers of two."""
    values = [value_of(ast.parse(side, mode="eval").body) for side in LINES[name]]
    assert all(value == values[0] for value in values)
    assert torch.tensor(values[-1], dtype=torch.float64).float().double().tolist() == values[-1]


def test_the_page_has_a_line_for_every_quantity() -> None:
    computed = [name for name, sides in LINES.items() if len(sides) == 2]
    assert len(LINES) - len(computed) == 7
    assert len(computed) == 21


def test_autograd_finds_the_same_outputs_losses_and_gradients() -> None:
    problem, parameters = example_problem(), start()
    split = problem.splits.train
    outputs = problem.model.forward(parameters, split.inputs)
    losses = problem.objective.losses(outputs, split.labels)
    assert torch.equal(outputs.squeeze(1), tensors("output_1", "output_2"))
    assert torch.equal((outputs - split.labels).squeeze(1), tensors("error_1", "error_2"))
    assert torch.equal(losses, tensors("loss_1", "loss_2"))
    assert losses.mean().item() == says("loss")
    weight, bias = torch.autograd.grad(losses.mean(), parameters, retain_graph=True)
    assert torch.equal(weight, tensors("weight_gradient_1", "weight_gradient_2")[None])
    assert bias.tolist() == [says("bias_gradient")]
    weight, bias = torch.autograd.grad(losses[0], parameters)
    assert torch.equal(weight, tensors("alone_1", "alone_2")[None])
    assert bias.tolist() == [says("alone_bias")]


@pytest.mark.parametrize("implementation", ["by hand", "torch.optim.SGD", "training loop"])
def test_the_step_is_the_same_to_the_last_bit(implementation: str) -> None:
    problem, parameters = example_problem(), start()
    rate, split = says("learning_rate"), problem.splits.train
    if implementation == "training loop":
        task = build_task("worked example", problem, torch.device("cpu"), "float32", None, 0)
        batches = batches_of(task, 2, "keep", True, 0, 0)
        Stepper(task, parameters, torch.optim.SGD(parameters, rate), batches).run(1, lambda: False)
    elif implementation == "torch.optim.SGD":
        mean_loss(problem, parameters, split).backward()
        torch.optim.SGD(parameters, rate).step()
    else:
        slopes = torch.autograd.grad(mean_loss(problem, parameters, split), parameters)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter -= rate * slope
    assert torch.equal(parameters[0].detach(), tensors("new_weight_1", "new_weight_2")[None])
    assert parameters[1].tolist() == [says("new_bias")]
    outputs = problem.model.forward(parameters, split.inputs)
    losses = problem.objective.losses(outputs, split.labels)
    assert torch.equal(outputs.detach().squeeze(1), tensors("new_output_1", "new_output_2"))
    assert torch.equal(losses.detach(), tensors("new_loss_1", "new_loss_2"))
    assert losses.mean().item() == says("new_loss")
