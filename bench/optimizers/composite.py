"""Two real optimizers that act as one: what the main one cannot take is the fallback's."""

from collections import ChainMap
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Composite(Optimizer):
    """Steps several optimizers, each on parameters of its own.

    `param_groups` and `state` are those of the parts, the same objects: a learning rate that is changed here is changed
    there.

    Args:
        parts: The optimizers, and whether each one's step asks for the loss itself.
    """

    def __init__(self, parts: Sequence[tuple[Optimizer, bool]]) -> None:
        self.parts = tuple(parts)
        groups = [group for part, _ in self.parts for group in part.param_groups]
        super().__init__([parameter for group in groups for parameter in group["params"]], {})
        self.param_groups = groups
        self.state = ChainMap(*(part.state for part, _ in self.parts))  # type: ignore[assignment]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every part; those that take gradients use the ones that one call of the closure leaves.

        Args:
            closure: Evaluates the loss and puts gradients in place; None where they already are.

        Returns:
            The loss, None without a closure.
        """
        loss: Tensor | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part, asks in self.parts:
            if not asks:
                part.step()
        for part, asks in self.parts:
            if asks:
                step: Any = part.step
                step(closure)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts."""
        return {"parts": [part.state_dict() for part, _ in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for (part, _), state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part, _ in self.parts for group in part.param_groups]
        self.state = ChainMap(*(part.state for part, _ in self.parts))  # type: ignore[assignment]
