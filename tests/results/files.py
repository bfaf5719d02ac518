"""What lies in a folder, and a disk that fails."""

import os
from pathlib import Path
from typing import Any

import pytest


def everything(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fail(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, call: int) -> None:
    """Let the call-th call of a function raise OSError `number`."""
    real, calls = getattr(owner, name), 0

    def failing(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, failing)
