"""Numbers that the literature reports of a claim, and which of a sweep's verdicts stands nearest to each."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from bench.claims.claim import LANGUAGES, claim_names
from bench.errors import BenchError, unknown

#: How the statistic of a claim follows from published values; percentages become fractions first.
EFFECTS: dict[str, Callable[[Sequence[float]], float]] = {
    "none": lambda values: math.nan,
    "first - last": lambda values: values[0] - values[-1],
    "last - first": lambda values: values[-1] - values[0],
    "ln(last / first)": lambda values: math.log(values[-1] / values[0]),
    "log2(last / first)": lambda values: math.log2(values[-1] / values[0]),
    "log2(first / last)": lambda values: math.log2(values[0] / values[-1]),
    "log2(middle / mean of its neighbours)": lambda values: math.log2(2 * values[1] / (values[0] + values[2])),
}
#: How many values an effect takes.
_TAKES = {"none": (1, 2, 3), "log2(middle / mean of its neighbours)": (3,)}
_REQUIRED = ("claim", "who", "source", "place", "task", "network", "optimizer", "quantity", "unit", "values", "effect")
_FIELDS = (*_REQUIRED, "comparable", "differs", "measure", "rule")


@dataclass(frozen=True)
class Value:
    """A published value.

    Attributes:
        at: The batch size, or what else the value is of.
        value: As published, in the entry's unit.
        spread: Standard deviation as published; nan where none is.
    """

    at: str
    value: float
    spread: float = math.nan


@dataclass(frozen=True)
class Published:
    """What somebody reports.

    Attributes:
        claim: Name of the claim it speaks to.
        who: Authors and year.
        source: "arXiv 1609.04836", or where else it is published.
        place: Where it stands there: "table 2".
        task: Data set, or task.
        network: Network, and what else the setting was.
        optimizer: Optimizer, by the name it has here where it has one; empty where none is told.
        quantity: What was measured, by language.
        unit: Of the values: "%", "min", "examples", or empty.
        values: Values, in ascending batch size where that is what sets them apart.
        effect: Key of `EFFECTS`: the statistic of the claim that follows from them.
        comparable: Beginnings of the names of tasks whose statistic may be set beside it; empty where none may.
        differs: What is different here, or why nothing is comparable, by language.
        measure: Which measure of the claim it is; empty for the claim's own place.
        rule: Learning-rate rule that was followed; empty for the claim's own.
    """

    claim: str
    who: str
    source: str
    place: str
    task: str
    network: str
    optimizer: str
    quantity: dict[str, str]
    unit: str
    values: tuple[Value, ...]
    effect: str
    comparable: tuple[str, ...]
    differs: dict[str, str]
    measure: str = ""
    rule: str = ""

    @property
    def statistic(self) -> float:
        """The claim's statistic, in the claim's unit; nan where it does not follow from what is published."""
        scale = 0.01 if self.unit == "%" else 1.0
        return EFFECTS[self.effect]([scale * item.value for item in self.values])

    def nearest(self, verdicts: pd.DataFrame) -> dict[str, Any] | None:
        """Return the verdict that stands nearest, None where no task of the sweep is comparable.

        The claim's primary places are asked, or those of the published measure or rule where it names one; tasks in the
        order of `comparable`, the published optimizer before others, then the first of the table.

        Args:
            verdicts: Columns `bench.claims.evidence.COLUMNS`; those of other claims are passed over.
        """
        rows = verdicts[(verdicts["claim"] == self.claim) & verdicts["estimate"].notna()]
        if self.measure:
            rows = rows[rows["measure"] == self.measure]
        if self.rule:
            budget = rows.loc[rows["primary"].astype(bool), "budget"]
            rows = rows[(rows["rule"] == self.rule) & rows["budget"].isin(set(budget))]
        elif rows["primary"].any():
            rows = rows[rows["primary"].astype(bool)]
        for beginning in self.comparable:
            found = rows[rows["task"].astype(str).str.startswith(beginning)]
            if len(found):
                own = found[found["optimizer"] == self.optimizer]
                return {str(name): value for name, value in (own if len(own) else found).iloc[0].items()}
        return None


@functools.cache
def published() -> tuple[Published, ...]:
    """Return all published numbers, in the order of their claims.

    Raises:
        BenchError: The file is not what it has to be.
    """
    text = (resources.files("bench.claims") / "published.yaml").read_text(encoding="utf-8")
    return parse(OmegaConf.to_container(OmegaConf.create(text)))


def parse(entries: Any) -> tuple[Published, ...]:
    """Check entries and return them.

    Args:
        entries: A list of mappings with the fields of `Published`.

    Raises:
        BenchError: An entry lacks a field, has one too many, or its values do not fit its effect.
        UsageError: A claim or an effect that there is none of.
    """
    if not isinstance(entries, list):
        raise BenchError("published numbers: a list of entries is needed")
    return tuple(_entry(number, entry) for number, entry in enumerate(entries, 1))


def _entry(number: int, entry: Any) -> Published:
    where = f"published number {number}"
    if not isinstance(entry, dict):
        raise BenchError(f"{where}: fields are needed, not {entry!r}")
    missing = [name for name in (*_REQUIRED, "comparable", "differs") if name not in entry]
    if missing:
        raise BenchError(f"{where}: it has no {', '.join(missing)}")
    for name in entry:
        if name not in _FIELDS:
            raise unknown(f"field of {where}", name, _FIELDS)
    if entry["claim"] not in claim_names():
        raise unknown("claim", entry["claim"], claim_names())
    if entry["effect"] not in EFFECTS:
        raise unknown("effect", entry["effect"], EFFECTS)
    for name in ("quantity", "differs"):
        if not isinstance(entry[name], dict) or set(entry[name]) != set(LANGUAGES):
            raise BenchError(f"{where}: its {name} is needed in {', '.join(LANGUAGES)}")
    try:
        values = tuple(
            Value(str(item["at"]), float(item["value"]), float(item.get("spread", math.nan)))
            for item in entry["values"]
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BenchError(f"{where}: each of its values needs at and value, and may have spread") from None
    takes = _TAKES.get(entry["effect"], (2,))
    if len(values) not in takes:
        allowed = " or ".join(str(count) for count in takes)
        raise BenchError(f"{where}: {entry['effect']!r} takes {allowed} values, not {len(values)}")
    return Published(**(entry | {"values": values, "comparable": tuple(entry["comparable"])}))
