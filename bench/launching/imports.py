"""`bench import`: trials that others published, as exported tables."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.errors import unknown
from bench.results.imports import Show, import_batch_science

#: Layout → the folder that its tables go to where none is given.
LAYOUTS = {"batch-science": Path("imported/batch-science")}


def import_published(layout: str, path: Path, out: Path | None) -> int:
    """Import published trials and say what was written; return 0, also where some files could not be read.

    Args:
        layout: Of `LAYOUTS`.
        path: Folder of what was published.
        out: Folder of the tables; None for that of `LAYOUTS`.

    Raises:
        UsageError: An unknown layout, nothing that can be read, or a folder that cannot be written.
    """
    if layout not in LAYOUTS:
        raise unknown("layout to import", layout, LAYOUTS)
    with _shown() as show:
        written, unreadable = import_batch_science(path, out or LAYOUTS[layout], show)
    for file, rows in written:
        print(f"{file}: {rows} rows")
    if unreadable:
        print(f"bench: warning: {unreadable} files could not be read and were left out", file=sys.stderr)
    return 0


@contextmanager
def _shown() -> Iterator[Show]:
    """Show progress: a bar in a terminal, a line for each study elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:

        def line(number: int, total: int, name: str, trials: int) -> None:
            print(f"[{number}/{total}] {name}: {trials} trials", file=sys.stderr, flush=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("studies", total=None)

        def show(number: int, total: int, name: str, trials: int) -> None:
            progress.update(bar, total=total, completed=number, description=escape(f"{name}: {trials} trials"))

        yield show
