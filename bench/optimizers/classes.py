"""Optimizer classes: those of the installed `torch.optim`, and any other by reference."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, unknown
from bench.references import load_reference

if TYPE_CHECKING:
    from torch.optim import Optimizer

IMPLEMENTATIONS = ("default", "forloop", "foreach", "fused")
#: What classes call their learning rate.
LEARNING_RATE_NAMES = ("lr", "learning_rate", "max_lr")


def optimizer_classes() -> "dict[str, type[Optimizer]]":
    """Return the optimizer classes of the installed torch, by name."""
    import torch.optim

    return {
        name: value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }


def optimizer_class(target: str, key: str = "optimizer.target") -> "type[Optimizer]":
    """Return the class that a target names.

    Args:
        target: Name of a class in torch.optim, "package.module:Class" or "path.py:Class".
        key: Configuration key that holds it, for messages.

    Raises:
        UsageError: No such class, or not a subclass of torch.optim.Optimizer.
    """
    if ":" not in target:
        classes = optimizer_classes()
        if target not in classes:
            raise unknown(f"optimizer class ({key})", target, classes)
        return classes[target]
    import torch.optim

    found = load_reference(target, key)
    if not inspect.isclass(found) or not issubclass(found, torch.optim.Optimizer):
        raise UsageError(f"{key}={target}: must be a subclass of torch.optim.Optimizer")
    return found


def class_title(target: str) -> str:
    """Return a target in words: "torch.optim.SGD", or the reference itself."""
    return target if ":" in target else f"torch.optim.{target}"


def implementations(target: str) -> tuple[str, ...]:
    """Return the implementations a class offers, always with "default".

    Raises:
        UsageError: No such class.
    """
    parameters = constructor(optimizer_class(target))
    offered = ["default", "forloop"] if "foreach" in parameters else ["default"]
    return (*offered, *(name for name in ("foreach", "fused") if name in parameters))


#: The signature of a class, which every cell of a grid asks for a dozen times.
_signature: Callable[[Any], inspect.Signature] = functools.cache(inspect.signature)


def constructor(kind: "type[Optimizer]") -> dict[str, inspect.Parameter]:
    """Return the arguments of a class, by name; the first is what takes the parameters."""
    return dict(_signature(kind).parameters)


def takes_any(kind: "type[Optimizer]") -> bool:
    """Whether a class takes keyword arguments it does not name."""
    return any(p.kind is p.VAR_KEYWORD for p in constructor(kind).values())


def learning_rate_argument(kind: "type[Optimizer]") -> str | None:
    """Return the argument of a class that is its learning rate; None where it has none."""
    named = [name for name in LEARNING_RATE_NAMES if name in constructor(kind)]
    if named:
        return named[0]
    return LEARNING_RATE_NAMES[0] if takes_any(kind) else None


def learning_rate_key(group: Mapping[str, Any]) -> str | None:
    """Return the key of a parameter group that holds its learning rate; None where it has none."""
    return next((name for name in LEARNING_RATE_NAMES if name in group), None)


def argument_names(kind: "type[Optimizer]") -> set[str]:
    """Return the arguments that a configuration can give: not parameters, learning rate or implementation."""
    arguments = constructor(kind)
    named = [name for name, p in arguments.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return set(named[1:]) - {learning_rate_argument(kind), "foreach", "fused"}


def missing_arguments(kind: "type[Optimizer]", given: Iterable[str]) -> list[str]:
    """Return the arguments without a default that are not among those given."""
    arguments = constructor(kind)
    return sorted(
        name for name in argument_names(kind) - set(given) if arguments[name].default is inspect.Parameter.empty
    )
