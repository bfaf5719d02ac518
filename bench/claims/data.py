"""What claims are judged on, taken from a sweep's tables."""

from bench.analysis.results import Results
from bench.analysis.study import CONDITION
from bench.claims.evidence import Data
from bench.results.tables import Tables


def claim_data(tables: Tables, results: Results) -> Data:
    """Return what claims are judged on.

    Args:
        tables: The exported tables.
        results: Their analysis, of which the names of tasks and optimizers are taken.
    """
    curves = tables.curves
    columns = ["cell", "lr", "seed", "step", "epoch", "examples", "metric", "value"]
    rows = curves.loc[curves["split"] == "measure", columns]
    names = results.study.cells[["cell", *CONDITION, "batch_size"]]
    return Data(results, rows.merge(names, on="cell").reset_index(drop=True))
