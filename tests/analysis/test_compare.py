"""Two sweeps side by side: known differences come out, and nothing else does."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.analysis.compare import compare, matches, outcome
from bench.launching.compare import _exported, _read
from bench.results.record import CellStatus, Record, TrialStatus, TrialSummary
from bench.results.store import Store
from tests.report.synthetic import LOSS, Plan, write_sweep
from tests.small import call

Change = Callable[[Record], Record]
PLAN = Plan(name="a", optimizers=("sgd",), batch_sizes=(16, 256), epochs=1.0, steps=40)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_sweep(tmp_path_factory.mktemp("results"), PLAN)


def changed(store: Store, root: Path, change: Change) -> Store:
    """Write a sweep "b" of the records after a change."""
    other = Store(root / "b")
    for record, curves in store.read_all():
        other.write(dataclasses.replace(change(record), sweep="b"), curves)
    return other


def compared(first: Store, second: Store) -> pd.DataFrame:
    made = [_exported(_read(store)) for store in (first, second)]
    return compare(*((tables.cells, tables.trials) for tables in made))


def with_trials(change: Callable[[TrialSummary], TrialSummary]) -> Change:
    def apply(record: Record) -> Record:
        return dataclasses.replace(record, digest="f" * 64, trials=[change(trial) for trial in record.trials])

    return apply


def shifted(**by: Callable[[float, int], float]) -> Change:
    """Change final metrics, given the value and the seed."""

    def apply(trial: TrialSummary) -> TrialSummary:
        final = dict(trial.final)
        for name, move in by.items():
            if (value := final[name]) is not None:
                final[name] = move(value, trial.seed)
        return dataclasses.replace(trial, final=final)

    return with_trials(apply)


def elsewhere(record: Record) -> Record:
    return dataclasses.replace(record, environment=record.environment | {"hardware": "another"}, digest="e" * 64)


def test_a_sweep_equals_itself(first: Store, tmp_path: Path) -> None:
    found = compared(first, changed(first, tmp_path, lambda record: record))
    assert outcome(found) == "equal"
    assert list(found["match"]) == ["id", "id"]
    assert found["digest_expected"].all()
    for aspect in ("status", "digest", "result", "steps", "memory"):
        assert set(found[aspect]) == {"equal"}, aspect
    assert (found[["lo", "difference", "hi"]] == 0).all(axis=None)
    assert (found[["steps_ratio", "memory_ratio", "speed_ratio"]] == 1).all(axis=None)
    assert (found["trials_changed"] == 0).all()
    assert set(found["trials"]) == {30}


def test_a_difference_within_seeds_has_its_t_interval_and_its_word(first: Store, tmp_path: Path) -> None:
    """Differences −.031, −.030, −.029: mean −.03, standard error .001/√3, t of 2 degrees at Holm's level for two."""
    found = compared(
        first, changed(first, tmp_path, shifted(test_accuracy=lambda value, seed: value - 0.031 + seed / 1e3))
    )
    assert found["difference"].to_list() == pytest.approx([-0.03, -0.03])
    half = 0.001 / math.sqrt(3)
    # The second of two is held to 95 %, the first to 97.5 %.
    assert sorted((found["hi"] - found["difference"]) / half) == pytest.approx([4.3027, 6.2053], rel=1e-4)
    assert (list(found["result"]), list(found["n"])) == (["worse", "worse"], [3, 3])
    assert set(found["digest"]) == {"differs"}
    assert outcome(found) == "different"
    better = compared(
        first, changed(first, tmp_path / "up", shifted(test_accuracy=lambda value, seed: value + 0.02 + seed / 1e3))
    )
    assert set(better["result"]) == {"better"}


def test_small_differences_elsewhere_are_equal_and_times_are_not_judged(first: Store, tmp_path: Path) -> None:
    def moved(record: Record) -> Record:
        return elsewhere(shifted(test_accuracy=lambda value, seed: value + seed / 1e5)(record))

    found = compared(first, changed(first, tmp_path, moved))
    assert not found["digest_expected"].any()
    assert (set(found["digest"]), set(found["speed"])) == ({"other"}, {"other machine"})
    assert set(found["result"]) == {"equal"}
    assert outcome(found) == "equal"


