import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.analysis.budgets import common_budgets, cuts
from bench.analysis.comparisons import accuracy_margin, largest_against_smallest
from bench.analysis.results import analyse
from bench.analysis.rules import (
    learning_rate_scores,
    reference_batch_sizes,
    retuned,
    rule_outcomes,
    rule_rates,
    seed_outcomes,
)
from bench.analysis.study import Study, evaluations
from tests.analysis.hand_made import hand_study


def best_at(batch_size: int) -> float:
    """The planted optimum: proportional to the square root of the batch size, .25 at 16."""
    return float(0.25 * np.sqrt(batch_size / 16))


def law(batch_size: int, lr: float, seed: int, step: int) -> float:
    return (0.1 if step == 0 else 0.9 - 0.05 * abs(np.log2(lr / best_at(batch_size)))) + 0.001 * seed


def rates_of(data: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = cuts(data)
    return table, rule_rates(learning_rate_scores(table), reference_batch_sizes(data.cells))


def test_budgets_are_the_largest_that_all_batch_sizes_reached() -> None:
    budgets = common_budgets(hand_study(law).trials).iloc[0]
    assert budgets["steps"] == 16
    assert budgets["epochs"] == 16 * 16 / 1024
    assert budgets["seconds"] == pytest.approx(16 * 16 / 1000)


def test_cut_takes_the_last_evaluation_at_or_before_the_budget() -> None:
    table = cuts(hand_study(law))
    at = table[(table["lr"] == 0.5) & (table["seed"] == 0)].set_index(["budget", "batch_size"])["step"]
    # 256 examples: 16, 4 and 1 steps.
    assert [at[("epochs", b)] for b in (16, 64, 256)] == [16, 4, 1]
    assert [at[("steps", b)] for b in (16, 64, 256)] == [16, 16, 16]
    pd.testing.assert_series_equal(at["epochs"], at["examples"])


def test_diverged_trials_count_as_untrained_from_their_end_on() -> None:
    data = hand_study(law, diverged_at={(64, 1.0, 0): 4})
    table = cuts(data)
    mine = table[(table["batch_size"] == 64) & (table["lr"] == 1.0) & (table["seed"] == 0)].set_index("budget")
    assert bool(mine.loc["steps", "diverged"])
    # The mean of the planted .100, .101 and .102 before the first step.
    assert mine.loc["steps", "test_accuracy"] == pytest.approx(0.101)
    assert len(table) == 5 * len(data.trials)


def test_cells_that_are_not_complete_are_not_compared() -> None:
    table = cuts(hand_study(law, statuses={256: "interrupted"}))
    assert set(table["batch_size"]) == {16, 64}


def test_rules_are_rows_of_the_grid() -> None:
    data = hand_study(law, batch_sizes=(4, 16, 64, 256), lrs=(0.25, 0.5, 1.0, 2.0))
    _, rates = rates_of(data)
    steps = rates[rates["budget"] == "steps"].set_index(["rule", "batch_size"])
    assert set(steps["reference"]) == {16}
    lr = steps["lr"]
    assert [lr[("re-tuned", b)] for b in (16, 64, 256)] == [0.25, 0.5, 1.0]
    assert [lr[("fixed", b)] for b in (4, 16, 64, 256)] == [0.25] * 4
    assert [lr[("sqrt", b)] for b in (16, 64, 256)] == [0.25, 0.5, 1.0]
    assert lr[("linear", 64)] == 1.0
    # Four times too much for the grid, and two octaves below it.
    assert steps.loc[("linear", 256), "outside"]
    assert steps.loc[("linear", 4), "outside"]
    assert np.isnan(lr[("linear", 256)])
    assert steps.loc[("re-tuned", 16), "edge"]
    assert not steps.loc[("re-tuned", 64), "edge"]


@settings(max_examples=12, deadline=None)
@given(st.integers(17, 255))
def test_scaled_rate_is_snapped_to_the_nearest_octave(batch_size: int) -> None:
    grid = tuple(2.0**e for e in range(-3, 3))
    _, rates = rates_of(hand_study(law, batch_sizes=(16, batch_size), lrs=grid, seeds=1))
    inside = rates[~rates["outside"]]
    octaves = np.abs(np.log2(inside["lr"] / inside["lr_wanted"]))
    assert (octaves <= 0.5 + 1e-6).all()
    assert inside["lr"].isin(grid).all()
    outside = rates[rates["outside"]]
    assert (outside["lr_wanted"] > 2 * 2**0.5).all()


def test_choice_sees_validation_data_alone_and_ties_go_to_the_smaller_rate() -> None:
    scores = learning_rate_scores(cuts(hand_study(lambda b, lr, seed, step: 0.5)))
    chosen = retuned(scores)
    assert set(chosen["lr"]) == {0.25}
    for name in ("test_accuracy", "train_accuracy"):
        assert name not in scores


def test_a_rate_of_which_one_seed_diverged_is_not_flattered() -> None:
    steep = hand_study(lambda b, lr, seed, step: 0.1 if step == 0 else 0.8 + 0.1 * lr, diverged_at={(16, 1.0, 2): 1})
    chosen = retuned(learning_rate_scores(cuts(steep)))
    mine = chosen[(chosen["batch_size"] == 16) & (chosen["budget"] == "steps")]
    assert mine["lr"].tolist() == [0.5]


def test_reference_is_the_smallest_of_at_least_16() -> None:
    sizes = (4, 32, 64, 1024)
    assert reference_batch_sizes(hand_study(law, sizes).cells)["reference"].tolist() == [32]
    assert reference_batch_sizes(hand_study(law, (4, 8)).cells)["reference"].tolist() == [4]
    # The full batch is 1024 here.
    assert reference_batch_sizes(hand_study(law, (8, 1024)).cells)["reference"].tolist() == [8]


def test_planted_difference_is_found_seed_by_seed() -> None:
    def planted(batch_size: int, lr: float, seed: int, step: int) -> float:
        noise = [0.0, 0.02, -0.02][seed]
        return 0.1 if step == 0 else 0.9 + noise - (0.3 + 0.001 * seed if batch_size == 256 else 0.0)

    table, rates = rates_of(hand_study(planted, lrs=(0.5,)))
    found = largest_against_smallest(seed_outcomes(table, rates), rates)
    row = found[(found["budget"] == "steps") & (found["rule"] == "re-tuned")].iloc[0]
    assert row["difference"] == pytest.approx(-0.301)
    # The seeds' noise is common to both batch sizes: only the planted .001 a seed is left.
    assert row["hi"] - row["lo"] == pytest.approx(2 * 4.302653 * 0.001 / np.sqrt(3), rel=1e-5)
    sampling = (0.1 + 0.401 - 0.301**2) / 500
    wide = np.sqrt((4.302653 * 0.001) ** 2 / 3 + 1.96**2 * sampling)
    assert row["hi_wide"] == pytest.approx(-0.301 + wide, rel=1e-5)
    assert row["verdict"] == "supported"
    outside = found[(found["rule"] == "linear") & (found["budget"] == "steps")].iloc[0]
    assert outside["verdict"] == "outside the grid"


def test_no_difference_on_500_examples_is_inconclusive_and_not_resolvable() -> None:
    table, rates = rates_of(hand_study(lambda b, lr, seed, step: 0.1 if step == 0 else 0.93, lrs=(0.5,)))
    found = largest_against_smallest(seed_outcomes(table, rates), rates)
    row = found[(found["budget"] == "steps") & (found["rule"] == "re-tuned")].iloc[0]
    assert (row["lo"], row["hi"]) == (0, 0)
    assert row["verdict"] == "inconclusive"
    assert not row["resolvable"]
    assert accuracy_margin("mnist/mlp") == 0.001
    assert accuracy_margin("mnist5k/mlp") == 0.005


def test_means_over_seeds_have_t_intervals_and_a_diverged_trial_no_gap() -> None:
    table, rates = rates_of(hand_study(law, diverged_at={(256, 1.0, 0): 1}))
    means = rule_outcomes(seed_outcomes(table, rates), rates)
    row = means[(means["budget"] == "steps") & (means["rule"] == "re-tuned") & (means["batch_size"] == 64)].iloc[0]
    assert row["test_accuracy"] == pytest.approx(0.901)
    assert row["test_accuracy_hi"] - row["test_accuracy"] == pytest.approx(4.302653 * 0.001 / np.sqrt(3), rel=1e-5)
    forced = means[(means["budget"] == "steps") & (means["rule"] == "sqrt") & (means["batch_size"] == 256)].iloc[0]
    assert forced["n_diverged"] == 1
    assert forced["n"] == 3
    assert forced["gap"] == pytest.approx(0.0)


def test_evaluations_put_metrics_side_by_side() -> None:
    curves = pd.DataFrame(
        {
            "cell": ["b", "a", "a", "a"],
            "lr": [1.0, 0.5, 0.5, 0.5],
            "seed": [0, 1, 1, 0],
            "step": [3, 2, 2, 5],
            "epoch": [3.0, 2.0, 2.0, 5.0],
            "examples": [3, 2, 2, 5],
            "train_seconds": [0.3, 0.2, 0.2, 0.5],
            "split": ["val", "test", "val", "train"],
            "metric": ["loss", "accuracy", "accuracy", "loss"],
            "value": [1.0, 2.0, 3.0, 4.0],
        }
    )
    wide = evaluations(curves)
    assert wide[["cell", "seed", "step"]].to_numpy().tolist() == [["a", 0, 5], ["a", 1, 2], ["b", 0, 3]]
    assert wide["train_loss"].tolist()[0] == 4.0
    assert wide.loc[1, ["test_accuracy", "val_accuracy"]].tolist() == [2.0, 3.0]
    assert wide["val_loss"].tolist()[2] == 1.0
    assert wide["test_loss"].isna().all()


def test_order_of_rows_changes_nothing() -> None:
    data = hand_study(law)
    shuffled = [frame.sample(frac=1, random_state=3) for frame in (data.cells, data.trials)]
    again = Study(shuffled[0], shuffled[1], data.evaluations, data.repeated)
    pd.testing.assert_frame_equal(cuts(data), cuts(again))


def test_two_cells_in_one_place_are_told_apart() -> None:
    one, other = hand_study(law, seeds=2), hand_study(law, seeds=3)
    other.cells["cell"] = "x" + other.cells["cell"]
    other.trials["cell"] = "x" + other.trials["cell"]
    curves = pd.DataFrame(columns=["cell", "lr", "seed", "step", "split", "metric", "value"])
    found = analyse(pd.concat([one.cells, other.cells]), pd.concat([one.trials, other.trials]), curves)
    assert found.study.cells["cell"].str.startswith("x").all()
    assert len(found.study.repeated) == 3


def test_turned_knobs_and_methods_are_conditions_of_their_own() -> None:
    one, other = hand_study(law), hand_study(law)
    other.cells["cell"] = "x" + other.cells["cell"]
    other.trials["cell"] = "x" + other.trials["cell"]
    other.cells["knobs"], other.cells["method"] = "label_noise=0.4", "clip_norm=1.0"
    curves = pd.DataFrame(columns=["cell", "lr", "seed", "step", "split", "metric", "value"])
    found = analyse(pd.concat([one.cells, other.cells]), pd.concat([one.trials, other.trials]), curves).study
    assert found.repeated.empty
    names = {"mnist5k/mlp": "sgd", "mnist5k/mlp (label_noise=0.4)": "sgd (clip_norm=1.0)"}
    assert dict(found.cells[["task", "optimizer"]].drop_duplicates().to_numpy().tolist()) == names
    assert dict(found.trials[["task", "optimizer"]].drop_duplicates().to_numpy().tolist()) == names
