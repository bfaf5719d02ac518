"""MNIST's known accuracies, cheaply; `experiment=mnist_reference` takes them in full (reports/mnist-reference)."""

import pytest

from bench.launching.cell import run_cell
from tests.small import small_cell

CHEAP = ["optimizer=adam", "budget.steps=null", "measure.speed=false", "evaluation.per_octave=1"]


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("model", "lr", "epochs", "accuracy"),
    [
        ("logreg", 2**-11, 3, 0.92),
        ("mlp", 2**-10, 4, 0.97),
        pytest.param("lenet5", 2**-9, 1, 0.975, marks=pytest.mark.slow),
    ],
)
def test_test_accuracy(model: str, lr: float, epochs: int, accuracy: float, mnist_root: str) -> None:
    cell = small_cell(*CHEAP, f"task=mnist/{model}", f"lr={lr}", f"budget.epochs={epochs}", f"data.root={mnist_root}")
    record, _, _ = run_cell(cell)
    # The audit comes first: a cell that fails it is not trained.
    assert record.status == "complete", record.reason
    (trial,) = record.trials
    final = trial.final["test_accuracy"]
    assert final is not None
    assert final >= accuracy