def test_noisy_differences_are_inconclusive(first: Store, tmp_path: Path) -> None:
    def moved(record: Record) -> Record:
        return elsewhere(shifted(test_accuracy=lambda value, seed: value + (seed - 1) / 50)(record))

    found = compared(first, changed(first, tmp_path, moved))
    assert set(found["result"]) == {"inconclusive"}
    assert outcome(found) == "inconclusive"


def test_losses_are_compared_by_their_ratio(tmp_path: Path) -> None:
    store = write_sweep(tmp_path, Plan(name="a", optimizers=("sgd",), batch_sizes=(16,), epochs=1.0, steps=40, **LOSS))  # type: ignore[arg-type]
    found = compared(store, changed(store, tmp_path, shifted(test_loss=lambda value, seed: 1.5 * value)))
    assert set(found["unit"]) == {"log ratio"}
    assert found["difference"].to_list() == pytest.approx([math.log(1.5)])
    assert (list(found["result"]), found["margin"].iloc[0]) == (["worse"], pytest.approx(math.log(1.1)))


def test_steps_to_the_target_by_their_ratio(first: Store, tmp_path: Path) -> None:
    def twice(trial: TrialSummary) -> TrialSummary:
        steps = trial.steps_to_target
        return dataclasses.replace(trial, steps_to_target=None if steps is None else 2 * steps)

    found = compared(first, changed(first, tmp_path, with_trials(twice))).set_index("batch_size")
    known = found[found["reached_a"] > 0]
    assert len(known) > 0
    assert known["steps_ratio"].to_list() == pytest.approx([2.0] * len(known))
    assert set(known["steps"]) == {"more"}

    def never(trial: TrialSummary) -> TrialSummary:
        return dataclasses.replace(trial, steps_to_target=None)

    found = compared(first, changed(first, tmp_path / "never", with_trials(never))).set_index("batch_size")
    assert set(found.loc[known.index, "steps"]) == {"inconclusive"}


def test_speed_and_memory_on_the_same_machine(first: Store, tmp_path: Path) -> None:
    def scaled(by: float) -> Change:
        def apply(record: Record) -> Record:
            assert record.speed is not None
            assert record.memory is not None
            speed = record.speed.examples_per_second
            half = dataclasses.replace(speed, median=by * speed.median, lo=by * speed.lo, hi=by * speed.hi)
            return dataclasses.replace(
                record,
                speed=dataclasses.replace(record.speed, examples_per_second=half),
                memory=dataclasses.replace(record.memory, state_bytes=round(record.memory.state_bytes / by)),
            )

        return apply

    slow = compared(first, changed(first, tmp_path, scaled(0.5)))
    assert (set(slow["speed"]), set(slow["memory"])) == ({"slower"}, {"more"})
    assert slow["speed_ratio"].to_list() == pytest.approx([0.5, 0.5])
    # Both intervals are ± 3 %.
    assert slow["speed_lo"].to_list() == pytest.approx([0.5 * 0.97 / 1.03] * 2)
    assert outcome(slow) == "different"
    fast = compared(first, changed(first, tmp_path / "fast", scaled(2.0)))
    assert (set(fast["speed"]), set(fast["memory"])) == ({"faster"}, {"less"})
    assert outcome(fast) == "equal"


def test_statuses_of_cells_and_trials(first: Store, tmp_path: Path) -> None:
    def lost(trial: TrialSummary) -> TrialSummary:
        return dataclasses.replace(trial, status=TrialStatus.DIVERGED) if trial.seed < 2 else trial

    found = compared(first, changed(first, tmp_path, with_trials(lost)))
    assert (found["trials_changed"] > 0).all()
    assert set(found["result"]) == {"worse"}

    def failed(record: Record) -> Record:
        return dataclasses.replace(record, status=CellStatus.FAILED, trials=[], digest=None, speed=None, memory=None)

    found = compared(first, changed(first, tmp_path / "failed", failed))
    assert (set(found["status"]), set(found["status_b"])) == ({"changed"}, {"failed"})
    assert (found[["result", "steps", "speed", "memory", "digest"]] == "none").all(axis=None)
    assert outcome(found) == "different"


