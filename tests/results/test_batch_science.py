"""Google's layout, written by hand, comes out as tables that the analysis takes (Shallue et al., arXiv 1811.03600)."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.analysis.results import analyse
from bench.errors import UsageError
from bench.results import imports
from bench.results.batch_science import find_studies
from bench.results.imports import import_batch_science
from bench.results.tables import CELL_COLUMNS, CURVE_COLUMNS, TRIAL_COLUMNS
from tests.small import call

HEADER = (
    "step,train/cross_entropy_error,train/classification_error,val/cross_entropy_error,val/classification_error,"
    "test/cross_entropy_error,test/classification_error"
)
WORKLOAD = "mnist/simple_cnn_base/nesterov_momentum"


def write_trial(
    study: Path,
    number: int,
    errors: Sequence[float],
    lr: float,
    status: str = "COMPLETE",
    steps: int | None = None,
    momentum: float = 0.9,
) -> Path:
    """Write a trial evaluated every ten steps; its losses are twice its errors, splits differ by a hundredth."""
    folder = study / str(number)
    folder.mkdir(parents=True)
    last = 10 * (len(errors) - 1) if steps is None else steps
    metadata = {
        "_internal_study_name": "../../etc/passwd",
        "parameters": {"learning_rate": lr, "momentum": momentum},
        "status": status,
        "steps": last,
        "trial_id": number,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    lines = [HEADER]
    for place, error in enumerate(errors):
        splits = (max(error - 0.01, 0.0), error, error + 0.01)
        lines.append(",".join([str(10 * place), *(f"{2 * e!r},{e!r}" for e in splits)]))
    (folder / "measurements.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_study(root: Path, workload: str, batch_size: int) -> Path:
    folder = root / workload / str(batch_size)
    folder.mkdir(parents=True)
    dataset, model, optimizer = workload.split("/")[-3:]
    study = {"batch_size": batch_size, "dataset": dataset, "model": model, "optimizer": optimizer, "train_steps": 30}
    (folder / "study.json").write_text(json.dumps(study))
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two batch sizes with a fast and a slow trial, one that diverged and one that was given up."""
    root = tmp_path / "batch_science"
    for batch_size, soonest in ((64, 2), (256, 1)):
        study = write_study(root, WORKLOAD, batch_size)
        fast = [0.9, *([0.1] * (soonest - 1)), *([0.005] * (4 - soonest))]
        write_trial(study, 1, fast, lr=0.1)
        write_trial(study, 2, [0.9, 0.5, 0.02, 0.009], lr=0.01)
        write_trial(study, 10, [0.9, math.inf], lr=1.0, status="INFEASIBLE")
        write_trial(study, 11, [0.9, 0.4], lr=0.05, status="INCOMPLETE")
    return root


def quiet(number: int, total: int, name: str, trials: int) -> None:
    pass


