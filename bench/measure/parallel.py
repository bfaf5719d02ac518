"""The self-audit's check of data parallel training: several devices take the gradient that one takes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.results.record import AuditCheck
from bench.training.batches import batches_of
from bench.training.gradients import relative_difference
from bench.training.seeds import Start

if TYPE_CHECKING:
    from bench.training.parallel import DataParallel

#: Relative difference of a gradient, by whether its passes run in bfloat16, which rounds at 2^-8.
TOLERANCE, ROUNDED_TOLERANCE = 1e-5, 2e-2


def same_gradient(parallel: "DataParallel", start: Start, batch_size: int) -> AuditCheck:
    """The gradient of the first batch, its shares on several devices, is that of the batch as a whole on one."""
    task, plan = parallel.task, parallel.plan
    found = parallel.begin(start, batch_size, measured=True).gradient()
    batches = batches_of(task, batch_size, plan.remainder, plan.reshuffle, start.order, start.noise)
    parameters = task.initialise(start.init)
    inputs, labels = next(batches.take(1))[0]
    with torch.enable_grad():
        expected: Sequence[Tensor] = torch.autograd.grad(
            task.loss([*parameters, *task.buffers()], inputs, labels), parameters
        )
    error = relative_difference(found, expected)
    most = ROUNDED_TOLERANCE if task.autocast else TOLERANCE
    wanted = f"≤ {most:g} off the gradient on one"
    return AuditCheck("data parallel", error <= most, f"{error:.1e} on {parallel.group.size} devices", wanted)
