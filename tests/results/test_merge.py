"""Two stores in one: what is there stays, what is missing comes, what contradicts is refused."""

import errno
from pathlib import Path
from typing import Any

import pytest

from bench.results.plan import Planned, add_to_plan, read_plan
from bench.results.record import CellStatus
from bench.results.snapshots import snapshot_table
from bench.results.store import Store
from tests.results.files import everything, fail
from tests.results.records import CELL, curves, record
from tests.small import call

OTHER = "f" * 16
THERE = {"threads": 1, "hardware": "another processor"}


class Stores:
    """Stores a and b, and what the command line makes of them."""

    def __init__(self, root: Path) -> None:
        self.a, self.b, self.c = (Store(root / "results" / name) for name in "abc")
        self.a.write(record(OTHER), curves())

    def merge(self, *words: str) -> int:
        return call("merge", "a", "b", *words)


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.chdir(tmp_path)
    return Stores(tmp_path)


def test_what_a_lacks_comes_from_b_byte_for_byte(stores: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    extent = {"extent": [0.0, 1.0, 0.0, 1.0]}
    stores.b.write(record(), curves(), snapshot_table(extent, [(0.5, 0, 20, "position", [0.25, 0.75])]))
    stores.b.write(record(OTHER), curves())
    before = everything(stores.a.path)
    assert stores.merge("--dry-run") == 0
    assert "1 records would be copied" in capsys.readouterr().out
    assert everything(stores.a.path) == before
    assert stores.merge() == 0
    assert "merge: 1 records copied" in capsys.readouterr().out
    merged = before | {name: content for name, content in everything(stores.b.path).items() if name.startswith(CELL)}
    assert everything(stores.a.path) == merged
    assert len(merged) == 7
    assert stores.merge() == 0
    assert "0 records copied" in capsys.readouterr().out
    assert everything(stores.a.path) == merged


def test_another_digest_on_the_same_hardware_is_refused_and_nothing_is_written(
    stores: Stores, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.b.write(record(), curves())
    stores.b.write(record(OTHER, digest="ee" * 32), curves())
    before = everything(stores.a.path)
    for words in ([], ["--dry-run"], ["-o", "results/c"]):
        assert stores.merge(*words) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert f"{OTHER} mnist5k/mlp sgd B=10 cpu: digest cdcdcdcdcdcd here, eeeeeeeeeeee there" in said.err
        assert "in conflict: 1 cell; nothing was written" in said.err
        assert CELL not in said.err
    assert everything(stores.a.path) == before
    assert not stores.c.path.exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"environment": THERE}, "hardware: a processor here, another processor there"),
        ({"environment": {"threads": 2, "hardware": "a processor"}}, "threads: 1 here, 2 there"),
        ({"repeatable": False}, "a clock decided how many steps were taken"),
    ],
)
def test_another_digest_elsewhere_is_no_error(
    stores: Stores, changes: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.b.write(record(OTHER, digest="ee" * 32, **changes), curves())
    before = everything(stores.a.path)
    assert stores.merge() == 0
    out = capsys.readouterr().out
    assert f"{OTHER} mnist5k/mlp sgd B=10 cpu: kept as it is ({why})" in out
    assert "0 records copied" in out
    assert everything(stores.a.path) == before


STATUSES = [status for status in CellStatus if status != CellStatus.COMPLETE]


@pytest.mark.parametrize("status", STATUSES)
def test_a_result_takes_the_place_of_what_is_none(
    stores: Stores, status: CellStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.a.write(record(status=status, digest=None), curves())
    stores.b.write(record(), curves())
    assert stores.merge() == 0
    taken = status != CellStatus.OOM
    assert stores.a.read(CELL).status == (CellStatus.COMPLETE if taken else CellStatus.OOM)
    verb = "replaced" if taken else "kept as it is"
    assert f"{verb} ({status} here, complete there)" in capsys.readouterr().out


@pytest.mark.parametrize("status", STATUSES)
def test_a_result_makes_way_for_nothing(stores: Stores, status: CellStatus) -> None:
    stores.b.write(record(OTHER, status=status, digest=None), curves())
    before = everything(stores.a.path)
    assert stores.merge() == 0
    assert everything(stores.a.path) == before


def test_a_record_that_cannot_be_read(stores: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    """In B it is named and left out; in A one that can be read takes its place."""
    stores.b.write(record(), curves())
    stores.b.write(record(OTHER), curves())
    (stores.b.cell_path(CELL) / "curves.parquet").write_bytes(b"PAR1")
    (stores.a.cell_path(OTHER) / "record.json").write_text("{")
    assert stores.merge() == 1
    said = capsys.readouterr()
    assert f"left out: {CELL}: {stores.b.cell_path(CELL)}: curves.parquet cannot be read" in said.err
    assert f"{OTHER} mnist5k/mlp sgd B=10 cpu: replaced" in said.out
    assert stores.a.cells() == [OTHER]
    assert stores.a.read(OTHER) == record(OTHER)


def test_a_record_in_the_folder_of_another_cell_is_left_out(stores: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    stores.b.write(record(), curves())
    stores.b.cell_path(CELL).rename(stores.b.cell_path("a" * 16))
    assert stores.merge() == 1
    assert f"holds the record of cell {CELL}" in capsys.readouterr().err
    assert stores.a.cells() == [OTHER]


def test_into_a_third(stores: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    stores.b.write(record(OTHER, digest="ee" * 32, environment=THERE), curves())
    stores.b.write(record(), curves())
    before = everything(stores.a.path), everything(stores.b.path)
    assert stores.merge("-o", "results/c", "--dry-run") == 0
    assert not stores.c.path.exists()
    assert stores.merge("-o", "results/c") == 0
    assert "2 records copied" in capsys.readouterr().out
    assert (everything(stores.a.path), everything(stores.b.path)) == before
    assert stores.c.read(OTHER) == record(OTHER), "A's comes first"
    assert stores.c.read(CELL) == record()
    merged = everything(stores.c.path)
    assert stores.merge("-o", "results/c") == 0
    assert "0 records copied" in capsys.readouterr().out
    assert everything(stores.c.path) == merged


def test_plans_add_up(stores: Stores) -> None:
    stores.b.write(record(), curves())
    add_to_plan(stores.a, {OTHER: Planned("one", 1.0)})
    add_to_plan(stores.b, {CELL: Planned("two", 2.0), "a" * 16: Planned("three", 3.0)})
    assert stores.merge("-o", "results/c") == 0
    assert stores.merge() == 0
    for store in (stores.a, stores.c):
        assert read_plan(store) == read_plan(stores.b) | {OTHER: Planned("one", 1.0)}


def test_a_disk_that_fails_is_one_line_and_the_merge_goes_on(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.b.write(record(), curves())
    before = everything(stores.a.path)
    with monkeypatch.context() as patch:
        fail(patch, Path, "rename", errno.ENOSPC, 1)
        assert stores.merge() == 2
    assert capsys.readouterr().err == f"bench: {stores.a.path}: cannot be written (No space left on device)\n"
    assert everything(stores.a.path) == before
    assert stores.merge() == 0
    assert stores.a.read(CELL) == record()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "a"], "is the first store itself"),
        (["a", "b", "-o", "results/b"], "is the second store itself"),
        (["a", "b", "-o", "results/_c"], "a sweep's name is letters"),
        (["a", "bb"], "unknown sweep 'bb'; did you mean 'b'?"),
        (["a"], "the following arguments are required: SWEEP_B"),
    ],
)
def test_bad_input_is_one_line(stores: Stores, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    stores.b.write(record(), curves())
    before = everything(stores.a.path.parent)
    assert call("merge", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert everything(stores.a.path.parent) == before
