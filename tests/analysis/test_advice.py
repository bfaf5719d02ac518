"""Advice of a batch size: where perfect scaling ends, what going on costs, rules that held, the line of memory."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis.advice import COLUMNS, advice
from tests.analysis.hand_made import KEYS

CONDITION = {name: KEYS[name] for name in ("task", "model", "optimizer", "device", "precision")}
#: Steps of each seed: halved with every doubling up to 64 (the second seed: up to 32), then not at all.
STEPS = {16: (800, 800), 32: (400, 400), 64: (200, 300), 128: (190, 280)}


def to_target(steps: dict[int, tuple[float, ...]]) -> pd.DataFrame:
    rows = [
        CONDITION | {"batch_size": size, "measure": measure, "lr": 0.5, "seed": seed, "value": value}
        for size, values in steps.items()
        for seed, count in enumerate(values)
        for measure, value in (("steps", count), ("examples", count * size), ("seconds", count * (1 + size / 128)))
    ]
    return pd.DataFrame(rows)


def outcomes(drops: dict[str, list[float]], batch_size: int = 128) -> pd.DataFrame:
    """Test accuracies at the largest batch: .9 less the drop of each rule and seed."""
    rows = [
        CONDITION
        | {"batch_size": batch_size, "budget": "epochs", "rule": rule, "seed": seed, "measure": "accuracy"}
        | {"test_accuracy": 0.9 - drop, "test_loss": math.nan, "diverged": drop > 0.5}
        for rule, seeds in drops.items()
        for seed, drop in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


def references(size: int = 16) -> pd.DataFrame:
    return pd.DataFrame([CONDITION | {"reference": size}])


def memory(sizes: tuple[int, ...] = (16, 32, 64, 128), extra: float = 0.0) -> pd.DataFrame:
    held = [2.0 + 0.25 * size + extra * (size == 64) for size in sizes]
    return pd.DataFrame([CONDITION | {"batch_size": s, "step_mib": m} for s, m in zip(sizes, held, strict=True)])


def advised(steps: dict[int, tuple[float, ...]], **held: float) -> pd.Series:
    table = advice(
        pd.DataFrame([CONDITION]), to_target(steps), outcomes({"re-tuned": [0, 0]}), references(), memory(**held)
    )
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 1
    return table.iloc[0]


def ruled(results: pd.DataFrame, reference: pd.DataFrame) -> dict[str, object]:
    """What the advice says of rules; empty for nothing."""
    (row,) = advice(pd.DataFrame([CONDITION]), to_target(STEPS), results, reference, memory()).to_dict("records")
    return {str(name): value for name, value in row.items() if str(name).startswith("rule_") and value == value}


def test_the_largest_batch_inside_perfect_scaling_with_what_single_seeds_say() -> None:
    found = advised(STEPS)
    # The geometric mean at 64 is √(200 · 300) = 245 > 1.2 · 200; the first seed alone goes on to 64.
    assert (found["batch_size"], found["batch_lo"], found["batch_hi"]) == (32, 32, 64)
    assert (found["seeds"], found["never"], found["batch_smallest"], found["batch_beyond"]) == (2, 0, 16, 128)
    ratio = math.sqrt(190 / 400 * 280 / 400)
    assert found["steps"] == pytest.approx(ratio)
    assert found["examples"] == pytest.approx(4 * ratio)
    assert found["seconds"] == pytest.approx(ratio * 2 / 1.25)
    assert found["steps_lo"] < found["steps"] < found["steps_hi"]
    # Seconds of the first seed are least at 64 (300), those of the second at 64 as well (450).
    assert (found["batch_quickest"], found["quickest_lo"], found["quickest_hi"]) == (64, 64, 64)


def test_batch_sizes_that_a_seed_never_got_past_are_counted_and_left_out() -> None:
    found = advised(STEPS | {128: (190, math.nan)})
    assert (found["never"], found["batch_beyond"], found["batch_size"]) == (1, 64, 32)
    lost = advised({16: (800, 800), 32: (400, math.nan)})
    assert math.isnan(lost["batch_size"])
    assert lost["never"] == 1


def test_nothing_beyond_the_largest_has_a_price() -> None:
    found = advised({16: (800, 800), 32: (400, 400)})
    assert (found["batch_size"], found["batch_beyond"]) == (32, 32)
    assert math.isnan(found["examples"])


@pytest.mark.parametrize(
    ("drops", "word"),
    [
        ([0.0, 0.0, 0.0], "held"),
        ([0.001, 0.0012, 0.0008], "held"),
        ([-0.02, -0.021, -0.019], "held"),
        ([0.02, 0.021, 0.019], "failed"),
        ([0.02, 0.8, 0.019], "failed"),
        ([0.02, -0.03, 0.01], "open"),
        ([0.004, 0.0045, 0.0055], "open"),
    ],
)
def test_a_rule_held_failed_or_is_open(drops: list[float], word: str) -> None:
    found = ruled(outcomes({"re-tuned": [0.0, 0.0, 0.0], "sqrt": drops}), references())
    assert found == {
        "rule_batch": 128,
        "rule_reference": 16,
        "rule_fixed": "outside",
        "rule_linear": "outside",
        "rule_sqrt": word,
    }


def test_rules_that_start_at_the_largest_batch_say_nothing() -> None:
    assert ruled(outcomes({"re-tuned": [0.0], "sqrt": [0.0]}), references(128)) == {}


def test_memory_is_a_line_with_its_largest_error() -> None:
    exact = advised(STEPS)
    assert exact["memory_fixed_mib"] == pytest.approx(2.0)
    assert exact["memory_per_example_mib"] == pytest.approx(0.25)
    assert exact["memory_error"] < 1e-9
    bent = advised(STEPS, extra=9.0)
    line = np.polyfit([16, 32, 64, 128], [6.0, 10.0, 27.0, 34.0], 1)
    assert bent["memory_error"] == pytest.approx(
        max(abs(np.polyval(line, s) / m - 1) for s, m in ((16, 6.0), (32, 10.0), (64, 27.0), (128, 34.0)))
    )
