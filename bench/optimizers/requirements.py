"""What a step of an optimizer requires, found by trying it on a few numbers.

Nothing is known by name: a class that a new torch, a package or a user brings is asked the same way.
"""

import functools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.optimizers.classes import (
    class_title,
    constructor,
    learning_rate_argument,
    missing_arguments,
    optimizer_class,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

#: What a step can require beyond a dense gradient.
CLOSURE, GRADIENT_GRAPH, SPARSE = "closure", "gradient graph", "sparse gradients"
MATRICES, GROUPS = "matrices", "parameter groups"
GRADIENT_FIRST = "gradient before the closure"
#: Key by which classes that require parameter groups tell matrices (true) from the rest (false).
GROUP_KEY = "use_muon"

#: Tried in this order; the first that works is the answer.
ATTEMPTS: tuple[tuple[str, ...], ...] = (
    (),
    (CLOSURE,),
    (MATRICES,),
    (GROUPS,),
    (SPARSE,),
    (GRADIENT_GRAPH,),
    (CLOSURE, GRADIENT_FIRST),
    (CLOSURE, GRADIENT_GRAPH),
    (MATRICES, CLOSURE),
    (MATRICES, GRADIENT_GRAPH),
    (MATRICES, CLOSURE, GRADIENT_GRAPH),
)
#: First arguments that are not parameters: what takes them wraps a model or another optimizer.
OTHER_SUBJECTS = ("model", "module", "optimizer", "base_optimizer")
#: Steps of an attempt: some classes fail at their second, once they have a state.
STEPS = 3


def requirements(target: str, arguments: Mapping[str, Any] | None = None) -> frozenset[str]:
    """Return what a step of a class requires, found by trying: a dense gradient first, then one thing more at a time.

    Args:
        target: As for `bench.optimizers.classes.optimizer_class`.
        arguments: Keyword arguments beyond the learning rate; they can change the answer.

    Returns:
        Some of `CLOSURE` (the step asks for the loss again), `GRADIENT_FIRST` (it takes a gradient before it does, as
        sharpness-aware minimisation), `GRADIENT_GRAPH` (gradients that can be differentiated), `SPARSE` (sparse
        gradients), `MATRICES` (parameters with two dimensions, no others) and `GROUPS` (matrices and the rest in groups
        marked `GROUP_KEY`); empty for most.

    Raises:
        UsageError: No such class, or no way to take a step was found; says what is missing.
    """
    given, kind = dict(arguments or {}), _hashable(optimizer_class(target))
    first = next(iter(constructor(kind)), "")
    if first in OTHER_SUBJECTS:
        raise UsageError(f"optimizer.target={target}: requires {first!r}, where an optimizer takes parameters")
    missing = missing_arguments(kind, given)
    if missing:
        raise UsageError(
            f"optimizer.target={target}: requires optimizer.arguments without a default: {', '.join(missing)}"
        )
    found, reason = _requirements(kind, _key(given))
    if found is None:
        raise UsageError(
            f"optimizer.target={target}: {class_title(target)} cannot take a step with arguments {given}: {reason}"
        )
    return found


def moves_at_zero(target: str, arguments: Mapping[str, Any] | None = None) -> str:
    """Return why steps at learning rate 0 need not leave parameters as they were; "" where they do. Found by trying.

    They do not where the learning rate is no factor of the step (Rprop has a least step), and cannot be taken where a
    class refuses that rate or a line search divides by it.

    Raises:
        UsageError: As `requirements`.
    """
    needs = requirements(target, arguments)
    return _moves_at_zero(_hashable(optimizer_class(target)), _key(arguments or {}), needs)


def grouped(parameters: "Sequence[Tensor]", needs: frozenset[str], lr: float) -> "list[Any]":
    """Return parameters as a class with these requirements takes them: a list, or groups with one learning rate."""
    if GROUPS not in needs:
        return list(parameters)
    parts = {mark: [p for p in parameters if (p.dim() == 2) is mark] for mark in (True, False)}
    return [{"params": part, GROUP_KEY: mark, "lr": lr} for mark, part in parts.items() if part]


def construct(
    kind: "type[Optimizer]",
    parameters: "Sequence[Tensor]",
    needs: frozenset[str],
    lr: float,
    arguments: Mapping[str, Any],
) -> "Optimizer":
    """Build an optimizer object of a class; lists among the arguments become tuples.

    Args:
        kind: The class.
        parameters: Leaf tensors.
        needs: What it requires.
        lr: Learning rate, given as the argument that the class has for it, if any.
        arguments: Keyword arguments beyond it.
    """
    build: Any = kind
    name = learning_rate_argument(kind)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    optimizer: Optimizer = build(grouped(parameters, needs, lr), **({} if name is None else {name: lr}), **plain)
    return optimizer


def _hashable(kind: "type[Optimizer]") -> Any:
    """Return a class; the types of torch do not say that it can be hashed."""
    return kind


def _key(arguments: Mapping[str, Any]) -> str:
    return json.dumps(dict(arguments), sort_keys=True, default=repr)


@functools.cache
def _requirements(kind: Any, arguments: str) -> tuple[frozenset[str] | None, str]:
    """Return the requirements, or None and why the attempts failed."""
    reasons: dict[str, str] = {}
    for attempt in ATTEMPTS:
        needs = frozenset(attempt)
        try:
            _try(kind, json.loads(arguments), needs, lr=0.1)
        # Classes say in every way there is that they were not given what they need.
        except Exception as error:
            reason = _first_line(error)
            reasons.setdefault(reason, f"{reason} (with {' and '.join(attempt)})" if attempt else reason)
        else:
            return needs, ""
    return None, "; ".join(reasons.values())


@functools.cache
def _moves_at_zero(kind: Any, arguments: str, needs: frozenset[str]) -> str:
    import torch

    try:
        before, after = _try(kind, json.loads(arguments), needs, lr=0.0)
    # Classes refuse in every way there is.
    except Exception as error:
        return f"the optimizer takes no step at a learning rate of 0 ({_first_line(error)})"
    if all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
        return ""
    return "the size of the optimizer's steps is not the learning rate's alone"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _try(
    kind: "type[Optimizer]", arguments: Mapping[str, Any], needs: frozenset[str], lr: float
) -> "tuple[list[Tensor], list[Tensor]]":
    """Take a few steps on a bowl; return the parameters before and after."""
    import torch

    shapes: list[tuple[int, ...]] = [(2, 3)] if MATRICES in needs else [(2, 3), (3,)]
    # Nothing degenerate, such as equal rows: some factorise what they are given.
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    before = [p.detach().clone() for p in parameters]

    def closure() -> "Tensor":
        with torch.enable_grad():
            loss = torch.stack([(p.square() / 2 + p.pow(4) / 12).sum() for p in parameters]).sum()
            gradients = torch.autograd.grad(loss, parameters, create_graph=GRADIENT_GRAPH in needs)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.to_sparse(1) if SPARSE in needs else gradient
        return loss

    with _apart():
        optimizer = construct(kind, parameters, needs, lr, arguments)
        step: Callable[..., Any] = optimizer.step
        for _ in range(STEPS):
            if CLOSURE not in needs or GRADIENT_FIRST in needs:
                closure()
            step(closure) if CLOSURE in needs else step()
    return before, [p.detach() for p in parameters]


@contextmanager
def _apart() -> Iterator[None]:
    """Let what is tried neither warn nor draw from torch's random numbers."""
    import torch

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield
