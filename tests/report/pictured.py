"""Made-up sweeps with snapshots: a bowl to walk down, a line to learn, whose pictures are known beforehand."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.report import build
from bench.report.page import PICTURES
from bench.results.record import Record
from bench.results.snapshots import snapshot_table
from bench.results.store import Store
from tests.report.synthetic import Plan, make_cell

SURFACE = Plan(name="pictured", task="surfaces/bowl", optimizers=("adam", "sgd"), batch_sizes=(16, 256), seeds=2)
PLANE = Plan(name="pictured", task="playground/line", optimizers=("adam", "sgd"), batch_sizes=(16, 256, 4000), seeds=2)
EXTENT = (-2.0, 2.0, -1.0, 1.0)
START = (-1.5, 0.75)
#: Points of the two classes: on either side of x = 0.
POINTS = (-1.0, 0.5, -1.0, -0.5, -0.5, -1.0, 1.0, 0.5, 1.0, 0.5, -0.5, 1.0)


def bowl(side: int = 21) -> Sequence[float]:
    x, y = np.linspace(*EXTENT[:2], side), np.linspace(*EXTENT[2:], side)
    heights: Sequence[float] = (x[None, :] ** 2 + y[:, None] ** 2).ravel().tolist()
    return heights


def position(step: int) -> list[float]:
    """Half as far from the minimiser with every doubling of the steps."""
    return [START[0] / (1 + step), START[1] / (1 + step)]


def field(step: int, side: int = 9) -> list[float]:
    """Blank at first, then ever surer that the boundary is x = 0."""
    x = np.broadcast_to(np.linspace(*EXTENT[:2], side), (side, side))
    values: list[float] = np.tanh(0.1 * step * x).ravel().tolist()
    return values


def snapshots(plan: Plan, record: Record, curves: pd.DataFrame) -> pd.DataFrame:
    """Snapshots at every evaluation of the first seed's trials."""
    surface = plan.task.startswith("surfaces")

    def of_trials() -> Iterator[tuple[float, int, int, str, Sequence[float]]]:
        first = curves[curves["seed"] == 0].drop_duplicates(["lr", "step"])
        for lr, step in zip(first["lr"].tolist(), first["step"].tolist(), strict=True):
            yield (lr, 0, step, "position", position(step)) if surface else (lr, 0, step, "field", field(step))

    still: dict[str, Sequence[float]] = {"extent": EXTENT}
    still |= {"landscape": bowl(), "minimisers": [0.0, 0.0]} if surface else {"points": POINTS, "test_points": POINTS}
    return snapshot_table(still, of_trials())


def write_pictured(root: Path, plans: Sequence[Plan] = (SURFACE, PLANE)) -> Store:
    store = Store(root / plans[0].name)
    for plan in plans:
        for optimizer in plan.optimizers:
            for batch_size in plan.batch_sizes:
                record, curves = make_cell(plan, optimizer, batch_size)
                assert store.write(dataclasses.replace(record, speed=None), curves, snapshots(plan, record, curves))
    return store


@contextmanager
def pictures_alone() -> Iterator[None]:
    """Leave out the other figures, which have tests of their own and take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SECTIONS", tuple(section for section in build.SECTIONS if section[0] in PICTURES))
        yield
