"""MNIST's known accuracies, cheaply; `experiment=mnist_reference` takes them in full (reports/mnist-reference)."""

import pytest

from bench.launching.cell import run_cell
from tests.small import small_cell

CHEAP = ["optimizer=adam", "measure.speed=false", "measure.memory=false", "evaluation.per_octave=1"]


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("model", "lr", "steps", "accuracy"),
    [
        # Epochs of 860 steps: three, four, and three tenths.
        ("logreg", 2**-11, 2580, 0.92),
        ("mlp", 2**-10, 3440, 0.97),
        pytest.param("lenet5", 2**-9, 256, 0.95, marks=pytest.mark.slow),
    ],
)
def test_test_accuracy(model: str, lr: float, steps: int, accuracy: float, mnist_root: str) -> None:
    budget = ["budget.epochs=null", f"budget.steps={steps}"]
    cell = small_cell(*CHEAP, f"task=mnist/{model}", f"lr={lr}", *budget, f"data.root={mnist_root}")
    record, _, _ = run_cell(cell)
    # The audit comes first: a cell that fails it is not trained.
    assert record.status == "complete", record.reason
    (trial,) = record.trials
    final = trial.final["test_accuracy"]
    assert final is not None
    assert final >= accuracy
