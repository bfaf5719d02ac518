"""Which batch size to use: where a larger one stops paying in examples, what going on costs, and how sure that is."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.intervals import mean_interval
from bench.analysis.measures import LOSS_MARGIN, accuracy_margin, direction, values
from bench.analysis.rows import Groups, Rows
from bench.analysis.rules import EXPONENTS
from bench.analysis.scaling import regime_ends
from bench.analysis.study import CONDITION, condition_of, conditions

Array = npt.NDArray[np.float64]

#: The budget at which learning-rate rules are held against re-tuning.
BUDGET = "epochs"
#: What going beyond the advised batch is counted in.
PRICES = ("steps", "examples", "seconds")
COLUMNS = (
    *CONDITION,
    "batch_size",
    "batch_lo",
    "batch_hi",
    "seeds",
    "batch_smallest",
    "batch_beyond",
    *(f"{price}{end}" for price in PRICES for end in ("", "_lo", "_hi")),
    "batch_quickest",
    "quickest_lo",
    "quickest_hi",
    "never",
    *(f"rule_{rule}" for rule in EXPONENTS),
    "rule_batch",
    "rule_reference",
    "memory_fixed_mib",
    "memory_per_example_mib",
    "memory_error",
)


def advice(
    cells: pd.DataFrame,
    seeds_to_target: pd.DataFrame,
    seed_outcomes: pd.DataFrame,
    references: pd.DataFrame,
    memory: pd.DataFrame,
) -> pd.DataFrame:
    """Advise a batch size for every condition, with its uncertainty.

    Args:
        cells: Columns `CONDITION`.
        seeds_to_target: `bench.analysis.targets.seeds_to_target`.
        seed_outcomes: `bench.analysis.rules.seed_outcomes`.
        references: `bench.analysis.rules.reference_batch_sizes`.
        memory: `bench.analysis.speed.memory`.

    Returns:
        Columns `COLUMNS`, one row per condition; nan where the sweep does not say. `batch_size` is the largest inside
        perfect scaling (`bench.analysis.scaling.regimes`), and `batch_lo` … `batch_hi` the range of what each of
        `seeds` seeds alone would have said. `batch_beyond` is the largest batch that reached the target in every
        seed, and `steps`, `examples`, `seconds` how many times as much it takes as `batch_size`: geometric means
        over seeds with 95 % t intervals. `batch_quickest` has the fewest seconds to the target, with the range over
        seeds. `never` counts batch sizes at which some seed never reached the target. `rule_fixed`, `rule_linear` and
        `rule_sqrt` are as `_rule_words` returns, of the rate at `rule_reference` carried to `rule_batch`. Bytes that a
        step holds by count are about `memory_fixed_mib` + batch size · `memory_per_example_mib`, at most the fraction
        `memory_error` away.
    """
    targets, held = Groups(seeds_to_target, CONDITION), Groups(memory, CONDITION)
    goodness = direction(seed_outcomes) * values(seed_outcomes, "test")
    outcomes = Groups(seed_outcomes.assign(goodness=goodness), CONDITION)
    reference = Groups(references, CONDITION)
    rows = []
    for key in conditions(cells).itertuples(index=False, name=None):
        found: dict[str, Any] = {**dict.fromkeys(COLUMNS, math.nan), **condition_of(key)}
        found |= _target(targets[key])
        found |= _rule_words(outcomes[key], reference[key])
        rows.append(found | _memory(held[key]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _table(rows: Rows, measure: str) -> tuple[Array, Array]:
    """Return batch sizes, and values as seeds × batch sizes."""
    wide = rows.where(rows["measure"] == measure).wide()
    return wide.sizes, wide.table


def _target(rows: Rows) -> dict[str, Any]:
    batch, steps = _table(rows, "steps")
    whole = np.isfinite(steps).all(axis=0)
    known: dict[str, Any] = {"never": int((~whole).sum()), "seeds": int(steps.shape[0])}
    if whole.sum() < 2:
        return known
    advised, beyond = regime_ends(batch, steps)[0], float(batch[whole].max())
    alone = [regime_ends(batch[whole], row[whole])[0] for row in steps]
    known |= {"batch_size": advised, "batch_lo": min(alone), "batch_hi": max(alone), "batch_beyond": beyond}
    known["batch_smallest"] = float(batch[whole].min())
    for price in PRICES if beyond > advised else ():
        sizes, values_ = _table(rows, price)
        # Each measure has its own best learning rate, so that another seed can have missed the target by it.
        ratio = values_[:, sizes == beyond].ravel() / values_[:, sizes == advised].ravel()
        logs = np.log(ratio[np.isfinite(ratio) & (ratio > 0)])
        if logs.size == steps.shape[0]:
            mean = mean_interval(logs)
            known |= {f"{price}{end}": math.exp(v) for end, v in (("", mean.mean), ("_lo", mean.lo), ("_hi", mean.hi))}
    sizes, seconds = _table(rows, "seconds")
    finite = np.isfinite(seconds).all(axis=0)
    if finite.any():
        quickest = sizes[finite][np.argmin(seconds[:, finite], axis=1)]
        best = sizes[finite][np.argmin(np.median(seconds[:, finite], axis=0))]
        known |= {"batch_quickest": float(best), "quickest_lo": quickest.min(), "quickest_hi": quickest.max()}
    return known


def _rule_words(outcomes: Rows, references: Rows) -> dict[str, Any]:
    """Say of each learning-rate rule whether it held at the largest batch, at equal epochs.

    Test results under the rule are taken from those under re-tuning, within seeds. The rule "held" where the 95 %
    interval shows it to be worse by less than the margin, "failed" where the interval shows it to be worse and the
    mean is by the margin or more, or where a trial diverged under the rule alone; "outside" where the rate it asks
    for lies outside the grid; else "open".

    Args:
        outcomes: One condition's rows of `bench.analysis.rules.seed_outcomes`, with `goodness`: the test result,
            higher is better.
        references: Its row of `bench.analysis.rules.reference_batch_sizes`.

    Returns:
        `rule_NAME` of every rule, `rule_batch`, `rule_reference`; nothing where the reference is the largest batch.
    """
    at = outcomes.where(outcomes["budget"] == BUDGET)
    if not len(at) or not len(references):
        return {}
    largest, reference = float(at["batch_size"].max()), float(references.first("reference"))
    if largest <= reference:
        return {}
    at = at.of(largest)
    by_rule = {str(rule): at.where(at["rule"] == rule) for rule in dict.fromkeys(at["rule"])}
    seeds = np.unique(at["seed"])
    by_loss = at.first("measure") == "loss"
    found: dict[str, Any] = {"rule_batch": largest, "rule_reference": reference}
    for rule in EXPONENTS:
        if rule not in by_rule or "re-tuned" not in by_rule:
            found[f"rule_{rule}"] = "outside"
            continue
        (ruled, lost), (tuned, lost_too) = (_by_seed(by_rule[name], seeds) for name in (rule, "re-tuned"))
        if (lost & ~lost_too).any():
            found[f"rule_{rule}"] = "failed"
        elif not np.isfinite(tuned + ruled).all():
            # Diverged under the rule and re-tuned alike, or measured under one alone.
            found[f"rule_{rule}"] = "open"
        elif by_loss and (np.minimum(-tuned, -ruled) > 0).all():
            found[f"rule_{rule}"] = _held(np.log(-ruled) - np.log(-tuned), math.log1p(LOSS_MARGIN))
        else:
            margin = LOSS_MARGIN * float(np.abs(tuned).mean()) if by_loss else accuracy_margin(str(at.first("task")))
            found[f"rule_{rule}"] = _held(tuned - ruled, margin)
    return found


def _by_seed(rows: Rows, seeds: npt.NDArray[np.int64]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return goodness, nan where a seed has none, and whether the seed diverged."""
    place = np.searchsorted(seeds, rows["seed"])
    goodness, lost = np.full(seeds.size, np.nan), np.zeros(seeds.size, dtype=bool)
    goodness[place], lost[place] = rows["goodness"], rows["diverged"]
    return goodness, lost


def _held(worse: Array, margin: float) -> str:
    if not worse.any():
        # The rule asks for the very rate that re-tuning chose.
        return "held"
    mean = mean_interval(worse)
    if mean.hi < margin:
        return "held"
    return "failed" if mean.lo > 0 and mean.mean >= margin else "open"


def _memory(held: Rows) -> dict[str, float]:
    batch, step = held["batch_size"].astype(float), held["step_mib"].astype(float)
    if np.unique(batch).size < 2:
        return {}
    slope, fixed = np.polyfit(batch, step, 1)
    error = float(np.max(np.abs(fixed + slope * batch - step) / step))
    return {"memory_fixed_mib": float(fixed), "memory_per_example_mib": float(slope), "memory_error": error}
