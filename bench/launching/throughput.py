"""`bench throughput`: a grid of batch sizes and optimizers, timed in randomised blocks in one process."""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.analysis.study import records
from bench.analysis.throughput import drift, powers_of_two, step_time_fits, summarise
from bench.config import Cell
from bench.devices import check_single
from bench.errors import Incompatible, UsageError, unknown
from bench.launching.cell import fresh_trial
from bench.launching.hydra import grid_cells
from bench.listing import print_table
from bench.measure.throughput import LEAST_ROUNDS, Contestant, Sample, measure_throughput
from bench.measure.throughput import Protocol as Blocks
from bench.report.throughput import figure, in_words, markdown, tables
from bench.results.csv import write_csv
from bench.results.environment import environment
from bench.results.private import private
from bench.speed.pressure import Pressure
from bench.training.devices import prepare

#: Parts of a configuration that cells of one comparison may differ in: what follows from optimizer and batch size.
VARIED = ("optimizer", "batch_size", "lr")


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
        overrides: As for `bench run`.
        rounds: Rounds, ≥ `bench.measure.throughput.LEAST_ROUNDS`.
        control: "OPTIMIZER:BATCH" of the cell that is the control; None for the smallest batch of the first optimizer.
        seed: Seed of the orders of the rounds.
        out: Folder to write; None prints only.
        command: The command line, for the record.
    """

    overrides: tuple[str, ...]
    rounds: int
    control: str | None
    seed: int
    out: Path | None
    command: str


def throughput(asked: Asked) -> int:
    """Time a grid in randomised blocks, print what came out, and write it if a folder is given; return 0.

    Raises:
        UsageError: Something that can be known before the first step; nothing has been written then.
        DeviceUnavailable: The device is not here.
        BenchError: A trial diverged while it was timed.
    """
    if asked.rounds < LEAST_ROUNDS:
        raise UsageError(f"--rounds {asked.rounds}: must be at least {LEAST_ROUNDS}")
    cells = _comparable(grid_cells(asked.overrides))
    control = _control(cells, asked.control)
    config = cells[0].config
    check_single(config.device.name, "bench throughput")
    device = prepare(config.device.name, config.device.threads, config.precision)
    with _scratch(asked.out) as scratch:
        started, watch = datetime.now(UTC).isoformat(timespec="seconds"), _Watch()
        made_in = environment(device, config.device.threads)
        contestants = [_contestant(cell) for cell in cells]
        measure = config.measure
        blocks = Blocks(asked.rounds, measure.warmup_steps, measure.window_seconds, asked.seed)
        with _shown() as show:
            samples = measure_throughput(contestants, _contestant(control), blocks, show)
        made: dict[str, Any] = {
            "subject": f"{config.task.name}, {config.device.name}, {config.precision}",
            "command": private(asked.command),
            "started": started,
            "environment": made_in,
            "machine": watch.seen(),
            "protocol": asdict(blocks),
            "control": _name(control),
        }
        _report(made, samples, scratch)
        if scratch is not None and asked.out is not None:
            _put(scratch, asked.out)
            print(f"throughput: {asked.out / 'throughput.md'}")
    return 0


def _report(made: dict[str, Any], samples: Sequence[Sample], scratch: Path | None) -> None:
    """Print the results; write them where a folder is given."""
    windows = pd.DataFrame([asdict(sample) for sample in samples])
    moved, cells = drift(windows), summarise(windows)
    fits, powers = step_time_fits(windows), powers_of_two(windows)
    said = in_words(moved, made["control"])
    found = tables(cells, fits, powers)
    for title, header, rows in found:
        print_table(title, header, rows)
        print()
    print(said)
    if scratch is None:
        return
    whole = made | {
        "drift": asdict(moved) | {"words": said},
        "cells": _plain(cells),
        "fits": _plain(fits),
        "powers_of_two": _plain(powers),
        "samples": _plain(windows),
    }
    drawing = figure(cells, fits, made["subject"])
    alt = drawing.file.partition("<desc>")[2].partition("</desc>")[0]
    (scratch / "throughput.json").write_text(
        json.dumps(whole, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"
    )
    write_csv(cells, scratch / "throughput.csv")
    (scratch / "throughput.svg").write_text(drawing.file, encoding="utf-8")
    (scratch / "throughput.md").write_text(markdown(whole, found, alt), encoding="utf-8")


def _comparable(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells by optimizer and batch size, each once, or say why they are not one comparison.

    Raises:
        UsageError: They differ in more than optimizer and batch size, or two of them in neither.
    """
    unique = list({cell.id: cell for cell in cells}.values())
    first = unique[0].config
    for cell in unique:
        if cell.incompatible:
            raise Incompatible(cell.incompatible)
        alike = replace(cell.config, **{name: getattr(first, name) for name in VARIED})
        for name, value in vars(alike).items():
            if value != getattr(first, name):
                raise UsageError(
                    f"bench throughput compares optimizers and batch sizes, but this grid varies {name} too"
                )
    names = [_name(cell) for cell in unique]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"bench throughput compares optimizers and batch sizes, but this grid has {twice} twice")
    order = list(dict.fromkeys(cell.axes.optimizer for cell in unique))
    return sorted(unique, key=lambda cell: (order.index(cell.axes.optimizer), cell.batch_size))


