"""The loss on a fixed set of examples as a function of one vector of parameters: what curvature is measured of."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.tasks.problem import Split
from bench.tasks.task import Task

#: Examples of one pass. A set of at most so many keeps the graph of its gradient, so that a product with the Hessian is
#: one backward pass; a larger one is gone through again for each product, in bounded memory.
PASS_EXAMPLES = 1000

#: A vector → its product with a matrix.
Product = Callable[[Tensor], Tensor]


def measured_task(task: Task, mode: str) -> Task:
    """Return a task as curvature and gradient noise are measured of it: full precision, dense gradients.

    Args:
        task: What is trained.
        mode: "train" (as trained: batch normalisation by the statistics of what goes through together) or "eval" (as
            evaluated: by running statistics).
    """
    model = task.model if mode == "train" else replace(task.model, training_forward=None)
    return replace(task, model=model, autocast=False, sparse=False)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors as one vector, apart from any graph."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


@dataclass(frozen=True)
class FixedLoss:
    """The mean loss on a fixed set of examples, as a function of one vector of parameters.

    Attributes:
        task: What is measured (`measured_task`).
        shapes: Shapes of the parameters, in the order in which they lie in the vector.
        buffers: Buffers at the point; what a pass would move in them is thrown away.
        split: The examples. Where the model as trained is another than as evaluated, such as with batch normalisation,
            they go through together, however many they are.
        seed: What torch's own generator is set to before each pass of such a model, which may draw from it as dropout
            does; `bench.training.probe.undisturbed` gives the generator back.
    """

    task: Task
    shapes: Sequence[torch.Size]
    buffers: Sequence[Tensor]
    split: Split
    seed: int = 0

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Return the parameters that lie in a vector, as views of it."""
        parts = vector.split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def value(self, vector: Tensor) -> float:
        """Return the loss at a vector of parameters."""
        with torch.no_grad():
            return sum(float(part) for part in self._parts(vector))

    def gradient(self, vector: Tensor) -> tuple[float, Tensor]:
        """Return loss and gradient at a vector of parameters."""
        at, loss, total = vector.detach().requires_grad_(), 0.0, torch.zeros_like(vector)
        for part in self._parts(at):
            (found,) = torch.autograd.grad(part, at)
            total += found
            loss += float(part.detach())
        return loss, total

    def hessian(self, vector: Tensor) -> Product:
        """Return the product with the Hessian at a vector of parameters, by differentiating the gradient again."""
        at = vector.detach().requires_grad_()
        kept = list(self._slopes(at)) if self._passes() == 1 else None

        def product(direction: Tensor) -> Tensor:
            total = torch.zeros_like(direction)
            for slope in kept if kept is not None else self._slopes(at):
                if slope.requires_grad:
                    found = torch.autograd.grad(
                        slope, at, direction, retain_graph=kept is not None, materialize_grads=True
                    )
                    total += found[0]
            return total

        return product

    def _slopes(self, at: Tensor) -> Iterator[Tensor]:
        for part in self._parts(at):
            yield torch.autograd.grad(part, at, create_graph=True)[0]

    def _passes(self) -> int:
        return 1 if self.task.model.training_forward else -(-len(self.split) // PASS_EXAMPLES)

    def _parts(self, vector: Tensor) -> Iterator[Tensor]:
        """Yield what each pass adds to the mean loss."""
        size = -(-len(self.split) // self._passes())
        parameters = self.unflatten(vector)
        for inputs, labels in zip(self.split.inputs.split(size), self.split.labels.split(size), strict=True):
            if self.task.model.training_forward:
                torch.manual_seed(self.seed)
            weights = [*parameters, *(buffer.clone() for buffer in self.buffers)]
            yield self.task.loss(weights, inputs, labels) * (len(labels) / len(self.split))
