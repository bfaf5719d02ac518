"""How the speed of each case went on: levels, the checks where they change, and whether pairs of processes agree.

A check gives two things about a case: the ratio of head to base, measured in turns and thus free of what the machine
did meanwhile, and head's seconds, which tell of older checks too but move with the machine. Change points are looked
for in the seconds, within one fingerprint; the ratios then say whether the code changed or the machine.
"""

import itertools
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

Array = npt.NDArray[np.float64]

#: Fewest checks on one level: one or two slow checks are the machine's business.
SHORTEST = 3
#: Residuals count up to so many standard deviations.
BOUND = 3.0
#: Relative noise is never taken for less: a clock and a scheduler leave about as much.
LEAST_NOISE = 1e-3
#: Candidates for a level.
LEVELS = 64
#: So many checks on either side of a change tell what pairs say of it.
NEIGHBOURS = 5


def series(table: pd.DataFrame) -> pd.DataFrame:
    """Return every measured time with the level it belongs to.

    Args:
        table: As `bench.speed.history.table` returns it.

    Returns:
        The rows of `table` with a time, one case on one fingerprint after another, with `segment` (0 for the first
        level there), `level` (its median, seconds), `paired` (what the ratios of pairs alone make of head
        relative to the other checks of the same `chain`, as a logarithm) and `chain` (checks whose commits are
        connected by pairs; -1 for none).
    """
    known = table[table["head_seconds"] > 0].sort_values("check", kind="stable")
    parts = [_levels(group) for _, group in known.groupby(["case", "fingerprint"], sort=False)]
    whole = [*table.columns, "segment", "level", "paired", "chain"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=whole)


def change_points(series: pd.DataFrame) -> pd.DataFrame:
    """Return every change of level, in order of time.

    Args:
        series: As `series` returns it.

    Returns:
        Columns `case`, `fingerprint`, `check` and `time` (the first check on the new level), `before_commit` and
        `commit` (heads of the last check before and the first after), `checks_before` and `checks_after` (on the two
        levels), `change` (new level over old, less 1), `paired` (the same from ratios of pairs; nan where no chain of
        pairs spans the change), `cause`: "code" where the pairs are nearer to `change` than to none, "machine" where
        they are nearer to none, "unknown" without a chain.
    """
    rows: list[dict[str, Any]] = []
    for (case, mark), group in series.groupby(["case", "fingerprint"], sort=False):
        levels = [level for _, level in group.groupby("segment")]
        for old, new in itertools.pairwise(levels):
            rows.append({"case": case, "fingerprint": mark} | _change(old, new))
    columns = ["case", "fingerprint", "check", "time", "before_commit", "commit", "checks_before", "checks_after"]
    frame = pd.DataFrame(rows, columns=[*columns, "change", "paired", "cause"])
    return frame.sort_values(["check", "case"], kind="stable", ignore_index=True)


