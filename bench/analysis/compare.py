"""Two sweeps side by side, cell by cell: what another machine, version or commit changed."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.comparisons import MEMORY_MARGIN, STEPS_MARGIN, TIME_MARGIN
from bench.analysis.measures import direction, margins, measure_names, values
from bench.analysis.speed import memory
from bench.analysis.statistics.differences import paired_difference
from bench.analysis.statistics.estimates import Estimate, Estimator
from bench.analysis.statistics.multiplicity import adjusted
from bench.analysis.statistics.verdicts import verdict
from bench.analysis.study import records

#: What names a cell to a reader; the device is told apart, as another machine may have another.
PLACE = ["task", "knobs", "model", "optimizer", "method", "batch_size", "precision"]

#: Aspects that are judged, and the words of theirs that are differences beyond the margins. A faster step or less
#: memory is none.
REGRESSIONS = {
    "status": ("changed",),
    "digest": ("differs",),
    "result": ("better", "worse"),
    "steps": ("fewer", "more"),
    "speed": ("slower",),
    "memory": ("more",),
}

_SPEED = ["examples_per_second", "examples_per_second_lo", "examples_per_second_hi"]


def matches(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Find the cells of two sweeps that belong together.

    Cells with the same id have the same configuration. Of the others, those alone at their `PLACE` in both sweeps
    belong together too: they differ in device, learning rates, seeds or something else that is no axis.

    Args:
        first: The exported cells of the first sweep, columns `bench.results.tables.CELL_COLUMNS`.
        second: Those of the second.

    Returns:
        Columns `PLACE`, `cell_a`, `cell_b` (None where there is none), `match`: "id", "place", "only a", "only b"; in
        order of `PLACE`.
    """
    sides = [
        frame[[*PLACE, "cell"]].assign(knobs=_text(frame["knobs"]), method=_text(frame["method"]))
        for frame in (first, second)
    ]
    same = sides[0].merge(sides[1][["cell"]], on="cell")
    by_id = same.assign(cell_a=same["cell"], cell_b=same["cell"], match="id")
    rest = [side[~side["cell"].isin(same["cell"])] for side in sides]
    alone = [side[~side.duplicated(PLACE, keep=False)] for side in rest]
    by_place = alone[0].merge(alone[1], on=PLACE, suffixes=("_a", "_b")).assign(match="place")
    frames = [by_id, by_place]
    for end, side in zip("ab", rest, strict=True):
        left = side[~side["cell"].isin(by_place[f"cell_{end}"])]
        frames.append(left.rename(columns={"cell": f"cell_{end}"}).assign(match=f"only {end}"))
    columns = [*PLACE, "cell_a", "cell_b", "match"]
    table = pd.concat([frame.reindex(columns=columns) for frame in frames], ignore_index=True).astype(object)
    table = table.where(table.notna(), None)
    return table.sort_values([*PLACE, "match"], ignore_index=True, kind="stable")


