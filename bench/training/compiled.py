"""Gradients of a batch, compiled by torch's inductor for one shape of batch at a time.

What is compiled is the traced operations of a loss and its backward pass (`bench.training.gradients`), which inductor
fuses: fewer and larger kernels that round otherwise. So a compiled gradient is held against autograd's on the first
batch of each shape before it is used.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.errors import EngineUnavailable
from bench.tasks.task import Task
from bench.training.gradients import Gradient, Gradients, Loss, copies, recorded, relative_difference, shapes, traced

#: Relative difference from autograd's gradient that is taken for rounding.
TOLERANCE = 1e-4
#: Of bfloat16, which has 8 bits: inductor keeps more of them between operations than autograd does.
TOLERANCE_BFLOAT16 = 2e-2
#: No measurement on the device decides what is run, so that bits repeat.
OPTIONS: dict[str, Any] = {"deterministic": True}


class Compiled(NamedTuple):
    """A gradient for one shape of batch.

    Attributes:
        gradient: The compiled gradient; None where it is not autograd's.
        seconds: How long compiling and checking took.
        reason: Why it is not used; None where it is.
    """

    gradient: Gradient | None
    seconds: float
    reason: str | None


class CompiledGradients(Gradients):
    """Compiled gradients of a task, for one cell.

    Args:
        task: What is trained.
        kept: What this process has compiled for the task, by shape; added to.

    Attributes:
        used: What the cell has asked for, by shape.
    """

    def __init__(self, task: Task, kept: dict[tuple[Any, ...], Compiled]) -> None:
        super().__init__(task)
        self.used: dict[tuple[Any, ...], Compiled] = {}
        self._kept = kept

    @property
    def seconds(self) -> float:
        """Seconds that compiling and checking took, of what the cell has used; perhaps for an earlier cell."""
        return sum(compiled.seconds for compiled in self.used.values())

    @property
    def reason(self) -> str | None:
        """Why autograd computes some gradients all the same; None where it computes none."""
        reasons = [compiled.reason for compiled in self.used.values() if compiled.reason]
        return "; ".join(dict.fromkeys(reasons)) or None

    def of(
        self, loss: Loss, weights: Sequence[Tensor], parameters: int, inputs: Tensor, labels: Tensor
    ) -> Gradient | None:
        """Return the compiled gradient of a loss at the shapes of these arguments, as `Gradients.of`.

        Returns:
            The gradient; None where it is not autograd's on this batch.

        Raises:
            EngineUnavailable: It cannot be compiled here.
        """
        task = self._task
        if task.model.stacked_forward is None:
            # Its forward pass may count its calls or look at its values, and a trace would not.
            raise EngineUnavailable(
                f"training.compile=on: the model of {task.name} is a module of its own; only models written in "
                "bench.tasks.layers are compiled"
            )
        # The number of threads is compiled in.
        key = (*shapes(loss, weights, inputs, labels), torch.get_num_threads())
        if key not in self._kept:
            start = time.perf_counter()
            gradient, difference = _checked(loss, weights, parameters, inputs, labels)
            if difference != difference:
                # All has diverged: nothing to hold it against, and nothing to gain.
                return None
            wrong = difference > (TOLERANCE_BFLOAT16 if task.autocast else TOLERANCE)
            reason = f"compiled, a gradient is {difference:.1e} off autograd's, shape {tuple(inputs.shape)}"
            seconds = time.perf_counter() - start
            self._kept[key] = Compiled(None, seconds, reason) if wrong else Compiled(gradient, seconds, None)
        self.used[key] = self._kept[key]
        return self.used[key].gradient


def _checked(
    loss: Loss, weights: Sequence[Tensor], parameters: int, inputs: Tensor, labels: Tensor
) -> tuple[Gradient, float]:
    """Return the compiled gradient and its relative difference from autograd's, buffers that move looked at apart."""
    plain = recorded(loss, parameters)
    compiled = _compiled(plain, weights, inputs, labels)
    ours, theirs = copies(weights), copies(weights)
    with torch.no_grad():
        found = compiled(*ours, inputs, labels)
    expected = plain(*theirs, inputs, labels)
    differences = (
        relative_difference(found, expected),
        relative_difference(ours[parameters:], theirs[parameters:]),
    )
    # A NaN among them is the maximum.
    return compiled, float(torch.tensor(differences).max())


def _compiled(gradient: Gradient, weights: Sequence[Tensor], inputs: Tensor, labels: Tensor) -> Gradient:
    try:
        module = traced(gradient, weights, inputs, labels)
        # Imported late: it takes seconds, and most cells need none of it.
        from torch import _inductor as inductor
        from torch._inductor import config as settings

        # Compiled by this process alone: as many processes as there are cores train beside it.
        with settings.patch(compile_threads=1), torch.no_grad():
            found: Gradient = inductor.compile(module, [*copies(weights), inputs, labels], options=OPTIONS)
            # Some kernels are built when they are first called.
            found(*copies(weights), inputs, labels)
            return found
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise EngineUnavailable(f"training.compile=on: {_why(error)}") from None


def _why(error: Exception) -> str:
    """Say in one line why something could not be compiled; inductor says it in many."""
    name = type(error).__name__
    if "InvalidCxxCompiler" in name or "No working C++ compiler" in str(error):
        return "no C++ compiler found (one is taken from the variable CXX or from PATH)"
    words = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{name}: {words[0]}" if words else name
