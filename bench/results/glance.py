"""What a record says at a glance: how its cell ended and what it took, without reading all of it.

Reading a record whole takes a millisecond or more, most of it for trials; a sweep may have ten thousand.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

from bench.results.record import SCHEMA_VERSION, CellStatus, Record, RecordError, TrialStatus

_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Glance:
    """How a cell ended.

    Attributes:
        status: The record's status.
        reason: Why it is not complete, in one line; None for a complete cell.
        seconds: Wall-clock seconds that the cell took, all parts together.
        trials: Number of trials.
        diverged: How many of them diverged.
        label: The cell in a few words.
        task: Its task.
        device: Its device.
    """

    status: CellStatus
    reason: str | None
    seconds: float
    trials: int
    diverged: int
    label: str
    task: str
    device: str


def glance(content: bytes) -> Glance:
    """Read what is needed of a record.json.

    Args:
        content: Of the file.

    Raises:
        RecordError: It is truncated, of a newer schema or malformed; the message does not name the file.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise RecordError("not text") from None
    return _quick(text) or _whole(text)


def _quick(text: str) -> Glance | None:
    """Look only where `Record.to_json` puts things; None where a text is laid out otherwise.

    There, a line that begins with one space and a quotation mark is a field of the record itself: strings have no line
    breaks of their own in JSON, and what is nested is indented further. Trials come last.
    """
    if not text.endswith("\n}\n") or _field(text, "schema") != SCHEMA_VERSION:
        return None
    status, axes, seconds = (_field(text, name) for name in ("status", "axes", "seconds"))
    trials = text.find('\n "trials": [')
    if trials < 0 or not isinstance(axes, dict) or not isinstance(seconds, dict) or status not in list(CellStatus):
        return None
    reason = _field(text, "reason")
    sound = all(type(value) in (int, float) and math.isfinite(value) for value in seconds.values())
    if (
        not sound
        or not isinstance(reason, str | None)
        or any(isinstance(value, dict | list) for value in axes.values())
    ):
        return None
    try:
        return Glance(
            status=CellStatus(status),
            reason=reason,
            seconds=sum(seconds.values()),
            trials=text.count('\n   "parameters_sha256": ', trials),
            diverged=text.count(f'\n   "status": "{TrialStatus.DIVERGED}"', trials),
            label=label(axes),
            task=axes["task"],
            device=axes["device"],
        )
    except (KeyError, TypeError):
        return None


def _field(text: str, name: str) -> Any:
    start = f'\n "{name}": '
    place = text.find(start)
    try:
        return _DECODER.raw_decode(text, place + len(start))[0] if place >= 0 else None
    except (ValueError, RecursionError):
        return None


def _whole(text: str) -> Glance:
    record = Record.from_json(text)
    return Glance(
        status=record.status,
        reason=record.reason,
        seconds=sum(record.seconds.values()),
        trials=len(record.trials),
        diverged=sum(trial.status == TrialStatus.DIVERGED for trial in record.trials),
        label=label(vars(record.axes)),
        task=record.axes.task,
        device=record.axes.device,
    )


def label(axes: dict[str, Any]) -> str:
    """Return a cell in a few words, from the fields of its `Axes`."""
    size = "full" if axes["full_batch"] else axes["batch_size"]
    words = f"{axes['task']} {axes['optimizer']} B={size} {axes['device']}"
    return words if axes["precision"] == "float32" else f"{words} {axes['precision']}"
