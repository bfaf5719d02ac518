"""Learning-rate rules as rows of the octave grid: fixed, linear, sqrt and re-tuned need no extra run."""

import numpy as np
import pandas as pd

from bench.analysis.intervals import t_factors
from bench.analysis.measures import direction, values
from bench.analysis.study import CONDITION, METRICS, POINT

RULES = ("re-tuned", "fixed", "linear", "sqrt")
#: Rule → power of B / B_ref that multiplies the reference learning rate.
EXPONENTS = {"fixed": 0.0, "linear": 1.0, "sqrt": 0.5}

#: Half an octave: a scaled learning rate further outside the grid than this is not answered by any of its
#: rows.
SNAP_OCTAVES = 0.5


def learning_rate_scores(cuts: pd.DataFrame) -> pd.DataFrame:
    """Average the validation metrics of each learning rate over seeds, at each budget.

    Args:
        cuts: As `bench.analysis.budgets.cuts` returns.

    Returns:
        Columns `POINT`, `measure`, `budget`, `lr`, `val_accuracy`, `val_loss` (means over seeds; diverged trials
        count with the accuracy of the untrained model and an infinite loss, so one of them makes the mean loss
        infinite), `survivors_loss` (mean of the finite validation losses), `seeds`, `diverged` (numbers of trials).
    """
    counted = cuts[~cuts["missing"]]
    loss = counted["val_loss"].astype(float)
    # A model whose training loss is still finite can have none on validation data; it is no better than diverged.
    judged = loss.mask(loss.isna() & (counted["measure"] == "loss"), np.inf)
    counted = counted.assign(val_loss=judged, survivors_=loss.where(np.isfinite(loss)))
    return counted.groupby([*POINT, "measure", "budget", "lr"], as_index=False).agg(
        val_accuracy=("val_accuracy", "mean"),
        val_loss=("val_loss", "mean"),
        survivors_loss=("survivors_", "mean"),
        seeds=("seed", "size"),
        diverged=("diverged", "sum"),
    )


def retuned(scores: pd.DataFrame) -> pd.DataFrame:
    """Choose the best learning rate of every point and budget, on validation data alone.

    The highest mean validation accuracy wins, and ties go to the lower validation loss, then to the smaller rate.
    For a task judged by its loss the lowest mean validation loss wins. A rate of which a seed diverged has an
    infinite one; where every rate has, the one with the fewest diverged seeds wins, then the lowest mean of the
    others, then the smaller rate. Rates with fewer seeds than others of the cell have no say, unless they all
    diverged alike.

    Args:
        scores: As `learning_rate_scores` returns.

    Returns:
        Columns `POINT`, `measure`, `budget`, `lr`, `lr_lo`, `lr_hi` (ends of the cell's grid), `edge` (the choice is
        one of them, and the grid has more than one), `all_diverged`, `val_accuracy`, `val_loss`.

    Source: re-tuning per batch size, Shallue et al., arXiv 1811.03600.
    """
    key = [*POINT, "budget"]
    grid = scores.groupby(key, as_index=False).agg(lr_lo=("lr", "min"), lr_hi=("lr", "max"), seeds_=("seeds", "max"))
    table = scores.merge(grid, on=key)
    table = table[table["seeds"] == table["seeds_"]]
    by_loss = table["measure"] == "loss"
    table = table.assign(
        first_=-direction(table) * values(table, "val"),
        second_=table["val_loss"].mask(by_loss, table["diverged"].astype(float)),
        third_=table["survivors_loss"].where(by_loss, 0.0),
    ).sort_values([*key, "first_", "second_", "third_", "lr"])
    best = table.drop_duplicates(key).copy()
    best["edge"] = ((best["lr"] == best["lr_lo"]) | (best["lr"] == best["lr_hi"])) & (best["lr_lo"] < best["lr_hi"])
    best["all_diverged"] = best["diverged"] == best["seeds"]
    columns = [*POINT, "measure", "budget", "lr", "lr_lo", "lr_hi", "edge", "all_diverged", "val_accuracy", "val_loss"]
    return best[columns].reset_index(drop=True)


def reference_batch_sizes(cells: pd.DataFrame) -> pd.DataFrame:
    """Choose the batch size whose best learning rate the rules scale.

    The smallest of at least 16 that is complete and not the full batch: small enough that every rule is held
    against batches far larger, and a size people do train with. Where there is none, the smallest complete
    one.

    Args:
        cells: Columns `POINT`, `status`, `full_batch`.

    Returns:
        Columns `CONDITION`, `reference`: one row per condition with a complete cell.
    """
    complete = cells[cells["status"] == "complete"]
    usual = complete[(complete["batch_size"] >= 16) & ~complete["full_batch"].astype(bool)]
    smallest = complete.groupby(CONDITION)["batch_size"].min()
    preferred = usual.groupby(CONDITION)["batch_size"].min()
    return preferred.reindex(smallest.index).fillna(smallest).astype(int).rename("reference").reset_index()


