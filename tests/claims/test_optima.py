"""Whether large batches stop in worse optima, on planted losses and barriers."""

import pandas as pd
import pytest

from tests.claims.tables import NOISE, Arm, missing, primary, verdicts

KEYS = {"task": "mnist5k/mlp", "model": "mlp", "optimizer": "sgd", "device": "cpu", "precision": "float32"}


def losing(small: float, large: float, **facts) -> Arm:  # type: ignore[no-untyped-def]
    """Training losses of the smallest and of the other batch sizes."""
    return Arm(
        **({"loss": lambda size, lr, seed: (small if size == 16 else large) + NOISE[seed] * (size > 16)} | facts)
    )


@pytest.mark.parametrize(
    ("small", "large", "word"),
    [(0.1, 0.5, "supported"), (0.5, 0.1, "refuted"), (0.1, 0.1, "equivalent"), (0.002, 0.008, "equivalent")],
)
def test_large_batches_stop_in_worse_optima(small: float, large: float, word: str) -> None:
    assert primary("C6", losing(small, large)) == [word]


def test_the_unit_is_the_untrained_loss() -> None:
    found = verdicts("C6", losing(0.1, 0.33))
    assert found["estimate"].tolist() == [pytest.approx(0.1)] * len(found)
    assert set(found["budget"]) == {"end", "epochs", "examples", "seconds", "steps"}
    assert set(found["rule"]) >= {"re-tuned", "fixed", "sqrt"}


def test_barriers_are_taken_at_re_tuned_rates() -> None:
    rows = [
        KEYS
        | {"cell": str(size), "batch_size": size, "lr": lr, "seed": seed, "step": 16, "epoch": 1.0, "examples": 256}
        | {"metric": metric, "value": (2.3 if size == 256 else 0.0) * (lr == 0.25) + NOISE[seed] * (size == 256)}
        for size in (16, 64, 256)
        for lr in (0.25, 0.5)
        for seed in range(1, 6)
        for metric in ("barrier_train", "barrier_test", "distance")
    ]
    # All rates do as well: the smallest, .25, is the re-tuned one.
    found = verdicts("C6", losing(0.1, 0.1), measures=pd.DataFrame(rows))
    barriers = found[found["measure"].str.startswith("barrier")]
    assert barriers["measure"].tolist() == ["barrier, test loss", "barrier, train loss"]
    assert barriers["verdict"].tolist() == ["supported"] * 2
    assert barriers["estimate"].tolist() == [pytest.approx(1, abs=1e-3)] * 2
    assert barriers["n"].tolist() == [5, 5]


def test_nothing_is_said_of_one_batch_size_and_little_of_one_seed() -> None:
    assert missing("C6", losing(0.1, 0.5, batch_sizes=(16,)))
    assert primary("C6", losing(0.1, 0.5, seeds=1)) == ["inconclusive"]
