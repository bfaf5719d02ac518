"""The largest batch against the smallest, seed by seed: one difference for every budget and rule."""

import numpy as np
import pandas as pd

from bench.analysis.budgets import BUDGETS
from bench.analysis.intervals import seeds_needed, t_factors, verdict
from bench.analysis.rules import RULES
from bench.analysis.study import CONDITION, POINT, data_set, examples_in_test, records

#: Margins declared before looking, as fractions: smaller differences do not matter.
ACCURACY_MARGIN = {"mnist": 0.001}
ACCURACY_MARGIN_SMALL = 0.005
TIME_MARGIN = 0.02
STEPS_MARGIN = 0.10


def accuracy_margin(task: str) -> float:
    """Return the accuracy difference below which nothing matters: .1 points on full MNIST, else .5 points."""
    return ACCURACY_MARGIN.get(data_set(task), ACCURACY_MARGIN_SMALL)


def largest_against_smallest(outcomes: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Compare test accuracy at the largest batch size with that at the smallest.

    The batch sizes are the extremes of the condition among those with trials. Differences are taken within a
    seed. Two intervals are given: over seeds (what would change with other seeds, on this very test split),
    and over seeds and test examples (what would also change with other test examples). The second adds the
    sampling variance of a difference between two accuracies on the same n examples, (e1 + e2 − d²)/n with
    error rates e1, e2 and difference d. It is an upper bound, reached when the two models never err on the
    same example. The verdict on "larger batches generalise worse" uses the second where n is known.

    Args:
        outcomes: As `bench.analysis.rules.seed_outcomes` returns.
        rates: As `bench.analysis.rules.rule_rates` returns.

    Returns:
        Columns `CONDITION`, `budget`, `budget_value`, `rule`, `batch_small`, `batch_large`, `lr_small`,
        `lr_large`, `accuracy_small`, `accuracy_large`, `difference`, `lo`, `hi` (over seeds), `lo_wide`,
        `hi_wide` (over seeds and test examples), `n` (seed pairs), `n_test`, `diverged_large`, `margin`,
        `seeds_needed` (for an interval over seeds as narrow as the margin), `resolvable` (whether any number
        of seeds could make the wide interval that narrow), `verdict` (as `bench.analysis.intervals.verdict`,
        or "outside the grid"). All accuracies are fractions.
    """
    cut_at = outcomes[[*CONDITION, "budget", "budget_value"]].drop_duplicates([*CONDITION, "budget"])
    extremes = rates.groupby(CONDITION, as_index=False).agg(
        batch_small=("batch_size", "min"), batch_large=("batch_size", "max")
    )
    asked = rates[[*CONDITION, "budget", "rule"]].drop_duplicates().merge(extremes, on=CONDITION)
    asked = asked[asked["batch_small"] < asked["batch_large"]]
    pairs = _pairs(outcomes, asked)
    table = asked.merge(_summaries(pairs), on=[*CONDITION, "budget", "rule"], how="left")
    table = table.merge(cut_at, on=[*CONDITION, "budget"], how="left")
    table["n"] = table["n"].fillna(0).astype(int)
    table["n_test"] = table["task"].map(examples_in_test).astype(float)
    table["margin"] = table["task"].map(accuracy_margin).astype(float)
    _intervals(table)
    table["verdict"] = [
        verdict(row["difference"], row["lo_wide"], row["hi_wide"], row["margin"], -1)
        if row["n"]
        else "outside the grid"
        for row in records(table)
    ]
    columns = [
        *CONDITION,
        "budget",
        "budget_value",
        "rule",
        "batch_small",
        "batch_large",
        "lr_small",
        "lr_large",
    ]
    columns += [
        "accuracy_small",
        "accuracy_large",
        "difference",
        "lo",
        "hi",
        "lo_wide",
        "hi_wide",
        "n",
        "n_test",
    ]
    columns += ["diverged_large", "margin", "seeds_needed", "resolvable", "verdict"]
    table["budget"] = pd.Categorical(table["budget"], BUDGETS, ordered=True)
    table["rule"] = pd.Categorical(table["rule"], RULES, ordered=True)
    table = table[columns].sort_values([*CONDITION, "budget", "rule"], ignore_index=True)
    return table.astype({"budget": object, "rule": object})


def _pairs(outcomes: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    key = [*CONDITION, "budget", "rule"]
    columns = [*POINT, "budget", "rule", "lr", "seed", "diverged", "test_accuracy"]
    sides = []
    for end in ("small", "large"):
        side = asked.rename(columns={f"batch_{end}": "batch_size"})[[*key, "batch_size"]]
        side = side.merge(outcomes[columns], on=[*key, "batch_size"])
        sides.append(side[[*key, "seed", "lr", "diverged", "test_accuracy"]])
    pairs = sides[0].merge(sides[1], on=[*key, "seed"], suffixes=("_small", "_large"))
    pairs = pairs[pairs["test_accuracy_small"].notna() & pairs["test_accuracy_large"].notna()].copy()
    pairs["difference"] = pairs["test_accuracy_large"] - pairs["test_accuracy_small"]
    return pairs


def _summaries(pairs: pd.DataFrame) -> pd.DataFrame:
    return pairs.groupby([*CONDITION, "budget", "rule"], as_index=False).agg(
        lr_small=("lr_small", "first"),
        lr_large=("lr_large", "first"),
        accuracy_small=("test_accuracy_small", "mean"),
        accuracy_large=("test_accuracy_large", "mean"),
        difference=("difference", "mean"),
        sd_=("difference", "std"),
        n=("seed", "size"),
        diverged_large=("diverged_large", "sum"),
    )


def _intervals(table: pd.DataFrame) -> None:
    factor = t_factors(table["n"])
    error = table["sd_"] / np.sqrt(table["n"].where(table["n"] > 0))
    errors = (1 - table["accuracy_small"]) + (1 - table["accuracy_large"])
    sampling = ((errors - table["difference"] ** 2) / table["n_test"]).clip(lower=0).fillna(0.0)
    table["lo"], table["hi"] = table["difference"] - factor * error, table["difference"] + factor * error
    # The sampling part is known, not estimated from the seeds, so it takes the normal factor, not the t
    # factor.
    wide = np.sqrt((factor * error) ** 2 + 1.96**2 * sampling)
    table["lo_wide"], table["hi_wide"] = table["difference"] - wide, table["difference"] + wide
    table["seeds_needed"] = [
        seeds_needed(float(sd), float(margin)) for sd, margin in zip(table["sd_"], table["margin"], strict=True)
    ]
    table["resolvable"] = 1.96 * np.sqrt(sampling) < table["margin"]
