"""What a task is judged by: the one place that knows a measure's direction, scale and words.

Everything that ranks, compares, writes or draws results asks here; nothing else tells accuracies from losses.
"""

import math
from typing import ClassVar

import numpy as np
import pandas as pd

from bench.analysis import words

#: Margins declared before looking: smaller effects do not matter. Accuracies in fractions (per data set, else the
#: common one), losses as a fraction of the loss.
ACCURACY_MARGIN = {"mnist": 0.001}
ACCURACY_MARGIN_SMALL = 0.005
LOSS_MARGIN = 0.10

#: From so many test examples on, a second decimal of a percentage says something.
_FINE = 10_000


class Measure:
    """A measure that results are ranked by.

    Attributes:
        name: "accuracy" or "loss", as in the columns of the exported tables.
        direction: +1 where higher is better, −1 where lower is.
        test_examples: How many examples the test split holds, None where that is not known.
        unit: What a value is and its unit, for tables.
        worse: What a larger batch that ends worse does, for claims.
    """

    name: ClassVar[str]
    direction: ClassVar[int]
    unit: ClassVar[str]
    worse: ClassVar[str]

    def __init__(self, test_examples: int | None = None) -> None:
        self.test_examples = test_examples

    def column(self, split: str) -> str:
        """Return the column of the tables that holds the measure on a split: "train", "val" or "test"."""
        return f"{split}_{self.name}"

    def value(self, value: float) -> str:
        """Write a value with its unit."""
        raise NotImplementedError

    def brief(self, value: float) -> str:
        """Write a finite value where there is little room and its unit is known."""
        raise NotImplementedError

    def short(self, value: float) -> str:
        """Write a value with its unit where there is little room."""
        return self.brief(value) if math.isfinite(value) else "–"

    def half_interval(self, half: float) -> str:
        """Write half the width of an interval beside its value, without a unit."""
        raise NotImplementedError

    def gap(self, value: float) -> str:
        """Write a generalisation gap, which is positive where training results are better."""
        raise NotImplementedError

    def effect(self, value: float, unit: str) -> str:
        """Write what a comparison found, in the unit of `bench.analysis.findings`: "fraction", "ratio" or "loss"."""
        raise NotImplementedError

    def interval(self, lo: float, hi: float, unit: str) -> str:
        """Write an interval of `effect`: [−1.9, +0.4]."""
        raise NotImplementedError


class Accuracy(Measure):
    """The fraction of examples classified correctly: 0 … 1, written in percent."""

    name = "accuracy"
    direction = 1
    unit = "test accuracy, fraction"
    worse = "generalises worse than the smallest"

    @property
    def digits(self) -> int:
        """How many decimals of a percentage are worth writing."""
        return 2 if self.test_examples is not None and self.test_examples >= _FINE else 1

    def value(self, value: float) -> str:
        """Write a percentage: 93.4 %."""
        return words.percent(value, self.digits)

    def brief(self, value: float) -> str:
        """Write whole percents: 93."""
        return f"{100 * value:.0f}"

    def short(self, value: float) -> str:
        """Write whole percents: 93 %."""
        return words.percent(value, 0)

    def half_interval(self, half: float) -> str:
        """Write percentage points: 1.2."""
        return f"{100 * half:.{self.digits}f}"

    def gap(self, value: float) -> str:
        """Write signed percentage points: +3.1 pp."""
        return words.percentage_points(value, self.digits)

    def effect(self, value: float, unit: str) -> str:
        """Write signed percentage points: −1.2 pp."""
        return words.percentage_points(value, self.digits)

    def interval(self, lo: float, hi: float, unit: str) -> str:
        """Write an interval in percentage points: [−1.9, +0.4]."""
        return words.points_interval(lo, hi, self.digits)