def read(out: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    cells, trials, curves = (pd.read_parquet(out / f"{name}.parquet") for name in ("cells", "trials", "curves"))
    return cells, trials, curves


def test_trials_become_rows_of_the_exported_tables(archive: Path, tmp_path: Path) -> None:
    shown: list[tuple[int, int, str, int]] = []
    out = tmp_path / "out"
    written, unreadable = import_batch_science(archive, out, lambda *told: shown.append(told))
    assert unreadable == 0
    assert shown == [(1, 2, f"{WORKLOAD}/64", 4), (2, 2, f"{WORKLOAD}/256", 4)]
    cells, trials, curves = read(out)
    assert [rows for _, rows in written] == [len(cells), len(trials), len(curves)] == [2, 8, 2 * 12 * 6]
    assert sorted(path.name for path in out.iterdir()) == ["cells.parquet", "curves.parquet", "trials.parquet"]
    for frame, columns in ((cells, CELL_COLUMNS), (trials, TRIAL_COLUMNS), (curves, CURVE_COLUMNS)):
        assert list(frame.columns) == list(columns)
    cell = cells.iloc[0]
    assert (cell["task"], cell["model"], cell["optimizer"]) == (
        "mnist/simple_cnn_base",
        "simple_cnn_base",
        "nesterov_momentum",
    )
    assert (cell["batch_size"], cell["status"], cell["target_metric"], cell["target"]) == (
        64,
        "complete",
        "val_accuracy",
        0.99,
    )
    assert (cell["device"], cell["precision"], cell["train_examples"]) == ("unknown", "unknown", 55_000)
    assert pd.isna(cell["examples_per_second"])
    of_cell = trials[trials["cell"] == cell["cell"]]
    assert list(of_cell["source_trial"]) == [2, 11, 1, 10]
    assert list(of_cell["lr"]) == [0.01, 0.05, 0.1, 1.0]
    assert list(of_cell["status"]) == ["complete", "interrupted", "complete", "diverged"]
    assert list(of_cell["parameters"]) == ['{"momentum": 0.9}'] * 4
    # Below an error of .01, strictly, at the evaluation after 30 and after 20 steps.
    assert [None if math.isnan(steps) else steps for steps in of_cell["steps_to_target"]] == [30, None, 20, None]
    assert of_cell["examples_to_target"].iloc[2] == 20 * 64
    slow = of_cell.iloc[0]
    assert (slow["steps"], slow["examples"], slow["epochs"]) == (30, 1920, 1920 / 55_000)
    assert (slow["val_accuracy"], slow["val_loss"], slow["test_accuracy"]) == (1 - 0.009, 0.018, 1 - (0.009 + 0.01))
    assert pd.isna(slow["train_seconds"])
    # The diverged trial's best evaluation is the one before.
    assert (of_cell.iloc[3]["val_accuracy_at_best_val"], of_cell.iloc[3]["val_loss_at_best_val"]) == (1 - 0.9, 1.8)
    one = curves[(curves["cell"] == cell["cell"]) & (curves["lr"] == 0.01) & (curves["split"] == "val")]
    assert list(one[one["metric"] == "loss"]["value"]) == [1.8, 1.0, 0.04, 0.018]
    assert list(one[one["metric"] == "accuracy"]["step"]) == [0, 10, 20, 30]


def test_the_same_analysis_finds_the_soonest_trial_of_every_batch_size(archive: Path, tmp_path: Path) -> None:
    import_batch_science(archive, tmp_path / "out", quiet)
    results = analyse(*read(tmp_path / "out"))
    steps = results.targets[results.targets["measure"] == "steps"]
    assert list(zip(steps["batch_size"], steps["median"], steps["lr"], strict=True)) == [(64, 20, 0.1), (256, 10, 0.1)]
    (slope,) = results.scaling.loc[results.scaling["quantity"] == "steps to target", "slope"]
    assert slope == pytest.approx(-0.5)
    counted = results.divergence.set_index(["batch_size", "lr"])["diverged"]
    assert (counted[64, 1.0], counted[64, 0.1]) == (1, 0)


def test_pieces_of_any_size_give_the_same_tables(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_batch_science(archive, tmp_path / "whole", quiet)
    monkeypatch.setattr(imports, "PIECE", 5)
    import_batch_science(archive, tmp_path / "pieces", quiet)
    for one, other in zip(read(tmp_path / "whole"), read(tmp_path / "pieces"), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_what_the_documentation_says_runs(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("docs/import.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    import_batch_science(archive, tmp_path / "DIR", quiet)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(program, found)
    assert list(found["steps"]["median"]) == [20, 10]
    verdicts = found["verdicts"]
    assert set(verdicts["claim"]) == {"C5"}
    # One trial per learning rate has no interval.
    assert set(verdicts["verdict"]) == {"inconclusive"}
    assert "steps to target" in capsys.readouterr().out


def test_a_part_of_the_archive_has_the_same_cells(archive: Path) -> None:
    def never(name: str, reason: str) -> None:
        raise AssertionError(f"{name}: {reason}")

    whole = find_studies(archive, never)
    parts = find_studies(archive / WORKLOAD / "64", never) + find_studies(archive / "mnist", never)[1:]
    assert [study.keys for study in parts] == [study.keys for study in whole]


def test_groups_of_the_archive_are_conditions_of_their_own(archive: Path, tmp_path: Path) -> None:
    subset = "mnist_subsets/mnist_6875/simple_cnn_base/nesterov_momentum"
    for workload, batch_size in ((f"solution_quality/{WORKLOAD}", 64), (subset, 6875)):
        write_trial(write_study(archive, workload, batch_size), 1, [0.9, 0.2], lr=0.1)
    import_batch_science(archive, tmp_path / "out", quiet)
    cells = pd.read_parquet(tmp_path / "out" / "cells.parquet").set_index("knobs")
    assert cells["cell"].is_unique
    assert cells.loc["solution_quality", "task"] == "mnist/simple_cnn_base"
    mine = cells.loc["mnist_subsets"]
    assert (mine["task"], mine["train_examples"], mine["full_batch"]) == ("mnist_6875/simple_cnn_base", 6875, True)
    found = analyse(*read(tmp_path / "out")).study
    assert found.repeated.empty
    assert "mnist/simple_cnn_base (solution_quality)" in set(found.cells["task"])


def test_other_metrics_keep_their_names_and_a_precision_is_to_be_passed_upward(tmp_path: Path) -> None:
    study = write_study(tmp_path / "in", "open_images_v4/resnet_50/nesterov_momentum", 64)
    folder = write_trial(study, 1, [0.9, 0.2], lr=0.1)
    (folder / "measurements.csv").write_text(
        "step,val/cross_entropy_error,val/average_precision\n10,5,0.31\n20,4,0.32\n0,6,0.1\n"
    )
    import_batch_science(tmp_path / "in", tmp_path / "out", quiet)
    cells, trials, curves = read(tmp_path / "out")
    assert (cells["target_metric"][0], cells["target"][0]) == ("val_average_precision", 0.31)
    assert (trials["steps_to_target"][0], trials["val_loss"][0]) == (20, 4)
    assert list(curves["step"]) == [0, 0, 10, 10, 20, 20]
    assert set(curves["metric"]) == {"loss", "average_precision"}
    assert math.isnan(curves["epoch"][0])


BAD = {
    "metadata.json": [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        (
            '{"parameters": {"learning_rate": 0.1}, "status": "DONE", "steps": 1}',
            "status is 'DONE', not one of COMPLETE",
        ),
        ('{"parameters": {"learning_rate": NaN}, "status": "COMPLETE", "steps": 1}', "learning_rate is nan"),
        ('{"parameters": {}, "status": "COMPLETE", "steps": 1}', "learning_rate is None"),
        ('{"parameters": {"learning_rate": 0.1}, "status": "COMPLETE", "steps": -1}', "steps is -1"),
    ],
    "measurements.csv": [
        ("", "not a table"),
        ("step,loss\n0,1\n", "needs one column 'step', and columns such as"),
        ("step,val/cross_entropy_error\n0,many\n", "something else than numbers"),
        ("step,val/cross_entropy_error\n0.5,1\n", "a step is not a whole number"),
    ],
}


@pytest.mark.parametrize(("file", "text", "reason"), [(file, *case) for file, cases in BAD.items() for case in cases])
def test_a_trial_that_cannot_be_read_is_named_and_left_out(
    file: str, text: str, reason: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (archive / WORKLOAD / "64" / "2" / file).write_text(text)
    _, unreadable = import_batch_science(archive, tmp_path / "out", quiet)
    assert unreadable == 1
    trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    assert list(trials[trials["batch_size"] == 64]["source_trial"]) == [11, 1, 10]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bench: left out: {WORKLOAD}/64/2/{file}: ")
    assert reason in line
    (row,) = pd.read_csv(tmp_path / "out" / "unreadable.csv").to_dict("records")
    assert row["file"] == f"{WORKLOAD}/64/2/{file}"


def test_a_learning_rate_drawn_twice_has_two_seeds(tmp_path: Path) -> None:
    study = write_study(tmp_path / "in", WORKLOAD, 64)
    for number in (3, 7):
        write_trial(study, number, [0.9, 0.2], lr=0.1, momentum=number / 10)
    import_batch_science(tmp_path / "in", tmp_path / "out", quiet)
    trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    assert list(zip(trials["seed"], trials["source_trial"], strict=True)) == [(0, 3), (1, 7)]


def test_nothing_to_import_is_one_line_and_leaves_what_was_there(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_batch_science(archive, out, quiet)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        import_batch_science(tmp_path / "nowhere", out, quiet)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UsageError, match=r"no study that can be read in dataset/model/optimizer/batch_size/study\.json"
    ):
        import_batch_science(tmp_path / "empty", out, quiet)
    bad = write_study(tmp_path / "bad", WORKLOAD, 64)
    write_trial(bad, 1, [0.9], lr=-1.0)
    with pytest.raises(UsageError, match=r"none of its trials can be read, such as .*learning_rate is -1\.0"):
        import_batch_science(tmp_path / "bad", out, quiet)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    write_study(tmp_path / "hollow", WORKLOAD, 64)
    with pytest.raises(UsageError, match="none of its trials can be read; its studies are empty"):
        import_batch_science(tmp_path / "hollow", out, quiet)
    worse = write_study(tmp_path / "worse", WORKLOAD, 64)
    (worse / "study.json").write_text('{"batch_size": "many"}')
    with pytest.raises(UsageError, match=r"64/study\.json: batch_size is 'many', not a whole number above 0"):
        import_batch_science(tmp_path / "worse", out, quiet)


def test_the_command_line(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (archive / WORKLOAD / "256" / "1" / "measurements.csv").unlink()
    assert call("import", "batch-science", str(archive)) == 0
    captured = capsys.readouterr()
    assert [line.rpartition(": ")[2] for line in captured.out.splitlines()] == ["2 rows", "7 rows", "120 rows"]
    assert captured.err.splitlines() == [
        f"[1/2] {WORKLOAD}/64: 4 trials",
        f"[2/2] {WORKLOAD}/256: 3 trials",
        f"bench: left out: {WORKLOAD}/256/1/measurements.csv: missing",
        "bench: warning: 1 files could not be read and were left out",
    ]
    assert (tmp_path / "imported" / "batch-science" / "cells.parquet").exists()
    assert call("report", "imported/batch-science") == 2
    assert "imported/batch-science holds tables, not records (docs/import.md says how" in capsys.readouterr().err
    assert call("import", "batch-sciense", str(archive)) == 2
    said = capsys.readouterr().err
    assert "unknown layout to import 'batch-sciense'; did you mean 'batch-science'?" in said
