import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.launching.packing import Rates, earlier_rates, job_count, pack
from bench.results.plan import Planned, add_to_plan
from bench.results.record import CellStatus
from bench.results.store import Store
from tests.results.records import curves, record
from tests.small import small_cell

WEIGHTS = st.lists(st.floats(0, 1e6), max_size=60)


@given(WEIGHTS, st.integers(1, 9))
def test_every_weight_is_packed_once_and_no_bin_is_heavier_than_need_be(weights: list[float], bins: int) -> None:
    packed = pack(weights, bins)
    assert len(packed) == bins
    assert sorted(place for places in packed for place in places) == list(range(len(weights)))
    loads = [sum(weights[place] for place in places) for places in packed]
    assert loads == sorted(loads, reverse=True)
    # Graham's bound for any order, of the best that there is, which is at least this.
    best = max(sum(weights) / bins, max(weights, default=0.0))
    assert loads[0] <= best * 2 - best / bins + 1e-6 * best


def test_as_many_jobs_as_there_is_work_for() -> None:
    assert job_count(60, None, 6, 1, 1800.0) == 6
    assert job_count(60, None, 6, 16, 1800.0) == 4
    assert job_count(60, 3600.0, 6, 1, 1800.0) == 2
    assert job_count(60, 10.0, 6, 1, 1800.0) == 1
    assert job_count(60, 1e9, 6, 1, 1800.0) == 6
    assert job_count(0, 0.0, 6, 1, 1800.0) == 0


def test_rates_are_medians_of_complete_records(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("results")
    mine, theirs = Store(root / "mine"), Store(root / "theirs")
    assert earlier_rates(mine) == Rates({}, {})
    theirs.path.mkdir()
    cell = small_cell()
    for number, seconds in enumerate((1.0, 2.0, 300.0)):
        put(theirs, f"{number:016x}", "mnist5k/logreg sgd B=64 cpu", seconds, cost=100.0)
    put(theirs, "a" * 16, "mnist5k/mlp sgd B=64 cpu", 50.0, cost=100.0)
    put(theirs, "b" * 16, "mnist5k/mlp sgd B=64 cuda", 0.1, cost=100.0)
    put(theirs, "c" * 16, "mnist5k/logreg sgd B=64 cpu", 9e9, cost=100.0, status="failed")
    rates = earlier_rates(mine)
    assert rates.records == 5
    assert rates.exact["mnist5k/logreg", "cpu"] == pytest.approx(0.02)
    assert rates.device["cpu"] == pytest.approx(0.26)
    assert rates.seconds(cell) == pytest.approx(0.02 * cell.cost)
    other = small_cell("task=regression/linear")
    assert rates.seconds(other) == pytest.approx(0.26 * other.cost)
    assert rates.seconds(small_cell("device=mps")) is None
    # One's own records come first.
    mine.path.mkdir()
    put(mine, "d" * 16, "mnist5k/logreg sgd B=64 cpu", 7.0, cost=1.0)
    assert earlier_rates(mine).exact == {("mnist5k/logreg", "cpu"): 7.0}


def put(store: Store, cell: str, label: str, seconds: float, cost: float, status: str = "complete") -> None:
    task, *_, device = label.split()
    changes = {"axes": {"task": task, "device": device}, "reason": None if status == "complete" else "planted"}
    store.write(record(cell, seconds={"training": seconds}, status=CellStatus(status), **changes), curves())
    add_to_plan(store, {cell: Planned(label, cost)})
