"""The mirror works, and where it does not, the records stay as they are and the delay is bounded."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.results.store import Store
from bench.tracking import MirrorState, TrackerConfig, mirror_sweep, read_state
from bench.tracking.check import check_mirror
from tests.tracking.sweeps import curves, fingerprint, record, write_interrupted, write_sweep

KEY = "0123456789abcdef" * 2 + "deadbeef"
# Beyond the stall itself: ending the children, removing what they began, saving the state; on a busy machine.
SLACK = 6.0
# Long enough for a child on a busy machine to import wandb and call the server.
STALL = 8


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_missing(state: MirrorState, store: Store, *words: str) -> None:
    """Every cell is missing for one reason that says these words, in the state returned and on disk."""
    assert sorted(state.missing) == store.cells()
    (reason,) = set(state.missing.values())
    assert "\n" not in reason
    for word in words:
        assert word in reason
    assert read_state(store) == state


def fill(folder: Path) -> None:
    with (folder / "filler").open("ab", buffering=0) as filler:
        with pytest.raises(OSError, match="No space"):
            os.posix_fallocate(filler.fileno(), 0, 2**20)
        free = os.statvfs(folder)
        os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize)
    assert os.statvfs(folder).f_bavail == 0


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No process that the test started is left when it ends, but for a moment that a busy machine may need."""
    before = set(psutil.Process().children(recursive=True))
    services = wandb_services()
    yield
    started = (set(psutil.Process().children(recursive=True)) - before) | (wandb_services() - services)
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []


def wandb_services() -> set[psutil.Process]:
    """Services run in sessions of their own and would outlive the process that started them."""
    return {
        process
        for process in psutil.process_iter(["name", "status"])
        if "wandb" in (process.info["name"] or "") and process.info["status"] != psutil.STATUS_ZOMBIE
    }


@pytest.mark.usefixtures("nothing_left")
def test_mirrors_every_cell_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_interrupted(store, 128)
    before = fingerprint(store)
    # What the config says holds, whatever a person's environment says: neither a mode nor a server is heard.
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_DIR", str(store.path.parent / "elsewhere"))
    state = mirror_sweep(store, TrackerConfig(), stall_seconds=60)
    assert state.missing == {}
    assert sorted(state.cells) == store.cells()
    assert len({entry.run for entry in state.cells.values()}) == 4
    for entry in state.cells.values():
        assert entry.path is not None
        assert entry.path.startswith("wandb/offline-run-")
        assert (store.path / entry.path / f"run-{entry.run}.wandb").is_file()
    assert read_state(store) == state
    assert fingerprint(store) == before
    assert check_mirror(store).exit_code == 0
    # Nothing else was written, and the key least of all.
    assert sorted(path.name for path in store.path.parent.iterdir()) == [store.sweep]
    assert sorted(path.name for path in store.path.iterdir()) == sorted([*store.cells(), "mirror.json", "wandb"])
    assert len(list((store.path / "wandb").iterdir())) == 4
    assert not any(KEY.encode() in path.read_bytes() for path in files(store.path.parent))
    # A second mirror finds nothing to do.
    stamps = {path: path.stat().st_mtime_ns for path in files(store.path / "wandb")}
    assert mirror_sweep(store, TrackerConfig(), stall_seconds=60) == state
    assert {path: path.stat().st_mtime_ns for path in files(store.path / "wandb")} == stamps


def test_replaced_and_unreadable_records(tmp_path: Path) -> None:
    store = write_sweep(tmp_path / "octaves", (16, 32))
    kept, broken = (record(store.sweep, batch_size).cell for batch_size in (16, 32))
    replaced = write_interrupted(store, 64).cell
    file = store.cell_path(broken) / "record.json"
    text = file.read_text()
    file.write_text(text[:100])
    first = mirror_sweep(store, TrackerConfig(), stall_seconds=60)
    assert list(first.missing) == [broken]
    assert "truncated" in first.missing[broken]
    assert store.write(record(store.sweep, 64), curves(64))
    file.write_text(text)
    second = mirror_sweep(store, TrackerConfig(), stall_seconds=60)
    assert second.missing == {}
    assert second.cells[kept] == first.cells[kept]
    assert second.cells[replaced].run != first.cells[replaced].run
    # One run per cell: that of the interrupted record is gone.
    assert {path.name for path in (store.path / "wandb").iterdir()} == {
        Path(entry.path or "").name for entry in second.cells.values()
    }


def test_only_the_cells_asked_for(store: Store, tmp_path: Path) -> None:
    chosen = store.cells()[1]
    tracker = TrackerConfig(dir=str(tmp_path / "elsewhere"))
    state = mirror_sweep(store, tracker, cells=[chosen], stall_seconds=60)
    assert list(state.cells) == [chosen]
    assert state.cells[chosen].path is not None
    assert Path(state.cells[chosen].path or "").is_relative_to(tmp_path / "elsewhere" / "wandb")
    assert not (store.path / "wandb").exists()
    report = check_mirror(store)
    assert [check.verdict for check in report.cells] == ["missing", "ok", "missing"]


def test_no_tracker_leaves_no_trace(store: Store) -> None:
    before = sorted(files(store.path))
    assert mirror_sweep(store, TrackerConfig(name="none")).cells == {}
    assert sorted(files(store.path)) == before


def test_mode_disabled_says_so(store: Store) -> None:
    before = fingerprint(store)
    state = mirror_sweep(store, TrackerConfig(mode="disabled"))
    assert_missing(state, store, "tracker.mode=disabled")
    assert fingerprint(store) == before
    assert not (store.path / "wandb").exists()


