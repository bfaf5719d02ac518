"""The digest heeds every bit that must repeat and nothing else."""

import dataclasses
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.results.curves import read_curves, write_curves
from bench.results.digest import cell_digest
from bench.results.record import TrialStatus, TrialSummary
from tests.results.records import curves, trial

TRIALS = [trial(lr, seed) for seed in (0, 1) for lr in (0.5, 1.0)]
CURVES = curves(seeds=(0, 1))
DIGEST = cell_digest(TRIALS, CURVES)


def test_it_never_changes() -> None:
    # Digests of one version are compared with those of the next.
    assert DIGEST == "45896cfd66b154c181b00612f61bd652c011747099f8dc11993e0f5b0c599813"


def test_the_order_of_rows_does_not_matter() -> None:
    assert cell_digest(TRIALS[::-1], CURVES) == DIGEST
    for seed in range(5):
        shuffled = CURVES.sample(frac=1, random_state=seed)
        assert cell_digest(TRIALS, shuffled) == DIGEST
        assert cell_digest(TRIALS, shuffled.reset_index(drop=True)) == DIGEST


def test_times_do_not_matter() -> None:
    later = [dataclasses.replace(t, train_seconds=99.0, seconds_to_target=98.0) for t in TRIALS]
    assert cell_digest(later, CURVES.assign(train_seconds=7.0)) == DIGEST


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", math.nextafter(0.5, 1)),
        ("seed", 5),
        ("status", TrialStatus.DIVERGED),
        ("steps", 21),
        ("examples", 201),
        ("parameters_sha256", "ab" * 31 + "ac"),
    ],
)
def test_every_repeating_field_of_a_trial_matters(field: str, value: Any) -> None:
    for index in range(len(TRIALS)):
        changed: list[TrialSummary] = list(TRIALS)
        changed[index] = dataclasses.replace(changed[index], **{field: value})
        assert cell_digest(changed, CURVES) != DIGEST


def test_a_missing_trial_or_row_matters() -> None:
    assert cell_digest(TRIALS[1:], CURVES) != DIGEST
    for row in (0, 17, len(CURVES) - 1):
        assert cell_digest(TRIALS, CURVES.drop(index=row)) != DIGEST


@pytest.mark.parametrize("column", ["lr", "seed", "step", "epoch", "examples", "value", "split", "metric"])
@pytest.mark.parametrize("row", [0, 17, 47])
def test_the_last_bit_of_every_repeating_column_matters(column: str, row: int) -> None:
    changed = CURVES.copy()
    before = changed.loc[row, column]
    if isinstance(before, str):
        changed.loc[row, column] = f"{before}s"
    elif isinstance(before, float | np.floating):
        changed.loc[row, column] = math.nextafter(before, math.inf)
    else:
        changed.loc[row, column] = before + 1
    assert changed.loc[row, column] != before
    assert cell_digest(TRIALS, changed) != DIGEST


def test_nan_has_one_bit_pattern(tmp_path: Path) -> None:
    negative, positive, payload = (
        struct.unpack("<d", struct.pack("<Q", bits))[0]
        for bits in (0xFFF8000000000000, 0x7FF8000000000000, 0x7FF8000000000123)
    )
    digests = set()
    for nan in (negative, positive, payload):
        with_nan = CURVES.copy()
        with_nan.loc[3, "value"] = nan
        digests.add(cell_digest(TRIALS, with_nan))
        write_curves(with_nan, tmp_path / "curves.parquet")
        digests.add(cell_digest(TRIALS, read_curves(tmp_path / "curves.parquet")))
    assert len(digests) == 1
    assert digests != {DIGEST}


def test_it_is_the_same_for_curves_read_back(tmp_path: Path) -> None:
    odd = CURVES.copy()
    odd.loc[3, "value"], odd.loc[4, "value"], odd.loc[5, "value"] = math.inf, -math.inf, -0.0
    write_curves(odd, tmp_path / "curves.parquet")
    assert cell_digest(TRIALS, read_curves(tmp_path / "curves.parquet")) == cell_digest(TRIALS, odd)
