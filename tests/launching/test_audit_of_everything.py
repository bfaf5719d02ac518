"""`bench audit` passes on every task that needs no files, with a sample of optimizers that step in different ways."""

import pytest

from bench.composition import choices, compose_config
from bench.config import resolve
from bench.launching.cell import audit_cell
from bench.tasks.catalogue import DATA_SETS

#: First order, adaptive, with a closure of its own.
SAMPLE = ("sgd", "adam", "lbfgs")
#: Networks whose audit takes seconds each; sgd is enough for them.
LARGE = ("2c2d", "simple_cnn", "mlp_deepobs", "f1", "lenet5")


def without_files(task: str) -> bool:
    data = task.split("/")[0]
    return task != "custom" and (data not in DATA_SETS or DATA_SETS[data].files == "nothing")


CASES = [
    (task, optimizer)
    for task in choices("task")
    if without_files(task)
    for optimizer in (SAMPLE[:1] if task.endswith(LARGE) else SAMPLE)
]


@pytest.mark.parametrize(("task", "optimizer"), CASES)
def test_the_audit_passes(task: str, optimizer: str) -> None:
    checks = audit_cell(resolve(compose_config([f"task={task}", f"optimizer={optimizer}", "batch_size=16"])))
    assert [check for check in checks if not check.passed] == []
    # A check may have nothing to say of a task, but never all of them.
    assert sum(check.value != "does not apply" for check in checks) >= 6
