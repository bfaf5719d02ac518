"""Claims of learning rates, on tables whose best rates are planted."""

import math

import pytest

from tests.claims.tables import NOISE, Arm, missing, primary, verdicts

SIZES = (16, 32, 64, 128, 256)
RATES = tuple(2.0**power for power in range(-8, 3))


def peaked(slope: float, optimizer: str = "sgd", width: float = 0.01, **facts) -> Arm:  # type: ignore[no-untyped-def]
    """Accuracy is a parabola in log2 of the rate, with its top at 2^-6 at batch 16 and moving by a slope."""

    def accuracy(batch_size: int, lr: float, seed: int) -> float:
        top = -6 + slope * math.log2(batch_size / 16) + 100 * NOISE[seed]
        return 0.9 - width * (math.log2(lr) - top) ** 2

    return Arm(**({"accuracy": accuracy, "optimizer": optimizer, "batch_sizes": SIZES, "lrs": RATES} | facts))


@pytest.mark.parametrize(("slope", "linear", "root"), [(1.0, "supported", "refuted"), (0.5, "refuted", "supported")])
def test_the_best_rate_follows_the_batch_size(slope: float, linear: str, root: str) -> None:
    assert primary("C10", peaked(slope)) == [linear]
    assert primary("C11", peaked(slope, "adam")) == [root]


def test_each_rule_is_of_its_own_optimizers() -> None:
    assert missing("C10", peaked(1.0, "adam"))
    assert missing("C11", peaked(1.0, "momentum"))


def test_best_rates_at_the_edge_are_left_out_and_counted() -> None:
    found = verdicts("C10", peaked(3.0, lrs=RATES))
    assert found.loc[found["primary"], "note"].tolist() == [
        "2 of 5 batch sizes have their best at an end of the grid and are left out"
    ]
    assert found.loc[found["primary"], "estimate"].tolist() == [pytest.approx(3, abs=1e-6)]
    assert missing("C10", peaked(1.0, lrs=(0.25, 0.5)))


def wide(small: float, large: float, **facts) -> Arm:  # type: ignore[no-untyped-def]
    """Accuracy falls by half a point within so many octaves of 2^-3, at the smallest and at the other batch sizes."""

    def accuracy(batch_size: int, lr: float, seed: int) -> float:
        reach = (small if batch_size == 16 else large) + 100 * NOISE[seed] * (batch_size == 16)
        return 0.9 - 0.005 * abs(math.log2(lr) + 3) / reach

    return Arm(**({"accuracy": accuracy, "batch_sizes": (16, 256), "lrs": RATES} | facts))


def test_small_batches_tolerate_more_rates() -> None:
    assert primary("C14", wide(3, 1)) == ["supported"]
    assert primary("C14", wide(1, 3)) == ["refuted"]
    assert primary("C14", wide(2, 2)) == ["equivalent"]
    found = verdicts("C14", wide(3, 1))
    assert found.loc[found["primary"], "estimate"].tolist() == [pytest.approx(4, abs=0.05)]
    assert missing("C14", wide(3, 1, batch_sizes=(16,)))


def optimum(by_rate: float, by_examples: float, examples: int, knobs: str) -> Arm:
    """Accuracy is a parabola in log2 of the batch size, with its top at 64 at rate 1/8 and 1024 examples."""

    def accuracy(batch_size: int, lr: float, seed: int) -> float:
        top = 6 + by_rate * math.log2(lr / 0.125) + by_examples * math.log2(examples / 1024) + 50 * NOISE[seed]
        return 0.9 - 0.01 * (math.log2(batch_size) - top) ** 2

    rates = (0.0625, 0.125, 0.25)
    sizes = (8, 16, 32, 64, 128, 256, 512)
    return Arm(accuracy=accuracy, batch_sizes=sizes, lrs=rates, knobs=knobs, train_examples=examples)


@pytest.mark.parametrize(("by_rate", "by_examples"), [(1.0, 0.0), (0.0, 1.0)])
def test_the_optimal_batch_size(by_rate: float, by_examples: float) -> None:
    arms = [
        optimum(by_rate, by_examples, 512, "subset=512"),
        optimum(by_rate, by_examples, 1024, ""),
        optimum(by_rate, by_examples, 2048, "subset=2048"),
    ]
    found = verdicts("C13", *arms)
    steps = found[found["budget"] == "steps"]
    word = {1.0: "supported", 0.0: "refuted"}
    assert steps.loc[steps["measure"] == "learning rate", "verdict"].tolist() == [word[by_rate]] * 3
    across = steps[steps["measure"] == "training examples"]
    assert across["verdict"].tolist() == [word[by_examples]]
    assert across["task"].tolist() == ["mnist5k/mlp"]
    assert across["estimate"].tolist() == [pytest.approx(by_examples, abs=0.02)]
    assert missing("C13", optimum(1, 1, 1024, "").__class__(batch_sizes=(16, 64)))