def compare(first: tuple[pd.DataFrame, pd.DataFrame], second: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    """Compare the cells that two sweeps have in common, the second against the first.

    Results and steps are those of the learning rate that is best in the first sweep on validation data (the mean of the
    last evaluation over seeds, a diverged trial counting as the worst), taken in both sweeps alike; differences are
    within a seed, with a t interval over seeds: what other seeds would change on this very test split. Intervals of
    results are adjusted for each other by Holm's procedure, and so are those of steps, as a sweep has many cells.

    Args:
        first: Cells and trials of the first sweep, columns as exported; the cells also have `bits` (what their bits
            depend on, as text) and `repeatable`.
        second: The same of the second.

    Returns:
        One row per pair of `matches`, columns `COLUMNS`: `PLACE`, `cell_a`, `cell_b`, `match`;

        * `status_a`, `status_b`, `status`: "equal" or "changed";
        * `digest_expected`: whether bits should be equal (same configuration, hardware, versions and threads, and no
          clock decided); `digest`: "equal", "differs" where equal ones were expected, "other" where they were not,
          "none" where a cell is not complete;
        * `trials` (in both), `trials_changed` (of these, with another status);
        * `measure`, `unit` of the difference ("fraction", "log ratio", "loss"), `lr`, `value_a`, `value_b`,
          `difference`, `lo`, `hi`, `n` (seeds), `margin`; `result`: "equal", "better", "worse", "inconclusive", "none";
        * `steps_ratio`, `steps_lo`, `steps_hi`, `steps_n`, `reached_a`, `reached_b` (seeds that reached the target);
          `steps`: "equal", "fewer", "more", "inconclusive", "none";
        * `speed_ratio`, `speed_lo`, `speed_hi` (examples per second, from the ends of both intervals); `speed`:
          "equal", "faster", "slower", "inconclusive", "none", or "other machine" where hardware or threads differ,
          between which times do not compare;
        * `memory_ratio` (bytes that a step holds by count), `peak_ratio` (measured); `memory`: "equal", "less",
          "more", "none".
    """
    pairs = matches(first[0], second[0])
    pairs = pairs[pairs["match"].isin(["id", "place"])].reset_index(drop=True)
    cells = [side[0].set_index("cell", drop=False) for side in (first, second)]
    named = measure_names(pd.concat([first[0], second[0]], ignore_index=True), pd.DataFrame())
    found = [
        _pair(pair, (cells[0].loc[pair["cell_a"]], cells[1].loc[pair["cell_b"]]), str(named[pair["task"]]))
        for pair in records(pairs)
    ]
    judged: dict[str, dict[str, Estimator]] = {"result": {}, "steps": {}}
    for row in found:
        joined = _joined(first[1], second[1], row)
        row |= {"trials": len(joined), "trials_changed": int((joined["status_a"] != joined["status_b"]).sum())}
        for aspect, estimator in _at_best(joined, row).items():
            judged[aspect][row["cell_a"]] = estimator
    for aspect, estimators in judged.items():
        intervals = {cell: given.holm for cell, given in adjusted(estimators).items()} if estimators else {}
        for row in found:
            _judge(row, aspect, intervals.get(row["cell_a"]))
    _add_memory(found, first[0], second[0])
    return pd.DataFrame(found, columns=COLUMNS)


COLUMNS = [
    *(*PLACE, "cell_a", "cell_b", "match", "status_a", "status_b", "status", "digest_expected", "digest"),
    *(
        "trials",
        "trials_changed",
        "measure",
        "unit",
        "lr",
        "value_a",
        "value_b",
        "difference",
        "lo",
        "hi",
        "n",
        "margin",
    ),
    *("result", "steps_ratio", "steps_lo", "steps_hi", "steps_n", "reached_a", "reached_b", "steps"),
    *("speed_ratio", "speed_lo", "speed_hi", "speed", "memory_ratio", "peak_ratio", "memory"),
]


def outcome(compared: pd.DataFrame) -> str:
    """Say what a comparison found: "different", "inconclusive" or "equal", by `REGRESSIONS`.

    Speeds of two sweeps were measured at different times and are seldom known to the margin, so one that is
    inconclusive does not make the whole inconclusive: results and steps do.

    Args:
        compared: As `compare` returns.
    """
    if any(compared[aspect].isin(words_).any() for aspect, words_ in REGRESSIONS.items()):
        return "different"
    return "inconclusive" if (compared[["result", "steps"]] == "inconclusive").any(axis=None) else "equal"


def _pair(pair: dict[str, Any], sides: tuple[Any, Any], measure: str) -> dict[str, Any]:
    """Compare what two cells say as cells."""
    a, b = sides
    expected = bool(pair["match"] == "id" and a["bits"] == b["bits"] and a["repeatable"] and b["repeatable"])
    digests = [side["digest"] if isinstance(side["digest"], str) else None for side in sides]
    digest = "equal" if digests[0] == digests[1] else "differs" if expected else "other"
    if None in digests:
        digest = "none"
    status = "equal" if a["status"] == b["status"] else "changed"
    row = pair | {"status_a": a["status"], "status_b": b["status"], "status": status, "measure": measure}
    row |= {"digest_expected": expected, "digest": digest}
    return row | _speed(a, b)


def _speed(a: Any, b: Any) -> dict[str, Any]:
    ends = zip(_SPEED, (_SPEED[0], _SPEED[2], _SPEED[1]), strict=True)
    ratio, lo, hi = (float(b[of]) / float(a[by]) if a[by] and b[of] else math.nan for of, by in ends)
    logs = [math.log(value) if value > 0 else math.nan for value in (ratio, lo, hi)]
    word = _word(Estimate(logs[0], logs[1], logs[2], 0), math.log1p(TIME_MARGIN), "faster", "slower")
    if word != "none" and (a["hardware"] != b["hardware"] or a["threads"] != b["threads"]):
        word = "other machine"
    return {"speed_ratio": ratio, "speed_lo": lo, "speed_hi": hi, "speed": word}


def _joined(first: pd.DataFrame, second: pd.DataFrame, row: dict[str, Any]) -> pd.DataFrame:
    """Put the trials of two cells side by side, those of the same learning rate and seed."""
    mine, other = first[first["cell"] == row["cell_a"]], second[second["cell"] == row["cell_b"]]
    joined: pd.DataFrame = mine.merge(other, on=["lr", "seed"], suffixes=("_a", "_b"))
    return joined


def _at_best(joined: pd.DataFrame, row: dict[str, Any]) -> dict[str, Estimator]:
    """Choose the learning rate, fill in what was found at it, and return what waits for its interval."""
    row |= dict.fromkeys(("lr", "value_a", "value_b", "difference", "steps_ratio"), math.nan)
    row |= {"unit": None, "n": 0, "steps_n": 0, "reached_a": 0, "reached_b": 0, "diverged_": (0, 0)}
    if joined.empty or (row["status_a"], row["status_b"]) != ("complete", "complete"):
        return {}
    ends = [
        joined[["lr", "seed"]].assign(
            measure=row["measure"],
            diverged=joined[f"status_{end}"] == "diverged",
            steps=joined[f"steps_to_target_{end}"].astype(float),
            **{name: joined[f"{name}_{end}"].astype(float) for name in _METRICS},
        )
        for end in "ab"
    ]
    goodness = (direction(ends[0]) * values(ends[0], "val")).mask(ends[0]["diverged"], -math.inf).fillna(-math.inf)
    means = goodness.groupby(joined["lr"]).mean()
    # The smallest of equals: groups are in order.
    row["lr"] = float(means.index[int(np.argmax(means.to_numpy()))])
    a, b = (end[end["lr"] == row["lr"]].reset_index(drop=True) for end in ends)
    only = [int((x["diverged"] & ~y["diverged"]).sum()) for x, y in ((a, b), (b, a))]
    row["diverged_"] = (only[0], only[1])
    waiting = {}
    alive = ~a["diverged"] & ~b["diverged"]
    results = [values(end, "test").where(alive) for end in (a, b)]
    known = np.isfinite(results[0]) & np.isfinite(results[1])
    if known.any():
        one, two = (side[known].to_numpy(dtype=float) for side in results)
        by_ratio = row["measure"] == "loss" and bool((one > 0).all() and (two > 0).all())
        row["unit"] = "fraction" if row["measure"] != "loss" else "log ratio" if by_ratio else "loss"
        differences = np.log(two / one) if by_ratio else two - one
        row |= {"value_a": float(one.mean()), "value_b": float(two.mean()), "n": int(known.sum())}
        waiting["result"] = _waiting(differences)
    both = a["steps"].notna() & b["steps"].notna()
    row |= {"reached_a": int(a["steps"].notna().sum()), "reached_b": int(b["steps"].notna().sum())}
    if both.any():
        ratios = np.log(b.loc[both, "steps"].to_numpy() / a.loc[both, "steps"].to_numpy())
        row["steps_n"] = int(both.sum())
        waiting["steps"] = _waiting(ratios)
    return waiting


_METRICS = ("val_loss", "val_accuracy", "test_loss", "test_accuracy")


def _waiting(differences: Any) -> Callable[[float], Estimate]:
    return partial(paired_difference, differences)


def _judge(row: dict[str, Any], aspect: str, found: Estimate | None) -> None:
    """Fill in an interval and the word for it."""
    same = row["digest"] == "equal"
    if aspect == "steps":
        word = _word(found, math.log1p(STEPS_MARGIN), "more", "fewer")
        if row["reached_a"] != row["reached_b"]:
            word = "inconclusive"
        row["steps"] = "equal" if same and word != "none" else word
        ends = (math.nan,) * 3 if found is None else (found.estimate, found.lo, found.hi)
        row |= dict(zip(("steps_ratio", "steps_lo", "steps_hi"), map(math.exp, ends), strict=True))
        return
    table = pd.DataFrame([row]).rename(columns={"value_a": "value_small", "value_b": "value_large"})
    row["margin"] = float(margins(table).iloc[0]) if row["unit"] else math.nan
    sign = direction(table).iloc[0]
    word = _word(found, row["margin"], *(("better", "worse") if sign > 0 else ("worse", "better")))
    only_a, only_b = row["diverged_"]
    if only_a or only_b:
        word = "inconclusive" if only_a and only_b else "worse" if only_b else "better"
    row["result"] = "equal" if same and word != "none" else word
    ends = (math.nan,) * 3 if found is None else (found.estimate, found.lo, found.hi)
    row |= dict(zip(("difference", "lo", "hi"), ends, strict=True))


def _word(found: Estimate | None, margin: float, above: str, below: str) -> str:
    if found is None or math.isnan(found.estimate):
        return "none"
    word = verdict(found, margin, "different").word
    if word == "supported":
        return above if found.estimate > 0 else below
    return "equal" if word == "refuted" else "inconclusive"


def _add_memory(found: list[dict[str, Any]], first: pd.DataFrame, second: pd.DataFrame) -> None:
    held = [
        memory(cells).set_axis(cells.loc[cells["activation_bytes"].notna(), "cell"], axis="index")
        for cells in (first, second)
    ]
    for row in found:
        ratios = {"memory_ratio": math.nan, "peak_ratio": math.nan}
        if row["cell_a"] in held[0].index and row["cell_b"] in held[1].index:
            a, b = held[0].loc[row["cell_a"]], held[1].loc[row["cell_b"]]
            ratios["memory_ratio"] = float(b["step_mib"] / a["step_mib"]) if a["step_mib"] > 0 else math.nan
            if a["peak_kind"] == b["peak_kind"] and a["peak_mib"] > 0:
                ratios["peak_ratio"] = float(b["peak_mib"] / a["peak_mib"])
        ratio = ratios["memory_ratio"]
        row |= ratios
        if math.isnan(ratio):
            row["memory"] = "none"
        else:
            beyond = abs(math.log(ratio)) > math.log1p(MEMORY_MARGIN)
            row["memory"] = ("more" if ratio > 1 else "less") if beyond else "equal"


def _text(column: "pd.Series[Any]") -> "pd.Series[Any]":
    return column.fillna("").astype(str)
