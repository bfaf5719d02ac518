"""C24 on planted pairs of cells."""

import math

import pytest

from bench.results.tables import Tables
from tests.claims.planted import accuracies, data_of, jitter, planted, primary, verdicts


def sweep(method: str, apart: float = 0.0, speed: float = 1000.0, activations: float = 1e6) -> Tables:
    """Two batch sizes whose training loss is off by `apart` at one of the learning rates."""

    def law(size: int, lr: float, seed: int, step: int) -> dict[str, float]:
        loss = 0.5 * (1 + apart * (lr == 0.5) * (1 + 0.1 * jitter(seed)))
        return accuracies(0.5) | {"train_loss": loss}

    def cell(size: int) -> dict[str, float]:
        ends = {
            f"examples_per_second{end}": speed * factor for end, factor in (("", 1), ("_lo", 0.999), ("_hi", 1.001))
        }
        return ends | {"examples_per_second_n": 9, "activation_bytes": activations}

    return planted(law, (16, 64), lrs=(0.25, 0.5), keys={"method": method}, cell=cell)


@pytest.mark.parametrize(("apart", "word"), [(1e-9, "supported"), (1e-3, "refuted")])
def test_accumulated_batches(apart: float, word: str) -> None:
    data = data_of(sweep("clip_norm=1.0"), sweep("clip_norm=1.0 micro_batch=32", apart, speed=500, activations=5e5))
    row = primary("C24", data)
    assert row["verdict"] == word
    assert row["optimizer"] == "sgd (clip_norm=1.0 micro_batch=32)"
    assert row["estimate"] == pytest.approx(apart, rel=0.2)
    costs = verdicts("C24", data).set_index("measure")
    assert costs.loc["time", "estimate"] == pytest.approx(math.log(2))
    assert costs.loc["activations", "estimate"] == pytest.approx(-math.log(2))
    assert costs.loc[["time", "activations"], "verdict"].tolist() == ["refuted", "refuted"]


def test_batches_of_one_pass_are_none() -> None:
    assert verdicts("C24", data_of(sweep(""), sweep("micro_batch=64"))).empty
    assert len(verdicts("C24", data_of(sweep(""), sweep("micro_batch=16")))) == 3


def test_equal_cost_is_seen_to_be_equal() -> None:
    costs = verdicts("C24", data_of(sweep(""), sweep("micro_batch=32"))).set_index("measure")
    assert (costs["verdict"] == "supported").all()


def test_another_method_is_no_partner() -> None:
    assert verdicts("C24", data_of(sweep("clip_norm=1.0"), sweep("micro_batch=32"))).empty
