"""Throughput from windows made up by hand: known step times come back, and the machine's drift does not."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis.throughput import drift, powers_of_two, step_time_fits, summarise

SIZES = (1, 2, 4, 7, 8, 9, 16, 63, 64, 65, 256)


def windows(
    pace: tuple[float, ...] = (1.0,) * 9,
    fixed: float = 2e-3,
    each: float = 1e-4,
    noise: float = 0.0,
    factors: dict[int, float] | None = None,
    sizes: tuple[int, ...] = SIZES,
) -> pd.DataFrame:
    """Windows of 10 steps of fixed + each · batch seconds, times what the machine's pace was in a round."""
    draw = np.random.default_rng(1)
    rows = [
        {
            "round": number,
            "place": place,
            "optimizer": "sgd",
            "batch_size": size,
            "control": control,
            "steps": 10,
            "examples": 10 * size,
            "seconds": 10
            * (fixed + each * size)
            * slow
            * (factors or {}).get(size, 1.0)
            * math.exp(noise * draw.standard_normal()),
        }
        for number, slow in enumerate(pace)
        for place, (size, control) in enumerate([(1, True), *((size, False) for size in sizes), (1, True)])
    ]
    return pd.DataFrame(rows)


def test_throughput_by_hand() -> None:
    made = summarise(windows()).set_index("batch_size")
    assert list(made.index) == list(SIZES)
    row = made.loc[64]
    assert row["step_ms"] == pytest.approx(8.4)
    assert row["examples_per_second"] == pytest.approx(64 / 8.4e-3)
    assert row["example_us"] == pytest.approx(8400 / 64)
    assert row["over_control"] == pytest.approx(64 * 2.1 / 8.4)
    assert row["examples_per_second_n"] == 9
    assert made.loc[1, "over_control"] == pytest.approx(1)


def test_what_slows_a_whole_round_cancels_within_it() -> None:
    slowing = tuple(1 + 0.1 * number for number in range(9))
    made = summarise(windows(slowing)).set_index("batch_size").loc[64]
    assert made["over_control_lo"] == pytest.approx(made["over_control_hi"])
    assert made["over_control"] == pytest.approx(64 * 2.1 / 8.4)
    assert made["step_ms_hi"] / made["step_ms_lo"] > 1.3
    # At the speed of the middle round.
    assert made["example_us"] == pytest.approx(1.4 * 8400 / 64)
    (fit,) = step_time_fits(windows(slowing)).to_dict("records")
    assert (fit["t0_ms"], fit["t1_us"]) == (pytest.approx(1.4 * 2.0), pytest.approx(1.4 * 100))
    assert fit["knee_lo"] == pytest.approx(20) == fit["knee_hi"]


def test_drift_is_flagged_beyond_two_percent() -> None:
    steady = drift(windows())
    assert (steady.drift, steady.spread, steady.flagged) == (pytest.approx(0), pytest.approx(0), False)
    slower = drift(windows((1.0,) * 4 + (1.03,) * 5))
    assert slower.drift == pytest.approx(0.03)
    assert slower.spread == pytest.approx(0.03)
    assert slower.flagged
    assert drift(windows((1.03,) * 4 + (1.0,) * 5)).flagged
    # One slow round in the middle is spread, not drift.
    once = drift(windows((1.0,) * 4 + (2.0,) + (1.0,) * 4))
    assert (once.drift, once.spread, once.flagged) == (pytest.approx(0), pytest.approx(1), False)


def test_the_knee_of_a_known_line_lies_in_its_interval() -> None:
    (fit,) = step_time_fits(windows(noise=0.02)).to_dict("records")
    assert fit["knee_lo"] < 20 < fit["knee_hi"]
    assert fit["knee_lo"] < fit["knee"] < fit["knee_hi"]
    assert fit["knee_hi"] / fit["knee_lo"] < 1.2
    assert (fit["sizes"], fit["worst"] < 0.05) == (len(SIZES), True)
    assert step_time_fits(windows(noise=0.02)).equals(step_time_fits(windows(noise=0.02)))


def test_a_departure_from_the_line_shows_in_its_worst_residual() -> None:
    (straight,) = step_time_fits(windows()).to_dict("records")
    (bent,) = step_time_fits(windows(factors={256: 1.5})).to_dict("records")
    assert straight["worst"] == pytest.approx(0, abs=1e-9)
    assert bent["worst"] > 0.1


def test_no_fit_of_two_batch_sizes_and_no_knee_without_a_slope() -> None:
    assert step_time_fits(windows(sizes=(1, 64))).empty
    (flat,) = step_time_fits(windows(each=0.0)).to_dict("records")
    assert math.isnan(flat["knee"]) or flat["knee"] > 1e6


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "equivalent"), (1.01, "equivalent"), (0.9, "supported"), (1.1, "refuted")]
)
def test_a_power_of_two_beside_its_neighbours(factor: float, verdict: str) -> None:
    made = powers_of_two(windows(factors={64: factor})).set_index("batch_size")
    # Below 8 a step is hardly anything but fixed costs, and 16 and 256 have no neighbours here.
    assert list(made.index) == [8, 64]
    assert made.loc[64, "beside"] == "63, 65"
    assert made.loc[64, "ratio"] == pytest.approx(factor, rel=1e-4)
    assert made.loc[64, "verdict"] == verdict


def test_noise_leaves_it_open() -> None:
    made = powers_of_two(windows(noise=0.1)).set_index("batch_size")
    assert made.loc[64, "verdict"] == "inconclusive"
    assert made.loc[64, "ratio_lo"] < 1 < made.loc[64, "ratio_hi"]


def test_one_neighbour_is_better_than_none() -> None:
    (row,) = powers_of_two(windows(sizes=(1, 64, 65))).to_dict("records")
    assert row["beside"] == "65"
    assert row["ratio"] == pytest.approx((8.4 / 64) / (8.5 / 65))
