"""How long cells will take, from the records of earlier ones, and how they are packed into jobs."""

import heapq
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.config import Cell
from bench.results.plan import Planned, read_plan
from bench.results.record import CellStatus, RecordError
from bench.results.store import PLAN, Store

#: How many records of a sweep are looked at, evenly over it: a glance at one takes a millisecond.
MOST_RECORDS = 300


@dataclass(frozen=True)
class Rates:
    """Seconds per unit of estimated cost that earlier cells took: medians.

    Attributes:
        exact: By task and device.
        device: By device.
        records: How many records they are of.
    """

    exact: Mapping[tuple[str, str], float]
    device: Mapping[str, float]
    records: int = 0

    def seconds(self, cell: Cell) -> float | None:
        """Return how long a cell is expected to take; None where nothing on its device was ever recorded."""
        device = cell.config.device.name
        rate = self.exact.get((cell.config.task.name, device), self.device.get(device))
        return None if rate is None else rate * cell.cost


def earlier_rates(store: Store) -> Rates:
    """Return the rates of the sweep's own records; where it has none, of its neighbours'.

    Records without a plan beside them have no cost and tell nothing.
    """
    for stores in ([store], _neighbours(store)):
        found = [sample for one in stores for sample in _samples(one)]
        if found:
            return _medians(found)
    return Rates({}, {})


def _neighbours(store: Store) -> list[Store]:
    root = store.path.parent
    if not root.is_dir():
        return []
    return [Store(path) for path in sorted(root.iterdir()) if path != store.path and (path / PLAN).is_file()]


def _samples(store: Store) -> list[tuple[str, str, float]]:
    """Return task, device and seconds per unit of cost of a sweep's complete cells."""
    try:
        plan = read_plan(store)
    except RecordError:
        return []
    have = [cell for cell in store.cells() if cell in plan and plan[cell].cost > 0]
    step = max(1, math.ceil(len(have) / MOST_RECORDS))
    found = [_sample(plan[cell], store, cell) for cell in have[::step]]
    return [sample for sample in found if sample is not None]


def _sample(planned: Planned, store: Store, cell: str) -> tuple[str, str, float] | None:
    try:
        seen = store.glance(cell)
    except RecordError:
        return None
    if seen.status != CellStatus.COMPLETE:
        return None
    return seen.task, seen.device, seen.seconds / planned.cost


def _medians(samples: Sequence[tuple[str, str, float]]) -> Rates:
    exact: dict[tuple[str, str], list[float]] = {}
    device: dict[str, list[float]] = {}
    for task, name, rate in samples:
        exact.setdefault((task, name), []).append(rate)
        device.setdefault(name, []).append(rate)
    return Rates(
        {key: statistics.median(rates) for key, rates in exact.items()},
        {key: statistics.median(rates) for key, rates in device.items()},
        len(samples),
    )


def pack(weights: Sequence[float], bins: int) -> list[list[int]]:
    """Put weights into bins, the heaviest first, each into the bin that is lightest by then.

    Args:
        weights: Any unit, ≥ 0.
        bins: How many, ≥ 1.

    Returns:
        The places of the weights of each bin, the heaviest bin first. It is what pulling them one after the other
        comes to if every weight is right.
    """
    heap = [(0.0, number) for number in range(bins)]
    packed: list[list[int]] = [[] for _ in range(bins)]
    for place in sorted(range(len(weights)), key=lambda place: (-weights[place], place)):
        load, number = heapq.heappop(heap)
        packed[number].append(place)
        heapq.heappush(heap, (load + weights[place], number))
    return sorted(packed, key=lambda places: -sum(weights[place] for place in places))


def job_count(cells: int, seconds: float | None, most: int, processes: int, fill_seconds: float) -> int:
    """Return how many jobs to submit for some cells.

    Args:
        cells: Number of cells.
        seconds: How long they will take, one after the other; None where nothing tells.
        most: The largest number of jobs.
        processes: Cells that a job runs at once.
        fill_seconds: How long a job should have work for.

    Returns:
        No more than there are cells for, and where times are known no more than have work for `fill_seconds`.
    """
    wanted = math.ceil(cells / processes)
    if seconds is not None:
        wanted = min(wanted, math.ceil(seconds / (processes * fill_seconds)))
    return max(1, min(most, wanted)) if cells else 0
