"""Data parallel cells: several processes end as one does, to rounding; a lost one ends the cell with a status."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from bench.config import Cell
from bench.launching import ranks as ranks_module
from bench.launching.cell import Result, failed_record, load_cell_task, run_cell
from bench.launching.rank import READY, Trouble, _trouble
from bench.launching.ranks import Ranks, _Watch, end_standing, standing_ranks
from bench.launching.verify import compare
from bench.results.record import CellStatus, Record
from bench.results.tables import tables
from bench.tasks.regression import linear_hessian, linear_optimum
from bench.training import devices
from tests.small import small_cell

UNMEASURED = ("measure.speed=false", "measure.memory=false", "evaluation.train_examples=null")
LINEAR = ("task=regression/linear", "task.knobs.examples=33", "lr=[0.05]", "evaluation.train_examples=null")
LINEAR_STEPS = (*LINEAR, "budget.epochs=null", "budget.steps=20")
ROSENBROCK = ("task=surface/rosenbrock", "lr=[0.5]", "batch_size=full", "budget.epochs=null", "budget.steps=5")
#: Line searches make much of the last digits of a loss.
DOUBLE = "precision=float64"
MLP = ("task=mnist5k/mlp", "lr=[0.02]", "budget.epochs=null", "budget.steps=6")

#: Tasks, optimizers, batch sizes and methods, each held against one process. Linear regression has 33 examples: its
#: epochs end with batches of 1 (4 and 32 examples), 3 (5), 5 (7) or none left over (11).
CASES: dict[str, tuple[str, ...]] = {
    "the last batch is one example": (*LINEAR_STEPS, "batch_size=4"),
    "a batch of one example": (*LINEAR_STEPS, "batch_size=1", "optimizer=momentum"),
    "shares of unlike sizes": (*LINEAR_STEPS, "batch_size=7", "optimizer=adam", "seeds=2"),
    "the last batch is dropped": (*LINEAR_STEPS, "batch_size=5", "training.remainder=drop"),
    "the last batch is carried over": (*LINEAR_STEPS, "batch_size=5", "training.remainder=carry"),
    "a full batch of an odd number": (*LINEAR_STEPS, "batch_size=full", "optimizer=nesterov"),
    "float64": (*LINEAR_STEPS, "batch_size=4", "precision=float64", "optimizer=adadelta"),
    "clipped": (*LINEAR_STEPS, "batch_size=4", "training.clip_norm=0.1"),
    "passes of two examples": (*LINEAR_STEPS, "batch_size=11", "training.micro_batch=2"),
    "averages": (*LINEAR_STEPS, "batch_size=4", "training.average=0.9", "schedule=cosine"),
    "the batch grows": (*LINEAR_STEPS, "batch_size=3", "batch_schedule=growth", "batch_schedule.milestones=[0.5]"),
    "gradients are counted": (*LINEAR, "batch_size=4", "budget.epochs=null", "budget.gradient_evaluations=9"),
    "it diverges": (*LINEAR, "batch_size=4", "lr=[1000]", "budget.epochs=4"),
    "the optimizer asks for the loss": (
        *LINEAR_STEPS,
        "budget.steps=4",
        "batch_size=11",
        "optimizer=lbfgs_wolfe",
        DOUBLE,
    ),
    "a matrix of all parameters": (*ROSENBROCK, "optimizer=bfgs", DOUBLE),
    "examples are drawn afresh": ("task=nqm", "lr=[0.1]", "batch_size=8", "budget.epochs=null", "budget.steps=20"),
    "tokens": ("task=embedding/bigram", "lr=[0.1]", "batch_size=33", "budget.epochs=null", "budget.steps=6"),
    "a playground": (
        "task=playground/spiral",
        "batch_size=9",
        "budget.epochs=null",
        "budget.steps=9",
        "optimizer=adam",
    ),
    "images": (*MLP, "batch_size=25", "optimizer=adamw"),
    "an optimizer of matrices": (*MLP, "batch_size=64", "optimizer=adafactor"),
}


@pytest.fixture(autouse=True, scope="module")
def _ended() -> Iterator[None]:
    """Two processes serve nearly all tests here: starting them takes seconds."""
    before = torch.get_num_threads()
    yield
    end_standing()
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes are what is asked for, also on a machine with one core."""
    monkeypatch.setattr(devices, "usable_cores", lambda: 2)


def on_two(*overrides: str) -> Cell:
    return small_cell("device=cpu:2", *UNMEASURED, *overrides)


def trained(cell: Cell, stop: Callable[[], bool] = lambda: False) -> Result:
    result = run_cell(cell, stop)
    assert result.record.status == CellStatus.COMPLETE, result.record.traceback or result.record.reason
    return result


