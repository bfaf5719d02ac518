"""C22 and C23 on planted measures."""

import math
from collections.abc import Callable

import pytest

from tests.claims.planted import TRAIN_EXAMPLES, accuracies, data_of, jitter, planted, primary, verdicts

CHEBYSHEV = {"task": "chebyshev", "model": "tanh network"}


@pytest.mark.parametrize(("share", "word"), [(1.01, "supported"), (0.8, "refuted"), (1.2, "refuted")])
def test_edge_of_stability(share: float, word: str) -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        # The first half of the steps is on the way to the edge.
        at = share * (1 + 0.003 * jitter(seed, step)) if step >= 32 else 0.1
        return accuracies(0.9) | {"measure_lambda_max": at * 2 / lr}

    sizes = (16, TRAIN_EXAMPLES)
    data = data_of(planted(law, sizes, lrs=(0.1, 0.2), keys=CHEBYSHEV))
    row = primary("C22", data)
    assert row["verdict"] == word
    assert row["estimate"] == pytest.approx(share, rel=0.01)
    assert verdicts("C22", data)["measure"].tolist() == ["learning rate 0.1", "learning rate 0.2"]


def test_the_edge_is_that_of_plain_full_batch_descent() -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        return accuracies(0.9) | {"measure_lambda_max": 2 / lr}

    assert verdicts("C22", data_of(planted(law, (16, 64), keys=CHEBYSHEV))).empty
    momentum = planted(law, (TRAIN_EXAMPLES,), keys=CHEBYSHEV | {"optimizer": "momentum"})
    assert verdicts("C22", data_of(momentum)).empty


@pytest.mark.parametrize(("growth", "word"), [(math.log, "supported"), (math.sqrt, "refuted")])
def test_distance(growth: Callable[[float], float], word: str) -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        distance = 1 + growth(step) + 0.01 * jitter(seed, step) if step else 0.0
        return accuracies(0.9) | {"measure_distance": distance}

    data = data_of(planted(law))
    assert primary("C23", data)["verdict"] == word
    assert verdicts("C23", data)["measure"].tolist() == ["batch size 256", "batch size 64", "reference batch size"]


def test_a_seed_that_diverged_is_left_out() -> None:
    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        return accuracies(0.9) | {"measure_distance": 1 + math.log(step) + 0.01 * jitter(seed, step) if step else 0.0}

    def trial(size: int, lr: float, seed: int) -> dict[str, object]:
        return {"status": "diverged"} if seed == 0 else {}

    assert primary("C23", data_of(planted(law, trial=trial)))["n"] == 4
