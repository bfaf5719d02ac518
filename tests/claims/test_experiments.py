"""Every claim's experiment is a grid that composes, and has what the claim needs."""

import pytest

from bench.claims.claim import claim, claim_names
from bench.launching.hydra import grid_cells


@pytest.mark.parametrize("experiment", sorted({claim(name).experiment for name in claim_names()}))
def test_experiments_compose(experiment: str) -> None:
    cells = grid_cells([f"experiment={experiment}"])
    assert cells
    assert len({cell.id for cell in cells}) == len(cells)
    assert {cell.config.sweep for cell in cells} == {experiment}


def test_grids_hold_the_pairs_that_claims_are_judged_on() -> None:
    methods = {cell.axes.method for cell in grid_cells(["experiment=claim_C12"])}
    assert {
        "schedule=step milestones=[0.5,0.75]",
        "batch_schedule=growth milestones=[0.5,0.75] factor=10",
    } <= methods
    assert {cell.axes.knobs for cell in grid_cells(["experiment=claim_C9"])} == {"", "ghost_batch=32"}
    whole = [cell for cell in grid_cells(["experiment=claim_C19"]) if cell.axes.full_batch]
    assert {cell.axes.method for cell in whole} == {"", "clip_norm=1.0"}
    sizes = {cell.batch_size for cell in grid_cells(["experiment=claim_C18"])}
    powers = [size for size in sizes if size & (size - 1) == 0]
    assert powers
    assert all({size - 1, size + 1} <= sizes for size in powers)
