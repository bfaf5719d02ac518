"""What every timing case runs under."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero, as training does: they would slow a step down the more often it is called."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)