class Loss(Measure):
    """The mean loss, in the loss's own unit: any number, infinite for a trial that diverged."""

    name = "loss"
    direction = -1
    unit = "test loss"
    worse = "ends at a higher test loss than the smallest"

    def value(self, value: float) -> str:
        """Write a loss: 0.0123."""
        return words.number(value)

    def brief(self, value: float) -> str:
        """Write two digits, or one where it is small: 0.012, 3e−9."""
        if value == 0 or abs(value) >= 1e-3:
            return words.number(value, 2)
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")

    def half_interval(self, half: float) -> str:
        """Write half a width with two digits."""
        return words.number(half, 2)

    def gap(self, value: float) -> str:
        """Write a signed difference: +0.0123."""
        return words.signed(value)

    def effect(self, value: float, unit: str) -> str:
        """Write a ratio of losses, ×1.2, or a signed difference where there is no ratio."""
        return words.ratio(value) if unit == "ratio" else words.signed(value)

    def interval(self, lo: float, hi: float, unit: str) -> str:
        """Write an interval of ratios, [×0.9, ×1.3], or of differences."""
        if not (math.isfinite(lo) and math.isfinite(hi)):
            return "[no interval]"
        form = words.ratio if unit == "ratio" else words.signed
        return f"[{form(lo, 2)}, {form(hi, 2)}]"


#: Name → measure.
MEASURES: dict[str, type[Measure]] = {kind.name: kind for kind in (Accuracy, Loss)}


def measure_names(cells: pd.DataFrame, curves: pd.DataFrame) -> pd.Series:
    """Name what each task is judged by: the metric of its target, loss where it has no accuracy.

    Args:
        cells: Columns `task`, `target_metric` (empty where a record kept none).
        curves: Columns `task`, `metric`.

    Returns:
        "accuracy" or "loss", indexed by task.
    """
    known = cells.dropna(subset=["target_metric"])
    metrics = known.groupby("task")["target_metric"].agg(lambda found: str(found.mode().iloc[0]).split("_")[-1])
    taken = curves.groupby("task")["metric"].unique() if len(curves) and "task" in curves else pd.Series(dtype=object)
    names: dict[str, str] = {}
    for task in sorted({str(name) for name in cells["task"]}):
        found = set(taken[task]) if task in taken.index else set()
        asked = str(metrics[task]) if task in metrics.index else Accuracy.name
        names[task] = Loss.name if found == {Loss.name} or asked not in MEASURES else asked
    return pd.Series(names, dtype=object)


def measure_of(cells: pd.DataFrame) -> Measure:
    """Return the measure of a setting.

    Args:
        cells: The setting's rows of `bench.analysis.study.Study.cells`: columns `measure`, `test_examples`.
    """
    examples = cells["test_examples"].dropna()
    name = str(cells["measure"].iloc[0]) if len(cells) else Accuracy.name
    return MEASURES[name](int(examples.iloc[0]) if len(examples) else None)


def direction(frame: pd.DataFrame) -> pd.Series:
    """Return +1 where higher is better and −1 where lower is, for rows with a column `measure`."""
    return frame["measure"].map({name: kind.direction for name, kind in MEASURES.items()}).astype(float)


def values(frame: pd.DataFrame, split: str) -> pd.Series:
    """Return each row's own measure on a split.

    Args:
        frame: Columns `measure`, and the split's accuracy and loss.
        split: "train", "val" or "test".
    """
    accuracy, loss = frame[f"{split}_accuracy"].astype(float), frame[f"{split}_loss"].astype(float)
    return accuracy.where(frame["measure"] == Accuracy.name, loss)


def accuracy_margin(task: str) -> float:
    """Return the accuracy difference below which nothing matters: .1 points on full MNIST, else .5 points."""
    return ACCURACY_MARGIN.get(task.split("/")[0], ACCURACY_MARGIN_SMALL)


def margins(table: pd.DataFrame) -> pd.Series:
    """Return the margin of every comparison, in the unit of its difference.

    Args:
        table: Columns `task`, `unit` ("fraction", "log ratio" or "loss"), `value_small`, `value_large`.

    Returns:
        `accuracy_margin` for fractions, log(1 + `LOSS_MARGIN`) for log ratios, and `LOSS_MARGIN` times the larger of
        the two losses in size where there is no ratio.
    """
    size = table[["value_small", "value_large"]].abs().max(axis=1)
    # Two losses of exactly 0 are equal by any margin, but a margin has to be positive.
    plain = (LOSS_MARGIN * size).clip(lower=np.finfo(float).tiny)
    fraction = table["task"].map(accuracy_margin).astype(float)
    return fraction.where(table["unit"] == "fraction", plain.where(table["unit"] == "loss", math.log1p(LOSS_MARGIN)))
