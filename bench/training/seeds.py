"""Named seeds: what is random depends on what it is for, and on nothing else."""

import hashlib
from typing import NamedTuple


class Start(NamedTuple):
    """Where a trial starts.

    Attributes:
        lr: Learning rate.
        seed: Trial seed.
        init: Seed of the initial parameters.
        order: Seed of the batch order.
        noise: Seed of examples that are drawn afresh.
    """

    lr: float
    seed: int
    init: int
    order: int
    noise: int


def named_seed(name: str, trial: int) -> int:
    """Return the seed for one purpose of one trial.

    Args:
        name: Purpose: "init", "order" or "noise".
        trial: The trial's seed.

    Returns:
        A number of 63 bits, the same in every process and at every place of the grid.
    """
    digest = hashlib.sha256(f"{name}:{trial}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
