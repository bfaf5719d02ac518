import json
from pathlib import Path

import pytest

from bench.report.build import build_report
from bench.results.store import Store
from tests.report.synthetic import BROKEN, Plan, cell_id, write_sweep


@pytest.fixture(scope="session")
def plan() -> Plan:
    return Plan(name="mixed", broken=BROKEN)


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Store:
    """A sweep with every kind of cell: complete, failed, oom, unavailable, interrupted and corrupted."""
    store = write_sweep(tmp_path_factory.mktemp("results"), plan)
    corrupted = store.path / cell_id(plan, "adam", 4)
    text = (corrupted / "record.json").read_text()
    (corrupted / "record.json").write_text(text[: len(text) // 2])
    cells = {cell: {"status": "mirrored", "reason": None} for cell in store.cells()[1:]}
    cells[store.cells()[0]] = {"status": "missing", "reason": "<b>disk full</b>"}
    mirror = {"tracker": "wandb", "mode": "offline", "note": None, "cells": cells}
    (store.path / "mirror.json").write_text(json.dumps(mirror))
    return store


@pytest.fixture(scope="session")
def report(sweep: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    return build_report(sweep, out).parent
