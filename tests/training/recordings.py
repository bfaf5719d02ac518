"""What stands for a CUDA graph on a CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: An operation, its arguments and what it returned.
Operation = tuple[Any, tuple[Any, ...], dict[str, Any], Any]


class Again:
    """Replays a step by taking it again."""

    capturable = False

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        return step


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations.append((func, args, kwargs or {}, out))
        return out


class Tape(Again):
    """Replays the operations of a step on the tensors they had, as a CUDA graph does.

    What is Python is not replayed: numbers are those of the recording, and tensors that a step makes lie where they
    lay then. Recording has effects, which a capture has not: whoever records has to undo them anyway.
    """

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        tape = _Tape()
        with tape:
            step()

        @torch.no_grad()
        def replay() -> None:
            for func, args, kwargs, out in tape.operations:
                for held, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(held, Tensor) and held is not new:
                        held.copy_(new)

        return replay
