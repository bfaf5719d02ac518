"""`mirror.json`: what the mirror of a sweep holds, what it lacks, and why."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.results.files import write_whole
from bench.results.private import private
from bench.results.store import CURVES, RECORD, Store

FILE = "mirror.json"
RUN_ID = re.compile(r"[0-9a-f]{16}")
MIRRORED = "mirrored"
MISSING = "missing"
NOT_TRIED = "not tried after: "


class StateError(BenchError):
    """A `mirror.json` that cannot be read."""


@dataclass(frozen=True)
class CellMirror:
    """How one cell stands in the mirror.

    Attributes:
        status: "mirrored" or "missing".
        digest: `record_sha256` of the record this is about; None where it could not be read.
        run: Id of the W&B run; None where there is none.
        path: Folder of that run, relative to the sweep's folder where it lies inside, else absolute.
        reason: Why it is missing, in one line; None if it is not.
    """

    status: str
    digest: str | None = None
    run: str | None = None
    path: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class MirrorState:
    """What the mirror of a sweep holds and what it lacks.

    Attributes:
        tracker: Name of the tracker.
        mode: Its mode when it last ran.
        cells: Cell id → how it stands.
        note: What went wrong with the mirror as a whole, in one line; None if nothing did.
    """

    tracker: str
    mode: str
    cells: dict[str, CellMirror] = field(default_factory=dict)
    note: str | None = None

    @property
    def missing(self) -> dict[str, str]:
        """Cells the mirror lacks: cell id → the reason."""
        return {cell: entry.reason or "not mirrored" for cell, entry in self.cells.items() if entry.status != MIRRORED}

    def sentence(self) -> str:
        """Say in one line what the mirror holds and what it lacks."""
        missing = self.missing
        held = len(self.cells) - len(missing)
        text = f"{self.tracker} ({self.mode}) mirrors {held} of {len(self.cells)} cells"
        if missing:
            reasons = sorted({reason.removeprefix(NOT_TRIED) for reason in missing.values()})
            text += f"; missing: {'; '.join(reasons)}"
        return text + (f" [{self.note}]" if self.note and self.note not in text else "")

    def to_json(self) -> str:
        """Serialise with sorted keys."""
        return private(json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "MirrorState":
        """Parse what `to_json` wrote.

        Raises:
            StateError: It is no such thing.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            names = {f.name for f in dataclasses.fields(CellMirror)}
            cells = {
                str(cell): CellMirror(**{name: value for name, value in entry.items() if name in names})
                for cell, entry in raw["cells"].items()
            }
            note = raw.get("note")
            texts = [value for entry in cells.values() for value in vars(entry).values()]
            if not all(isinstance(value, str | None) for value in (note, *texts)):
                raise ValueError("a field that is no text")
            return cls(tracker=str(raw["tracker"]), mode=str(raw["mode"]), cells=cells, note=note)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StateError(f"not a mirror state ({type(error).__name__}: {error})") from None


def record_sha256(store: Store, cell: str) -> str:
    """Return the SHA-256 of both files of a record, 64 hexadecimal digits.

    The digest in a record cannot serve here: only complete cells have one, and times are not in it.

    Raises:
        OSError: One of the files is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for name in (RECORD, CURVES):
        digest.update(hashlib.sha256((store.cell_path(cell) / name).read_bytes()).digest())
    return digest.hexdigest()


def read_state(store: Store) -> MirrorState | None:
    """Read the sweep's `mirror.json`; None where there is none.

    Raises:
        StateError: It cannot be read; the message names the file.
    """
    file = store.path / FILE
    try:
        return MirrorState.from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"{file}: {error}") from None
    except StateError as error:
        raise StateError(f"{file}: {error}") from None


def write_state(store: Store, state: MirrorState) -> None:
    """Put the sweep's `mirror.json` in place, whole.

    Raises:
        OSError: The disk is full or not writable; the old file stays as it was.
    """
    write_whole(store.path / FILE, state.to_json())


def mirrored_path(store: Store, path: str) -> Path:
    """Return a path of `mirror.json`, in which the home folder is "~"."""
    return store.path / Path(path).expanduser()


def run_folder(store: Store, entry: CellMirror) -> Path | None:
    """Return the folder of a mirrored run; None where its log is no longer there, or it is no folder of such a run."""
    if entry.status != MIRRORED or entry.path is None or entry.run is None:
        return None
    folder = mirrored_path(store, entry.path)
    # Folders of runs are removed when a record is replaced: no file may say that another is one.
    if not RUN_ID.fullmatch(entry.run) or not folder.name.endswith(f"-{entry.run}") or folder.parent.name != "wandb":
        return None
    return folder if (folder / f"run-{entry.run}.wandb").is_file() else None
