"""Named seeds are the same everywhere, and for nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.training.seeds import named_seed


@pytest.mark.parametrize(
    ("name", "trial", "expected"),
    # Records made with one version must repeat with the next.
    [
        ("init", 0, 7_885_824_881_599_989_479),
        ("order", 0, 2_774_440_215_086_976_078),
        ("noise", 12345, 3_582_602_910_010_333_556),
    ],
)
def test_seeds_never_change(name: str, trial: int, expected: int) -> None:
    assert named_seed(name, trial) == expected


@given(trial=st.integers(0, 2**64))
def test_every_seed_can_seed_a_generator(trial: int) -> None:
    for name in ("init", "order", "noise"):
        seed = named_seed(name, trial)
        assert 0 <= seed < 2**63
        assert torch.Generator().manual_seed(seed).initial_seed() == seed


def test_purposes_and_trials_have_seeds_of_their_own() -> None:
    seeds = {named_seed(name, trial) for name in ("init", "order", "noise") for trial in range(1000)}
    assert len(seeds) == 3000