def test_cells_of_another_configuration_at_the_same_place_belong_together(first: Store, tmp_path: Path) -> None:
    def other(record: Record) -> Record:
        if record.axes.batch_size == 256:
            return record
        return dataclasses.replace(
            record, cell="9" * 16, axes=dataclasses.replace(record.axes, device="cuda"), digest="d" * 64
        )

    second = changed(first, tmp_path, other)
    found = compared(first, second)
    assert list(found["match"]) == ["place", "id"]
    assert list(found["digest"]) == ["other", "equal"]
    cells = [_exported(_read(store)).cells for store in (first, second)]
    # Two of a kind on one side: nobody can tell which of them it is.
    copied = cells[1][cells[1]["cell"] == "9" * 16].assign(cell="8" * 16)
    twice = pd.concat([cells[1], copied], ignore_index=True)
    counted = matches(cells[0], twice)["match"].value_counts().to_dict()
    assert counted == {"id": 1, "only a": 1, "only b": 2}


def test_the_command_line(first: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def words(*more: str) -> list[str]:
        return ["compare", str(first.path), *more]

    same = changed(first, tmp_path / "same", lambda record: record)
    assert call(*words(str(same.path))) == 0
    said = capsys.readouterr().out
    assert "cells in both, B against A" in said
    assert "digest 2 equal" in said
    # Both speeds are known to 3 %, which says nothing about 2 %.
    assert "speed 2 inconclusive" in said
    other = changed(first, tmp_path / "other", elsewhere)
    out = tmp_path / "out"
    assert call(*words(str(other.path), "-o", str(out))) == 0
    said = capsys.readouterr().out
    assert "times are shown and not judged" in said
    assert sorted(path.name for path in out.iterdir()) == ["cells.csv", "compare.md", "environment.csv", "only.csv"]
    (row,) = pd.read_csv(out / "environment.csv").to_dict("records")
    assert row == {"name": "hardware", "a": "a made-up processor", "b": "another"}
    text = (out / "compare.md").read_text()
    assert "| hardware | a made-up processor | another |" in text
    assert "±0.0 pp [±0.0, ±0.0] equal" in text
    assert len(pd.read_csv(out / "cells.csv")) == 2


def test_names_that_are_none_and_sweeps_with_nothing_in_common(
    first: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(first.path.parent)
    assert call("compare", "a", "aa", "--results-root", root) == 2
    assert "unknown sweep 'aa'; did you mean 'a'?" in capsys.readouterr().err
    far = write_sweep(
        tmp_path, Plan(name="far", task="mnist/mlp", optimizers=("adam",), batch_sizes=(4,), steps=10, epochs=0.1)
    )
    assert call("compare", str(first.path), str(far.path)) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: sweeps a and far have no cell in common")


def test_a_record_that_cannot_be_read_is_named(
    first: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = changed(first, tmp_path, elsewhere)
    broken = second.cells()[0]
    (second.cell_path(broken) / "record.json").write_text("{")
    assert call("compare", str(first.path), str(second.path)) == 0
    captured = capsys.readouterr()
    assert f"bench: left out: b/{broken}: " in captured.err
    assert "cells in one sweep only" in captured.out


def test_every_word_that_counts_is_one_that_can_be_said() -> None:
    frame = pd.DataFrame([dict.fromkeys(("status", "digest", "result", "steps", "speed", "memory"), "equal")])
    assert outcome(frame) == "equal"
    for aspect, word, said in (
        ("status", "changed", "different"),
        ("digest", "differs", "different"),
        ("digest", "other", "equal"),
        ("speed", "faster", "equal"),
        ("memory", "more", "different"),
        ("steps", "inconclusive", "inconclusive"),
        ("speed", "inconclusive", "equal"),
    ):
        case: Any = frame.assign(**{aspect: word})
        assert outcome(case) == said, (aspect, word)
