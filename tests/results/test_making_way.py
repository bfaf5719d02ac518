"""A record that makes way is there until the new one is in its place, whatever comes in between."""

import errno
import os
import socket
from pathlib import Path

import pytest

from bench.results.record import CellStatus
from bench.results.store import Store
from tests.results.files import everything, fail
from tests.results.processes import bystander
from tests.results.records import CELL, curves, record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.write(record(status=CellStatus.FAILED, digest=None), curves(lrs=(0.5,)))
    return store


@pytest.mark.parametrize("call", [2, 3])
def test_a_rename_that_fails_puts_the_old_record_back(store: Store, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """The second rename moves the old record away, the third puts the new one in its place."""
    files = everything(store.path)
    with monkeypatch.context() as patch:
        fail(patch, Path, "rename", errno.EIO, call)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            store.write(record(), curves())
    assert everything(store.path) == files
    assert store.write(record(), curves())
    assert [path.name for path in store.path.iterdir()] == [CELL]


def test_a_process_killed_between_two_renames(store: Store) -> None:
    with bystander() as process:
        dead = process.pid
    files = everything(store.path)
    temporary = store.path / f".{CELL}.{socket.gethostname()}.{dead}.abc"
    store.cell_path(CELL).rename(f"{temporary}.old")
    temporary.mkdir()
    assert store.cells() == []
    store.sweep_leftovers()
    assert everything(store.path) == files
    assert [path.name for path in store.path.iterdir()] == [CELL]
