"""The comparison of loops: its statistics, its files, and that the loops it compares do the same work."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.speed import engine
from bench.tasks.problem import EXAMPLES_INNERMOST
from bench.tasks.task import Task

LOOPS = ("ours", "resident", "dataloader")


@pytest.fixture(autouse=True)
def _flush_denormal() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def samples(factor: float = 1.0) -> pd.DataFrame:
    """Six rounds on a machine that gets slower: within a round, ours is 2 and 8 times the others."""
    rows = [
        (number, loop, "sgd", 32, factor * rate / (1 + number))
        for number in range(6)
        for loop, rate in (("dataloader", 1000.0), ("ours", 8000.0), ("resident", 4000.0))
    ]
    return pd.DataFrame(rows, columns=["round", "loop", "optimizer", "batch_size", "examples_per_second"])


def test_ratios_are_taken_within_a_round() -> None:
    (row,) = engine.summarise(samples()).to_dict("records")
    # The middle of 1, ½, ⅓, ¼, ⅕, ⅙ is (⅓ + ¼)/2.
    assert row["ours"] == pytest.approx(8000 * 7 / 24)
    assert row["resident"] == pytest.approx(4000 * 7 / 24)
    assert row["dataloader"] == pytest.approx(1000 * 7 / 24)
    for end in ("", "_lo", "_hi"):
        assert row[f"ours_over_resident{end}"] == pytest.approx(2)
        assert row[f"ours_over_dataloader{end}"] == pytest.approx(8)


def test_intervals_of_ratios() -> None:
    made = samples()
    made.loc[(made["loop"] == "ours") & (made["round"] == 0), "examples_per_second"] = 4000.0
    made.loc[(made["loop"] == "ours") & (made["round"] == 1), "examples_per_second"] = 6000.0
    (row,) = engine.summarise(made).to_dict("records")
    # Ratios 1, 3, 2, 2, 2, 2: of six samples the extremes cover 97 %.
    ends = [row[f"ours_over_resident{end}"] for end in ("_lo", "", "_hi")]
    assert ends == pytest.approx([1, 2, 3])


def test_one_row_per_optimizer_and_batch_size_in_the_order_measured() -> None:
    parts = [samples().assign(optimizer=name, batch_size=size) for name in ("sgd", "adam") for size in (64, 8)]
    table = engine.summarise(pd.concat(parts))
    assert list(zip(table["optimizer"], table["batch_size"], strict=True)) == [
        ("sgd", 64),
        ("sgd", 8),
        ("adam", 64),
        ("adam", 8),
    ]


def test_markdown() -> None:
    lines = engine.markdown(engine.summarise(samples(24.0)), 6).splitlines()
    assert "medians of 6 interleaved rounds" in lines[0]
    assert lines[-1] == "| sgd | 32 | 56,000 | 28,000 | 7,000 | 2.00 (2.00 … 2.00) | 8.00 (8.00 … 8.00) |"
    assert lines[-2] == "|---|---|---|---|---|---|---|"
    header = lines[-3]
    assert header.count("|") == lines[-1].count("|") == 8


def test_one_small_measurement(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "VISIT_SECONDS", 1e-4)
    made = engine.measure(task, "sgd", 32, 3)
    assert list(made.columns) == ["round", "loop", "optimizer", "batch_size", "examples_per_second"]
    visits = made.groupby("round")["loop"].apply(sorted).tolist()
    assert visits == [sorted(LOOPS)] * 3
    assert (made["examples_per_second"] > 0).all()
    assert set(made["optimizer"]) == {"sgd"}
    assert set(made["batch_size"]) == {32}
    (row,) = engine.summarise(made).to_dict("records")
    assert 0 < row["ours_over_resident_lo"] <= row["ours_over_resident"] <= row["ours_over_resident_hi"]


@pytest.mark.parametrize("optimizer", engine.OPTIMIZERS)
@pytest.mark.parametrize("size", [32, 1024])
def test_the_loops_do_the_same_work(task: Task, monkeypatch: pytest.MonkeyPatch, optimizer: str, size: int) -> None:
    """Over the same batches all three end with the same parameters: ours and the resident one bit for bit."""
    built: list[list[Tensor]] = []
    real = engine.build_optimizer

    def spy(target: str, way: str, arguments: Any, parameters: Any, lr: float) -> torch.optim.Optimizer:
        built.append(list(parameters))
        return real(target, way, arguments, built[-1], lr)

    class SameOrder:
        """A DataLoader that draws the order the other loops draw."""

        def __init__(self, data: Any, batch_size: int, shuffle: bool) -> None:
            assert shuffle
            self.data, self.size, self.generator = data, batch_size, torch.Generator().manual_seed(0)

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for chosen in torch.randperm(len(self.data), generator=self.generator).split(self.size):
                items = [self.data[index] for index in chosen.tolist()]
                yield torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])

    monkeypatch.setattr(engine, "build_optimizer", spy)
    monkeypatch.setattr(engine, "DataLoader", SameOrder)
    makers: list[Callable[[Task, str, int], engine.Loop]] = [engine._ours, engine._resident, engine._dataloader]
    steps = 6 if size == 1024 else 12
    for make in makers:
        run = make(task, optimizer, size)
        run(steps - 2)
        run(2)
    start = task.initialise(0)
    ours, resident, loader = built
    for a, b, c, fresh in zip(ours, resident, loader, start, strict=True):
        assert not torch.equal(a, fresh)
        if size < EXAMPLES_INNERMOST:
            assert torch.equal(a, b)
        else:
            # The loss is summed in another order; Adam's first steps magnify the last bits of tiny gradients.
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 if optimizer == "sgd" else 2e-3)
        # Its pixels went through eight bits and MNIST's own mean and deviation, a little off those of the 4000.
        assert (c - fresh).flatten() @ (a - fresh).flatten() > 0.9 * (a - fresh).norm() * (c - fresh).norm()


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def measure(task: Task, optimizer: str, batch_size: int, rounds: int) -> pd.DataFrame:
        asked.append((optimizer, batch_size, rounds))
        return samples().assign(optimizer=optimizer, batch_size=batch_size)

    monkeypatch.setattr(engine, "measure", measure)
    assert engine.run_engine_benchmark(tmp_path / "new" / "out", 3, "cpu") == 0
    assert asked == [(name, size, 3) for name in engine.OPTIMIZERS for size in engine.BATCH_SIZES]
    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == ["engine.csv", "engine.md", "environment.json"]
    assert (out / "engine.md").read_text() in capsys.readouterr().out
    table = pd.read_csv(out / "engine.csv")
    assert len(table) == len(asked)
    assert json.loads((out / "environment.json").read_text())["threads"] == 1
    assert engine.run_engine_benchmark(None, 3, "cpu") == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        engine.run_engine_benchmark(tmp_path / "file", 3, "cpu")


def test_too_few_rounds() -> None:
    with pytest.raises(UsageError, match="--rounds 2: must be at least 3"):
        engine.run_engine_benchmark(None, 2, "cpu")
