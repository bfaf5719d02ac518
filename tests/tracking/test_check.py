"""The check sees what is missing and what differs."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from bench.results.checksums import FILE as CHECKSUMS
from bench.results.curves import write_curves
from bench.results.store import Store
from bench.tracking import StateError, TrackerConfig, mirror_sweep, read_state
from bench.tracking.check import CellCheck, check_mirror, run
from tests.tracking.sweeps import record, write_sweep

SWEEP = "octaves"


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A mirrored sweep: one cell for each way of tampering."""
    store = write_sweep(tmp_path_factory.mktemp("results") / SWEEP, tuple(TAMPERINGS))
    assert mirror_sweep(store, TrackerConfig(), stall_seconds=60).missing == {}
    return store


@pytest.fixture(scope="module")
def checks(mirrored: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CellCheck]:
    """What the check says about a copy with every cell tampered with. That it was moved is no difference."""
    copy = Store(Path(shutil.copytree(mirrored.path, tmp_path_factory.mktemp("copy") / SWEEP)))
    for batch_size, (tamper, _, _) in TAMPERINGS.items():
        cell = record(SWEEP, batch_size).cell
        tamper(copy, cell)
        # Who changes a record on purpose changes its checksums too.
        (copy.cell_path(cell) / CHECKSUMS).unlink(missing_ok=True)
    report = check_mirror(copy)
    assert report.exit_code == 1
    return {check.cell: check for check in report.cells}


def run_path(store: Store, cell: str) -> Path:
    state = read_state(store)
    assert state is not None
    return store.path / (state.cells[cell].path or "")


def in_record(change: Callable[[dict[str, Any]], None]) -> Callable[[Store, str], None]:
    def tamper(store: Store, cell: str) -> None:
        file = store.cell_path(cell) / "record.json"
        raw = json.loads(file.read_text())
        change(raw)
        file.write_text(json.dumps(raw))

    return tamper


def nothing(store: Store, cell: str) -> None:
    assert store.read(cell).cell == cell


def curve_value(store: Store, cell: str) -> None:
    curves = store.curves(cell)
    curves.loc[5, "value"] += 2.0**-40
    write_curves(curves, store.cell_path(cell) / "curves.parquet")


def curve_row(store: Store, cell: str) -> None:
    write_curves(store.curves(cell).drop(index=5), store.cell_path(cell) / "curves.parquet")


def curve_step(store: Store, cell: str) -> None:
    curves = store.curves(cell)
    write_curves(curves[curves["step"] > 0], store.cell_path(cell) / "curves.parquet")


def lose_run(store: Store, cell: str) -> None:
    shutil.rmtree(run_path(store, cell))


def lose_record(store: Store, cell: str) -> None:
    shutil.rmtree(store.cell_path(cell))


def cut_log(store: Store, cell: str) -> None:
    (log,) = run_path(store, cell).glob("*.wandb")
    log.write_bytes(log.read_bytes()[:3000])


def staged_record(store: Store, cell: str) -> Path:
    staged = (run_path(store, cell) / "data").rglob("tmp*")
    (found,) = [path for path in staged if path.is_file() and b'"schema"' in path.read_bytes()]
    return found


def change_copy(store: Store, cell: str) -> None:
    copy = staged_record(store, cell)
    copy.write_bytes(copy.read_bytes() + b" ")


def lose_copy(store: Store, cell: str) -> None:
    staged_record(store, cell).unlink()


def change_table(store: Store, cell: str) -> None:
    (table,) = run_path(store, cell).rglob("*.table.json")
    raw = json.loads(table.read_text())
    raw["data"][1][raw["columns"].index("steps")] = 39
    table.write_text(json.dumps(raw))


# Batch size of the cell → what is done to it, the verdict, how one of the differences begins.
TAMPERINGS: dict[int, tuple[Callable[[Store, str], None], str, str]] = {
    1: (nothing, "ok", ""),
    2: (
        in_record(lambda raw: raw["trials"][1].update(steps=41)),
        "differs",
        "table row 2 steps: record 41, mirror 40",
    ),
    3: (
        in_record(lambda raw: raw["axes"].update(device="mps")),
        "differs",
        "config device: record 'mps', mirror 'cpu'",
    ),
    4: (
        in_record(lambda raw: raw["speed"]["step_ms"].update(median=7.5)),
        "differs",
        "summary step_ms: record 7.5, mirror 6.4",
    ),
    5: (
        in_record(lambda raw: raw["config"]["task"].update(target=0.8)),
        "differs",
        "config resolved: record",
    ),
    6: (in_record(lambda raw: raw.update(digest="0" * 64)), "differs", "artifact metadata: another digest"),
    7: (in_record(lambda raw: raw.update(status="failed")), "differs", "tags: record"),
    8: (curve_value, "differs", "history step 0 test_accuracy/lr=2^-4/seed=0: record"),
    9: (curve_row, "differs", "history step 0 test_accuracy/lr=2^-4/seed=0: record 'nothing'"),
    10: (curve_step, "differs", "history rows: record 3, mirror 4"),
    11: (lose_run, "missing", "run "),
    12: (lose_record, "differs", "record: "),
    13: (cut_log, "differs", "log: "),
    14: (change_copy, "differs", "artifact record.json: its copy "),
    15: (lose_copy, "differs", "artifact record.json: its copy "),
    16: (change_table, "differs", "table row 1 steps: record 40, mirror 39"),
}


@pytest.mark.parametrize("batch_size", TAMPERINGS)
def test_says_what_differs(checks: dict[str, CellCheck], batch_size: int) -> None:
    tamper, verdict, start = TAMPERINGS[batch_size]
    check = checks[record(SWEEP, batch_size).cell]
    assert check.verdict == verdict
    assert any(line.startswith(start) for line in check.details) or not (start or check.details), check.details
    if tamper in (curve_value, curve_row, curve_step):
        assert any(line.startswith("artifact curves.parquet: record 'md5") for line in check.details)
    if tamper is curve_value:
        # Nothing but this value, which the best trial's own curve may repeat.
        history = [line for line in check.details if line.startswith("history")]
        assert all("test_accuracy" in line for line in history)
        assert len(history) <= 2


def test_all_equal(mirrored: Store) -> None:
    out = io.StringIO()
    assert run(mirrored, out) == 0
    lines = out.getvalue().splitlines()
    assert f"{record(SWEEP, 16).cell}  mnist5k/mlp adam B=16 cpu  ok" in lines
    assert len(lines) == len(TAMPERINGS) + 1
    assert lines[-1] == "16 of 16 ok, 0 missing, 0 differ"


def test_nothing_to_compare(store: Store) -> None:
    out = io.StringIO()
    assert run(store, out) == 4
    assert out.getvalue() == "nothing to compare: no mirror was kept (no mirror.json)\n"
    mirror_sweep(store, TrackerConfig(mode="disabled"))
    assert run(store, out) == 4


def test_unreadable_state(store: Store) -> None:
    (store.path / "mirror.json").write_text("[]")
    with pytest.raises(StateError, match=r"mirror\.json: not a mirror state"):
        check_mirror(store)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import click\ncli = click.Group()", "has no `wandb leet inspect`"),
        ("raise ImportError", "cannot be imported"),
    ],
)
def test_wandb_that_cannot_read(
    mirrored: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    package = tmp_path / "wandb" / "cli"
    package.mkdir(parents=True)
    (package / "cli.py").write_text(source)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UsageError, match=message):
        check_mirror(mirrored)
