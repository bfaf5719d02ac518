"""One row per finding: what the headline says, before it is put into words."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis import words
from bench.analysis.comparisons import STEPS_MARGIN, TIME_MARGIN
from bench.analysis.intervals import mean_interval, verdict
from bench.analysis.measures import MEASURES, Accuracy
from bench.analysis.rows import Groups, Rows, split
from bench.analysis.study import CONDITION, condition_of, records

MEMORY_MARGIN = 0.01

COLUMNS = [
    *CONDITION,
    "topic",
    "claim",
    "verdict",
    "batch_from",
    "batch_to",
    "value_from",
    "value_to",
    "unit",
]
COLUMNS += ["effect", "lo", "hi", "lo_wide", "hi_wide", "effect_unit", "n", "budget_value", "note", "source"]
COLUMNS += ["diverged_from", "diverged_to"]


def findings(
    speeds: pd.DataFrame, targets: pd.DataFrame, seeds: pd.DataFrame, comparisons: pd.DataFrame
) -> pd.DataFrame:
    """Hold each part of "is a bigger batch always better?" against the data, per condition.

    Args:
        speeds: As `bench.analysis.speed.speed_summary` returns.
        targets: As `bench.analysis.targets.to_target` returns.
        seeds: As `bench.analysis.targets.seeds_to_target` returns.
        comparisons: As `bench.analysis.comparisons.largest_against_smallest` returns.

    Returns:
        Columns `CONDITION`, `topic` (speed, steps, time, epochs, equal steps, memory), `claim`, `verdict`,
        `batch_from`, `batch_to`, `value_from`, `value_to` with `unit`, `effect` with `lo`, `hi` and `effect_unit`
        ("ratio", "fraction" of accuracy, or "loss" for a difference of losses), `lo_wide`, `hi_wide` (also over test
        examples), `n` (seeds), `budget_value`, `note`, `source` (the CSV table the numbers stand in), `diverged_from`,
        `diverged_to` (trials that diverged at either end, where tasks are judged by their loss; nan for other topics).
    """
    rows: list[dict[str, Any]] = []
    for row in records(speeds):
        keys = {name: row[name] for name in CONDITION}
        rows += [keys | found for found in (_speed(row), _memory(row)) if found]
    by_measure = Groups(seeds, [*CONDITION, "measure"])
    for key, group in split(targets, CONDITION):
        for measure in ("steps", "seconds"):
            rows_of = group.where(group["measure"] == measure)
            if found := _target(rows_of, by_measure[(*key, measure)], measure):
                rows.append(condition_of(key) | found)
    tuned = comparisons[(comparisons["rule"] == "re-tuned") & comparisons["budget"].isin(["epochs", "steps"])]
    rows += [{name: row[name] for name in CONDITION} | _generalisation(row) for row in records(tuned)]
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return table.sort_values([*CONDITION, "topic"], ignore_index=True)


def _log_verdict(effect: float, lo: float, hi: float, margin: float, direction: int) -> str:
    if not all(math.isfinite(value) and value > 0 for value in (effect, lo, hi)):
        return "inconclusive"
    return verdict(math.log(effect), math.log(lo), math.log(hi), math.log1p(margin), direction)


def _speed(row: dict[str, Any]) -> dict[str, Any] | None:
    if not math.isfinite(row["eps_ratio"]) or row["batch_small"] == row["batch_large"]:
        return None
    effect, lo, hi = row["eps_ratio"], row["eps_ratio_lo"], row["eps_ratio_hi"]
    return {
        "topic": "speed",
        "claim": "the largest batch handles more examples per second than the smallest",
        "verdict": _log_verdict(effect, lo, hi, TIME_MARGIN, +1),
        "batch_from": row["batch_small"],
        "batch_to": row["batch_large"],
        "value_from": row["eps_small"],
        "value_to": row["eps_large"],
        "unit": "examples per second",
        "effect": effect,
        "lo": lo,
        "hi": hi,
        "effect_unit": "ratio",
        "budget_value": row["knee"],
        "note": f"fastest at {row['batch_fastest']}",
        "source": "throughput.csv",
    }


def _memory(row: dict[str, Any]) -> dict[str, Any] | None:
    if not math.isfinite(row["step_small"]) or row["memory_batch_small"] == row["memory_batch_large"]:
        return None
    effect = row["step_large"] / row["step_small"]
    return {
        "topic": "memory",
        "claim": "the largest batch needs more memory than the smallest",
        # Counted bytes have no spread.
        "verdict": _log_verdict(effect, effect, effect, MEMORY_MARGIN, +1),
        "batch_from": row["memory_batch_small"],
        "batch_to": row["memory_batch_large"],
        "value_from": row["step_small"],
        "value_to": row["step_large"],
        "unit": "MiB",
        "effect": effect,
        "effect_unit": "ratio",
        "source": "memory.csv",
    }


def _target(rows: Rows, seeds: Rows, measure: str) -> dict[str, Any] | None:
    """Compare the largest batch with the best one; where it is the best, with the smallest that got there too."""
    order = np.argsort(rows["batch_size"])
    sizes, medians = rows["batch_size"][order].tolist(), rows["median"][order].astype(float)
    reached = np.flatnonzero(~np.isnan(medians))
    if len(sizes) < 2 or not reached.size or not len(seeds):
        return None
    largest, best = len(sizes) - 1, int(reached[medians[reached].argmin()])
    is_best = best == largest
    alone = is_best and reached.size == 1
    other = 0 if alone else int(reached[0]) if is_best else best
    values = seeds.wide()
    # Where an untrained model is past the target, nothing is divided by nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = values.at(sizes[largest]) / values.at(sizes[other])
    logs = mean_interval(np.log(ratios))
    never = not math.isfinite(medians[largest])
    # A ratio to a batch size that never got there is that of its luckiest seeds.
    one_sided = never or alone
    effect, lo, hi = (math.exp(value) for value in (logs.mean, logs.lo, logs.hi))
    margin = TIME_MARGIN if measure == "seconds" else STEPS_MARGIN
    return {
        "topic": "time" if measure == "seconds" else "steps",
        "claim": f"the largest batch reaches the target in the fewest {measure}",
        "verdict": "refuted" if never else "supported" if alone else _log_verdict(effect, lo, hi, margin, -1),
        "batch_from": sizes[other],
        "batch_to": sizes[largest],
        "value_from": float(medians[other]),
        "value_to": float(medians[largest]),
        "unit": measure,
        "effect": math.nan if one_sided else effect,
        "lo": math.nan if one_sided else lo,
        "hi": math.nan if one_sided else hi,
        "effect_unit": "ratio",
        "n": logs.n,
        "note": "never reached" if never else "largest alone" if alone else "largest is best" if is_best else "",
        "source": "to-target.csv",
    }


def _generalisation(row: dict[str, Any]) -> dict[str, Any]:
    measure = MEASURES[row["measure"]]
    # Of a log ratio a reader wants the ratio.
    by_ratio = row["unit"] == "log ratio"
    effects = {"effect": row["difference"]} | {name: row[name] for name in ("lo", "hi", "lo_wide", "hi_wide")}
    lost = [] if measure is Accuracy else [("largest", row["diverged_large"]), ("smallest", row["diverged_small"])]
    return {
        "topic": "epochs" if row["budget"] == "epochs" else "equal steps",
        "claim": f"the largest batch {measure.worse} at equal {row['budget']}, re-tuned",
        "verdict": row["verdict"],
        "batch_from": row["batch_small"],
        "batch_to": row["batch_large"],
        "value_from": row["value_small"],
        "value_to": row["value_large"],
        "unit": measure.unit,
        **{name: math.exp(value) if by_ratio else value for name, value in effects.items()},
        "effect_unit": "ratio" if by_ratio else row["unit"],
        "n": row["n"],
        "budget_value": row["budget_value"],
        "note": words.listing([f"{count} diverged at the {end} batch" for end, count in lost if count]),
        "source": "largest-against-smallest.csv",
        "diverged_from": 0 if measure is Accuracy else row["diverged_small"],
        "diverged_to": 0 if measure is Accuracy else row["diverged_large"],
    }
