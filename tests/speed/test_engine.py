"""The engine benchmark: its statistics, its files, and that the loops it compares do the same work."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.speed import engine, loops
from bench.speed.engine import StackedCase
from bench.speed.loops import LOOPS, OPTIMIZERS
from bench.tasks.problem import EXAMPLES_INNERMOST
from bench.tasks.registry import TaskSpec
from bench.tasks.task import Task

SMALL = StackedCase(TaskSpec("regression/linear", "regression/linear"), "sgd", 3, 2, 8)


@pytest.fixture(autouse=True)
def _flush_denormal() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def loop_samples() -> pd.DataFrame:
    """Six rounds on a machine that gets slower: within a round, the others take 2, 8 and half as long as ours."""
    rows = [
        (number, name, factor * 1e-4 * (1 + number), "sgd", 32)
        for number in range(6)
        for name, factor in (("dataloader", 8.0), ("ours", 1.0), ("resident", 2.0), ("products", 0.5))
    ]
    return pd.DataFrame(rows, columns=["round", "contestant", "seconds", "optimizer", "batch_size"])


def stack_samples(auto: str) -> pd.DataFrame:
    """Six rounds: stacks of 6 and 3 are 4 and 5 times as fast as alone."""
    rows = [
        (number, name, 1e-4 * (1 + number) / factor, "a cell", 8, auto)
        for number in range(6)
        for name, factor in (("alone", 1.0), ("6", 4.0), ("3", 5.0))
    ]
    return pd.DataFrame(rows, columns=["round", "contestant", "seconds", "case", "batch_size", "auto"])


def test_ratios_are_taken_within_a_round() -> None:
    (row,) = engine.summarise_loops(loop_samples()).to_dict("records")
    # The middle of 1 … 6 is 3½.
    assert [row[name] for name in LOOPS] == pytest.approx([3.5e-4, 7e-4, 28e-4, 1.75e-4])
    for end in ("", "_lo", "_hi"):
        assert row[f"resident_over_ours{end}"] == pytest.approx(2)
        assert row[f"dataloader_over_ours{end}"] == pytest.approx(8)
        assert row[f"products_over_ours{end}"] == pytest.approx(0.5)


def test_intervals_of_ratios() -> None:
    made = loop_samples()
    ours = made["contestant"] == "ours"
    made.loc[ours & (made["round"] == 0), "seconds"] *= 2
    made.loc[ours & (made["round"] == 1), "seconds"] *= 2 / 3
    (row,) = engine.summarise_loops(made).to_dict("records")
    # Ratios 1, 3, 2, 2, 2, 2: of six samples the extremes cover 97 %.
    assert [row[f"resident_over_ours{end}"] for end in ("_lo", "", "_hi")] == pytest.approx([1, 2, 3])


@pytest.mark.parametrize(("auto", "gain", "share"), [("3", 5.0, 1.0), ("6", 4.0, 0.8), ("alone", 1.0, 0.2)])
def test_what_auto_chooses_beside_the_fastest(auto: str, gain: float, share: float) -> None:
    (row,) = engine.summarise_stacks(stack_samples(auto)).to_dict("records")
    assert (row["best"], row["auto"]) == ("3", auto)
    assert row["gain"] == pytest.approx(gain)
    assert row["auto_over_best"] == pytest.approx(share)
    assert row["alone"] == pytest.approx(3.5e-4)
    assert row["best_seconds"] == pytest.approx(0.7e-4)


def test_markdown() -> None:
    tables = engine.summarise_loops(loop_samples()), engine.summarise_stacks(stack_samples("6"))
    lines = engine.markdown(*tables, 6, "cpu").splitlines()
    assert lines[0].startswith("`bench speed engine --device cpu --rounds 6`: medians of 6 interleaved rounds")
    assert "| sgd | 32 | 350 | 700 | 2,800 | 175 | 2.00 (2.00 … 2.00) | 8.00 (8.00 … 8.00) | 2.00 |" in lines
    assert lines[-1] == "| a cell | 8 | 350.0 | 70.00 (3) | 6 | 4.00 (4.00 … 4.00) | 0.80 |"
    for row in (-1, lines.index("## Stacked trials") - 2):
        rule = next(line for line in reversed(lines[:row]) if line.startswith("|---"))
        assert lines[row].count("|") == rule.count("|")


def test_one_small_measurement_of_loops(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "VISIT_SECONDS", 1e-4)
    made = engine.measure_loops(task, "sgd", 32, 3)
    visits = made.groupby("round")["contestant"].apply(sorted).tolist()
    assert visits == [sorted(LOOPS)] * 3
    assert (made["seconds"] > 0).all()
    (row,) = engine.summarise_loops(made).to_dict("records")
    assert 0 < row["resident_over_ours_lo"] <= row["resident_over_ours"] <= row["resident_over_ours_hi"]


def test_one_small_measurement_of_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "VISIT_SECONDS", 1e-4)
    made = engine.measure_stacks(SMALL, torch.device("cpu"), 3)
    # Which stacks keep every bit is up to the kernels that a processor is given.
    assert {"alone", *made["auto"]} <= set(made["contestant"]) <= {"alone", "6", "3", "2"}
    assert len(set(made["contestant"])) > 1
    assert (made["seconds"] > 0).all()
    assert {case.removesuffix(" ≈") for case in made["case"]} == {"regression/linear sgd, 3 learning rates × 2 seeds"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("size", [32, 1024])
def test_the_loops_do_the_same_work(task: Task, monkeypatch: pytest.MonkeyPatch, optimizer: str, size: int) -> None:
    """Over the same batches all three end with the same parameters: ours and the resident one bit for bit."""
    built: list[list[Tensor]] = []
    real = loops.build_optimizer

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

    monkeypatch.setattr(loops, "build_optimizer", spy)
    monkeypatch.setattr(loops, "DataLoader", SameOrder)
    makers: list[Callable[[Task, str, int], loops.Loop]] = [loops.ours, loops.resident, loops.dataloader]
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
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-3 if optimizer == "adam" else 1e-5)
        # Its pixels went through eight bits and MNIST's own mean and deviation, a little off those of the 4000.
        assert (c - fresh).flatten() @ (a - fresh).flatten() > 0.9 * (a - fresh).norm() * (c - fresh).norm()


def test_the_limit_is_the_products_of_a_step(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    real = torch.mm

    def spy(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
        shapes.append((*left.shape, right.shape[1]))
        return real(left, right, out=out)

    monkeypatch.setattr(torch, "mm", spy)
    loops.products(task, "sgd", 32)(1)
    # 2 FLOP each: the plan of record counts 409 088 an example.
    assert sum(2 * n * k * m for n, k, m in shapes) == 32 * 409_088
    assert len(shapes) == 5


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def measure_loops(task: Task, optimizer: str, batch_size: int, rounds: int) -> pd.DataFrame:
        asked.append((optimizer, batch_size, rounds))
        return loop_samples().assign(optimizer=optimizer, batch_size=batch_size)

    def measure_stacks(case: StackedCase, device: torch.device, rounds: int) -> pd.DataFrame:
        return stack_samples("3").assign(case=case.name, batch_size=case.batch_size)

    monkeypatch.setattr(engine, "measure_loops", measure_loops)
    monkeypatch.setattr(engine, "measure_stacks", measure_stacks)
    out = tmp_path / "new" / "out"
    assert engine.run_engine_benchmark(out, 3, "cpu") == 0
    assert asked == [(name, size, 3) for name in OPTIMIZERS for size in engine.BATCH_SIZES]
    assert sorted(path.name for path in out.iterdir()) == ["engine.md", "environment.json", "loops.csv", "stacks.csv"]
    assert (out / "engine.md").read_text() in capsys.readouterr().out
    assert len(pd.read_csv(out / "loops.csv")) == len(asked)
    assert len(pd.read_csv(out / "stacks.csv")) == len(engine.STACKED_CASES)
    assert json.loads((out / "environment.json").read_text())["threads"] == 1
    assert engine.run_engine_benchmark(None, 3, "cpu") == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        engine.run_engine_benchmark(tmp_path / "file", 3, "cpu")


def test_too_few_rounds() -> None:
    with pytest.raises(UsageError, match="--rounds 2: must be at least 3"):
        engine.run_engine_benchmark(None, 2, "cpu")
