"""One line per claim: agreeing, partly settled, mixed, elsewhere only and missing verdicts."""

import dataclasses

import pandas as pd

from bench.claims.claim import claim
from bench.claims.evidence import COLUMNS, Judged
from bench.claims.wall import BESIDE, MISSING, MIXED, wall


def judged_as(verdicts: dict[str, list[tuple[str, bool]]]) -> Judged:
    """Verdicts by claim: word, and whether its place is primary."""
    claims = tuple(dataclasses.replace(claim("C5"), name=name, experiment=f"for_{name}") for name in verdicts)
    rows = [
        {"claim": name, "verdict": word, "primary": primary}
        for name, found in verdicts.items()
        for word, primary in found
    ]
    return Judged(claims, pd.DataFrame(rows, columns=list(COLUMNS)))


def test_verdicts_are_put_together() -> None:
    found = wall(
        judged_as(
            {
                "C1": [("supported", True), ("supported", True), ("refuted", False)],
                "C2": [("supported", True), ("refuted", True), ("equivalent", True), ("supported", False)],
                "C3": [("inconclusive", True)],
                "C4": [("supported", False), ("refuted", False)],
                "C5": [],
                "C6": [("refuted", True), ("refuted", True), ("inconclusive", True)],
                "C7": [("inconclusive", True), ("equivalent", True), ("refuted", False)],
                "C8": [("supported", True), ("equivalent", True), ("inconclusive", True)],
            }
        )
    )
    assert found.to_numpy().tolist() == [
        ["C1", "supported", 2, 2, 0, 1, "for_C1", 0, 0],
        ["C2", MIXED, 1, 3, 1, 1, "for_C2", 1, 1],
        ["C3", "inconclusive", 0, 1, 0, 0, "for_C3", 0, 0],
        ["C4", BESIDE, 0, 0, 1, 2, "for_C4", 0, 0],
        ["C5", MISSING, 0, 0, 0, 0, "for_C5", 0, 0],
        ["C6", "partly refuted", 0, 3, 0, 0, "for_C6", 2, 0],
        ["C7", "partly equivalent", 0, 2, 0, 1, "for_C7", 0, 1],
        ["C8", MIXED, 1, 3, 0, 0, "for_C8", 0, 1],
    ]
