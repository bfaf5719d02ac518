"""Verdicts on claims: families, primary places, what is missing."""

import pandas as pd
import pytest

from bench.analysis.results import analyse
from bench.claims.claim import chosen_claims, claim, claim_names, frozen_hash
from bench.claims.evidence import COLUMNS, PLACE, Data, judged
from bench.claims.judges import JUDGES
from bench.errors import UsageError
from tests.analysis.hand_made import hand_study


def data_of(gap: float, sweep: str = "") -> Data:
    """Three batch sizes of which the largest ends `gap` below the smallest, up to noise of the seeds."""
    noise = (0.0003, -0.0002, 0.0001, 0.0, -0.0002, 0.0002, -0.0001, 0.0001)

    def law(batch_size: int, lr: float, seed: int, step: int) -> float:
        drop = gap if batch_size == 256 else 0.0
        return 0.9 - drop + noise[seed] * (batch_size == 256) - 0.05 * (lr != 0.5)

    made = hand_study(law, seeds=8)
    made.cells["test_examples"] = float("nan")
    curves = made.evaluations.melt(
        ["cell", "lr", "seed", "step", "epoch", "examples", "train_seconds"], var_name="name"
    )
    curves[["split", "metric"]] = curves["name"].str.split("_", expand=True)
    results = analyse(made.cells, made.trials, curves.drop(columns="name"))
    return Data(results, pd.DataFrame(), sweep)


@pytest.mark.parametrize(
    ("gap", "word"), [(0.02, "supported"), (-0.02, "refuted"), (0.0, "equivalent"), (0.0049, "inconclusive")]
)
def test_large_batches_generalise_worse(gap: float, word: str) -> None:
    found = judged(data_of(gap), [claim("C5")], JUDGES)
    assert list(found.verdicts.columns) == list(COLUMNS)
    assert not found.verdicts.duplicated(["claim", *PLACE]).any()
    primary = found.verdicts[found.verdicts["primary"]]
    assert list(zip(primary["budget"], primary["rule"], strict=True)) == [("epochs", "re-tuned")]
    assert primary["verdict"].tolist() == [word]
    assert primary["estimate"].iloc[0] == pytest.approx(gap, abs=2e-4)
    assert (found.verdicts["lo_adjusted"] <= found.verdicts["lo"]).all()


def test_of_several_sweeps_a_claim_takes_that_of_its_experiment_then_the_first() -> None:
    better, worse = data_of(-0.02, claim("C5").experiment), data_of(0.02, "mine")
    for first, others, verdict, sweep, folder in (
        (worse, [better], "refuted", better.sweep, f"{better.sweep}/"),
        (better, [worse], "refuted", better.sweep, ""),
        (worse, [data_of(0.0, "yours")], "supported", "mine", ""),
        (Data(worse.results, pd.DataFrame(), "mine"), [], "supported", "mine", ""),
    ):
        found = judged(first, [claim("C5")], JUDGES, others).verdicts
        assert found.loc[found["primary"], "verdict"].tolist() == [verdict]
        assert set(found["sweep"]) == {sweep}
        assert set(found["source"]) == {f"{folder}largest-against-smallest.csv"}


def test_claims_are_found_by_name() -> None:
    assert [item.name for item in chosen_claims("c5, C5")] == ["C5"]
    assert [item.name for item in chosen_claims("")] == claim_names()
    with pytest.raises(UsageError, match="unknown claim 'C99'"):
        chosen_claims("C99")


def test_every_claim_has_a_judge_and_says_all_it_has_to() -> None:
    assert sorted(JUDGES) == sorted(claim_names())
    for name in claim_names():
        assert set(claim(name).sentence) == set(claim(name).contrast) == {"en", "zh"}
    assert len(frozen_hash()) == 64
