"""What claims are judged on, out of a sweep's exported tables."""

from bench.analysis.results import Results
from bench.analysis.study import CONDITION
from bench.claims.evidence import Data
from bench.results.tables import Tables

_COLUMNS = ["cell", *CONDITION, "batch_size", "lr", "seed", "step", "epoch", "examples", "metric", "value"]


def claim_data(exported: Tables, results: Results, sweep: str = "") -> Data:
    """Put the measures that were taken at evaluation points beside the analysis of the same sweep.

    Tasks with turned knobs and optimizers with another method are named as in the study, and cells that the study
    leaves out because another has the same place are left out here.

    Args:
        exported: The sweep's tables.
        results: `bench.analysis.results.analyse` of these.
        sweep: Its name.
    """
    curves = exported.curves
    measures = curves.loc[
        curves["split"] == "measure", ["cell", "lr", "seed", "step", "epoch", "examples", "metric", "value"]
    ]
    placed = measures.merge(results.study.cells[["cell", *CONDITION, "batch_size"]], on="cell")
    numbers = dict.fromkeys(("lr", "step", "epoch", "examples", "value"), float)
    placed = placed.astype({**numbers, "seed": int})[_COLUMNS]
    order = ["cell", "lr", "seed", "metric", "step"]
    return Data(results, placed.sort_values(order, kind="stable", ignore_index=True), sweep)
