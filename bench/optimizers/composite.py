"""Real optimizers that act as one: what the main one cannot take is the fallback's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class _States(Mapping[Tensor, Any]):
    """The states of several optimizers in one view; reading it makes no empty ones, as reading theirs would."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self._parts = parts

    def __getitem__(self, parameter: Tensor) -> Any:
        for part in self._parts:
            if parameter in part.state:
                return part.state[parameter]
        raise KeyError(parameter)

    def __iter__(self) -> Iterator[Tensor]:
        for part in self._parts:
            yield from part.state

    def __len__(self) -> int:
        return sum(len(part.state) for part in self._parts)


class Composite(Optimizer):
    """Steps several optimizers, each on parameters of its own.

    `param_groups` and `state` are those of the parts, the same objects: a learning rate that is changed here is changed
    there.

    Args:
        parts: The optimizers, and whether each one's step asks for the loss itself.
    """

    def __init__(self, parts: Sequence[tuple[Optimizer, bool]]) -> None:
        self.parts = tuple(parts)
        parameters = [p for part, _ in self.parts for group in part.param_groups for p in group["params"]]
        super().__init__(parameters, {})
        self._adopt()

    def _adopt(self) -> None:
        self.param_groups = [group for part, _ in self.parts for group in part.param_groups]
        self.state = _States([part for part, _ in self.parts])  # type: ignore[assignment]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every part, after one call of the closure: its gradients are for the parts that take gradients.

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
        self._adopt()
