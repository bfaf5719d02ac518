"""The room's front door: find, check, build and watch optimizers.

The optimizer under test is always the real object; nothing here computes an update.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bench.optimizers.build import all_arguments, build, build_optimizer, check_optimizer, own_source, own_targets
from bench.optimizers.classes import (
    IMPLEMENTATIONS,
    class_title,
    implementations,
    learning_rate_key,
    optimizer_class,
    optimizer_classes,
)
from bench.optimizers.known_answers import known_answer
from bench.optimizers.requirements import (
    CLOSURE,
    GRADIENT_FIRST,
    GRADIENT_GRAPH,
    GROUPS,
    MATRICES,
    SPARSE,
    moves_at_zero,
    requirements,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

__all__ = [
    "CLOSURE",
    "GRADIENT_FIRST",
    "GRADIENT_GRAPH",
    "GROUPS",
    "IMPLEMENTATIONS",
    "MATRICES",
    "SPARSE",
    "all_arguments",
    "build",
    "build_optimizer",
    "check_optimizer",
    "class_title",
    "implementations",
    "known_answer",
    "learning_rate_key",
    "moves_at_zero",
    "optimizer_class",
    "optimizer_classes",
    "own_source",
    "own_targets",
    "requirements",
    "state_bytes",
    "stored_parts",
    "watch_implementation",
]


def watch_implementation(optimizer: "Optimizer", closure: Callable[[], Any] | None = None) -> str:
    """Take one step and return what it ran as: "forloop", "foreach" or "fused".

    The answer comes from the operators that the step dispatches, not from what was asked for. The parameters are moved
    by the step.

    Args:
        optimizer: Over parameters with gradients, unless a closure puts them there.
        closure: For an optimizer whose step requires one.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    step: Callable[..., Any] = optimizer.step
    with Watch():  # type: ignore[no-untyped-call]
        step(closure) if closure is not None else step()
    if any(name.startswith("_fused_") for name in seen):
        return "fused"
    # A few helpers of for-loop optimizers use one foreach kernel to count steps; the update itself decides.
    return "foreach" if any(name.startswith("_foreach_") for name in seen) else "forloop"


def state_bytes(optimizer: "Optimizer") -> int:
    """Return the bytes of the tensors in an optimizer's state, storages shared counted once."""
    storages = {
        part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
        for state in optimizer.state.values()
        for tensor in _tensors(state)
        for part in stored_parts(tensor)
    }
    return sum(storages.values())


def stored_parts(tensor: "Tensor") -> "tuple[Tensor, ...]":
    """Return the dense tensors that hold a tensor: of a sparse one its indices and its values."""
    return (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)


def _tensors(value: Any) -> "Iterator[Tensor]":
    """Yield the tensors in a value and in the mappings and lists it holds; LBFGS has its history in lists."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(value.values())
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            yield from _tensors(item)
