"""How to reproduce each part: the commands, derived from the records."""

import dataclasses
import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.messages import Messages
from bench.results.record import Record
from bench.schema import Config


@dataclass(frozen=True)
class Recipe:
    """A command and what it gives back.

    Attributes:
        part: What it reproduces.
        command: The command line.
    """

    part: str
    command: str


def recipes(sweep: str, command: str, say: Messages, others: Sequence[tuple[str, str]] = ()) -> list[Recipe]:
    """List the commands that reproduce the parts of a report.

    Args:
        sweep: Name of the sweep.
        command: The command line that launched it.
        say: The report's language.
        others: The same of the sweeps that claims were judged on besides.
    """
    name = shlex.quote(sweep)
    also = f" --also {shlex.quote(','.join(name for name, _ in others))}" if others else ""
    return [
        Recipe(say("recipe.records"), command),
        *[Recipe(say("recipe.others", sweep=other), launched) for other, launched in others],
        Recipe(say("recipe.page"), f"bench report {name}{also}"),
        Recipe(say("recipe.export"), f"bench export {name}"),
        Recipe(say("recipe.verify"), f"bench verify {name}"),
        Recipe(say("recipe.audit"), "bench audit"),
    ]


def cell_command(record: Record) -> str:
    """Return the command that trains one cell, from the configuration in its record.

    Grid axes, learning rates, seeds and budget are spelt out, and of the rest what differs from the schema's
    defaults; what the command does not name has the default of its group.
    """
    config, axes = record.config, record.axes
    overrides = [
        f"sweep={record.sweep}",
        f"task={axes.task}",
        f"optimizer={axes.optimizer}",
        f"batch_size={'full' if axes.full_batch else axes.batch_size}",
        f"device={axes.device}",
    ]
    if axes.precision != "float32":
        overrides.append(f"precision={axes.precision}")
    for name in ("lr", "seeds"):
        if name in config:
            overrides.append(f"{name}={_value(config[name])}")
    budget = config.get("budget")
    if isinstance(budget, dict):
        overrides += [f"budget.{key}={_value(value)}" for key, value in sorted(budget.items())]
    overrides += [f"task.knobs.{word}" for word in axes.knobs.split()]
    for group in ("schedule", "batch_schedule", "rule", "training", "evaluation", "measure", "seed"):
        overrides += _differing(group, config.get(group), _defaults(group))
    return " ".join(["bench run", *(shlex.quote(override) for override in overrides)])


@functools.cache
def _defaults(group: str) -> dict[str, Any]:
    found: dict[str, Any] = dataclasses.asdict(getattr(Config(), group))
    return found


def _differing(group: str, found: Any, defaults: dict[str, Any]) -> list[str]:
    if not isinstance(found, dict):
        return []
    return [f"{group}.{key}={_value(value)}" for key, value in sorted(found.items()) if value != defaults.get(key)]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(_value(item) for item in value)}]"
    return "null" if value is None else str(value)
