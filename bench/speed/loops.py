"""The loops that the engine benchmark compares: ours, those people write by hand, and the matrix products alone.

All train the network of mnist5k/mlp from the same parameters.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional as image

from bench.optimizers.registry import build_optimizer
from bench.tasks.task import Task
from bench.training.batches import BatchOrder
from bench.training.gradients import Gradients
from bench.training.stepper import Stepper

#: Class, arguments and learning rate.
OPTIMIZERS: dict[str, tuple[str, dict[str, float], float]] = {
    "sgd": ("SGD", {}, 0.01),
    "momentum": ("SGD", {"momentum": 0.9}, 0.01),
    "adam": ("Adam", {}, 0.001),
}

#: Takes the number of steps to train.
Loop = Callable[[int], None]


def ours(task: Task, optimizer: str, batch_size: int) -> Loop:
    """Return the loop of `bench.training.stepper`, with the fused optimizer."""
    target, arguments, lr = OPTIMIZERS[optimizer]
    parameters = task.initialise(0)
    order = BatchOrder(task.train.inputs, task.train.labels, batch_size, "keep", True, 0)
    built = build_optimizer(target, "fused", arguments, parameters, lr)
    stepper = Stepper(task, parameters, built, order, gradients=Gradients(task))
    return lambda steps: stepper.run(steps, lambda: False)


def _module(task: Task) -> nn.Module:
    """Return the network people write, holding the same parameters as ours."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)).to(task.device)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), task.initialise(0), strict=True):
            parameter.copy_(value)
    return model


def resident(task: Task, optimizer: str, batch_size: int) -> Loop:
    """Return a loop by hand on tensors that lie on the device: `index_select`, a module, `backward()`, fused."""
    target, arguments, lr = OPTIMIZERS[optimizer]
    model, loss_function = _module(task), nn.CrossEntropyLoss()
    update = build_optimizer(target, "fused", arguments, model.parameters(), lr)
    inputs, labels = task.train.inputs, task.train.labels
    generator = torch.Generator().manual_seed(0)

    def batches() -> Iterator[Tensor]:
        while True:
            order = torch.randperm(len(labels), generator=generator).to(task.device)
            yield from order.split(batch_size)

    stream = batches()

    def run(steps: int) -> None:
        for _ in range(steps):
            chosen = next(stream)
            update.zero_grad(set_to_none=True)
            loss = loss_function(model(inputs.index_select(0, chosen)), labels.index_select(0, chosen))
            loss.backward()
            update.step()

    return run


class _Images(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: a PIL image per item, transformed one by one."""

    def __init__(self, task: Task) -> None:
        pixels = task.train.inputs.squeeze(1).cpu()
        low, high = pixels.min(), pixels.max()
        self._images = ((pixels - low) / (high - low) * 255).to(torch.uint8)
        self._labels = task.train.labels.tolist()
        self._transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = image.to_pil_image(self._images[index])
        return self._transform(picture), self._labels[index]


def dataloader(task: Task, optimizer: str, batch_size: int) -> Loop:
    """Return the usual loop: images, a transform per item, a shuffling DataLoader, `.item()` each step."""
    target, arguments, lr = OPTIMIZERS[optimizer]
    model, loss_function = _module(task), nn.CrossEntropyLoss()
    update = build_optimizer(target, "default", arguments, model.parameters(), lr)
    loader = DataLoader(_Images(task), batch_size=batch_size, shuffle=True)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    stream = batches()

    def run(steps: int) -> None:
        for _ in range(steps):
            inputs, labels = next(stream)
            update.zero_grad()
            loss = loss_function(model(inputs.to(task.device)), labels.to(task.device))
            loss.backward()
            update.step()
            loss.item()

    return run


def products(task: Task, _: str, batch_size: int) -> Loop:
    """Return the five matrix products of a step and nothing else, into memory that is there: the limit."""
    weight1, _bias1, weight2, _bias2 = (parameter.detach() for parameter in task.initialise(0))
    inputs = task.train.inputs[:batch_size].flatten(1).clone()
    hidden, outputs = (inputs.new_empty(len(inputs), len(parameter)) for parameter in (weight1, weight2))
    back, gradient1, gradient2 = torch.empty_like(hidden), torch.empty_like(weight1), torch.empty_like(weight2)

    def run(steps: int) -> None:
        for _ in range(steps):
            torch.mm(inputs, weight1.t(), out=hidden)
            torch.mm(hidden, weight2.t(), out=outputs)
            torch.mm(outputs.t(), hidden, out=gradient2)
            torch.mm(outputs, weight2, out=back)
            torch.mm(back.t(), inputs, out=gradient1)

    return run


LOOPS: dict[str, Callable[[Task, str, int], Loop]] = {
    "ours": ours,
    "resident": resident,
    "dataloader": dataloader,
    "products": products,
}
