"""How tests load problems by name and train them in plain torch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from bench.tasks.problem import Problem, Split
from bench.tasks.registry import load_problem, task_spec


def load(name: str, seed: int = 0, **knobs: Any) -> Problem:
    """Load a problem by name; knobs as a configuration gives them."""
    return load_problem(task_spec(name, name, None, None, knobs)[0], "", False, seed)


def fresh(problem: Problem, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return fresh parameters, requiring gradients, in a floating type."""
    drawn = problem.model.initialise(Generator().manual_seed(seed))
    return [p.to(dtype).requires_grad_() for p in drawn]


def buffers(problem: Problem, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [b.to(dtype) for b in problem.model.buffers()]


def mean_loss(problem: Problem, parameters: Sequence[Tensor], split: Split) -> Tensor:
    """Return the mean loss over a split, in the floating type of the parameters."""
    dtype = parameters[0].dtype
    split = split.to(torch.device("cpu"), dtype)
    outputs = problem.model.forward([*parameters, *buffers(problem, dtype)], split.inputs)
    return problem.objective.losses(outputs, split.labels).mean()


def gradients(problem: Problem, parameters: Sequence[Tensor], split: Split) -> tuple[Tensor, ...]:
    return torch.autograd.grad(mean_loss(problem, parameters, split), list(parameters))


def descend(problem: Problem, parameters: Sequence[Tensor], lr: float, steps: int) -> None:
    """Take steps of full-batch gradient descent, in place."""
    for _ in range(steps):
        slopes = gradients(problem, parameters, problem.splits.train)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter -= lr * slope


def minimise(problem: Problem, parameters: Sequence[Tensor], split: Split, iterations: int = 500) -> float:
    """Minimise the mean loss over a split by L-BFGS, in place; return the loss."""
    optimizer = torch.optim.LBFGS(
        list(parameters),
        max_iter=iterations,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
        history_size=20,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mean_loss(problem, parameters, split)
        loss.backward()
        return loss

    optimizer.step(closure)
    return mean_loss(problem, parameters, split).item()
