"""`bench run -m --dry-run`: what would be run, in how many jobs and hours. Writes nothing."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.analysis.words import plural
from bench.config import Cell
from bench.launching.estimate import duration
from bench.launching.packing import Rates, earlier_rates, pack
from bench.launching.settings import SlurmSettings
from bench.launching.slurm.launch import Work
from bench.launching.sweep import Local, worker_count
from bench.results.store import Store


def describe_local(local: Local, store: Store, done: Sequence[Cell], pending: Sequence[Cell]) -> None:
    """Print what a launch on this machine would run.

    Args:
        local: How cells are run.
        store: The sweep.
        done: Its cells that have a result.
        pending: Its cells to be run.
    """
    rates = earlier_rates(store)
    _say_cells(store, done, pending)
    if not pending:
        return
    workers = min(worker_count(local.workers, pending), len(pending))
    each = [rates.seconds(cell) for cell in pending]
    print(f"workers: {workers}")
    print(_times(each, workers, rates))
    _say_limit(local.cell_seconds)


def describe_jobs(settings: SlurmSettings, store: Store, done: Sequence[Cell], pending: Sequence[Cell]) -> None:
    """Print what the Slurm launcher would submit: the jobs, the cells that each would come to run, and their hours.

    Args:
        settings: The settings of the launcher.
        store: The sweep.
        done: Its cells that have a result.
        pending: Its cells to be run.
    """
    rates = earlier_rates(store)
    _say_cells(store, done, pending)
    if not pending:
        return
    work = Work.of(pending, rates, settings)
    jobs = work.jobs(work.cells.keys())
    each = [work.seconds.get(cell.id) for cell in pending]
    known = None not in each
    weights = [seconds for seconds in each if seconds is not None] if known else [cell.cost for cell in pending]
    processes = pack(weights, jobs * settings.processes)
    shares = [processes[number::jobs] for number in range(jobs)]
    table = Table(
        "job", "cells", "of cell time", "takes", "costliest cell", title="expected; jobs pull cells as they go"
    )
    for number, share in enumerate(shares, 1):
        busy = [sum(weights[place] for place in places) for places in share]
        costliest = max((place for places in share for place in places), key=lambda place: weights[place])
        table.add_row(
            str(number),
            str(sum(map(len, share))),
            duration(sum(busy)) if known else "unknown",
            duration(max(busy)) if known else "unknown",
            pending[costliest].label,
        )
    Console().print(table)
    print(f"{plural(jobs, 'job')}, each: {_words(work.resources)}")
    print(_times(each, jobs * settings.processes, rates))
    longest = max(sum(weights[place] for place in places) for places in processes)
    if known and longest > 60 * settings.minutes:
        print(f"that is more than the {settings.minutes} min of a job; more jobs are submitted as these end")
    _say_limit(settings.cell_seconds)


def _say_cells(store: Store, done: Sequence[Cell], pending: Sequence[Cell]) -> None:
    trials = sum(len(cell.lrs) * len(cell.seeds) for cell in pending)
    already = f", {len(done)} done already" if done else ""
    cells = plural(len(done) + len(pending), "cell")
    print(f"sweep {store.sweep}: {cells}{already}, {len(pending)} to run ({plural(trials, 'trial')})")


def _times(each: Sequence[float | None], processes: int, rates: Rates) -> str:
    known = [seconds for seconds in each if seconds is not None]
    if len(known) < len(each):
        return "hours: unknown, no complete cell on the same device is recorded here or in a sweep beside it"
    shares = pack(known, processes)
    end = max(sum(known[place] for place in places) for places in shares)
    return (
        f"hours: {sum(known) / 3600:.2f} of cell time, {end / 3600:.2f} from when all run to the last cell "
        f"(from {rates.records} earlier records)"
    )


def _say_limit(cell_seconds: float | None) -> None:
    if cell_seconds is not None:
        print(f"a cell that takes longer than {duration(cell_seconds)} is ended")


def _words(asked: dict[str, object]) -> str:
    """Return what a job is given, in words."""
    words: list[str] = []
    for name, value in asked.items():
        plain = name.removeprefix("slurm_")
        if isinstance(value, dict):
            words += [option if word is True else f"{option}={word}" for option, word in value.items()]
        else:
            words.append(f"{plain}={value}")
    return ", ".join(words)
