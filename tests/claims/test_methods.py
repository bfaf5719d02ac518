"""Claims of methods that close the gap or stand in for one another, on planted tables."""

from typing import cast

import pandas as pd
import pytest

from bench.analysis.results import Results
from bench.claims.contrasts import better_by
from bench.claims.evidence import Data
from bench.claims.methods import arms
from tests.claims.tables import NOISE, Arm, Parts, data, exported, missing, primary, verdicts

GROWTH = "batch_schedule=growth milestones=[0.5,0.75] factor=10"
DECAY = "schedule=step milestones=[0.5,0.75]"


def unequal(few: float, many: float, **facts) -> Arm:  # type: ignore[no-untyped-def]
    """Batch 256 ends below batch 16 by `few` after as many epochs (4 steps), and by `many` after as many steps."""

    def at(batch_size: int, lr: float, seed: int, step: int) -> float:
        below = 0.0 if batch_size == 16 else few if step <= 4 else many
        return 0.9 - below + NOISE[seed] * (batch_size == 256)

    given = {"batch_sizes": (16, 256), "train_examples": 1024, "steps": lambda size: 64 if size == 16 else 16}
    return Arm(**(given | {"at": at} | facts))


def test_the_gap_is_too_few_updates() -> None:
    assert primary("C9", unequal(0.04, 0.0)) == ["supported"]
    assert primary("C9", unequal(0.04, 0.04)) == ["equivalent"]
    assert primary("C9", unequal(0.0, 0.04)) == ["refuted"]
    assert missing("C9", unequal(0.04, 0.0, batch_sizes=(16,)))


def test_each_rung_is_held_against_the_one_before() -> None:
    plain = unequal(0.04, 0.01)
    ghost = unequal(0.03, 0.0, knobs="ghost_batch=32")
    found = verdicts("C9", plain, ghost)
    rungs = found[found["measure"].str.startswith("ladder")].set_index("measure")
    assert rungs["estimate"].to_dict() == {
        "ladder 1 learning rate": pytest.approx(0),
        "ladder 2 ghost batch norm 32": pytest.approx(0.01),
        "ladder 3 longer": pytest.approx(0.03),
    }
    assert set(rungs["task"]) == {"mnist5k/mlp"}


def ending(result: float, method: str, **facts) -> Arm:  # type: ignore[no-untyped-def]
    """An arm whose best rate is .5, and another's is a point lower."""

    def accuracy(batch_size: int, lr: float, seed: int) -> float:
        return result - 0.01 * (lr != 0.5) + NOISE[seed] * bool(method == GROWTH or "clip" in method)

    return Arm(**({"accuracy": accuracy, "method": method, "optimizer": "momentum"} | facts))


def test_growth_is_decay() -> None:
    decay = ending(0.9, DECAY)
    assert set(primary("C12", ending(0.9, GROWTH), decay)) == {"supported"}
    assert set(primary("C12", ending(0.92, GROWTH), decay)) == {"refuted"}
    assert set(primary("C12", ending(0.9, GROWTH, seeds=1), decay)) == {"inconclusive"}
    found = verdicts("C12", ending(0.92, GROWTH), decay, Arm(optimizer="momentum"))
    assert found["measure"].nunique() == 6  # three batch sizes, the decay's rate and one's own
    assert found["estimate"].tolist() == [pytest.approx(0.02)] * 6


@pytest.mark.parametrize(
    "decay",
    [
        f"{DECAY} gamma=0.2",
        "schedule=step milestones=[0.5]",
        f"{DECAY} batch_schedule=growth factor=10",
        f"{DECAY} clip_norm=1.0",
        "",
    ],
)
def test_only_equal_noise_scales_are_paired(decay: str) -> None:
    assert missing("C12", ending(0.9, GROWTH), ending(0.9, decay))


def test_other_factors_pair_with_their_inverse() -> None:
    growth = "batch_schedule=growth milestones=[0.5]"  # a factor of 2 is the default
    found = verdicts("C12", ending(0.9, growth), ending(0.9, "schedule=step milestones=[0.5] gamma=0.5"))
    assert len(found) == 6


def test_the_full_batch_matches_where_it_is_clipped() -> None:
    def at(batch_size: int, lr: float, seed: int) -> float:
        return (0.9 if batch_size == 16 else 0.85 if batch_size == 64 else 0.8) + NOISE[seed] * (batch_size == 16)

    plain = Arm(accuracy=at, optimizer="momentum", full=256, seconds=lambda size: size / 16)
    clipped = ending(0.9, "clip_norm=1.0", full=256, seconds=lambda size: size / 16)
    found = verdicts("C19", plain, clipped)
    ends = found[found["budget"] == "end"].set_index("measure")
    assert ends["verdict"].to_dict() == {"clipped at 1.0": "supported", "plain": "refuted"}
    assert ends.loc["plain", "estimate"] == pytest.approx(-0.1)
    assert ends.loc["plain", "note"] == "16 steps against 16 of batch 16"
    assert primary("C19", plain, ending(0.8, "clip_norm=1.0", full=256)) == ["refuted"]


def test_without_a_full_batch_nothing_is_said_of_it() -> None:
    assert missing("C19", Arm(optimizer="momentum"), ending(0.9, "clip_norm=1.0"))
    assert missing("C19", Arm(optimizer="momentum", batch_sizes=(256,), full=256))


def test_diverged_seeds_are_left_out_and_counted() -> None:
    cells, trials, curves = exported(unequal(0.04, 0.0))
    trials.loc[(trials["seed"] == 2) & (trials["batch_size"] == 256), "status"] = "diverged"
    found = Data(cast(Results, Parts(cells, trials, curves)), pd.DataFrame())
    (ends,) = [rows for key, rows in found.outcomes.items() if key[-2:] == ("end", "fixed")]
    contrast = better_by((ends.of(16), ends.of(256)))
    assert contrast is not None
    assert (contrast.estimator(0.95).n, contrast.note) == (5, "1 of 6 seeds have a diverged trial")


def test_arms_are_taken_apart() -> None:
    (arm,) = arms(data(Arm(knobs="label_noise=0.4 subset=100", method="clip_norm=1.0")).results.study)
    assert arm.condition["task"] == "mnist5k/mlp (label_noise=0.4 subset=100)"
    assert arm.base["task"] == "mnist5k/mlp"
    assert arm.base["optimizer"] == "sgd"
    assert (arm.knobs["subset"], arm.method) == ("100", {"clip_norm": "1.0"})