@pytest.mark.parametrize("overrides", CASES.values(), ids=list(CASES))
def test_two_processes_end_as_one_does(overrides: tuple[str, ...]) -> None:
    alone, both = (trained(cell) for cell in (small_cell(*UNMEASURED, *overrides), on_two(*overrides)))
    keys = ["lr", "seed", "step", "split", "metric"]
    joined = alone.curves.merge(both.curves, on=keys, how="outer", suffixes=("", "_both"), indicator=True)
    assert set(joined["_merge"]) == {"both"}
    assert (joined["examples"] == joined["examples_both"]).all()
    # An accuracy counts: where two outputs are equal but for rounding, an example is right on one side alone.
    finite = joined[(joined["metric"] == "loss") & (joined["value"].abs() < 1e6)]
    assert len(finite) > 0
    assert finite["value_both"].to_numpy() == pytest.approx(finite["value"].to_numpy(), rel=1e-5, abs=1e-7)
    for one, two in zip(alone.record.trials, both.record.trials, strict=True):
        same = ("status", "steps", "examples", "gradient_evaluations", "steps_to_target")
        assert [getattr(one, name) for name in same] == [getattr(two, name) for name in same]
    check = next(check for check in both.record.audit if check.check == "data parallel")
    assert check.passed
    assert check.value.endswith("on 2 devices")


def test_gradient_descent_on_linear_regression_is_what_algebra_says() -> None:
    rate, steps = 0.1, 12
    cell = on_two(
        "task=regression/linear",
        "batch_size=full",
        "optimizer=sgd",
        f"lr=[{rate}]",
        *("budget.epochs=null", f"budget.steps={steps}"),
    )
    split = load_cell_task(cell, torch.device("cpu")).train
    hessian, best = linear_hessian(split), torch.cat([part.flatten() for part in linear_optimum(split)])
    rows = torch.cat([split.inputs.double(), torch.ones(len(split), 1, dtype=torch.float64)], 1)
    # From zero: θ − θ* shrinks by I − ηH at every step.
    away = torch.linalg.matrix_power(torch.eye(len(best), dtype=torch.float64) - rate * hessian, steps) @ -best
    residuals = rows @ (best + away) - split.labels.double().flatten()
    expected = float(residuals.square().mean()) / 2
    assert trained(cell).record.trials[0].final["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_record_says_how_it_was_trained_and_repeats() -> None:
    cell = small_cell("device=cpu:2", *LINEAR_STEPS, "batch_size=8", "measure.memory_process=fresh")
    record, curves, _ = trained(cell)
    assert record.engine is not None
    assert (record.engine.devices, record.engine.backend) == (2, "gloo")
    assert record.stacking is not None
    assert (record.stacking.path, record.stacking.trials) == ("data parallel", 1)
    assert (record.axes.device, record.environment["device"]) == ("cpu:2", "2 × cpu")
    assert record.memory is not None
    # What rank 0 keeps of its four examples is half of what one process keeps of eight.
    assert record.memory.process_reason == "device cpu:2: is measured in the processes that train it"
    one = run_cell(small_cell(*LINEAR_STEPS, "batch_size=4")).record
    assert one.memory is not None
    assert record.memory.activation_bytes == one.memory.activation_bytes
    row = tables([(record, curves)]).cells.iloc[0]
    assert row["devices"] == 2
    assert row["examples_per_second_per_device"] == row["examples_per_second"] / 2
    assert compare(record, curves).verdict == "equal"
    assert small_cell("device.timeout_seconds=7").id == small_cell().id


def test_a_cell_that_is_stopped_is_interrupted_and_the_next_one_is_trained() -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    record = run_cell(on_two(*LINEAR, "batch_size=4", "budget.epochs=null", "budget.steps=1000000000"), stop).record
    assert record.status == CellStatus.INTERRUPTED
    assert {str(trial.status) for trial in record.trials} <= {"interrupted"}
    before = standing_ranks("cpu:2", 60.0).processes
    trained(on_two(*LINEAR_STEPS, "batch_size=4"))
    assert standing_ranks("cpu:2", 60.0).processes == before


#: An optimizer of one's own that tells when it is training in earnest.
OWN = """
import pathlib, torch
class Own(torch.optim.SGD):
    taken = 0
    def step(self, closure=None):
        Own.taken += 1
        if Own.taken == 300:
            pathlib.Path({mark!r}).touch()
        return super().step(closure)
"""


def endless(tmp_path: Path, *overrides: str) -> tuple[Cell, Path]:
    """Return a cell whose training does not end, and the file that tells that it has begun."""
    mark, own = tmp_path / "training", tmp_path / "own.py"
    own.write_text(OWN.format(mark=str(mark)), encoding="utf-8")
    target = (f"optimizer.target={own}:Own", "optimizer.arguments={}")
    steps = ("batch_size=4", "budget.epochs=null", "budget.steps=1000000000")
    return on_two(*LINEAR, *target, *steps, *overrides), mark


def test_a_rank_that_is_killed_ends_the_cell_as_failed(tmp_path: Path) -> None:
    cell, mark = endless(tmp_path)
    processes = standing_ranks("cpu:2", 60.0).processes
    killed = []

    def stop() -> bool:
        if mark.exists() and not killed:
            os.kill(processes[1], signal.SIGKILL)
            killed.append(processes[1])
        return False

    record = run_cell(cell, stop).record
    assert killed
    assert record.status == CellStatus.FAILED
    assert record.reason == "rank 1 was killed by SIGKILL, perhaps by the system for lack of memory"
    # What rank 0 had found out is not lost.
    assert any(check.check == "data parallel" for check in record.audit)
    assert not any(psutil.pid_exists(process) for process in processes)


@pytest.mark.slow
def test_a_rank_that_hangs_ends_the_cell_as_failed_within_its_limit(tmp_path: Path) -> None:
    limit = 12.0
    cell, mark = endless(tmp_path, f"device.timeout_seconds={limit}")
    ranks = standing_ranks("cpu:2", limit)
    processes, hung = ranks.processes, []

    def stop() -> bool:
        if mark.exists() and not hung:
            os.kill(processes[0], signal.SIGSTOP)
            hung.append(time.monotonic())
        return False

    record = run_cell(cell, stop).record
    # The limit, and room for a busy machine; torch's own limit is half an hour.
    assert time.monotonic() - hung[0] < limit + 20
    assert record.status == CellStatus.FAILED
    assert record.reason == "rank 0 does not answer (device.timeout_seconds=12)"
    assert not any(psutil.pid_exists(process) for process in processes)


def test_ranks_end_with_the_process_that_started_them() -> None:
    ranks = Ranks("cpu:2", 60.0)
    try:
        # As the system does when that process is killed.
        for rank in ranks._ranks:
            rank.connection.close()
        _, alive = psutil.wait_procs([psutil.Process(process) for process in ranks.processes], timeout=60)
        assert alive == []
    finally:
        ranks.close()


def test_more_devices_than_the_machine_has_are_unavailable() -> None:
    record = run_cell(small_cell("device=cpu:3", *UNMEASURED)).record
    assert record.status == CellStatus.UNAVAILABLE
    assert record.reason == "device cpu:3: this machine has 2 cores, 3 are asked for"


def test_processes_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: str, timeout: float) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(ranks_module, "standing_ranks", refuse)
    record = run_cell(on_two()).record
    assert record.status == CellStatus.FAILED
    assert "device cpu:2: its processes could not be started" in str(record.reason)


