"""`bench retry`: run cells again that did not end well, with the configuration that their records hold."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from bench.config import Cell, resolve
from bench.errors import BenchError, UsageError, printable, unknown
from bench.launching.sweep import run_again
from bench.launching.verify import foreign_keys, stored_config
from bench.results.record import CellStatus, Record, RecordError
from bench.results.store import Store

#: Statuses of cells that can be run again: a complete record is never replaced.
RETRIED = tuple(str(status) for status in CellStatus if status != CellStatus.COMPLETE)
#: Configuration keys that say where data are; nothing that is computed depends on them.
PLACES = ("data.root", "data.download")
#: Configuration keys that name code.
CODE = ("task.module", "optimizer.target", "optimizer.fallback.target")


def retry(store: Store, statuses: str, overrides: Sequence[str] = (), workers: int | str = "auto") -> int:
    """Run the cells of some statuses again and print what has changed.

    Args:
        store: The sweep.
        statuses: Which cells, "failed,oom": names of `RETRIED`, separated by commas.
        overrides: `PLACES` as they are on this machine, and what of `CODE` a record may import: a record is data, and
            code outside the suite that it names is imported only where it is repeated here.
        workers: As for `bench.launching.sweep.run_sweep`.

    Returns:
        0 all of them are complete now, or there was none; 1 one is not; 130 interrupted.

    Raises:
        UsageError: An unknown status or override, or what `run_sweep` refuses; nothing has been run then.
    """
    wanted = _statuses(statuses)
    places, code = _overrides(overrides)
    store.sweep_leftovers()
    records = _records(store, wanted)
    if not records:
        print(f"no cell of sweep {store.sweep} is {' or '.join(wanted)}")
        return 0
    cells: list[Cell] = []
    for record in records:
        cell = _cell(record, places, code)
        if isinstance(cell, Cell):
            cells.append(cell)
        else:
            print(printable(f"{record.cell} {record.axes.task} {record.axes.optimizer}: not run again ({cell})"))
    exit_code = run_again(cells, store, workers) if cells else 1
    changed = _report(store, {record.cell: record for record in records}, cells)
    print(f"retry: {changed['complete']} of {len(records)} cells are complete now")
    return exit_code or int(len(cells) < len(records) or changed["complete"] < len(cells))


def _statuses(given: str) -> list[str]:
    words = [word.strip() for word in given.split(",") if word.strip()]
    for word in words:
        if word not in RETRIED:
            raise unknown("status to run again", word, RETRIED)
    if not words:
        raise UsageError(f"--status {given!r}: name at least one of {', '.join(RETRIED)}")
    return list(dict.fromkeys(words))


def _overrides(words: Sequence[str]) -> tuple[list[str], set[str]]:
    """Return the places, "key=value" each, and the references to code that may be imported."""
    places, code = [], set()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--override {word}: write KEY=VALUE")
        if key in CODE:
            code.add(value)
        elif key in PLACES:
            places.append(word)
        else:
            raise unknown("key to override", key, [*PLACES, *CODE])
    return places, code


def _records(store: Store, wanted: Sequence[str]) -> list[Record]:
    """Return the records of the wanted statuses; name those that cannot be read."""
    found = []
    for cell in store.cells():
        try:
            if store.glance(cell).status in wanted:
                found.append(store.read(cell))
        except RecordError as error:
            print(printable(f"bench: left out: {cell}: {error}"), file=sys.stderr)
    return found


def _cell(record: Record, places: list[str], code: set[str]) -> Cell | str:
    """Return the cell that a record's configuration describes, or why it cannot be run."""
    try:
        stored = stored_config(record)
        foreign = {key: name for key, name in foreign_keys(record.config).items() if name not in code}
        if foreign:
            named = " ".join(f"--override {key}={name}" for key, name in foreign.items())
            return f"it runs {' and '.join(foreign.values())}, code outside the suite; {named} lets it"
        config = OmegaConf.merge(stored, OmegaConf.from_dotlist(places))
        assert isinstance(config, DictConfig)
        cell = resolve(config)
    except BenchError as error:
        return str(error)
    if cell.id != record.cell:
        return f"its configuration now has the id {cell.id}"
    return replace(cell, command=record.command)


def _report(store: Store, before: dict[str, Record], cells: Sequence[Cell]) -> Counter[str]:
    """Print what became of each cell; return how many have each status now."""
    counts: Counter[str] = Counter()
    for cell in cells:
        try:
            record = store.read(cell.id)
        except RecordError as error:
            print(f"bench: {error}", file=sys.stderr)
            continue
        counts[str(record.status)] += 1
        old = before[cell.id]
        if record == old:
            print(f"{cell.id} {cell.label}: {old.status} as before, not run")
            continue
        reason = f" ({record.reason})" if record.reason else ""
        print(printable(f"{cell.id} {cell.label}: {old.status} → {record.status}{reason}"))
    return counts
