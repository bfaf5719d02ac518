"""The largest batch against the smallest, seed by seed: one difference for every budget and rule."""

from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.budgets import BUDGETS
from bench.analysis.intervals import seeds_needed, t_factors, verdict
from bench.analysis.measures import accuracy_margin, direction, margins, values
from bench.analysis.rules import RULES
from bench.analysis.study import CONDITION, POINT, records

__all__ = ["MEMORY_MARGIN", "STEPS_MARGIN", "TIME_MARGIN", "accuracy_margin", "largest_against_smallest"]

#: Margins declared before looking, as fractions: smaller differences do not matter. Those of the measures
#: themselves stand in `bench.analysis.measures`.
TIME_MARGIN = 0.02
STEPS_MARGIN = 0.10
MEMORY_MARGIN = 0.02

_KEY = [*CONDITION, "budget", "rule"]


def largest_against_smallest(outcomes: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Compare the test result at the largest batch size with that at the smallest, in each task's own measure.

    The batch sizes are the extremes of the condition among those with trials. Differences are taken within a
    seed.

    Accuracies are subtracted. Two intervals are given: over seeds (what would change with other seeds, on this
    very test split), and over seeds and test examples (what would also change with other test examples). The
    second adds the sampling variance of a difference between two accuracies on the same n examples,
    (e1 + e2 − d²)/n with error rates e1, e2 and difference d. It is an upper bound, reached when the two models
    never err on the same example. The verdict on "larger batches generalise worse" uses the second where n is known.

    Losses are compared by the log of their ratio where all are positive (values are then geometric means, whose
    ratio is the effect), else subtracted; both intervals are over seeds, as nothing is known about the spread of a
    loss over test examples. A diverged trial has an infinite loss: its seed has no finite difference and is left
    out of the means, and counted. The verdict on "larger batches end at a higher test loss" is then that of the
    other seeds where the diverged ones point the same way, or of the diverged ones where two or more are all there
    is and point one way; else it is inconclusive.

    Args:
        outcomes: As `bench.analysis.rules.seed_outcomes` returns.
        rates: As `bench.analysis.rules.rule_rates` returns.

    Returns:
        Columns `CONDITION`, `budget`, `budget_value`, `rule`, `measure`, `unit` (of the difference: "fraction" for
        accuracies, "log ratio" or "loss" for losses), `batch_small`, `batch_large`, `lr_small`, `lr_large`,
        `value_small`, `value_large`, `difference`, `lo`, `hi` (over seeds), `lo_wide`, `hi_wide` (over seeds and test
        examples), `n` (seed pairs with a finite difference), `n_test`, `diverged_small`, `diverged_large`, `margin`,
        `seeds_needed` (for an interval over seeds as narrow as the margin), `resolvable` (whether any number
        of seeds could make the wide interval that narrow), `verdict` (as `bench.analysis.intervals.verdict`,
        or "outside the grid").
    """
    cut_at = outcomes[[*CONDITION, "budget", "budget_value"]].drop_duplicates([*CONDITION, "budget"])
    extremes = rates.groupby(CONDITION, as_index=False).agg(
        batch_small=("batch_size", "min"), batch_large=("batch_size", "max")
    )
    asked = rates[[*CONDITION, "budget", "rule"]].drop_duplicates().merge(extremes, on=CONDITION)
    asked = asked[asked["batch_small"] < asked["batch_large"]]
    pairs = _pairs(outcomes, asked)
    table = asked.merge(_summaries(pairs), on=_KEY, how="left")
    table = table.merge(cut_at, on=[*CONDITION, "budget"], how="left")
    facts = outcomes[[*CONDITION, "measure", "test_examples"]].drop_duplicates(CONDITION)
    table = table.merge(facts.rename(columns={"test_examples": "n_test"}), on=CONDITION, how="left")
    table["measure"] = table["measure"].fillna("accuracy")
    table["unit"] = table["unit"].fillna(table["measure"].map({"accuracy": "fraction", "loss": "log ratio"}))
    counts = ["n", "pairs_", "only_small_", "only_large_", "diverged_small", "diverged_large"]
    table[counts] = table[counts].fillna(0).astype(int)
    table["margin"] = margins(table)
    _intervals(table)
    table["verdict"] = [_verdict(row) for row in records(table.assign(direction_=-direction(table)))]
    columns = [*CONDITION, "budget", "budget_value", "rule", "measure", "unit", "batch_small", "batch_large"]
    columns += ["lr_small", "lr_large", "value_small", "value_large", "difference", "lo", "hi", "lo_wide", "hi_wide"]
    columns += ["n", "n_test", "diverged_small", "diverged_large", "margin", "seeds_needed", "resolvable", "verdict"]
    table["budget"] = pd.Categorical(table["budget"], BUDGETS, ordered=True)
    table["rule"] = pd.Categorical(table["rule"], RULES, ordered=True)
    table = table[columns].sort_values([*CONDITION, "budget", "rule"], ignore_index=True)
    return table.astype({"budget": object, "rule": object})


def _pairs(outcomes: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    columns = [*POINT, "budget", "rule", "lr", "seed", "diverged", "measure"]
    known = outcomes[columns].assign(value=values(outcomes, "test"))
    sides = []
    for end in ("small", "large"):
        side = asked.rename(columns={f"batch_{end}": "batch_size"})[[*_KEY, "batch_size"]]
        side = side.merge(known, on=[*_KEY, "batch_size"])
        sides.append(side[[*_KEY, "measure", "seed", "lr", "diverged", "value"]])
    pairs = sides[0].merge(sides[1].drop(columns="measure"), on=[*_KEY, "seed"], suffixes=("_small", "_large"))
    pairs = pairs[pairs["value_small"].notna() & pairs["value_large"].notna()].copy()
    ends = pairs[["value_small", "value_large"]]
    finite = pd.Series(np.isfinite(ends).all(axis=1), index=pairs.index)
    least = ends.min(axis=1).groupby([pairs[name] for name in _KEY]).transform("min")
    by_ratio = (pairs["measure"] == "loss") & (least > 0)
    pairs["unit"] = np.select([pairs["measure"] != "loss", by_ratio], ["fraction", "log ratio"], "loss")
    for end in ("small", "large"):
        value = pairs[f"value_{end}"].where(finite)
        pairs[f"scale_{end}"] = value.mask(by_ratio, np.log(value.where(by_ratio)))
        other = "large" if end == "small" else "small"
        pairs[f"only_{end}_"] = ~np.isfinite(pairs[f"value_{end}"]) & np.isfinite(pairs[f"value_{other}"])
    pairs["difference"] = pairs["scale_large"] - pairs["scale_small"]
    return pairs


def _summaries(pairs: pd.DataFrame) -> pd.DataFrame:
    table = pairs.groupby(_KEY, as_index=False).agg(
        unit=("unit", "first"),
        lr_small=("lr_small", "first"),
        lr_large=("lr_large", "first"),
        value_small=("scale_small", "mean"),
        value_large=("scale_large", "mean"),
        difference=("difference", "mean"),
        sd_=("difference", "std"),
        n=("difference", "count"),
        pairs_=("seed", "size"),
        only_small_=("only_small_", "sum"),
        only_large_=("only_large_", "sum"),
        diverged_small=("diverged_small", "sum"),
        diverged_large=("diverged_large", "sum"),
    )
    for end in ("value_small", "value_large"):
        table[end] = table[end].mask(table["unit"] == "log ratio", np.exp(table[end]))
    return table


def _intervals(table: pd.DataFrame) -> None:
    factor = t_factors(table["n"])
    error = table["sd_"] / np.sqrt(table["n"].where(table["n"] > 0))
    errors = (1 - table["value_small"]) + (1 - table["value_large"])
    sampling = ((errors - table["difference"] ** 2) / table["n_test"]).clip(lower=0)
    sampling = sampling.where(table["unit"] == "fraction").fillna(0.0)
    table["lo"], table["hi"] = table["difference"] - factor * error, table["difference"] + factor * error
    # The sampling part is known, not estimated from the seeds, so it takes the normal factor, not the t
    # factor.
    wide = np.sqrt((factor * error) ** 2 + 1.96**2 * sampling)
    table["lo_wide"], table["hi_wide"] = table["difference"] - wide, table["difference"] + wide
    table["seeds_needed"] = [
        seeds_needed(float(sd), float(margin)) for sd, margin in zip(table["sd_"], table["margin"], strict=True)
    ]
    table["resolvable"] = 1.96 * np.sqrt(sampling) < table["margin"]


def _verdict(row: dict[str, Any]) -> str:
    if not row["pairs_"]:
        return "outside the grid"
    found = verdict(row["difference"], row["lo_wide"], row["hi_wide"], row["margin"], int(row["direction_"]))
    against, in_favour = row["only_large_"], row["only_small_"]
    if not (against or in_favour):
        return found
    for word, pointing, other in (("supported", against, in_favour), ("refuted", in_favour, against)):
        if not other and (found == word or (row["n"] == 0 and pointing >= 2)):
            return word
    return "inconclusive"
