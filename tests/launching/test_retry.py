"""Running cells again: those that were asked for, as their records say, and nothing that only a record names."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from bench.launching import worker
from bench.launching.cell import failed_record, run_cell
from bench.launching.verify import compare
from bench.results.record import CellStatus
from bench.results.store import Store
from tests.results.files import everything
from tests.small import call, small_cell


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "results" / "default")


def put(store: Store, status: CellStatus, *overrides: str, **config: Any) -> str:
    """Write the record of a small cell that did not end well; return its id."""
    record, curves, _ = failed_record(small_cell(*overrides), "for the test")
    changed = {**record.config, **config}
    store.write(dataclasses.replace(record, status=status, command="bench run -m its=own", config=changed), curves)
    return record.cell


def test_exactly_the_cells_that_were_asked_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    failed = put(store, CellStatus.FAILED)
    oom = put(store, CellStatus.OOM, "batch_size=16")
    left = [put(store, CellStatus.INTERRUPTED, "batch_size=32"), put(store, CellStatus.UNAVAILABLE, "batch_size=128")]
    before = everything(store.path)
    assert call("retry", "default", "--status", "failed,oom", "--workers", "1") == 0
    out = capsys.readouterr().out.splitlines()
    assert sorted(out[:2]) == sorted(
        [
            f"{failed} mnist5k/logreg sgd B=64 cpu: failed → complete",
            f"{oom} mnist5k/logreg sgd B=16 cpu: oom → complete",
        ]
    )
    assert out[2:] == ["retry: 2 of 2 cells are complete now"]
    after = everything(store.path)
    for cell in left:
        assert {n: c for n, c in after.items() if n.startswith(cell)} == {
            n: c for n, c in before.items() if n.startswith(cell)
        }
    # What comes out is what the cell's own command would have made.
    again = store.read(failed)
    assert again.digest == run_cell(small_cell()).record.digest
    assert again.command == "bench run -m its=own"
    assert again.config == small_cell().plain()
    assert call("retry", "default", "--status", "failed, oom") == 0
    assert capsys.readouterr().out == "no cell of sweep default is failed or oom\n"


def test_a_cell_that_fails_again_is_told(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = put(store, CellStatus.INTERRUPTED)
    real = worker.run_and_store

    def failing(cell: Any, store: Store, *rest: Any) -> Any:
        # While a cell is run again, its record is what it was.
        assert store.read(cell.id).status == CellStatus.INTERRUPTED
        return real(dataclasses.replace(cell, incompatible="it cannot be"), store, *rest)

    monkeypatch.setattr("bench.launching.sweep.run_and_store", failing)
    assert call("retry", "default", "--status", "interrupted") == 1
    out = capsys.readouterr().out
    assert f"{cell} mnist5k/logreg sgd B=64 cpu: interrupted → unavailable (it cannot be)" in out
    assert "retry: 0 of 1 cells are complete now" in out


def test_what_interrupts_leaves_the_old_record(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, CellStatus.FAILED)
    before = {name: content for name, content in everything(store.path).items() if name.endswith(".json")}

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.launching.sweep.run_and_store", interrupted)
    assert call("retry", "default", "--status", "failed") == 130
    assert "failed as before, not run" in capsys.readouterr().out
    after = everything(store.path)
    assert {name: after[name] for name in before} == before
    assert [name for name in after if name.startswith("leases/")] == ["leases/lock"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "faild"], "unknown status to run again 'faild'; did you mean 'failed'?"),
        (["--status", "complete"], "unknown status to run again 'complete'"),
        (["--status", ","], "name at least one of"),
        ([], "the following arguments are required: --status"),
        (["--status", "failed", "--override", "lr"], "--override lr: write KEY=VALUE"),
        (
            ["--status", "failed", "--override", "data.rot=x"],
            "unknown key to override 'data.rot'; did you mean 'data.root'?",
        ),
        (["--status", "failed", "--workers", "0"], "--workers 0: must be an integer ≥ 1, or auto"),
        (["--status", "failed", "--workers", "some"], "--workers some: must be an integer ≥ 1, or auto"),
    ],
)
def test_bad_input_is_one_line(store: Store, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, CellStatus.FAILED)
    before = everything(store.path)
    assert call("retry", "default", *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert everything(store.path) == before


SAYS_SO = "from pathlib import Path\nPath('was run').touch()\nimport torch\nclass Mine(torch.optim.SGD):\n    pass\n"


def test_code_that_only_a_record_names_is_not_imported(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(SAYS_SO, encoding="utf-8")
    cell = put(store, CellStatus.FAILED, "optimizer.target=mine.py:Mine")
    Path("was run").unlink()
    before = everything(store.path)
    for words in ([], ["--override", "optimizer.target=other.py:Mine"], ["--override", "data.root=mine.py:Mine"]):
        assert call("retry", "default", "--status", "failed", *words) == 1
        assert (
            f"{cell} mnist5k/logreg sgd: not run again (it runs mine.py:Mine, code outside the suite; "
            "--override optimizer.target=mine.py:Mine lets it)"
        ) in capsys.readouterr().out
        assert not Path("was run").exists()
    assert everything(store.path) == before
    words = ["--override", "optimizer.target=mine.py:Mine"]
    assert call("retry", "default", "--status", "failed", *words) == 0
    assert f"{cell} mnist5k/logreg sgd B=64 cpu: failed → complete" in capsys.readouterr().out


def test_an_interpolation_names_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A reference to another field, which names a file, would get past those who look at the fields that name code."""
    Path("mine.py").write_text(SAYS_SO, encoding="utf-8")
    config = small_cell().plain()
    hidden = {"optimizer": config["optimizer"] | {"target": "${data.root}"}, "data": {"root": "mine.py:Mine"}}
    cell = put(store, CellStatus.FAILED, **hidden)
    assert call("retry", "default", "--status", "failed") == 1
    assert "has an interpolation (${…}), which no record is written with" in capsys.readouterr().out
    comparison = compare(store.read(cell), store.curves(cell))
    assert comparison.verdict == "not comparable"
    assert "interpolation" in comparison.detail
    assert not Path("was run").exists()


def test_a_configuration_of_another_id_is_not_run(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    cell = put(store, CellStatus.FAILED, batch_size=16)
    assert call("retry", "default", "--status", "failed") == 1
    said = capsys.readouterr().out
    assert f"not run again (its configuration now has the id {small_cell('batch_size=16').id})" in said
    assert store.read(cell).status == CellStatus.FAILED


def test_data_may_be_elsewhere(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    cell = put(store, CellStatus.FAILED, data={"root": "/somewhere/else", "download": True})
    assert call("retry", "default", "--status", "failed", "--override", "data.root=here") == 0
    assert store.read(cell).config["data"] == {"root": "here", "download": True}


def test_records_that_cannot_be_read_are_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    cell = put(store, CellStatus.FAILED)
    file = store.cell_path(cell) / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 99}))
    assert call("retry", "default", "--status", "failed") == 0
    said = capsys.readouterr()
    assert f"left out: {cell}: record schema 99 is newer" in said.err
    assert said.out == "no cell of sweep default is failed\n"
