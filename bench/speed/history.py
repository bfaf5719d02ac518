"""The history of speed checks: one JSON line a check in one file, and the table that is made of it."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError
from bench.results.machine import cpu_name, memory_gib, platform_name
from bench.speed.result import CaseResult, CheckResult, from_line

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "check",
    "time",
    "base_commit",
    "head_commit",
    "fingerprint",
    "compared",
    "case",
    "verdict",
    "change",
    "head_seconds",
    "base_seconds",
    "noise",
    "detectable",
)


@dataclass(frozen=True)
class History:
    """What a history file holds.

    Attributes:
        checks: Every check that can be read, in order of their lines; a line that stands there twice counts once.
        problems: One text per line that cannot be read, beginning with its number: "line 3: …".
    """

    checks: tuple[CheckResult, ...]
    problems: tuple[str, ...]


def fingerprint(python: str, torch: str | None, capability: str | None) -> dict[str, Any]:
    """Describe what has to be equal for absolute times of two checks to be compared.

    Args:
        python: Version of the interpreter that ran the cases.
        torch: Version of its torch; None without.
        capability: Instruction set that torch uses; None without.

    Returns:
        Processor, instruction set in use, logical cores, memory in whole GiB, system, Python x.y, torch, threads.
        Nothing that changes while a machine runs, and no name of a person, host or path.
    """
    return {
        "cpu": cpu_name(),
        "cpu_capability": capability,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_gib()),
        "platform": platform_name(),
        "python": ".".join(python.split(".")[:2]),
        "torch": torch,
        "threads": 1,
    }


def fingerprint_id(fingerprint: dict[str, Any]) -> str:
    """Return eight hexadecimal digits that stand for a fingerprint: the same for equal ones, whatever their order."""
    text = json.dumps(fingerprint, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def append(path: Path, result: CheckResult) -> None:
    """Put a check at the end of a history file, as `append_line` does.

    Args:
        path: The file.
        result: The check.

    Raises:
        UsageError: As `append_line`.
    """
    append_line(path, result.to_line())


def append_line(path: Path, text: str) -> None:
    """Put a line at the end of a file, whole or not at all, and flush it to disk.

    Writers wait for one another. A last line that a kill or a full disk cut off stays where it is, on a line of its
    own, and `read` names it: it may be a whole check whose line feed an editor dropped.

    Args:
        path: The file; made where it is not there. Its folder must exist.
        text: The line, without its end.

    Raises:
        UsageError: The file cannot be written; it then holds what it held before.
    """
    line = f"{text}\n".encode()
    try:
        with _opened(path) as (descriptor, alone):
            size = os.lseek(descriptor, 0, os.SEEK_END)
            try:
                _write(descriptor, line if _ends_line(descriptor, size) else b"\n" + line)
                os.fsync(descriptor)
            except BaseException:
                # Without a lock, what stands beyond may be somebody else's line.
                if alone:
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, size)
                raise
    except OSError as error:
        raise UsageError(f"{path}: the check cannot be stored ({error.strerror or error})") from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, bool]]:
    """Open a file to append to, and tell whether other writers wait until it is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
    try:
        alone = False
        # Neither the platform nor the file system need know locks.
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
            alone = True
        yield descriptor, alone
    finally:
        os.close(descriptor)


def _ends_line(descriptor: int, size: int) -> bool:
    if size == 0:
        return True
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) == b"\n"


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it: a disk that fills up takes a part first and refuses the rest."""
    while data:
        data = data[os.write(descriptor, data) :]


def read(path: Path) -> History:
    """Read a history file; one that is not there has no checks.

    Raises:
        UsageError: It is there and cannot be opened.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    checks: dict[bytes, CheckResult] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line in checks:
            continue
        try:
            check = from_line(line.decode())
            _rows(check)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            problems.append(f"line {number}: {_why(line, error)}")
        else:
            checks[line] = check
    return History(tuple(checks.values()), tuple(problems))


def _why(line: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not text"
    if line.startswith(b"{") and not line.endswith(b"}"):
        return "cut off"
    text = str(error)
    return text if text.startswith(("not a check", "schema")) else f"not a check: {text}"


def table(results: Sequence[CheckResult]) -> "pd.DataFrame":
    """Return one row per check and case, in order of time.

    Args:
        results: Checks, in any order.

    Returns:
        Columns `COLUMNS`: `check` (1 for the earliest), `time` (UTC), the commits, `fingerprint` (its id), `compared`
        ("commits", or "environments" where the arms differ in Python or torch), `case`, `verdict`, `change` (slowdown
        as a fraction), `head_seconds` and `base_seconds` (of one call: median over the pairs that `change` comes
        from), `noise` and `detectable` of the check. What is not known is missing.
    """
    # A check that is only stored does without.
    import pandas as pd

    ordered = sorted(results, key=lambda check: _instant(check.time))
    rows = [{"check": number, **row} for number, check in enumerate(ordered, 1) for row in _rows(check)]
    numbers = dict.fromkeys(("change", "head_seconds", "base_seconds", "noise", "detectable"), float)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(numbers | {"check": int})
    return frame.assign(time=pd.to_datetime(frame["time"], utc=True))


def _rows(check: CheckResult) -> list[dict[str, Any]]:
    same = (check.base.python, check.base.torch) == (check.head.python, check.head.torch)
    shared = {
        "time": _instant(check.time),
        "base_commit": check.base.commit,
        "head_commit": check.head.commit,
        "fingerprint": fingerprint_id(check.fingerprint),
        "compared": "commits" if same else "environments",
        "noise": _number(check.noise),
        "detectable": _number(check.detectable),
    }
    return [shared | _row(case) for case in check.cases]


def _row(case: CaseResult) -> dict[str, Any]:
    pairs = case.confirmation or case.pairs
    return {
        "case": case.case,
        "verdict": str(case.verdict),
        "change": _number(case.change),
        "head_seconds": median(float(pair.head) for pair in pairs) if pairs else math.nan,
        "base_seconds": median(float(pair.base) for pair in pairs) if pairs else math.nan,
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
