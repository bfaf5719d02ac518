"""Join the stores of two machines: decide everything first, then copy, or copy nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.errors import UsageError
from bench.results.glance import label
from bench.results.plan import add_to_plan, read_plan
from bench.results.record import FINISHED, SAME_BITS, CellStatus, Record, RecordError
from bench.results.store import SWEEP_NAME, Store


@dataclass
class Merge:
    """What joining stores comes to.

    Attributes:
        target: The store that gets the records.
        copies: Store that each record is copied from, by cell id.
        replaced: Why a record makes way for a copy, by cell id.
        same: Ids of cells that are the same in both.
        labels: Cells that two stores have, in a few words, by cell id.
        kept: Why a record is kept although another store has a different one, by cell id.
        conflicts: How records differ that should not, by cell id.
        unreadable: Why a record is left out, by cell id.
    """

    target: Store
    copies: dict[str, Store] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    same: set[str] = field(default_factory=set)
    labels: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def plan_merge(first: Store, second: Store, out: Store | None = None) -> Merge:
    """Decide what becomes of each record; nothing is written.

    A result (complete, or out of memory) of the first store is kept, and so is whatever the second has nothing better
    for; what the first lacks, cannot read or has no result of is taken from the second.

    Args:
        first: Its records come first.
        second: The other store.
        out: A third store that gets the records of both, behind what it has; None for the first.

    Raises:
        UsageError: Two of the stores are one, or the name of the third is none for a sweep.
    """
    if first.path.resolve() == second.path.resolve():
        raise UsageError(f"{second.path}: is the first store itself")
    sources = [second]
    if out is not None and out.path.resolve() != first.path.resolve():
        if out.path.resolve() == second.path.resolve():
            raise UsageError(f"--out {out.path}: is the second store itself; to add the first to it, give it first")
        if not SWEEP_NAME.fullmatch(out.sweep):
            raise UsageError(
                f"--out {out.path}: a sweep's name is letters, digits, '.', '_', '-', a letter or digit first"
            )
        sources = [first, second]
    merge = Merge(first if out is None else out)
    holders = dict.fromkeys(merge.target.cells(), merge.target)
    for source in sources:
        for cell in source.cells():
            try:
                theirs = _checked(source, cell)
            except RecordError as error:
                merge.unreadable[cell] = str(error)
                continue
            if cell not in holders or _decide(merge, cell, holders[cell], theirs):
                merge.copies[cell] = holders[cell] = source
    return merge


def write_merge(merge: Merge, sources: Sequence[Store]) -> None:
    """Copy what was decided, each record whole or not at all, and add the plans up.

    Args:
        merge: As `plan_merge` returned, without conflicts.
        sources: The stores whose plans are added to the target's.

    Raises:
        OSError: The disk is full or not writable; what was copied before stays, and the same merge goes on.
        RecordError: A plan cannot be read.
    """
    plans = [read_plan(source) for source in sources]
    merge.target.path.mkdir(parents=True, exist_ok=True)
    for cell, source in sorted(merge.copies.items()):
        merge.target.adopt(source, cell)
    for plan in plans:
        if plan:
            add_to_plan(merge.target, plan)


def _checked(store: Store, cell: str) -> Record:
    """Read all that a cell has."""
    record = store.read(cell)
    store.curves(cell)
    store.snapshots(cell)
    try:
        store.glance(cell)
    except RecordError as error:
        raise RecordError(f"{store.cell_path(cell)}: {error}") from None
    return record


def _decide(merge: Merge, cell: str, holder: Store, theirs: Record) -> bool:
    """Note what becomes of a cell that two stores have, "here" and "there"; return whether theirs is to be copied."""
    merge.labels[cell] = label(vars(theirs.axes))
    try:
        ours = _checked(holder, cell)
    except RecordError as error:
        merge.replaced[cell] = str(error)
        return True
    if ours.status == theirs.status == CellStatus.COMPLETE:
        if ours.digest == theirs.digest:
            merge.same.add(cell)
            return False
        differs = _differs(ours, theirs)
        if differs:
            merge.kept[cell] = differs
        else:
            merge.conflicts[cell] = f"digest {_short(ours.digest)} here, {_short(theirs.digest)} there"
        return False
    if ours.status not in FINISHED and theirs.status in FINISHED:
        merge.replaced[cell] = f"{ours.status} here, {theirs.status} there"
        return True
    if ours == theirs:
        merge.same.add(cell)
    else:
        merge.kept[cell] = f"{ours.status} here, {theirs.status} there"
    return False


def _differs(ours: Record, theirs: Record) -> str:
    """Return what explains that the digests of equal configurations differ; empty for nothing."""
    if not (ours.repeatable and theirs.repeatable):
        return "a clock decided how many steps were taken"
    changed = [key for key in SAME_BITS if ours.environment.get(key) != theirs.environment.get(key)]
    return "; ".join(f"{key}: {ours.environment.get(key)} here, {theirs.environment.get(key)} there" for key in changed)


def _short(digest: str | None) -> str:
    return (digest or "none")[:12]
