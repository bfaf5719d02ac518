"""The plan of a sweep: what was asked for adds up."""

import threading
from pathlib import Path

import pytest

from bench.results.plan import Planned, add_to_plan, read_plan
from bench.results.record import RecordError
from bench.results.store import Store
from tests.results.records import CELL

OTHER = "f" * 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_sweeps_into_one_folder_add_up(store: Store) -> None:
    assert read_plan(store) == {}
    first = {CELL: Planned("one", 2.5, ("optimizer=sgd", "lr=[0.1,0.2]"))}
    add_to_plan(store, first)
    assert read_plan(store) == first
    file = store.path / "plan.json"
    before = file.stat().st_ino
    add_to_plan(store, {CELL: Planned("one by another name", 9.0)})
    assert file.stat().st_ino == before, "nothing is new, so nothing is written"
    add_to_plan(store, {OTHER: Planned("ü \n", 1e9)})
    assert read_plan(store) == first | {OTHER: Planned("ü \n", 1e9)}
    assert sorted(path.name for path in store.path.iterdir()) == ["leases", "plan.json"]


def test_sweeps_that_begin_at_once_add_up(store: Store) -> None:
    cells = [f"{number:016x}" for number in range(40)]
    threads = [threading.Thread(target=add_to_plan, args=(store, {cell: Planned(cell, 1.0)})) for cell in cells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_plan(store)) == cells


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}", '{"cells": []}', '{"cells": {"short": {"label": "", "cost": 1, "overrides": []}}}'),
        f'{{"cells": {{"{CELL}": {{"label": "one", "cost": "much", "overrides": []}}}}}}',
    ],
)
def test_a_plan_that_cannot_be_read_is_named_and_stays(store: Store, content: str) -> None:
    file = store.path / "plan.json"
    file.write_text(content)
    for act in (lambda: read_plan(store), lambda: add_to_plan(store, {CELL: Planned("one", 1.0)})):
        with pytest.raises(RecordError, match=r"plan\.json: not a plan, perhaps truncated"):
            act()
    assert file.read_text() == content
