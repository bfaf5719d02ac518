"""MNIST's known accuracies, cheaply; `experiment=mnist_reference` takes them in full (reports/mnist-reference)."""

import pytest

from bench.launching.cell import audit_cell, run_cell
from tests.small import small_cell

CHEAP = ["optimizer=adam", "budget.steps=null", "measure.speed=false", "evaluation.per_octave=1"]


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("model", "lr", "epochs", "accuracy"),
    [
        ("logreg", 2**-11, 3, 0.92),
        ("mlp", 2**-10, 4, 0.97),
        ("lenet5", 2**-9, 1, 0.975),
    ],
)
def test_test_accuracy(model: str, lr: float, epochs: int, accuracy: float, mnist_root: str) -> None:
    cell = small_cell(*CHEAP, f"task=mnist/{model}", f"lr={lr}", f"budget.epochs={epochs}", f"data.root={mnist_root}")
    record, _ = run_cell(cell)
    assert record.status == "complete", record.reason
    (trial,) = record.trials
    final = trial.final["test_accuracy"]
    assert final is not None
    assert final >= accuracy


@pytest.mark.mnist
@pytest.mark.parametrize("model", ["logreg", "mlp", "lenet5"])
def test_audit_passes_on_all_of_mnist(model: str, mnist_root: str) -> None:
    checks = audit_cell(small_cell(f"task=mnist/{model}", f"data.root={mnist_root}"))
    assert [check for check in checks if not check.passed] == []