def summary(table: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return one row per case: where it stands.

    Args:
        table: As `bench.speed.history.table` returns it.
        series: As `series` returns it for that table.

    Returns:
        Columns `case`, `checks`, `fingerprints` (how many), and of the latest check that has the case: `time`,
        `commit`, `verdict`, `change` (head to base); then, from the latest check that timed it, `seconds`,
        `fingerprint`, `level`, `since` (time of the first check on that level), `since_commit`, `total` (that level
        over the first one on the fingerprint, less 1) and `changes` (changes of level on all fingerprints).
    """
    rows = []
    for case, group in table.sort_values("check", kind="stable").groupby("case", sort=False):
        last, timed = group.iloc[-1], series[series["case"] == case]
        row: dict[str, Any] = {
            "case": case,
            "checks": len(group),
            "fingerprints": group["fingerprint"].nunique(),
            "time": last["time"],
            "commit": last["head_commit"],
            "verdict": last["verdict"],
            "change": last["change"],
            "changes": int(timed.groupby("fingerprint")["segment"].max().sum()),
        }
        rows.append(row | (_standing(timed) if len(timed) else {}))
    columns = ["case", "checks", "fingerprints", "time", "commit", "verdict", "change", "seconds", "fingerprint"]
    return pd.DataFrame(rows, columns=[*columns, "level", "since", "since_commit", "total", "changes"])


def find_changes(values: Sequence[float] | Array, least_noise: float = LEAST_NOISE) -> list[int]:
    """Return where the level of a noisy series changes: indices of the first value on each new level.

    Optimal partitioning (Jackson et al. 2005) by dynamic programming. The cost of a segment is the least sum of
    squared residuals, each counted up to `BOUND` standard deviations (the biweight loss of Fearnhead & Rigaill 2019),
    so that a single slow value pulls nothing. Every change costs 6 + 3·log n, more than their 2·log n, since noise is
    estimated from few values and neighbours in time resemble one another.

    Args:
        values: Logarithms of times, in order.
        least_noise: Standard deviation below which noise is not taken, > 0.

    Returns:
        Ascending indices; none where there are fewer than twice `SHORTEST` values.
    """
    data = np.asarray(values, dtype=float)
    count = len(data)
    if count < 2 * SHORTEST:
        return []
    candidates = np.unique(np.quantile(data, np.linspace(0, 1, min(count, LEVELS)), method="nearest"))
    loss = np.minimum(np.abs(data[:, None] - candidates) / max(noise(data), least_noise), BOUND) ** 2
    sums = np.vstack([np.zeros(len(candidates)), np.cumsum(loss, axis=0)])
    penalty = 6 + 3 * np.log(count)
    best, previous = np.full(count + 1, np.inf), np.zeros(count + 1, dtype=int)
    best[0] = -penalty
    for end in range(SHORTEST, count + 1):
        starts = end - SHORTEST + 1
        totals = best[:starts] + (sums[end] - sums[:starts]).min(axis=1) + penalty
        previous[end] = int(np.argmin(totals))
        best[end] = totals[previous[end]]
    found: list[int] = []
    while (count := int(previous[count])) > 0:
        found.append(count)
    return found[::-1]


def noise(values: Array) -> float:
    """Estimate the standard deviation of a series around its levels.

    The scaled median of absolute differences, which few changes of level and few outliers hardly touch; the largest
    over distances of one to three values, since neighbours in time often resemble one another.

    Args:
        values: At least two.
    """
    distances = range(1, max(1, min(3, len(values) // 4)) + 1)
    spreads = [np.median(np.abs(values[lag:] - values[:-lag])) for lag in distances]
    return float(1.4826 / np.sqrt(2) * max(spreads))


def _levels(group: pd.DataFrame) -> pd.DataFrame:
    """Add segments, levels and chains to one case on one fingerprint."""
    seconds = group["head_seconds"].to_numpy(dtype=float)
    # A level moves by no less than one pair of identical code does.
    measured = group["noise"].median()
    changes = find_changes(np.log(seconds), max(LEAST_NOISE, measured if np.isfinite(measured) else 0.0))
    segment = np.searchsorted(changes, np.arange(len(seconds)), side="right")
    level = group["head_seconds"].groupby(segment).transform("median")
    paired, chain = _chains(group)
    return group.assign(segment=segment, level=level, paired=paired, chain=chain)


def _chains(group: pd.DataFrame) -> tuple[Array, npt.NDArray[np.int64]]:
    """Place the head of every check on a scale made of ratios alone.

    Commits are nodes, checks are edges with a measured difference; least squares gives every node its place within
    its connected component. Where head of each check is base of the next, this adds the differences up.
    """
    nodes: dict[Hashable, int] = {}
    rows = list(zip(group["base_commit"], group["head_commit"], group["check"], group["change"], strict=True))
    ends = np.array([[_node(nodes, base, (0, check)), _node(nodes, head, (1, check))] for base, head, check, _ in rows])
    changes = np.log1p(group["change"].to_numpy(dtype=float))
    usable = np.isfinite(changes) & (group["compared"] == "commits").to_numpy()
    usable &= ends[:, 0] != ends[:, 1]
    edges, count = ends[usable], len(nodes)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    row, ones = np.arange(len(edges)), np.ones(len(edges))
    incidence = coo_array(
        (np.concatenate([ones, -ones]), (np.concatenate([row, row]), np.concatenate([edges[:, 1], edges[:, 0]]))),
        shape=(len(edges), count),
    ).tocsr()
    # The first node of every component stands at 0: without that, its places are known but for a constant.
    first = np.isin(np.arange(count), np.unique(component, return_index=True)[1]).astype(float)
    places = spsolve((incidence.T @ incidence + diags_array(first)).tocsc(), incidence.T @ changes[usable])
    heads = ends[:, 1]
    joined = np.isin(heads, edges)
    return np.where(joined, places[heads], np.nan), np.where(joined, component[heads], -1)


def _node(nodes: dict[Hashable, int], commit: object, alone: Hashable) -> int:
    # Files that differ from a commit are not the same files from one check to the next.
    known = isinstance(commit, str) and not commit.endswith("+")
    return nodes.setdefault(str(commit) if known else alone, len(nodes))


def _change(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, Any]:
    before, after = old.iloc[-1], new.iloc[0]
    change = float(np.log(after["level"] / before["level"]))
    paired = _paired(old.iloc[-NEIGHBOURS:], new.iloc[:NEIGHBOURS])
    cause = "unknown" if np.isnan(paired) else "code" if abs(paired - change) < abs(paired) else "machine"
    return {
        "check": int(after["check"]),
        "time": after["time"],
        "before_commit": before["head_commit"],
        "commit": after["head_commit"],
        "checks_before": len(old),
        "checks_after": len(new),
        "change": np.expm1(change),
        "paired": np.expm1(paired),
        "cause": cause,
    }


def _paired(old: pd.DataFrame, new: pd.DataFrame) -> float:
    """Return the difference that ratios alone show, in the chain with most checks on its thinner side."""
    shared = [chain for chain in set(old["chain"]) & set(new["chain"]) if chain >= 0]
    if not shared:
        return float("nan")
    most = max(shared, key=lambda chain: (min((old["chain"] == chain).sum(), (new["chain"] == chain).sum()), -chain))
    sides = [side.loc[side["chain"] == most, "paired"].median() for side in (old, new)]
    return float(sides[1] - sides[0])


def _standing(timed: pd.DataFrame) -> dict[str, Any]:
    latest = timed.loc[timed["check"] == timed["check"].max()].iloc[0]
    here = timed[timed["fingerprint"] == latest["fingerprint"]]
    first = here[here["segment"] == latest["segment"]].iloc[0]
    return {
        "seconds": latest["head_seconds"],
        "fingerprint": latest["fingerprint"],
        "level": latest["level"],
        "since": first["time"],
        "since_commit": first["head_commit"],
        "total": latest["level"] / here["level"].iloc[0] - 1,
    }
