"""What each measure at an evaluation point costs, beside a training step and an evaluation of all splits.

    python scripts/measure_cost.py [TASK]

Processor time of this process, one thread: the least of three takes, at the parameters after one epoch of SGD at
batch size 64. A measure is taken as an evaluation point takes it, at the defaults of `measure`.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from bench.composition import compose_config
from bench.config import resolve
from bench.launching.cell import cell_measures, load_cell_task, optimizer_builder, trial_plan
from bench.measure.catalogue import MEASURES
from bench.training.batches import batches_of
from bench.training.devices import prepare
from bench.training.loop import evaluate
from bench.training.seeds import Start
from bench.training.stepper import Stepper

TAKES, STEPS = 3, 100


def least(call: Callable[[], object]) -> float:
    """Return the processor seconds of the fastest take."""
    taken = []
    for _ in range(TAKES):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "mnist5k/mlp"
    cells = {
        measure: resolve(compose_config([f"task={name}", "lr=0.1", f"measure.at_evaluations=[{measure}]"]))
        for measure in MEASURES
    }
    cell = cells["distance"]
    task = load_cell_task(cell, prepare("cpu", 1, "float32"))
    parameters = task.initialise(0)
    optimizer = optimizer_builder(cell)(parameters, 0.1)
    stepper = Stepper(task, parameters, optimizer, batches_of(task, cell.batch_size, "keep", True, 0, 0))
    stepper.run(cell.steps_per_epoch, lambda: False)
    start = Start(0.1, 0, 0, 0, 0)
    weights = [tensor.detach().clone() for tensor in stepper.evaluated]
    inputs, labels = task.example_batch(cell.batch_size)

    def watched() -> None:
        for _ in range(32):
            stepper.losses(inputs, labels)

    step = least(lambda: stepper.run(STEPS, lambda: False)) / STEPS
    rows = [("a training step", step), ("an evaluation", least(lambda: evaluate(task, stepper, trial_plan(cell))))]
    for measure, made in cells.items():
        measures = cell_measures(made, task)
        assert measures is not None
        if measure == "step_loss_variance":
            rows.append((measure, least(watched)))
        elif measure != "barrier":
            rows.append((measure, least(partial(measures.take, start, stepper.steps, weights, []))))
            if reason := measures.measured()[0].reason:
                rows[-1] = (f"{measure} (left out: {reason})", rows[-1][1])
    print(f"{name}, batch size {cell.batch_size}, torch {torch.__version__}")
    for what, seconds in rows:
        print(f"{1e3 * seconds:10.2f} ms {seconds / step:9.0f} steps  {what}")


if __name__ == "__main__":
    main()
