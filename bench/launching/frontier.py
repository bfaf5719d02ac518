"""`bench frontier`: the largest batch of a task and optimizer that fits a device, predicted and found.

Batches are tried in a process of their own, which is held to an amount of memory: what does not fit ends that process
at worst.
"""

import json
import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

from bench.config import Cell
from bench.devices import check_single
from bench.errors import BenchError, UsageError
from bench.launching.cell import load_cell_task, optimizer_builder
from bench.measure.frontier import Attempt, Line, activation_line, attempt, largest, limit_memory, search, through
from bench.measure.memory import MIB
from bench.tasks.problem import EXAMPLES_INNERMOST
from bench.training.devices import prepare

#: MiB that batches may take on a CPU unless told otherwise, and the part of the free memory that they never exceed.
CPU_LIMIT_MIB, FREE_SHARE = 2048.0, 0.5
#: Parts of the limit that the two small batches fill by the activation line, from which the frontier is predicted.
SMALL_SHARES = (0.05, 0.1)
#: Seconds that one attempt may take.
PATIENCE = 600.0


@dataclass(frozen=True)
class Frontier:
    """What was predicted and found.

    Attributes:
        cell: The cell in words, but for its batch size.
        limit_mib: Memory that batches may take, MiB.
        activations: Bytes that autograd keeps for backward, counted.
        peaks: Bytes at peak, through two small batches as measured.
        predicted: Largest batch that fits, by `peaks`.
        found: Largest that did.
        tried: What was tried.
    """

    cell: str
    limit_mib: float
    activations: Line
    peaks: Line
    predicted: int
    found: int
    tried: tuple[Attempt, ...]


class _Trier:
    """Tries batch sizes in a process of its own, and starts another where one died."""

    def __init__(self, cell: Cell, limit_mib: float) -> None:
        self._cell, self._limit = cell, limit_mib
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._line, theirs = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(theirs, self._cell, self._limit), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, size: int) -> Attempt:
        """Try a size.

        Raises:
            BenchError: Something else than its size was wrong.
        """
        try:
            self._line.send(size)
            if not self._line.poll(PATIENCE):
                raise BenchError(f"a batch of {size} took longer than {PATIENCE:.0f} s")
            reply: Attempt | str = self._line.recv()
        except (EOFError, OSError):
            self.close()
            code = self._process.exitcode
            self._start()
            return Attempt(size, None, f"its process ended with exit code {code}")
        if isinstance(reply, str):
            raise BenchError(reply)
        return reply

    def close(self) -> None:
        """End the process."""
        self._line.close()
        self._process.kill()
        self._process.join()


def serve(line: Connection, cell: Cell, limit_mib: float) -> None:
    """Try what is asked for until the line is closed: the process of `_Trier`."""
    with suppress(EOFError, OSError, KeyboardInterrupt):
        try:
            device = prepare(cell.config.device.name, cell.config.device.threads, cell.config.precision)
            task, build = load_cell_task(cell, device), optimizer_builder(cell)
            # Whatever is built lazily belongs to the process, not to a batch.
            attempt(task, build, 1)
            limit_memory(device, limit_mib)
        except BenchError as error:
            line.recv()
            line.send(str(error))
            return
        while True:
            line.send(attempt(task, build, line.recv()))


def find_frontier(cell: Cell, limit_mib: float | None, most: int, say: Callable[[str], None]) -> Frontier:
    """Predict and find the largest batch that fits.

    Args:
        cell: Task, optimizer, device and precision; its batch size is not looked at.
        limit_mib: Memory that batches may take, MiB; None for the device's own (on a CPU, `CPU_LIMIT_MIB` and at most
            half of what is free).
        most: Largest batch to try.
        say: Told of each attempt.

    Raises:
        UsageError: A limit or largest batch out of range.
        BenchError: The cell cannot be tried at all.
    """
    check_single(cell.config.device.name, "bench frontier")
    device = prepare(cell.config.device.name, cell.config.device.threads, cell.config.precision)
    limit = _limit(device, limit_mib)
    if most < 1:
        raise UsageError(f"--most {most}: must be at least 1")
    activations = activation_line(load_cell_task(cell, device), (EXAMPLES_INNERMOST, 2 * EXAMPLES_INNERMOST))
    trier = _Trier(cell, limit)

    def tried(size: int) -> Attempt:
        done = trier(size)
        say(f"{size:>10,}  " + (f"fits, {done.peak_bytes / MIB:,.1f} MiB" if done.peak_bytes is not None else "no"))
        return done

    try:
        small = [max(1, min(most, activations.largest(share * limit * MIB))) for share in SMALL_SHARES]
        if small[0] == small[1]:
            small = [1, 2]
        points = [tried(size) for size in small]
        lost = next((point for point in points if not point.fits), None)
        if lost is not None:
            raise BenchError(f"a batch of {lost.batch_size} does not fit {limit:,.0f} MiB: {lost.reason}")
        first, second = ((point.batch_size, float(point.peak_bytes or 0)) for point in points)
        peaks = through(first, second)
        predicted = min(most, peaks.largest(limit * MIB))
        attempts = [*points, *search(tried, predicted, most)]
    finally:
        trier.close()
    label = f"{cell.axes.task} {cell.axes.optimizer} {cell.axes.device} {cell.axes.precision}"
    return Frontier(label, limit, activations, peaks, predicted, largest(attempts), tuple(attempts))


def frontier(overrides: list[str], limit_mib: float | None, most: int, out: Path | None) -> int:
    """Find the frontier of a configuration, print it, and write it if a file is given; return 0."""
    from bench.composition import compose_config
    from bench.config import resolve

    cell = resolve(compose_config(overrides))
    found = find_frontier(cell, limit_mib, most, lambda words: print(words, flush=True))
    print(in_words(found))
    if out is not None:
        try:
            out.write_text(json.dumps(_plain(found), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out {out}: cannot be written ({error.strerror})") from None
    return 0


def in_words(found: Frontier) -> str:
    """Return a frontier in a few lines."""
    lines = [
        f"{found.cell}, {found.limit_mib:,.0f} MiB",
        f"kept for backward, counted: {found.activations.constant:,.0f} + {found.activations.slope:,.1f} · batch bytes",
        f"peak, measured at two small batches: {found.peaks.constant:,.0f} + {found.peaks.slope:,.1f} · batch bytes",
        f"largest batch: {found.predicted:,} predicted, {found.found:,} found",
    ]
    if found.found:
        lines[-1] += f" ({found.predicted / found.found - 1:+.1%})"
    return "\n".join(lines)


def _plain(found: Frontier) -> dict[str, Any]:
    return asdict(found) | {"activations": found.activations._asdict(), "peaks": found.peaks._asdict()}


def _limit(device: torch.device, asked: float | None) -> float:
    if asked is not None and asked <= 0:
        raise UsageError(f"--limit-mib {asked:g}: must be greater than 0")
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] / MIB
        return min(asked or free, free)
    most = FREE_SHARE * psutil.virtual_memory().available / MIB
    if asked is not None and asked > most:
        raise UsageError(f"--limit-mib {asked:g}: at most half of what is free here, {most:,.0f} MiB")
    return asked or min(CPU_LIMIT_MIB, most)
