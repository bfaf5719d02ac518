"""`bench merge`: the records of two machines in one store."""

import sys

from bench.analysis.words import plural
from bench.errors import UsageError, printable
from bench.results.merge import Merge, plan_merge, write_merge
from bench.results.store import Store


def merge_sweeps(first: Store, second: Store, out: Store | None, dry_run: bool = False) -> int:
    """Join two stores and say what became of each record.

    Args:
        first: Its records come first.
        second: The other store.
        out: The store that gets both; None for the first.
        dry_run: Whether to say only what would be done.

    Returns:
        0 all well; 1 a cell has different digests where it should not, and nothing was written, or a record could not
        be read and was left out.

    Raises:
        UsageError: The stores cannot be joined, or the target cannot be written.
        RecordError: A plan cannot be read.
    """
    merge = plan_merge(first, second, out)
    for cell, reason in sorted(merge.unreadable.items()):
        print(printable(f"bench: left out: {cell}: {reason}"), file=sys.stderr)
    for cell, reason in sorted(merge.kept.items()):
        print(printable(f"{cell} {merge.labels[cell]}: kept as it is ({reason})"))
    for cell, reason in sorted(merge.replaced.items()):
        print(printable(f"{cell} {merge.labels[cell]}: {'would be ' if dry_run else ''}replaced ({reason})"))
    if merge.conflicts:
        for cell, reason in sorted(merge.conflicts.items()):
            print(
                printable(f"bench: {cell} {merge.labels[cell]}: {reason}, on the same hardware and versions"),
                file=sys.stderr,
            )
        print(
            printable(f"bench: in conflict: {plural(len(merge.conflicts), 'cell')}; nothing was written"),
            file=sys.stderr,
        )
        return 1
    if not dry_run:
        try:
            write_merge(merge, [second] if out is None else [first, second])
        except OSError as error:
            raise UsageError(f"{merge.target.path}: cannot be written ({error.strerror or error})") from None
    print(_summary(merge, dry_run))
    return 1 if merge.unreadable else 0


def _summary(merge: Merge, dry_run: bool) -> str:
    copied = "would be copied" if dry_run else "copied"
    return (
        f"merge: {len(merge.copies)} records {copied} to {merge.target.path}, {len(merge.same)} the same in both, "
        f"{len(merge.kept)} kept"
    )
