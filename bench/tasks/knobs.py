"""Knobs: what can be turned at a family of tasks, as a dataclass that documents, types and checks them."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from bench.errors import UsageError, unknown

Knobs = TypeVar("Knobs")


def parse_knobs(kind: type[Knobs], given: Mapping[str, Any], prefix: str = "task.knobs") -> Knobs:
    """Build a family's knobs from a configuration; what is not given has its default.

    Args:
        kind: A frozen dataclass whose fields are bool, int, float, str, tuples of one of these, or any of them or
            None. Its `__post_init__` checks ranges.
        given: Name → value as configured; lists stand for tuples.
        prefix: Where the values stand in the configuration, for messages.

    Raises:
        UsageError: A knob the family does not have, or a value of another kind.
    """
    hints = typing.get_type_hints(kind)
    for name in given:
        if name not in hints:
            raise unknown(f"knob ({prefix})", name, hints)
    return kind(**{name: _value(hints[name], value, f"{prefix}.{name}") for name, value in given.items()})


def plain_knobs(knobs: Any) -> dict[str, Any]:
    """Return knobs as a configuration holds them: every name, lists for tuples."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in ((field.name, getattr(knobs, field.name)) for field in dataclasses.fields(knobs))
    }


def check_at_least(knobs: object, least: Mapping[str, int]) -> None:
    """Check the least values of knobs.

    Args:
        knobs: A family's knobs.
        least: Name → smallest allowed value.

    Raises:
        UsageError: One is below.
    """
    for name, bound in least.items():
        value = getattr(knobs, name)
        if value < bound:
            raise UsageError(f"task.knobs.{name}={value:g}: must be at least {bound}")


def _value(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (kind,) = [argument for argument in typing.get_args(kind) if argument is not type(None)]
        return _value(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{where}={value}: must be a list")
        return tuple(_value(typing.get_args(kind)[0], item, where) for item in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UsageError(f"{where}={value}: must be a finite number")
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {int: "an integer", float: "a number", bool: "true or false", str: "a word"}
        raise UsageError(f"{where}={value}: must be {names[kind]}")
    return value