def _name(cell: Cell) -> str:
    return f"{cell.axes.optimizer}:{cell.batch_size}"


def _control(cells: Sequence[Cell], name: str | None) -> Cell:
    if name is None:
        return min(cells, key=lambda cell: cell.batch_size)
    named = {_name(cell): cell for cell in cells}
    if name not in named:
        raise unknown("--control", name, named)
    return named[name]


def _contestant(cell: Cell) -> Contestant:
    device = prepare(cell.config.device.name, cell.config.device.threads, cell.config.precision)
    return Contestant(cell.axes.optimizer, cell.batch_size, cell.steps_per_epoch, fresh_trial(cell, device))


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return records(frame.astype(object).where(frame.notna(), None))


class _Watch:
    """Watches what else the machine does from when it is made."""

    def __init__(self) -> None:
        self._pressure = Pressure()
        self._start, self._own, self._all = time.monotonic(), time.process_time(), _busy()

    def seen(self) -> dict[str, float]:
        """Return `Pressure.shares` and "others": how many cores other processes kept busy, on average."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        others = (_busy() - self._all - (time.process_time() - self._own)) / seconds
        return self._pressure.shares() | {"others": round(max(0.0, others), 3)}


def _busy() -> float:
    """Return the seconds that all processors have worked since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


class _Show(Protocol):
    def __call__(self, done: int, of: int) -> None: ...


@contextmanager
def _shown() -> Iterator[_Show]:
    """Show progress: a bar in a terminal, ten lines elsewhere."""
    stream = sys.stderr
    if not stream.isatty():

        def line(done: int, of: int) -> None:
            if 10 * done // of > 10 * (done - 1) // of:
                print(f"bench: {done} of {of} windows", file=stream, flush=True)

        yield line
        return
    columns = (TextColumn("windows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream)) as bar:
        shown = bar.add_task("windows")
        yield lambda done, of: bar.update(shown, completed=done, total=of)


@contextmanager
def _scratch(out: Path | None) -> Iterator[Path | None]:
    """Make a folder beside the one to write, which goes again: an interrupted run leaves nothing half there.

    Raises:
        UsageError: Nothing can be written there.
    """
    if out is None:
        yield None
        return
    try:
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(0, "not a folder")
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _put(scratch: Path, out: Path) -> None:
    """Move finished files into their folder, each whole; others there stay."""
    try:
        out.mkdir(exist_ok=True)
        for file in sorted(scratch.iterdir()):
            file.replace(out / file.name)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror or error})") from None
