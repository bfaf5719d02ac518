"""Tasks that are judged by their loss: choice, comparison, gap and words follow the measure."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis.budgets import cuts
from bench.analysis.comparisons import largest_against_smallest
from bench.analysis.findings import findings
from bench.analysis.measures import LOSS_MARGIN, Accuracy, Loss, margins, measure_names, measure_of
from bench.analysis.outcomes import batch_summary, divergence_map, learning_curves
from bench.analysis.results import analyse
from bench.analysis.rules import (
    learning_rate_scores,
    reference_batch_sizes,
    retuned,
    rule_outcomes,
    rule_rates,
    seed_outcomes,
)
from bench.analysis.speed import memory, throughput
from bench.analysis.study import Study
from bench.analysis.targets import seeds_to_target, to_target
from bench.report.headline import headlines
from bench.report.messages import messages
from bench.report.wording import target_text
from tests.analysis.hand_made import Law, hand_study


def bowl(batch_size: int, lr: float, seed: int, step: int) -> float:
    """A loss that is lowest at the middle rate, .5, and grows with the batch size."""
    return 10.0 if step == 0 else batch_size * (1 + abs(math.log2(lr / 0.5))) * 1.01**seed


def compared(data: Study, rule: str = "re-tuned") -> pd.Series:
    table = cuts(data)
    rates = rule_rates(learning_rate_scores(table), reference_batch_sizes(data.cells))
    found = largest_against_smallest(seed_outcomes(table, rates), rates)
    row: pd.Series = found[(found["budget"] == "steps") & (found["rule"] == rule)].iloc[0]
    return row


def chosen(data: Study, batch_size: int) -> float:
    best = retuned(learning_rate_scores(cuts(data)))
    return float(best[(best["batch_size"] == batch_size) & (best["budget"] == "steps")]["lr"].iloc[0])


def test_a_task_is_judged_by_its_targets_metric_and_by_loss_where_it_has_no_accuracy() -> None:
    cells = pd.DataFrame(
        {
            "task": ["a", "b", "c", "d", "e"],
            "target_metric": ["val_accuracy", "val_loss", None, None, "val_accuracy"],
        }
    )
    curves = pd.DataFrame({"task": ["a", "a", "b", "b", "c", "e"], "metric": ["loss", "accuracy"] * 2 + ["loss"] * 2})
    names = measure_names(cells, curves)
    assert names.to_dict() == {"a": "accuracy", "b": "loss", "c": "loss", "d": "accuracy", "e": "loss"}


def test_the_lowest_mean_loss_chooses_the_rate() -> None:
    assert chosen(hand_study(bowl, metric="loss"), 64) == 0.5
    upside_down = hand_study(lambda b, lr, seed, step: -bowl(b, lr, seed, step), metric="loss")
    assert chosen(upside_down, 64) == 0.25


def test_a_rate_of_which_a_seed_diverged_loses_however_low_the_others() -> None:
    assert chosen(hand_study(bowl, metric="loss", diverged_at={(64, 0.5, 1): 2}), 64) == 0.25
    # Where every rate lost a seed the fewest lost win, then the mean of the survivors.
    lost = {(64, 0.5, 0): 2, (64, 0.5, 1): 2, (64, 0.25, 0): 2, (64, 1.0, 2): 2}
    assert chosen(hand_study(bowl, metric="loss", diverged_at=lost), 64) == 1.0


def test_losses_are_compared_by_their_log_ratio() -> None:
    row = compared(hand_study(bowl, metric="loss"))
    assert row["unit"] == "log ratio"
    assert row["difference"] == pytest.approx(math.log(256 / 16))
    assert row["value_large"] / row["value_small"] == pytest.approx(16)
    assert (row["lo"], row["hi"]) == pytest.approx((math.log(16), math.log(16)), abs=1e-9)
    # Nothing is added for test examples.
    assert row["hi_wide"] == row["hi"]
    assert row["margin"] == pytest.approx(math.log(1 + LOSS_MARGIN))
    assert row["verdict"] == "supported"
    assert compared(hand_study(lambda b, lr, seed, step: 1 / bowl(b, lr, seed, step), metric="loss"))["verdict"] == (
        "refuted"
    )
    assert compared(hand_study(lambda b, lr, seed, step: 1.0 + 0.0001 * b, metric="loss"))["verdict"] == "equivalent"


def test_losses_that_are_not_all_positive_are_subtracted() -> None:
    zero = compared(hand_study(lambda b, lr, seed, step: 0.0, metric="loss"))
    assert (zero["unit"], zero["difference"], zero["verdict"]) == ("loss", 0, "equivalent")
    row = compared(hand_study(lambda b, lr, seed, step: float(b - 116), metric="loss"))
    assert (row["value_small"], row["value_large"]) == (-100, 140)
    assert (row["unit"], row["difference"]) == ("loss", 240)
    assert row["margin"] == pytest.approx(14)
    assert row["verdict"] == "supported"


def test_a_diverged_trial_is_an_infinite_loss_left_out_of_means_and_counted() -> None:
    everyone = {(256, lr, seed): 2 for lr in (0.25, 0.5, 1.0) for seed in range(3)}
    row = compared(hand_study(bowl, metric="loss", diverged_at=everyone))
    assert (row["n"], row["diverged_large"], row["verdict"]) == (0, 3, "supported")
    one = {(256, lr, 0): 2 for lr in (0.25, 0.5, 1.0)}
    row = compared(hand_study(bowl, metric="loss", diverged_at=one))
    assert (row["n"], row["diverged_large"], row["verdict"]) == (2, 1, "supported")
    # The survivors say that the largest batch is worse; that the smallest lost a seed speaks against it.
    other = {(16, lr, 0): 2 for lr in (0.25, 0.5, 1.0)}
    assert compared(hand_study(bowl, metric="loss", diverged_at=other))["verdict"] == "inconclusive"
    alone = {(256, lr, 0): 2 for lr in (0.25, 0.5, 1.0)}
    assert compared(hand_study(bowl, metric="loss", seeds=1, diverged_at=alone))["verdict"] == "inconclusive"


def test_no_accuracy_is_made_up_for_a_diverged_trial() -> None:
    data = hand_study(bowl, metric="loss", diverged_at={(64, 1.0, 0): 4})
    table = cuts(data)
    assert table["test_accuracy"].isna().all()
    lost = table[table["diverged"]]
    assert len(lost)
    assert np.isinf(lost["test_loss"]).all()
    rates = rule_rates(learning_rate_scores(table), reference_batch_sizes(data.cells))
    outcomes = seed_outcomes(table, rates)
    assert (outcomes.loc[~outcomes["diverged"], "gap"] == 0).all()
    means = rule_outcomes(outcomes, rates)
    forced = means[(means["budget"] == "steps") & (means["rule"] == "sqrt") & (means["batch_size"] == 64)].iloc[0]
    assert (forced["lr"], forced["n"], forced["n_diverged"]) == (1.0, 3, 1)
    assert forced["test_loss"] == pytest.approx(128 * (1.01 + 1.01**2) / 2)


def test_gap_is_positive_where_training_is_ahead() -> None:
    def split(law: Law) -> pd.Series:
        data = hand_study(law, metric="loss")
        ahead = data.evaluations.assign(train_loss=data.evaluations["test_loss"] - 3)
        table = cuts(Study(data.cells, data.trials, ahead, data.repeated))
        rates = rule_rates(learning_rate_scores(table), reference_batch_sizes(data.cells))
        gaps: pd.Series = seed_outcomes(table, rates)["gap"]
        return gaps

    assert split(bowl).to_numpy() == pytest.approx(3)


def test_tables_of_the_report_hold_the_loss_and_its_best() -> None:
    data = hand_study(bowl, metric="loss", diverged_at={(16, 1.0, 0): 2})
    table = cuts(data)
    scores = learning_rate_scores(table)
    rates = rule_rates(scores, reference_batch_sizes(data.cells))
    means, choices = rule_outcomes(seed_outcomes(table, rates), rates), retuned(scores)
    summary = batch_summary(data, means, to_target(data.trials), throughput(data.cells), memory(data.cells))
    # At equal epochs: after 16, 4 and 1 steps.
    assert summary["test_loss"].to_numpy() == pytest.approx([b * (1 + 1.01 + 1.01**2) / 3 for b in (16, 64, 256)])
    assert summary["most_accurate"].tolist() == [True, False, False]
    drawn = divergence_map(data, choices).set_index(["batch_size", "lr"])
    assert drawn.loc[(16, 1.0), "val_loss"] == pytest.approx(32 * (1.01 + 1.01**2) / 2)
    ends = learning_curves(data, choices).groupby("batch_size").last()
    assert ends["val_loss_least"].tolist() == [16, 64, 256]


def test_findings_speak_of_the_loss_and_of_those_that_diverged() -> None:
    lost = {(256, lr, 0): 2 for lr in (0.25, 0.5, 1.0)}
    data = hand_study(bowl, metric="loss", diverged_at=lost)
    targets = to_target(data.trials)
    seeds = seeds_to_target(data.trials, targets)
    found = findings(pd.DataFrame(columns=["task"]), targets, seeds, pd.DataFrame([compared(data)]))
    (row,) = found.to_dict("records")
    assert row["topic"] == "equal steps"
    assert "higher test loss" in row["claim"]
    assert (row["effect"], row["effect_unit"]) == (pytest.approx(16), "ratio")
    assert row["note"] == "1 diverged at the largest batch"


def test_headline_of_a_loss_has_no_word_of_accuracy() -> None:
    data = hand_study(bowl, metric="loss")
    curves = data.evaluations.melt(["cell", "lr", "seed", "step", "epoch", "examples", "train_seconds"])
    curves[["split", "metric"]] = curves["variable"].str.split("_", expand=True)
    results = analyse(data.cells, data.trials, curves.dropna(subset="value").assign(task="mnist5k/mlp"))
    (headline,) = headlines(results.findings, results.study.cells, messages("en"))
    told = " ".join([headline.text, *(statement.text + statement.claim for statement in headline.statements)])
    assert "ends at 16 times the test loss of the smallest" in told
    assert "accuracy" not in told
    assert "nan" not in told


def test_measures_write_their_values() -> None:
    fine, coarse, loss = Accuracy(10_000), Accuracy(500), Loss(500)
    assert (fine.value(0.98765), coarse.value(0.98765), loss.value(0.012345)) == ("98.77 %", "98.8 %", "0.0123")
    assert (coarse.effect(-0.012, "fraction"), loss.effect(1.25, "ratio"), loss.effect(0.5, "loss")) == (
        "−1.2 pp",
        "×1.25",
        "+0.5",
    )
    assert loss.interval(0.912, 1.31, "ratio") == "[×0.91, ×1.3]"
    assert loss.interval(math.nan, 1, "ratio") == "[no interval]"
    targets = [
        pd.DataFrame({"target_metric": [f"val_{name}"], "target": [value]})
        for name, value in (("accuracy", 0.9), ("loss", 0.1))
    ]
    assert [target_text(cells, messages("en")) for cells in targets] == [
        "90 % validation accuracy",
        "a validation loss below 0.1",
    ]
    assert (coarse.brief(0.934), loss.brief(0.0123), loss.brief(3.4e-9), loss.brief(0)) == ("93", "0.012", "3e−9", "0")
    assert measure_of(pd.DataFrame({"measure": ["loss"], "test_examples": [7.0]})).test_examples == 7


def test_margins_of_each_unit() -> None:
    table = pd.DataFrame(
        {
            "task": ["mnist/mlp", "mnist5k/mlp", "quadratic", "surface"],
            "unit": ["fraction", "fraction", "log ratio", "loss"],
            "value_small": [0.9, 0.9, 1.0, -4.0],
            "value_large": [0.9, 0.9, 1.0, 2.0],
        }
    )
    assert margins(table).tolist() == pytest.approx([0.001, 0.005, math.log(1.1), 0.4])
