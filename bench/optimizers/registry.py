"""Optimizers: classes of `torch.optim` by name, their implementations, and which one ran.

The optimizer under test is always the real object; this module only finds it, builds it and watches it.
"""

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, unknown

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

IMPLEMENTATIONS = ("default", "forloop", "foreach", "fused")

#: What a step can require beyond a dense gradient, in the order in which it is asked for.
CLOSURE, GRADIENT_GRAPH, SPARSE, MATRICES = "closure", "gradient graph", "sparse gradients", "matrices"


@functools.cache
def optimizer_classes() -> "dict[str, type[Optimizer]]":
    """Return the optimizer classes of the installed torch, by name."""
    import torch.optim

    return {
        name: value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }


@functools.cache
def implementations(target: str) -> tuple[str, ...]:
    """Return the implementations a class of torch.optim offers, always with "default"."""
    parameters = inspect.signature(optimizer_classes()[target]).parameters
    offered = ["default", "forloop"] if "foreach" in parameters else ["default"]
    return (*offered, *(name for name in ("foreach", "fused") if name in parameters))


def check_optimizer(target: str, implementation: str, arguments: Mapping[str, Any]) -> None:
    """Check that an optimizer can be built.

    Raises:
        UsageError: Unknown class, an implementation it does not offer, arguments it refuses, or a class that cannot
            take this suite's steps, which bring dense gradients and no closure.
    """
    if target not in optimizer_classes():
        raise unknown("optimizer class (optimizer.target)", target, optimizer_classes())
    if implementation not in IMPLEMENTATIONS:
        raise unknown("optimizer.implementation", implementation, IMPLEMENTATIONS)
    if implementation not in implementations(target):
        raise UsageError(
            f"optimizer.implementation={implementation}: torch.optim.{target} offers "
            f"{', '.join(implementations(target))}"
        )
    known = set(inspect.signature(optimizer_classes()[target]).parameters) - {"params", "lr", "foreach", "fused"}
    for name in arguments:
        if name not in known:
            raise unknown(f"argument of torch.optim.{target} (optimizer.arguments)", name, known)
    import torch

    parameter = torch.zeros(1, requires_grad=True)
    parameter.grad = torch.zeros(1)
    try:
        optimizer = build_optimizer(target, "default", arguments, [parameter], lr=0.1)
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer.arguments={dict(arguments)}: torch.optim.{target} says: {error}") from None
    try:
        optimizer.step()
    except (TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"optimizer.target={target}: torch.optim.{target} cannot take a step on dense gradients without a closure "
            f"({reason})"
        ) from None


def build_optimizer(
    target: str, implementation: str, arguments: Mapping[str, Any], parameters: "Iterable[Tensor]", lr: float
) -> "Optimizer":
    """Build the real optimizer object.

    Args:
        target: Class in torch.optim.
        implementation: One of `implementations(target)`.
        arguments: Keyword arguments beyond the learning rate.
        parameters: Leaf tensors to optimise.
        lr: Learning rate.
    """
    chosen: dict[str, bool] = {
        "default": {},
        "forloop": {"foreach": False},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
    }[implementation]
    if implementation == "forloop" and "fused" in implementations(target):
        chosen["fused"] = False
    build: Any = optimizer_classes()[target]
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    optimizer: Optimizer = build(list(parameters), lr=lr, **plain, **chosen)
    return optimizer


@functools.cache
def requirements(target: str) -> frozenset[str]:
    """Return what a step of a class requires, found by trying: a dense gradient first, then one thing more at a time.

    Returns:
        Some of `CLOSURE` (the step asks for the loss again), `GRADIENT_GRAPH` (gradients that can be differentiated),
        `SPARSE` (sparse gradients) and `MATRICES` (parameters with two dimensions); empty for most.

    Raises:
        UsageError: No way to take a step was found.
    """
    import torch

    build: Any = optimizer_classes()[target]
    trials: tuple[tuple[str, ...], ...] = ((), (CLOSURE,), (MATRICES,), (SPARSE,), (CLOSURE, GRADIENT_GRAPH))
    reasons = []
    for needs in trials:
        parameter = torch.ones((2, 2) if MATRICES in needs else 2, requires_grad=True)

        def closure(parameter: Any = parameter, graph: bool = GRADIENT_GRAPH in needs) -> Any:
            with torch.enable_grad():
                loss = parameter.square().sum()
                (parameter.grad,) = torch.autograd.grad(loss, parameter, create_graph=graph)
            return loss

        closure()
        if SPARSE in needs and parameter.grad is not None:
            parameter.grad = parameter.grad.to_sparse(1)
        try:
            optimizer = build([parameter], lr=0.1)
            optimizer.step(closure) if CLOSURE in needs else optimizer.step()
        except (TypeError, RuntimeError, ValueError) as error:
            reasons.append(str(error).splitlines()[0])
        else:
            return frozenset(needs)
    raise UsageError(f"optimizer.target={target}: cannot take a step: {reasons[0]}")


def watch_implementation(optimizer: "Optimizer") -> str:
    """Take one step and return what it ran as: "forloop", "foreach" or "fused".

    The answer comes from the operators that the step dispatches, not from what was asked for. The parameters need
    gradients and are moved by the step.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watch():  # type: ignore[no-untyped-call]
        optimizer.step()
    if any(name.startswith("_fused_") for name in seen):
        return "fused"
    # A few helpers of for-loop optimizers use one foreach kernel to count steps; the update itself decides.
    return "foreach" if any(name.startswith("_foreach_") for name in seen) else "forloop"


def state_bytes(optimizer: "Optimizer") -> int:
    """Return the bytes of the tensors in an optimizer's state, storages shared counted once."""
    import torch

    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    }
    return sum(storages.values())
