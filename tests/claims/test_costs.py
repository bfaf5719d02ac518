"""Claims of what a step costs, on planted speeds and memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.analysis.rows import Rows
from bench.analysis.speed import MIB
from bench.claims.costs import _log_error, _log_ratio
from tests.claims.tables import Arm, missing, primary, verdicts


def speed(rate: float, width: float = 0.01, windows: int = 9) -> dict[str, Any]:
    """Columns of a cell with so many examples per second."""
    row: dict[str, Any] = {"examples_per_second": rate, "examples_per_second_lo": rate * (1 - width)}
    row |= {"examples_per_second_hi": rate * (1 + width), "examples_per_second_n": windows}
    return row | {"step_ms": 1.0, "optimizer_step_ms": 0.1}


def timed(rate: Callable[[int], float], **facts: Any) -> Arm:
    """An arm with speeds; further columns by name are those of `speed`, or the arm's own."""
    own = {name: facts.pop(name) for name in ("width", "windows") if name in facts}
    given: dict[str, Any] = {"cell": lambda size: speed(rate(size), **own) | {"step_ms": 1e3 * size / rate(size)}}
    return Arm(**(given | {"lrs": (0.5,), "seeds": 1} | facts))


def held(peak: Callable[[int], float], **facts: Any) -> Arm:
    """An arm with a resident peak in MiB; 2 MiB an example are counted."""

    def cell(size: int) -> dict[str, Any]:
        row: dict[str, Any] = {"peak_rss_mib": peak(size), "base_rss_mib": 100.0, "activation_bytes": 2 * MIB * size}
        return row | {"parameter_bytes": 10 * MIB, "gradient_bytes": 10 * MIB, "state_bytes": 0.0}

    return Arm(**({"cell": cell, "lrs": (0.5,), "seeds": 1, "batch_sizes": (16, 32, 64, 128, 256)} | facts))


def wobble(size: int) -> float:
    return 1 + 0.003 * (-1) ** int(np.log2(size))


def test_bigger_batches_need_more_memory() -> None:
    assert primary("C16", held(lambda size: (300 + 2 * size) * wobble(size))) == ["supported"]
    assert primary("C16", held(lambda size: (900 - 2 * size) * wobble(size))) == ["refuted"]
    flat = verdicts("C16", held(lambda size: 300.0 + 0.001 * wobble(size)))
    assert flat.set_index("measure")["verdict"].to_dict() == {"counted": "supported", "peak (resident)": "equivalent"}
    found = verdicts("C16", held(lambda size: 300.0 + 2 * size)).set_index("measure")
    assert found.loc["peak (resident)", "estimate"] == pytest.approx(480 / 332)
    assert "a ratio of 1.00" in found.loc["peak (resident)", "note"]


def test_memory_needs_three_batch_sizes_and_prefers_a_process_of_its_own() -> None:
    assert missing("C16", held(lambda size: 300.0 + size, batch_sizes=(16, 32)))
    assert missing("C16", Arm())
    arm = held(lambda size: 500.0)
    own = Arm(**(vars(arm) | {"cell": lambda size: arm.cell(size) | {"peak_process_mib": 300.0 + size}}))
    found = verdicts("C16", own).set_index("measure").loc["peak (resident)"]
    assert (found["estimate"], found["note"].split(";")[0]) == (pytest.approx(240 / 316), "resident, own process")


def test_bigger_batches_are_faster() -> None:
    assert primary("C17", timed(lambda size: 1000.0 * size)) == ["supported"]
    assert primary("C17", timed(lambda size: 1000.0 / size)) == ["refuted"]
    assert primary("C17", timed(lambda size: 1000.0, width=0.002)) == ["equivalent"]
    assert primary("C17", timed(lambda size: 1000.0 * size, windows=5)) == ["inconclusive"]
    found = verdicts("C17", timed(lambda size: 1e6 / (1 + 64 / size))).set_index("measure")
    assert "half of the highest throughput at batch 64" in found["note"].iloc[0]
    turns = verdicts("C17", timed(lambda size: {16: 1e3, 64: 9e3, 256: 5e3}[size])).set_index("measure")
    assert turns["verdict"].to_dict() == {
        "largest against fastest between": "refuted",
        "largest against smallest": "supported",
    }


def test_the_interval_at_95_percent_is_that_of_the_windows() -> None:
    """One side known exactly leaves the other's interval as it was, in the logarithm."""
    row = speed(1000.0, 0.01) | {"examples_per_second_lo": 990.0, "examples_per_second_hi": 1010.1}
    one = _log_error(Rows({name: np.array([value]) for name, value in row.items()}, slice(0, 1)), 0)
    found = _log_ratio(one, (0.0, 0.0, 9))(0.95)
    assert found.hi - found.lo == pytest.approx(np.log2(1010.1 / 990), rel=1e-6)


AROUND = (15, 16, 17, 31, 32, 33, 63, 64, 65)


def by_power(gain: float) -> Callable[[int], float]:
    """Examples per second, higher by a factor at powers of two, up to some noise that differs from size to size."""
    return lambda size: 1e5 * (gain if size in (16, 32, 64) else 1.0) * (1 + 0.0005 * (size % 3 - 1))


def test_powers_of_two() -> None:
    assert primary("C18", timed(by_power(1.1), batch_sizes=AROUND)) == ["supported"]
    assert primary("C18", timed(by_power(0.9), batch_sizes=AROUND)) == ["refuted"]
    found = verdicts("C18", timed(by_power(1.0), batch_sizes=AROUND, width=0.003))
    assert found["measure"].tolist() == ["all powers", "batch 16", "batch 32", "batch 64"]
    assert set(found["verdict"]) == {"equivalent"}
    assert found["note"].tolist()[1:] == ["against 15 and 17", "against 31 and 33", "against 63 and 65"]
    assert missing("C18", timed(by_power(1.0), batch_sizes=(16, 32, 64)))
    assert missing("C18", Arm())


def test_times_are_taken_in_units_of_the_control() -> None:
    """A machine that was half as fast while the powers were measured makes no difference of them."""

    def cell(size: int) -> dict[str, Any]:
        slow = 2.0 if size in (16, 32, 64) else 1.0
        return speed(by_power(1.0)(size) / slow, 0.003) | {"control_ms": 3.0 * slow}

    arm = Arm(cell=cell, batch_sizes=AROUND, lrs=(0.5,), seeds=1)
    assert set(verdicts("C18", arm)["verdict"]) == {"equivalent"}
