"""All trials of a cell: stacked where that is faster and changes no bit, else one by one.

Whether a stack gives the bits of its trials alone is not derived from names of layers or optimizers: it is tried, over
a short epoch with the cell's own sizes. So is which stack is the fastest. Tiny models are the exception: kernels for
products of a few numbers round otherwise in a stack, and stacking gains most there; where bits differ, they are stacked
all the same, by a rule that no timing decides, so that a cell repeats to the last bit.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import psutil
import torch

from bench.tasks.problem import Split
from bench.tasks.task import Task
from bench.training.batches import BatchOrder
from bench.training.compiled import CompiledGradients
from bench.training.gradients import Gradients
from bench.training.graphs import Graphs, Recording
from bench.training.loop import Plan, Trial, train_stack, train_trial
from bench.training.probe import Probe
from bench.training.rehearsal import Rehearsal, short, why_not_replayed
from bench.training.seeds import Start
from bench.training.stack import Build, Layout, Stack, stacked_batches
from bench.training.stepper import Stepper

if TYPE_CHECKING:
    from bench.training.parallel import DataParallel

#: Trials of fewer steps are trained one by one: trying costs some sixty steps of each, more than stacking could gain.
#: Of models of more than so many numbers it gains little, a fifth or so.
LEAST_STEPS, LEAST_STEPS_LARGE, LARGE = 100, 500, 10_000
LEAST_STACK = 2
#: Seconds that the last windows are timed for in which candidates are compared: that part of what all trials would
#: take one by one, within these limits.
TIMED_SHARE, TIMED_SECONDS, TIMED_SECONDS_MOST = 5e-4, 0.01, 0.1
#: How often each candidate is timed; the fastest time counts.
TURNS = 2
#: A stack has to be faster than one by one by this factor.
LEAST_GAIN = 1.03
#: Part of the free memory that a stack may take. Parameters count six times: themselves, gradients, state.
MEMORY_SHARE, PARAMETER_COPIES = 0.2, 6
#: Models of at most so many numbers are stacked even where that rounds otherwise, while the batches of a stack have at
#: most so many bytes: more leave the cache, and a smaller stack is the faster one.
TINY, TINY_BYTES = 1000, 1 << 21
#: How trials may lie, each for itself before its optimizer: with shared batches as one wide product, or without.
APART = (Layout(views=False, groups=False, wide=True), Layout(views=False, groups=False, wide=False))
ONE_BY_ONE = "one by one"
#: One by one too, each by several processes.
DATA_PARALLEL = "data parallel"


@dataclass(frozen=True)
class Choice:
    """How the trials of a cell are trained.

    Attributes:
        blocks: What is stacked together; a block of one trial is trained alone.
        layout: How the trials of a block lie before layers and optimizers.
        together: Whether metrics are taken of a block's trials in one pass.
        path: `ONE_BY_ONE`, `DATA_PARALLEL`, "native" (the model has stacked layers) or "vmap".
        exact: Whether each trial has, as far as was tried, the bits that it has alone.
        reason: Why not stacked; None where they are.
    """

    blocks: list[list[Start]]
    layout: Layout
    together: bool
    path: str
    exact: bool
    reason: str | None = None

    @property
    def most(self) -> int:
        """Trials of the largest stack."""
        return max(len(block) for block in self.blocks)


@dataclass(frozen=True)
class Trials:
    """The trials of a cell.

    Attributes:
        task: What is trained.
        build: Parameters and learning rate → the optimizer.
        plan: Budget, batch order and evaluation points.
        starts: Learning rate by learning rate, each with the same seeds.
        activation_bytes: What autograd keeps for one trial's backward pass; see `bench.measure.memory`.
        gradients: What was traced of the task's gradients; None to let autograd record every step.
        compiled: Compiled gradients to train with; what is tried beforehand is not worth compiling for. None for
            those of `gradients`.
        graphs: What replays plain steps; None to take them kernel by kernel.
        probe: What else looks at each trial at evaluation points; None for nothing. It moves no trial and no choice.
        parallel: The ranks that train each trial together; None for this process alone.
    """

    task: Task
    build: Build
    plan: Plan
    starts: Sequence[Start]
    activation_bytes: int = 0
    gradients: Gradients | None = None
    compiled: CompiledGradients | None = None
    graphs: Graphs | None = None
    probe: Probe | None = None
    parallel: "DataParallel | None" = None

    def train(
        self, choice: Choice, pictured_seed: int | None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Trial]:
        """Train all of them and yield them as they end.

        Args:
            choice: How.
            pictured_seed: Seed of the trials whose picture is kept; None for none.
            stop: Asked between pieces; true ends the trials that are being trained as interrupted.
        """
        for block in choice.blocks:
            if stop():
                return
            if len(block) == 1:
                yield self._alone(block[0], pictured_seed, stop)
                continue
            torch.manual_seed(block[0].noise)
            stack = self.stack(block, choice.layout, gradients=self.compiled, graphs=self.graphs)
            yield from train_stack(stack, self.plan, choice.together, pictured_seed, stop, self.probe)

    def choose(self, setting: str | int) -> Choice:
        """Choose how to train them.

        Args:
            setting: "auto", "off", or at most how many trials to stack. "auto" is the fastest stack that changes no
                bit (on a GPU, that rounds alike), or for tiny models the largest; a number stacks even where that is
                slower, and where no layout keeps all bits, rounds otherwise. Compiled, trials of a stack always do.
        """
        if self.parallel is not None:
            devices = self.parallel.group.size
            return replace(self._one_by_one(f"trained data parallel, devices: {devices}"), path=DATA_PARALLEL)
        reason = "training.stack=off" if setting == "off" else self._why_not(setting == "auto")
        if reason:
            return self._one_by_one(reason)
        exact = self.task.device.type == "cpu"
        if setting != "auto":
            return self._largest([int(setting)], exact and not self.compiled)
        if self.compiled and exact and not self._tiny():
            return self._one_by_one("compiled gradients round otherwise in a stack")
        if exact and self._tiny():
            return self._largest(self.sizes()[:1], exact=False) if self.compiled else self._by_rule()
        rehearsal = self._rehearsal(exact)
        apart, reason = self._fitting(rehearsal, LEAST_STACK, APART)
        if apart is None:
            return self._one_by_one(reason)
        gains = self._gains(apart)
        reason = "no stack fits the memory"
        for size in sorted(gains, key=gains.__getitem__, reverse=True):
            if gains[size] < LEAST_GAIN:
                return self._one_by_one(f"stacked, trials are {gains[size]:.2f} times as fast")
            layout, reason = self._fitting(rehearsal, size, _merged(apart))
            if layout is not None:
                return self._stacked(size, layout, rehearsal.exact)
        return self._one_by_one(reason)

    def fits(self, sizes: Sequence[int], exact: bool) -> tuple[dict[int, Layout], str | None]:
        """Return the sizes at which trials of a stack end as they do alone, and how they lie there; else why none is.

        Args:
            sizes: Sizes to try.
            exact: Whether to the last bit.
        """
        rehearsal = self._rehearsal(exact)
        # What two trials do not survive, each for itself before its optimizer, needs no larger stack to be tried. Nor
        # would it do later on, when others have diverged.
        apart, reason = self._fitting(rehearsal, LEAST_STACK, APART)
        if apart is None:
            return {}, reason
        found: dict[int, Layout] = {}
        for size in sizes:
            layout, reason = self._fitting(rehearsal, size, _merged(apart))
            if layout is not None:
                found[size] = layout
        return found, reason

    def blocks(self, most: int) -> list[list[Start]]:
        """Divide the trials into stacks of at most so many: whole learning-rate grids of some seeds, else parts of one.

        Trials of one seed share their batches, so they stay together as long as they can.
        """
        rates = list(dict.fromkeys(start.lr for start in self.starts))
        seeds = list(dict.fromkeys(start.seed for start in self.starts))
        found = {(start.lr, start.seed): start for start in self.starts}
        rate_parts = _parts(rates, most)
        seed_parts = _parts(seeds, max(1, most // len(rates)))
        return [[found[lr, seed] for lr in some for seed in these] for these in seed_parts for some in rate_parts]

    def _one_by_one(self, reason: str | None) -> Choice:
        return Choice(self.blocks(1), APART[0], False, ONE_BY_ONE, True, reason)

    def _stacked(self, size: int, layout: Layout, exact: bool) -> Choice:
        blocks = self.blocks(size)
        path = "vmap" if self.task.stacked_training_forward is None else "native"
        largest = max(blocks, key=len)
        together = self._rehearsal(exact).evaluates_together(largest, self.plan.evaluation_batch_size)
        return Choice(blocks, layout, together, path, exact)

    def _by_rule(self) -> Choice:
        """Stack the trials of a tiny model as many together as there can be, whether or not all bits are kept.

        Products of so few numbers round alike by luck, in a rehearsal too, so that no timing is to decide their bits.
        Nor is luck to decide how large a stack is: a smaller one can be ten times as slow.
        """
        example = self.task.train.inputs[:1]
        each = self.plan.batch_size * example.numel() * example.element_size()
        sizes = self.sizes()
        return self._largest([size for size in sizes if size * each <= TINY_BYTES] or sizes[-1:], exact=True)

    def _largest(self, sizes: Sequence[int], exact: bool) -> Choice:
        """Stack in the first of these sizes that can be; where exact, in a layout that keeps every bit, if one does."""
        reason = None
        for size in sizes:
            for bits in (True, False) if exact else (False,):
                fits, reason = self.fits([size], bits)
                if fits:
                    return self._stacked(size, fits[size], bits)
        return self._one_by_one(reason or "no stack fits the memory")

    def _tiny(self) -> bool:
        """Tell whether the model is tiny and written in stacked layers."""
        return self.task.stacked_training_forward is not None and self._numbers() <= TINY

    def _numbers(self) -> int:
        """Return how many numbers the parameters have."""
        return sum(parameter.numel() for parameter in self.task.initialise(0))

    def _why_not(self, auto: bool) -> str | None:
        task, plan = self.task, self.plan
        least = LEAST_STEPS_LARGE if self._numbers() > LARGE else LEAST_STEPS
        reasons = {
            "a single trial": len(self.starts) == 1,
            "a budget in seconds": plan.seconds is not None,
            **self._hindrances(),
            "examples are drawn afresh": task.stream is not None,
            "sparse gradients": task.sparse,
            f"fewer than {least} steps": auto and plan.steps is not None and plan.steps < least,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def _hindrances(self) -> dict[str, bool]:
        """Return what a step may do that neither stacks nor graphs do, and whether this one does."""
        task, plan, method = self.task, self.plan, self.plan.method
        return {
            "the optimizer calls for the loss itself": method.closure,
            "gradients are differentiated again": method.gradient_graph,
            "gradients are clipped": method.clip_norm is not None,
            "batches of many sizes": plan.remainder == "carry" and len(task.train) % plan.batch_size > 0,
            "micro-batches": method.micro_batch is not None,
            "the batch size grows": method.phases is not None,
            "the task acts on parameters after each step": task.after_step is not None,
        }

    def why_not_replayed(self, recording: Recording, choice: Choice | None = None) -> str | None:
        """Return why steps cannot be replayed; None where a rehearsal found that they can.

        Args:
            recording: What would record them.
            choice: How trials are trained; None for one alone.
        """
        method = self.plan.method
        reasons = {
            **self._hindrances(),
            "the learning rate moves": method.factor is not None,
            "averages are kept": method.average is not None,
        }
        found = next((reason for reason, holds in reasons.items() if holds), None)
        if found:
            return found
        data, gradients = short(self.task.train, self.plan.batch_size), self.compiled or self.gradients

        def fresh(graphs: Graphs | None) -> Stepper | Stack:
            if choice is None or choice.most == 1:
                return self.stepper(self.starts[0], data, gradients, graphs)
            return self.stack(max(choice.blocks, key=len), choice.layout, data, gradients, graphs)

        return why_not_replayed(fresh(None), fresh(Graphs(recording)))

    def sizes(self) -> list[int]:
        """Return the sizes of stacks that are worth trying and fit the memory, largest first."""
        rates, everything = len({start.lr for start in self.starts}), len(self.starts)
        seeds = everything // rates
        wanted = {everything, rates * max(1, seeds // 4), rates, -(-rates // 2)}
        parameters = sum(p.numel() * p.element_size() for p in self.task.initialise(0))
        each = PARAMETER_COPIES * parameters + self.activation_bytes
        most = int(MEMORY_SHARE * _free_bytes(self.task.device) / max(each, 1))
        return sorted((size for size in wanted if LEAST_STACK <= size <= most), reverse=True)

    def _rehearsal(self, exact: bool) -> Rehearsal:
        plan = self.plan
        return Rehearsal(self.task, self.stack, self.stepper, plan.batch_size, plan.remainder, exact)

    def _fitting(self, rehearsal: Rehearsal, size: int, layouts: Sequence[Layout]) -> tuple[Layout | None, str | None]:
        """Return the first layout in which each trial of a stack ends as it does alone; else why not."""
        reason = None
        block = max(self.blocks(size), key=len)
        for layout in layouts:
            reason = rehearsal.why_not(block, layout)
            if reason is None:
                return layout, None
        return None, reason

    def _gains(self, apart: Layout) -> dict[int, float]:
        """Return how many times as fast a trial of a stack of each size is as one alone; 0 of a stack that fails."""
        alone = self.stepper(self.starts[0], graphs=self.graphs)
        everything = _step_seconds(alone, TIMED_SECONDS) * (self.plan.steps or 0) * len(self.starts)
        window = min(max(TIMED_SHARE * everything, TIMED_SECONDS), TIMED_SECONDS_MOST)
        stacks = {size: self._running(size, apart) for size in self.sizes()}
        best: dict[int, float] = {}
        # In turns: what slows the machine down for a while slows down all of them.
        for _ in range(TURNS):
            best[1] = min(best.get(1, math.inf), _step_seconds(alone, window))
            for size, stack in stacks.items():
                try:
                    seconds = _step_seconds(stack, window) / stack.trials if stack else math.inf
                except Exception:
                    seconds, stacks[size] = math.inf, None
                best[size] = min(best.get(size, math.inf), seconds)
        return {size: best[1] / best[size] if stack else 0.0 for size, stack in stacks.items()}

    def _running(self, size: int, apart: Layout) -> Stack | None:
        """Return the largest stack of a size, having taken a step, in the layout that merges most; None if none can."""
        block = max(self.blocks(size), key=len)
        for layout in _merged(apart):
            try:
                stack = self.stack(block, layout, graphs=self.graphs)
                stack.run(1, lambda: False)
                return stack
            except Exception:
                continue
        return None

    def stack(
        self,
        block: Sequence[Start],
        layout: Layout,
        data: Split | None = None,
        gradients: Gradients | None = None,
        graphs: Graphs | None = None,
    ) -> Stack:
        """Return fresh trials stacked; `data` replaces what they are trained on, `gradients` those traced."""
        plan = self.plan
        batches = stacked_batches(self.task, block, plan.batch_size, plan.remainder, plan.reshuffle, data)
        return Stack(self.task, self.build, block, batches, plan.method, layout, gradients or self.gradients, graphs)

    def stepper(
        self,
        start: Start,
        data: Split | None = None,
        gradients: Gradients | None = None,
        graphs: Graphs | None = None,
    ) -> Stepper:
        """Return a fresh trial alone; `data` replaces what it is trained on, `gradients` those traced."""
        plan, parameters, data = self.plan, self.task.initialise(start.init), data or self.task.train
        order = BatchOrder(data.inputs, data.labels, plan.batch_size, plan.remainder, plan.reshuffle, start.order)
        optimizer, gradients = self.build(parameters, start.lr), gradients or self.gradients
        return Stepper(self.task, parameters, optimizer, order, plan.method, gradients, graphs)

    def _alone(self, start: Start, pictured_seed: int | None, stop: Callable[[], bool]) -> Trial:
        plan = replace(self.plan, pictured=start.seed == pictured_seed)
        gradients = self.compiled or self.gradients
        return train_trial(self.task, self.build, plan, *start, stop, gradients, self.graphs, self.probe, self.parallel)


def _merged(apart: Layout) -> tuple[Layout, ...]:
    """Return the layouts in which trials are the more one to their optimizers the earlier they come."""
    return apart._replace(views=True, groups=True), apart._replace(views=True), apart


Item = TypeVar("Item")


def _parts(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """Divide a list into the fewest parts of at most so many, as even as can be."""
    count = -(-len(items) // most)
    cuts = [len(items) * number // count for number in range(count + 1)]
    return [items[a:b] for a, b in pairwise(cuts)]


def _step_seconds(stepper: Stepper | Stack, window: float) -> float:
    """Return the seconds of a step, of all trials of a stack: the faster of the last two of windows that double.

    Args:
        stepper: What takes steps.
        window: Seconds that the last one takes at least, but for a factor of two.
    """
    cpu = stepper.task.device.type == "cpu"
    trials = len(stepper.starts) if isinstance(stepper, Stack) else 1
    # On a CPU the process's own time: what else runs there delays one contestant or the other. Elsewhere the training
    # clock, which recording a graph is not on.
    clock = time.process_time if cpu else lambda: stepper.seconds * trials
    stepper.run(1, lambda: False)
    taken: list[float] = []
    steps = 1
    while len(taken) < 2 or taken[-1] * steps / 2 < window:
        start = clock()
        stepper.run(steps, lambda: False)
        taken.append((clock() - start) / steps)
        steps *= 2
    return min(taken[-2:])


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