def test_what_is_refused_is_recorded_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_module, "Ranks", None)
    cell = on_two("task=surface/rosenbrock", "batch_size=full", "optimizer=newton", "incompatible=record")
    record = run_cell(cell).record
    assert record.status == CellStatus.UNAVAILABLE
    assert "optimizer newton differentiates gradients, which are not averaged over processes" in str(record.reason)


# --- who is to blame --------------------------------------------------------------------------------------------------


def watched(ready: bool = True) -> tuple[_Watch, list[Any]]:
    """Return a watch over two processes that are none, and their ends of the lines."""
    pipes = [Pipe() for _ in range(2)]
    process = SimpleNamespace(wait=lambda: -9, pid=0)
    output = SimpleNamespace(seek=lambda place: None, read=lambda: b"")
    those: list[Any] = [
        ranks_module.Rank(process, ours, output, heard=time.monotonic())  # type: ignore[arg-type]
        for ours, _ in pipes
    ]
    return _Watch(small_cell(), those, 60.0, ready), [theirs for _, theirs in pipes]


def failed(reason: str) -> Result:
    return failed_record(small_cell(), reason)


def judged(watch: _Watch) -> Record:
    while not watch.over:
        watch.look()
    assert watch.troubled
    return watch.result().record


def test_what_a_rank_says_is_the_cause_of_what_rank_0_says() -> None:
    watch, (zero, one) = watched()
    one.send(Trouble("failed", "rank 1: ValueError: not like this", "Traceback"))
    watch.look()
    zero.send(failed("RuntimeError: Connection closed by peer"))
    record = judged(watch)
    assert (record.reason, record.traceback) == ("rank 1: ValueError: not like this", "Traceback")


def test_a_death_weighs_more_than_what_others_say_of_it() -> None:
    watch, (zero, one) = watched()
    one.close()
    watch.look()
    zero.send(failed("RuntimeError: Connection closed by peer"))
    assert str(judged(watch).reason).startswith("rank 1 was killed by SIGKILL")


def test_rank_0_alone_speaks_for_itself() -> None:
    watch, (zero, _) = watched(ready=False)
    zero.send(READY)
    zero.send(failed("audit: gradient: 1, not ≤ 1e-4"))
    assert judged(watch).reason == "audit: gradient: 1, not ≤ 1e-4"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (MemoryError("no room"), "oom", "rank 1: MemoryError: no room"),
        (ValueError("a\nb"), "failed", "rank 1: ValueError: a"),
        (ValueError(), "failed", "rank 1: ValueError"),
    ],
)
def test_what_a_rank_says(error: Exception, status: str, reason: str) -> None:
    trouble = _trouble(error, 1)
    assert (trouble.status, trouble.reason) == (status, reason)
    watch, (zero, one) = watched()
    one.send(trouble)
    watch.look()
    zero.send(failed("RuntimeError: Connection closed by peer"))
    record = judged(watch)
    assert (record.status, record.reason) == (status, reason)