@pytest.mark.usefixtures("nothing_left")
def test_online_without_network(store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    before = fingerprint(store)
    start = time.monotonic()
    state = mirror_sweep(store, TrackerConfig(mode="online"), stall_seconds=4)
    assert time.monotonic() - start < 4 + SLACK
    assert_missing(state, store)
    assert fingerprint(store) == before
    assert list((store.path / "wandb").iterdir()) == []
    assert not any(KEY.encode() in path.read_bytes() for path in files(store.path.parent))
    assert KEY not in "".join(capfd.readouterr())


@pytest.mark.usefixtures("nothing_left")
def test_server_that_never_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(store)
    with socket.create_server(("127.0.0.1", 0)) as server:
        callers: list[socket.socket] = []
        called = threading.Event()

        def accept() -> None:
            while True:
                try:
                    callers.append(server.accept()[0])
                except OSError:
                    return
                called.set()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        state = mirror_sweep(store, TrackerConfig(mode="online"), stall_seconds=STALL)
        took = time.monotonic() - start
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for caller in callers:
            caller.close()
    assert called.is_set()
    assert STALL <= took < STALL + SLACK
    assert_missing(state, store, f"no cell was mirrored for {STALL} s")
    assert fingerprint(store) == before
    assert not any(KEY.encode() in path.read_bytes() for path in files(store.path.parent))


@pytest.mark.usefixtures("nothing_left")
def test_folder_that_cannot_be_made(store: Store, tmp_path: Path) -> None:
    # Under a regular file: nobody can write there, not even root, whom permissions do not stop.
    (tmp_path / "file").write_text("in the way")
    before = fingerprint(store)
    start = time.monotonic()
    state = mirror_sweep(store, TrackerConfig(dir=str(tmp_path / "file" / "x")))
    assert time.monotonic() - start < SLACK
    assert_missing(state, store, "not writable")
    assert fingerprint(store) == before


@pytest.mark.usefixtures("nothing_left")
def test_full_disk_for_the_runs(store: Store, small_disk: Path) -> None:
    before = fingerprint(store)
    start = time.monotonic()
    state = mirror_sweep(store, TrackerConfig(dir=str(small_disk)), stall_seconds=10)
    assert time.monotonic() - start < 10 + SLACK
    # One run may fit; not one is called mirrored that is not whole.
    assert state.missing
    assert read_state(store) == state
    assert fingerprint(store) == before
    mirrored = {check.cell for check in check_mirror(store).cells if check.verdict == "ok"}
    assert mirrored == set(state.cells) - set(state.missing)
    assert len(list((small_disk / "wandb").iterdir())) == len(mirrored)


@pytest.mark.usefixtures("nothing_left")
def test_full_disk_for_everything(small_disk: Path) -> None:
    store = write_sweep(small_disk / "octaves", (16,))
    fill(small_disk)
    before = fingerprint(store)
    start = time.monotonic()
    state = mirror_sweep(store, TrackerConfig(), stall_seconds=10)
    assert time.monotonic() - start < 10 + SLACK
    assert sorted(state.missing) == store.cells()
    assert state.note is not None
    assert "mirror.json could not be written" in state.note
    assert not (store.path / "mirror.json").exists()
    assert fingerprint(store) == before


def test_second_process_leaves_it_to_the_first(store: Store) -> None:
    fcntl = pytest.importorskip("fcntl")
    (store.path / "wandb").mkdir()
    descriptor = os.open(store.path / "wandb", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        state = mirror_sweep(store, TrackerConfig())
    finally:
        os.close(descriptor)
    assert set(state.missing.values()) == {"another process is mirroring into this folder"}
    assert not (store.path / "mirror.json").exists()


def test_unreadable_state_is_replaced(store: Store) -> None:
    (store.path / "mirror.json").write_text('{"cells": [')
    state = mirror_sweep(store, TrackerConfig(mode="disabled"))
    assert state.note is not None
    assert "unreadable state was replaced" in state.note
    assert read_state(store) == state


def test_wrong_config_is_a_note(store: Store) -> None:
    state = mirror_sweep(store, TrackerConfig(mode="ofline"))
    assert state.note is not None
    assert "did you mean 'offline'" in state.note


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('half installed')", "wandb cannot be imported (ImportError: half installed)"),
        ("import os, sys; print('oh', file=sys.stderr, flush=True); os._exit(7)", "exit code 7: oh"),
        ("import os; os.write(1, b'not an answer'); os._exit(7)", "exit code 7: not an answer"),
    ],
)
def test_broken_installation(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    (tmp_path / "path" / "wandb").mkdir(parents=True)
    (tmp_path / "path" / "wandb" / "__init__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    assert_missing(mirror_sweep(store, TrackerConfig(), stall_seconds=60), store, reason)


PROGRAM = """
import sys
from pathlib import Path
from bench.results.store import Store
from bench.tracking import TrackerConfig, mirror_sweep
mirror_sweep(Store(Path(sys.argv[1])), TrackerConfig(mode="online"), stall_seconds=300)
"""


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_stopped_by_hand(store: Store, stop: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = os.environ | {
            "WANDB_API_KEY": KEY,
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
        }
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(store.path)], env=environment, stderr=subprocess.PIPE
        ) as process:
            server.settimeout(60)
            caller, _ = server.accept()  # by now the worker and wandb's service are running
            family = psutil.Process(process.pid).children(recursive=True)
            assert any("wandb" in member.name() for member in family)
            process.send_signal(stop)
            _, words = process.communicate(timeout=30)
            _, alive = psutil.wait_procs(family, timeout=20)
            caller.close()
    assert alive == []
    if stop == signal.SIGINT:
        assert b"KeyboardInterrupt" in words
        assert KEY.encode() not in words
        state = json.loads((store.path / "mirror.json").read_text())
        assert {entry["reason"] for entry in state["cells"].values()} == {"interrupted"}
