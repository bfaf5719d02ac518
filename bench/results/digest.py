"""The digest: a hash of everything in a cell that must repeat bit for bit."""

import hashlib

import pandas as pd

from bench.results.record import TrialSummary

#: Columns of the curves that repeat; the training clock does not.
REPEATING = ("lr", "seed", "step", "epoch", "examples", "value")


def cell_digest(trials: list[TrialSummary], curves: pd.DataFrame) -> str:
    """Return the SHA-256 over statuses, steps, evaluated metrics and final parameters of all trials.

    Args:
        trials: The cell's trials.
        curves: Its curves, columns `bench.results.curves.COLUMNS`; NaN has one bit pattern here.
    """
    digest = hashlib.sha256()
    for trial in sorted(trials, key=lambda t: (t.lr, t.seed)):
        line = (trial.lr.hex(), trial.seed, str(trial.status), trial.steps, trial.examples, trial.parameters_sha256)
        digest.update(repr(line).encode())
    ordered = curves.sort_values(["lr", "seed", "step", "split", "metric"], kind="stable")
    for column in REPEATING:
        digest.update(ordered[column].to_numpy(dtype="float64", na_value=float("nan")).tobytes())
    for column in ("split", "metric"):
        digest.update("\n".join(ordered[column].astype(str)).encode())
    return digest.hexdigest()
