"""A rehearsal: do trials of a stack have the gradients, updates and metrics that they have alone?

What is compared is every number of it, over several batches of each size that an epoch has: a product of few numbers
may round alike by luck once, not a dozen times. Gradients and optimizer state are looked at themselves, for in the
parameters a small learning rate hides how they were rounded.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor

from bench.tasks.problem import Split
from bench.tasks.task import SPLITS, Task
from bench.training.gradients import relative_difference
from bench.training.seeds import Start
from bench.training.stack import Layout, Stack, numbers
from bench.training.stepper import Stepper

#: Steps that both take: two whole batches, what is left of an epoch, and one of the next.
STEPS = 4
#: Steps that are compared with replayed ones: each size of batch comes again after it has been recorded.
REPLAYED_STEPS = 9
#: Batches of each size that are compared: many where a batch has few numbers.
MANY, FEW, SMALL_BATCH = 8, 2, 64
#: Relative difference (of norms) that is taken for rounding, where bits are not asked for.
TOLERANCE = 1e-5

#: Trials, layout and what to train on (None for the task's own) → the stack; a trial likewise.
MakeStack = Callable[[Sequence[Start], Layout, Split | None], Stack]
MakeStepper = Callable[[Start, Split | None], Stepper]


@dataclass
class Rehearsal:
    """Compares stacks with their trials alone.

    Attributes:
        task: What is trained.
        stack: Makes a fresh stack.
        stepper: Makes a fresh trial.
        batch_size: Examples per step and trial.
        remainder: What becomes of an epoch's last, smaller batch.
        exact: Whether bits are compared; else `TOLERANCE` holds.
    """

    task: Task
    stack: MakeStack
    stepper: MakeStepper
    batch_size: int
    remainder: str
    exact: bool
    _gradients: dict[tuple[tuple[Start, ...], bool], bool] = field(default_factory=dict)
    _ended: dict[Start, list[Tensor]] = field(default_factory=dict)

    def why_not(self, block: Sequence[Start], layout: Layout) -> str | None:
        """Return why trials cannot be stacked in a layout; None where they can."""
        try:
            alike = self._same_gradients(block, layout) and self._same_updates(block, layout)
        except Exception as error:
            # Whatever a class or a task says to stacked tensors, alone it may still be trained.
            words = str(error).strip().splitlines()
            return f"stacked: {type(error).__name__}: {words[0] if words else ''}"
        return None if alike else "trials end otherwise when they are stacked"

    def evaluates_together(self, block: Sequence[Start], size: int) -> bool:
        """Tell whether metrics of stacked trials are those of each.

        Args:
            block: The trials.
            size: Examples per evaluation batch.
        """
        task = self.task
        if task.model.stacked_forward is None:
            return False
        stack = self.stack(block, Layout(views=False, groups=False, wide=True), None)
        # Weights that start at zero have outputs as round as they are.
        stack.run(1, lambda: False)
        each = [stack.evaluated_of(number) for number in range(len(block))]
        with torch.inference_mode():
            for part in (part for name in SPLITS for part in _parts(task.split(name), size, True)):
                outputs = task.model.stacked_forward(stack.evaluated, part.inputs)
                alone = [task.outputs(one, part.inputs) for one in each]
                if not all(self._alike([a], [b]) for a, b in zip(outputs, alone, strict=True)):
                    return False
                together = task.evaluate_stacked(stack.evaluated, part, size)
                singly = torch.stack([task.evaluate(one, part, size) for one in each])
                if not self._alike([together], [singly]):
                    return False
        return True

    def _same_gradients(self, block: Sequence[Start], layout: Layout) -> bool:
        key = (tuple(block), layout.wide)
        if key not in self._gradients:
            self._gradients[key] = self._compare_gradients(block, layout)
        return self._gradients[key]

    def _compare_gradients(self, block: Sequence[Start], layout: Layout) -> bool:
        task = self.task
        stack, steppers = self.stack(block, layout, None), [self.stepper(start, None) for start in block]
        # A batch that is the whole split is the same for all.
        orders = 1 if self.batch_size >= len(task.train) else len({start.order for start in block})
        for number, part in enumerate(_parts(task.train, self.batch_size, self.remainder == "keep")):
            # Trials with orders of their own see batches of their own: here the same one, turned round.
            seen = [Split(part.inputs.roll(number, 0), part.labels.roll(number, 0)) for number in range(orders)]
            if orders == 1:
                found = stack.gradients(part.inputs, part.labels)
            else:
                of_trials = [seen[n] for n in stack.orders()]
                found = stack.gradients(
                    torch.stack([split.inputs for split in of_trials]), torch.stack([s.labels for s in of_trials])
                )
            for trial, stepper in enumerate(steppers):
                own = seen[stack.orders()[trial] if orders > 1 else 0]
                loss = task.loss(stepper.weights, own.inputs, own.labels)
                alone = torch.autograd.grad(loss, stepper.parameters)
                if not self._alike([several[trial] for several in found], alone):
                    return False
            if number == 0:
                # Where weights start at zero, the first gradients are as round as they are.
                stack.run(1, lambda: False)
                for stepper in steppers:
                    stepper.run(1, lambda: False)
        return True

    def _same_updates(self, block: Sequence[Start], layout: Layout) -> bool:
        data = short(self.task.train, self.batch_size)
        stack = self.stack(block, layout, data)
        stack.run(STEPS, lambda: False)
        for number, start in enumerate(block):
            if start not in self._ended:
                stepper = self.stepper(start, data)
                stepper.run(STEPS, lambda: False)
                state = [numbers(stepper.optimizer.state[p]) for p in stepper.parameters]
                self._ended[start] = [*(t.detach() for t in stepper.evaluated), *(t for some in state for t in some)]
            ended = [*stack.evaluated_of(number), *stack.state_of(number)]
            if not self._alike(ended, self._ended[start]):
                return False
        return True

    def _alike(self, stacked: Sequence[Tensor], alone: Sequence[Tensor]) -> bool:
        """Tell whether two lists of tensors are equal: to the last bit, or else in norm, all of them together."""
        if [tensor.shape for tensor in stacked] != [tensor.shape for tensor in alone]:
            return False
        if self.exact:
            # As bytes, so that NaN equals itself; but a zero of either sign is a zero, and moves nothing.
            return all(
                torch.equal(*((t.detach() + 0.0).contiguous().view(-1).view(torch.uint8) for t in pair))
                for pair in zip(stacked, alone, strict=True)
            )
        # Where no number is finite, both have diverged.
        return not relative_difference(stacked, alone) > TOLERANCE


def why_not_replayed(eager: Stepper | Stack, replayed: Stepper | Stack) -> str | None:
    """Return why replayed steps do not stand for eager ones; None where they do, to rounding.

    Gradients and optimizer state are compared themselves, parameters by how far they have moved.

    Args:
        eager: A fresh trial or stack on a short split (see `short`).
        replayed: Another, whose steps are replayed from the second on.
    """
    began = [weight.detach().clone() for weight in eager.weights]
    kept, moved = [], []
    for side in (eager, replayed):
        side.run(REPLAYED_STEPS, lambda: False)
        optimizers = [side.optimizer] if isinstance(side, Stepper) else side.optimizers
        kept.append(_kept(optimizers))
        moved.append([a.detach().double() - b.double() for a, b in zip(side.weights, began, strict=True)])
    if replayed.why_eager is not None:
        return replayed.why_eager
    for number, (theirs, ours) in enumerate(zip_longest(*kept, fillvalue=[])):
        if [t.shape for t in ours] != [t.shape for t in theirs] or relative_difference(ours, theirs) > TOLERANCE:
            return f"replayed, steps end with another {'optimizer state' if number else 'gradient'}"
    apart = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(*moved, strict=True)))
    far = math.sqrt(sum(float(t.square().sum()) for t in moved[0]))
    size = math.sqrt(sum(float(t.double().square().sum()) for t in began))
    # Each step rounds parameters once, which a small learning rate does not get below.
    rounding = REPLAYED_STEPS * torch.finfo(eager.task.dtype).eps * size
    # Where that is no number, both have diverged.
    return "replayed, parameters move otherwise" if apart > TOLERANCE * far + rounding else None


def _kept(optimizers: Sequence[torch.optim.Optimizer]) -> list[list[Tensor]]:
    """Return the gradients that optimizers hold, then what they keep: the first of every parameter, then the second."""
    held = [(p, o.state.get(p, {})) for o in optimizers for group in o.param_groups for p in group["params"]]
    # Each for itself: a count of steps is larger than squares of gradients, and would hide them.
    states = zip_longest(*(numbers(state) for _, state in held))
    several = [[p.grad for p, _ in held], *states]
    return [[tensor.cpu() for tensor in some if tensor is not None] for some in several]


def _parts(split: Split, size: int, keep: bool) -> Iterator[Split]:
    """Yield whole batches of a split, and as many of the size that is left of an epoch."""
    rest = len(split) % size if keep else 0
    for length in (min(size, len(split)), rest):
        if length:
            count = min(FEW if length >= SMALL_BATCH else MANY, len(split) // length)
            for start in range(0, count * length, length):
                yield Split(split.inputs[start : start + length], split.labels[start : start + length])


def short(train: Split, size: int) -> Split:
    """Return a short training split: two whole batches and what is left of an epoch."""
    most = min(len(train), 2 * size + len(train) % size)
    return Split(train.inputs[:most], train.labels[:most])
