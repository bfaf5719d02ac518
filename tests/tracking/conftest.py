import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.results.store import Store
from tests.tracking.sweeps import write_sweep


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep these tests in one worker: some look at every wandb process of the machine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("wandb"))


@pytest.fixture(autouse=True)
def _no_wandb_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A sweep of three complete cells."""
    return write_sweep(tmp_path / "results" / "octaves")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system: mounting one needs root ({error})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