def rule_rates(scores: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """Find the row of the grid that each rule asks for.

    Args:
        scores: As `learning_rate_scores` returns; its `lr` are the grids.
        references: As `reference_batch_sizes` returns.

    Returns:
        Columns `POINT`, `budget`, `rule`, `reference`, `lr_wanted` (what the rule says), `lr` (the nearest of
        the grid in octaves; nan where `outside`), `outside` (more than half an octave outside the grid),
        `edge`, `all_diverged`.

    Source: linear, arXiv 1706.02677; sqrt, arXiv 1705.08741.
    """
    best = retuned(scores)
    own = best.merge(references, on=CONDITION).assign(rule="re-tuned", outside=False)
    own["lr_wanted"] = own["lr"]
    at_reference = own.loc[own["batch_size"] == own["reference"], [*CONDITION, "budget", "lr"]]
    at_reference = at_reference.rename(columns={"lr": "lr_reference"})
    asked = own.drop(columns=["rule", "lr_wanted", "lr", "edge", "outside", "all_diverged"]).merge(
        at_reference, on=[*CONDITION, "budget"]
    )
    frames = [own]
    for rule, exponent in EXPONENTS.items():
        ratio = asked["batch_size"].to_numpy(dtype=float) / asked["reference"].to_numpy(dtype=float)
        wanted = asked.assign(rule=rule, lr_wanted=asked["lr_reference"] * ratio**exponent)
        frames.append(_snap(wanted, scores))
    columns = [*POINT, "budget", "rule", "reference", "lr_wanted", "lr", "outside", "edge", "all_diverged"]
    table = pd.concat([frame[columns] for frame in frames], ignore_index=True)
    return table.sort_values([*POINT, "budget", "rule"], ignore_index=True)


def _snap(wanted: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    key = [*POINT, "budget"]
    outside = (wanted["lr_wanted"] < wanted["lr_lo"] * 2**-SNAP_OCTAVES * (1 - 1e-9)) | (
        wanted["lr_wanted"] > wanted["lr_hi"] * 2**SNAP_OCTAVES * (1 + 1e-9)
    )
    grid = scores[[*key, "lr", "seeds", "diverged"]]
    pairs = wanted.assign(outside=outside).merge(grid, on=key)
    pairs["octaves_"] = np.abs(np.log2(pairs["lr_wanted"]) - np.log2(pairs["lr"])).round(9)
    nearest = pairs.sort_values([*key, "octaves_", "lr"]).drop_duplicates(key).copy()
    nearest["all_diverged"] = (nearest["diverged"] == nearest["seeds"]) & ~nearest["outside"]
    inside = (nearest["lr"] > nearest["lr_lo"]) & (nearest["lr"] < nearest["lr_hi"])
    nearest["edge"] = ~inside & (nearest["lr_lo"] < nearest["lr_hi"]) & ~nearest["outside"]
    nearest["lr"] = nearest["lr"].mask(nearest["outside"])
    return nearest


def seed_outcomes(cuts: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Return each seed's result under each rule and budget.

    Args:
        cuts: As `bench.analysis.budgets.cuts` returns.
        rates: As `rule_rates` returns.

    Returns:
        Columns `POINT`, `budget`, `budget_value`, `rule`, `lr`, `seed`, `diverged`, `step`, `epoch`,
        `examples`, `train_seconds`, `METRICS`, `gap` (training minus test accuracy, or test minus training loss
        where the task is judged by its loss: positive where training results are better; nan for a diverged trial,
        which has learned nothing to generalise), `measure`, `test_examples`. Rules outside the grid have no row.
    """
    asked = rates.loc[~rates["outside"], [*POINT, "budget", "rule", "lr"]]
    table = asked.merge(cuts[~cuts["missing"]], on=[*POINT, "budget", "lr"])
    ahead = direction(table) * (values(table, "train") - values(table, "test"))
    table["gap"] = ahead.mask(table["diverged"])
    columns = [*POINT, "budget", "budget_value", "rule", "lr", "seed", "diverged", "step", "epoch"]
    columns += ["examples", "train_seconds", *METRICS, "gap", "measure", "test_examples"]
    return table[columns].sort_values([*POINT, "budget", "rule", "seed"], ignore_index=True)


def rule_outcomes(outcomes: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Average each rule's result over seeds, with 95 % t intervals of the means.

    Args:
        outcomes: As `seed_outcomes` returns.
        rates: As `rule_rates` returns.

    Returns:
        Columns `POINT`, `budget`, `rule`, `reference`, `lr_wanted`, `lr`, `outside`, `edge`, `n` (seeds),
        `n_diverged`, `budget_value`, `step`, `epoch`, `train_seconds` (means at the cut), and for
        `test_accuracy`, `train_accuracy`, `val_accuracy`, `test_loss`, `gap`, `train_loss`, `val_loss` the mean with
        `_lo` and `_hi`. Means of losses and of gaps are over the trials that have a finite one: `n_diverged` says how
        many have not. A rule outside the grid keeps its row, without numbers.
    """
    key = [*POINT, "budget", "rule"]
    grouped = outcomes.groupby(key)
    table = grouped.agg(
        n=("seed", "size"),
        n_diverged=("diverged", "sum"),
        budget_value=("budget_value", "first"),
        step=("step", "mean"),
        epoch=("epoch", "mean"),
        train_seconds=("train_seconds", "mean"),
    )
    for name in ("test_accuracy", "train_accuracy", "val_accuracy", "test_loss", "gap", "train_loss", "val_loss"):
        finite = outcomes[name].where(np.isfinite(outcomes[name]))
        by_rule = finite.groupby([outcomes[column] for column in key])
        mean, sd, count = by_rule.mean(), by_rule.std(), by_rule.count()
        half = t_factors(count) * sd / np.sqrt(count)
        table[name], table[f"{name}_lo"], table[f"{name}_hi"] = mean, mean - half, mean + half
    columns = [*key, "reference", "lr_wanted", "lr", "outside", "edge"]
    return rates[columns].merge(table.reset_index(), on=key, how="left").sort_values(key, ignore_index=True)
