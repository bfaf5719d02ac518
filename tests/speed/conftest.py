"""What the speed tests and cases run under. Imports nothing of the suite: a check runs it with other commits' suite."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_denormals(request: pytest.FixtureRequest) -> Iterator[None]:
    """Flush denormal numbers to zero in cases, as training does: they would slow a step the more often it is called."""
    torch.set_flush_denormal("benchmark" in request.fixturenames)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who commits, without settings of their own, and a temporary folder that holds nothing else."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Person")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "person@example.org")
    (tmp_path / "gitconfig").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
