"""Peak memory in a process of its own: its size by hand, and what must not and what may go wrong."""

import sys
from pathlib import Path

import pytest
import torch

from bench.launching.cell import run_cell
from bench.launching.peak import peak_in_fresh_process
from bench.launching.pool import cause_of_death
from bench.measure.memory import StepPeak
from bench.results.record import CellStatus
from tests.small import small_cell

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident peaks are Linux's")
MLP = ("task=mnist5k/mlp", "batch_size=full", "optimizer=sgd", "lr=0.001")
MEASURED = ("measure.memory_process=fresh", "measure.speed=false")

#: An optimizer of one's own that does something else in steps of the fresh process, but not where its class is tried
#: on a few numbers.
OWN = """
import sys, torch
class Own(torch.optim.SGD):
    def step(self, closure=None):
        numbers = sum(p.numel() for group in self.param_groups for p in group["params"])
        if "bench.launching.peak" in sys.orig_argv and numbers > 5000:
            {body}
        return super().step(closure)
"""


def own(tmp_path: Path, body: str) -> tuple[str, str]:
    path = tmp_path / "own.py"
    path.write_text(OWN.format(body=body), encoding="utf-8")
    return f"optimizer.target={path}:Own", "optimizer.arguments={}"


def took(peak: StepPeak) -> float:
    assert peak.reason is None
    assert peak.peak_mib is not None
    assert peak.base_mib is not None
    return peak.peak_mib - peak.base_mib


@LINUX
def test_a_step_takes_what_is_kept_for_backward_whatever_this_process_has() -> None:
    whole = peak_in_fresh_process(small_cell(*MLP))
    held = torch.ones(2**27)
    single = peak_in_fresh_process(small_cell(*MLP, "batch_size=1"))
    # 512 MiB here are no MiB there; pages come and go by a few.
    assert held.sum().item() == 2**27
    assert whole.base_mib is not None
    assert single.base_mib == pytest.approx(whole.base_mib, abs=32)
    # The 128 hidden units of 4000 examples in float32, at least.
    assert 4000 * 128 * 4 / 2**20 < took(whole) - took(single) < 200


def test_a_process_without_memory_is_a_reason(tmp_path: Path) -> None:
    found = peak_in_fresh_process(small_cell(*own(tmp_path, "raise MemoryError('no room')")))
    assert (found.peak_mib, found.base_mib) == (None, None)
    assert found.reason == "out of memory: no room"


def test_a_process_that_takes_too_long_is_given_up() -> None:
    assert peak_in_fresh_process(small_cell(), patience=0.01).reason == "its process took longer than 0.01 s"


def test_another_device_has_a_peak_of_its_own() -> None:
    assert str(peak_in_fresh_process(small_cell("device=cuda")).reason).startswith("device cuda:")


def test_a_cell_records_it_whatever_the_optimizer_prints(tmp_path: Path) -> None:
    record = run_cell(small_cell(*own(tmp_path, "print('hello')"), *MEASURED)).record
    assert record.status == CellStatus.COMPLETE, record.reason
    assert record.memory is not None
    assert record.memory.process_reason is None
    assert record.memory.peak_process_mib is not None
    assert record.memory.base_process_mib is not None


def test_a_cell_records_why_there_is_none_and_goes_on(tmp_path: Path) -> None:
    record = run_cell(small_cell(*own(tmp_path, "raise ValueError('not like this')"), *MEASURED)).record
    assert record.status == CellStatus.COMPLETE, record.reason
    assert record.memory is not None
    assert record.memory.peak_process_mib is None
    assert record.memory.process_reason == "its process died with exit code 1: ValueError: not like this"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-9, "its process was killed by SIGKILL, perhaps by the system for lack of memory"),
        (-15, "its process was killed by SIGTERM"),
        (3, "its process died with exit code 3"),
    ],
)
def test_causes_of_death(code: int, said: str) -> None:
    assert cause_of_death(code, "its process") == said


def test_the_default_starts_no_process_and_keeps_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.launching.cell.peak_in_fresh_process", None)
    record = run_cell(small_cell("measure.speed=false")).record
    assert record.status == CellStatus.COMPLETE
    assert record.memory is not None
    assert record.memory.peak_process_mib is None
    assert small_cell("measure.memory_process=worker", "measure.energy_seconds=1.0").id == small_cell().id
    assert small_cell("measure.memory_process=fresh").id != small_cell().id
