"""Published numbers: what they are checked for, what follows from them, and the verdict that is nearest."""

import copy
import math
from importlib import resources
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from bench.claims.claim import LANGUAGES, claim, claim_names
from bench.claims.evidence import COLUMNS
from bench.claims.published import EFFECTS, parse, published
from bench.errors import BenchError, UsageError


def entries() -> list[dict[str, Any]]:
    text = (resources.files("bench.claims") / "published.yaml").read_text(encoding="utf-8")
    found: Any = OmegaConf.to_container(OmegaConf.create(text))
    return copy.deepcopy(found)


def test_what_stands_in_the_tables_of_the_papers() -> None:
    """Keskar et al., tables 2 to 4; Hoffer et al., table 1; McCandlish et al., table 1; all for MNIST."""
    found = {(item.claim, item.who.split()[0], item.place): item for item in published()}
    keskar = found["C5", "Keskar", "table 2"]
    assert [(item.at, item.value, item.spread) for item in keskar.values] == [
        ("256", 98.03, 0.07),
        ("6000", 97.81, 0.07),
    ]
    assert keskar.statistic == pytest.approx(0.0022)
    assert math.exp(found["C7", "Keskar", "table 3"].statistic) == pytest.approx(205.14 / 1.23)
    assert found["C5", "Hoffer", "table 1"].statistic == pytest.approx(0.0122)
    assert found["C9", "Hoffer", "table 1"].statistic == pytest.approx(0.0148)
    assert found["C3", "McCandlish", "table 1"].statistic == pytest.approx(math.log2(4.5))


def test_every_entry_speaks_to_a_claim_in_every_language() -> None:
    for item in published():
        assert item.claim in claim_names()
        assert set(item.quantity) == set(item.differs) == set(LANGUAGES)
        assert item.source.startswith(("arXiv ", "sebastianraschka.com/"))
        if item.measure and item.measure == claim(item.claim).primary.get("measure"):
            assert item.comparable or item.claim == "C4"


def test_neighbours_of_a_power_of_two() -> None:
    assert EFFECTS["log2(middle / mean of its neighbours)"]([3.0, 1.0, 1.0]) == -1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"claim": "C99"}, UsageError, "unknown claim 'C99'"),
        ({"effect": "first + last"}, UsageError, "unknown effect 'first \\+ last'; did you mean 'first - last'"),
        ({"year": 2017}, UsageError, "unknown field of published number 1 'year'"),
        ({"quantity": {"en": "accuracy"}}, BenchError, "its quantity is needed in en, zh"),
        ({"values": [{"at": 256, "value": 98.03}]}, BenchError, "takes 2 values, not 1"),
        ({"values": [{"at": 256}, {"at": 6000}]}, BenchError, "needs at and value"),
        ({"values": 98.03}, BenchError, "needs at and value"),
        ({"who": None}, BenchError, "it has no who"),
    ],
)
def test_an_entry_that_is_wrong_is_refused(change: dict[str, Any], error: type[BenchError], message: str) -> None:
    entry = next(item for item in entries() if item["claim"] == "C5") | change
    if change.get("who", "") is None:
        del entry["who"]
    with pytest.raises(error, match=message):
        parse([entry])
    with pytest.raises(BenchError, match="a list"):
        parse({"claim": "C5"})


def verdicts(*places: tuple[str, str, str, bool]) -> pd.DataFrame:
    blank = dict.fromkeys(COLUMNS, "")
    rows = [
        blank
        | {"claim": "C5", "task": task, "optimizer": optimizer, "budget": "epochs", "rule": rule, "primary": primary}
        | {"estimate": float(number), "unit": "fraction"}
        for number, (task, optimizer, rule, primary) in enumerate(places)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_the_nearest_verdict_is_of_the_nearest_task_then_the_optimizer() -> None:
    keskar, hoffer, deepobs = (item for item in published() if item.claim == "C5")
    table = verdicts(
        ("mnist5k/f1", "adam", "re-tuned", True),
        ("mnist/mlp", "sgd", "re-tuned", True),
        ("mnist/mlp", "adam", "re-tuned", True),
        ("mnist/mlp", "adam", "fixed", False),
        ("mnist/mlp", "momentum", "fixed", False),
    )
    assert keskar.nearest(table)["estimate"] == 2  # type: ignore[index]
    assert keskar.nearest(table.head(2))["estimate"] == 1  # type: ignore[index]
    assert keskar.nearest(table.head(1))["estimate"] == 0  # type: ignore[index]
    assert hoffer.nearest(table)["estimate"] == 4  # type: ignore[index]
    assert deepobs.nearest(table) is None
    assert keskar.nearest(verdicts(("quadratic/deep", "adam", "re-tuned", True))) is None
    assert keskar.nearest(table.assign(claim="C6")) is None
    assert keskar.nearest(table.assign(estimate=float("nan"))) is None
