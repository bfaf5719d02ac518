"""Performance profiles over problems: how often an optimizer is within a factor τ of the best.

Source: Dolan & Moré, Benchmarking optimization software with performance profiles, Mathematical Programming 91 (2002),
arXiv cs/0102001; the score is that of AlgoPerf, arXiv 2306.07179.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.study import SETTING

#: A problem: what optimizers are compared on.
PROBLEM = [*SETTING, "batch_size"]
#: What reaching the target can cost, the fairest first: a step of some optimizers computes many gradients. Records of
#: old versions do not count them.
COSTS = ("gradients", "steps", "examples", "seconds")
#: The score integrates up to this factor.
TAU_MAX = 4.0

#: A profile over fewer tasks or optimizers says nothing.
LEAST_TASKS = 3
LEAST_OPTIMIZERS = 2


def performance_ratios(cells: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """Divide each optimizer's cost of reaching the target by the best optimizer's, problem by problem.

    The cost is the median over seeds at the learning rate with the smallest one, infinite where the median seed never
    reached the target. A cell that is missing or not complete has not solved its problem either. Problems that nobody
    solved have no best and no ratio. Where the best cost is 0 (the untrained model is past the target), who also has 0
    has the ratio 1 and everybody else infinity.

    Args:
        cells: Columns `PROBLEM`, `optimizer`, `status`, `target`: the sweep's grid, which tells what is missing.
        targets: As `bench.analysis.targets.to_target` returns.

    A problem that one optimizer alone was run on compares nobody and is none: `stochastic` has a batch size to itself.

    Returns:
        Columns `PROBLEM`, `optimizer`, `cost` (of `COSTS`), `value` (inf where not solved), `best`, `ratio` (≥ 1; inf
        where not solved; nan where nobody solved the problem), `complete` (whether there is a complete cell): one row
        per problem with a target, optimizer of the sweep, and cost.
    """
    with_target = cells[cells["target"].notna()]
    taking_part = with_target.groupby(PROBLEM)["optimizer"].transform("nunique")
    problems = with_target.loc[taking_part >= LEAST_OPTIMIZERS, PROBLEM].drop_duplicates()
    everyone = pd.DataFrame({"optimizer": sorted({str(name) for name in cells["optimizer"]})}, dtype=object)
    grid = problems.merge(everyone, how="cross").merge(
        cells[[*PROBLEM, "optimizer", "status"]], on=[*PROBLEM, "optimizer"], how="left"
    )
    grid["complete"] = grid.pop("status").eq("complete")
    frames = []
    for cost in (cost for cost in COSTS if cost != "gradients" or (targets["measure"] == cost).any()):
        found = targets.loc[targets["measure"] == cost, [*PROBLEM, "optimizer", "median"]]
        table = grid.merge(found, on=[*PROBLEM, "optimizer"], how="left").assign(cost=cost)
        table["value"] = table.pop("median").astype(float).fillna(np.inf)
        frames.append(table)
    table = pd.concat(frames, ignore_index=True)
    table["best"] = table.groupby([*PROBLEM, "cost"])["value"].transform("min")
    solved = np.isfinite(table["best"])
    ratio = (table["value"] / table["best"].where(table["best"] > 0)).where(table["best"] > 0, np.inf)
    table["ratio"] = ratio.mask(table["value"] == table["best"], 1.0).where(solved)
    columns = [*PROBLEM, "optimizer", "cost", "value", "best", "ratio", "complete"]
    return table[columns].sort_values(["cost", *PROBLEM, "optimizer"], ignore_index=True)


def profile(ratios: npt.ArrayLike, taus: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return ρ(τ), the fraction of problems on which an optimizer is within a factor τ of the best.

    Args:
        ratios: Shape (problems,), ≥ 1, inf where not solved.
        taus: Shape (n,), ≥ 1.

    Returns:
        Shape (n,), 0 … 1, growing with τ and continuous from the right; nan without problems.
    """
    sorted_ratios = np.sort(np.asarray(ratios, dtype=float))
    if not sorted_ratios.size:
        return np.full(np.shape(taus), np.nan)
    within = np.searchsorted(sorted_ratios, np.asarray(taus, dtype=float), side="right")
    return np.asarray(within / sorted_ratios.size, dtype=float)


def score(ratios: npt.ArrayLike, tau_max: float = TAU_MAX) -> float:
    """Integrate a profile over τ from 1 to τ_max, linearly, and divide by τ_max − 1.

    As ρ is a step function this is the mean over problems of (τ_max − ratio) / (τ_max − 1), cut at 0.

    Args:
        ratios: Shape (problems,), ≥ 1, inf where not solved.
        tau_max: Above 1.

    Returns:
        0 … 1: 1 for an optimizer that is best on every problem; nan without problems.
    """
    values = np.asarray(ratios, dtype=float)
    return float(np.clip((tau_max - values) / (tau_max - 1), 0, None).mean()) if values.size else float("nan")


def profile_scores(ratios: pd.DataFrame) -> pd.DataFrame:
    """Score every optimizer on the problems that somebody solved.

    Args:
        ratios: As `performance_ratios` returns.

    Returns:
        Columns `cost`, `optimizer`, `score`, `best` (fraction of problems on which nobody is better, ρ(1)), `within_2`,
        `within_4` (ρ(2), ρ(4)), `solved` (fraction), `problems` (that somebody solved), `unsolved` (that nobody
        did; in no profile), `incomplete` (of the problems, those without a complete cell of this optimizer, which count
        as not solved); the best score of a cost first.
    """
    columns = ["cost", "optimizer", "score", "best", "within_2", "within_4", "solved"]
    columns += ["problems", "unsolved", "incomplete"]
    rows = []
    for (cost, optimizer), group in ratios.groupby(["cost", "optimizer"]):
        known = group[group["ratio"].notna()]
        best, two, four, solved = profile(known["ratio"], [1.0, 2.0, 4.0, np.finfo(float).max])
        counts = (len(known), len(group) - len(known), int((~known["complete"]).sum()))
        rows.append((cost, optimizer, score(known["ratio"]), best, two, four, solved, *counts))
    table = pd.DataFrame(rows, columns=columns)
    order = pd.Categorical(table["cost"], COSTS, ordered=True)
    table = table.assign(order_=order).sort_values(["order_", "score", "optimizer"], ascending=[True, False, True])
    return table.drop(columns="order_").reset_index(drop=True)


def is_enough(ratios: pd.DataFrame) -> bool:
    """Whether there are tasks and optimizers enough for a profile, and a problem that somebody solved."""
    known = ratios[ratios["ratio"].notna()]
    return bool(known["task"].nunique() >= LEAST_TASKS and known["optimizer"].nunique() >= LEAST_OPTIMIZERS)


def gradients_per_step(trials: pd.DataFrame) -> pd.Series:
    """Return how many gradients an optimizer computed per step, over all its trials; empty where records do not say.

    Args:
        trials: Columns `optimizer`, `steps`, and in newer exports `gradient_evaluations`.

    Returns:
        The quotient of the sums, indexed by optimizer.
    """
    if "gradient_evaluations" not in trials:
        return pd.Series(dtype=float)
    known = trials[trials["gradient_evaluations"].notna() & (trials["steps"] > 0)]
    sums = known.groupby("optimizer")[["gradient_evaluations", "steps"]].sum().astype(float)
    quotient: pd.Series = sums["gradient_evaluations"] / sums["steps"]
    return quotient
