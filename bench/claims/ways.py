"""Each seed's way to the target under every learning-rate rule."""

import numpy as np
import pandas as pd

from bench.analysis.results import Results
from bench.analysis.rules import EXPONENTS, SNAP_OCTAVES
from bench.analysis.study import CONDITION, POINT
from bench.analysis.targets import MEASURES

#: Measure of the way to the target → its column of the trials that says how far a trial went.
WENT = {"steps": "steps", "examples": "examples", "seconds": "train_seconds"}


def ways_to_target(results: Results) -> pd.DataFrame:
    """Return each seed's way to the target under every learning-rate rule.

    Re-tuned is the rate that gets there soonest at each batch size. The other rules scale the one that does so at the
    reference batch size, to the nearest rate of the grid; a rate further outside it than half an octave has no rows.

    Args:
        results: The analysis.

    Returns:
        Columns `POINT`, `measure` (of `WENT`), `rule`, `lr`, `seed`, `value` (nan where never reached), `went` (the
        farthest that a trial of the point went). Interrupted trials that had not arrived are left out.

    Source: protocol of Shallue et al., arXiv 1811.03600, section 4; rules as in `bench.analysis.rules`.
    """
    trials = results.study.complete_trials()
    best = results.targets.loc[results.targets["measure"].isin(WENT), [*POINT, "measure", "lr", "median"]]
    start = best.merge(results.references, on=CONDITION)
    start = start[(start["batch_size"] == start["reference"]) & start["median"].notna()]
    start = start[[*CONDITION, "measure", "reference", "lr"]].rename(columns={"lr": "lr_reference"})
    grid = trials[[*POINT, "lr"]].drop_duplicates()
    ends = grid.groupby(POINT, as_index=False).agg(lr_lo=("lr", "min"), lr_hi=("lr", "max"))
    asked = best[[*POINT, "measure"]].merge(start, on=[*CONDITION, "measure"]).merge(ends, on=POINT)
    chosen = [best.assign(rule="re-tuned")[[*POINT, "measure", "rule", "lr"]]]
    for rule, exponent in EXPONENTS.items():
        wanted = asked["lr_reference"] * (asked["batch_size"] / asked["reference"]) ** exponent
        reach = 2**SNAP_OCTAVES * (1 + 1e-9)
        inside = (wanted >= asked["lr_lo"] / reach) & (wanted <= asked["lr_hi"] * reach)
        pairs = asked.assign(rule=rule, wanted_=wanted)[inside].merge(grid, on=POINT)
        pairs["octaves_"] = np.abs(np.log2(pairs["wanted_"] / pairs["lr"])).round(9)
        nearest = pairs.sort_values([*POINT, "measure", "octaves_", "lr"]).drop_duplicates([*POINT, "measure"])
        chosen.append(nearest[[*POINT, "measure", "rule", "lr"]])
    rates = pd.concat(chosen, ignore_index=True)
    frames = []
    for measure, went in WENT.items():
        rows = rates[rates["measure"] == measure].merge(
            trials[[*POINT, "lr", "seed", "status", MEASURES[measure], went]], on=[*POINT, "lr"]
        )
        value = rows[MEASURES[measure]].astype(float)
        rows = rows.assign(value=value.where(value > 0), went=rows[went].astype(float))
        rows["went"] = rows.groupby([*POINT, "rule"])["went"].transform("max")
        frames.append(rows[(rows["status"] != "interrupted") | rows["value"].notna()])
    columns = [*POINT, "measure", "rule", "lr", "seed", "value", "went"]
    return pd.concat([frame[columns] for frame in frames], ignore_index=True)
