"""Records survive the trip through JSON, and what does not fit is refused by name."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings

from bench.results.record import (
    SCHEMA_VERSION,
    Axes,
    CellStatus,
    Engine,
    Memory,
    Record,
    RecordError,
    Speed,
    TrialStatus,
    TrialSummary,
)
from tests.results.records import record, records, trial


@settings(max_examples=50)
@given(made=records())
def test_round_trip(made: Record) -> None:
    text = made.to_json()
    assert text.endswith("}\n")
    again = Record.from_json(text)
    assert again == made
    assert again.to_json() == text


def test_kinds_are_restored() -> None:
    again = Record.from_json(record(status=CellStatus.OOM).to_json())
    assert again.status is CellStatus.OOM
    assert again.trials[0].status is TrialStatus.COMPLETE
    assert isinstance(again.speed, Speed)
    assert isinstance(again.memory, Memory)
    assert isinstance(again.trials[1], TrialSummary)
    # A whole number is a float where a float is declared, so that equal records are equal.
    raw = json.loads(record().to_json())
    raw["trials"][0]["lr"] = 1
    lr = Record.from_json(json.dumps(raw)).trials[0].lr
    assert (lr, type(lr)) == (1.0, float)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_null(value: float) -> None:
    diverged = trial(final={"train_loss": value, "val_loss": 1.0})
    made = record(trials=[diverged], environment={"odd": (value, [value, {"deep": value}])})
    again = Record.from_json(made.to_json())
    assert again.trials[0].final == {"train_loss": None, "val_loss": 1.0}
    assert again.environment == {"odd": [None, [None, {"deep": None}]]}


def test_the_layout_is_stable() -> None:
    text = record().to_json()
    keys = list(json.loads(text))
    assert keys == sorted(keys)
    assert set(keys) == {field.name for field in dataclasses.fields(Record)}
    assert json.loads(text)["status"] == "complete"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON, perhaps truncated"),
        (record().to_json()[:200], "not valid JSON, perhaps truncated"),
        ("[]", "no integer field 'schema'"),
        ("{}", "no integer field 'schema'"),
        ('{"schema": "1"}', "no integer field 'schema'"),
        ('{"schema": null}', "no integer field 'schema'"),
        (f'{{"schema": {SCHEMA_VERSION + 1}}}', "is newer than this version reads"),
    ],
)
def test_what_is_no_record(text: str, words: str) -> None:
    with pytest.raises(RecordError, match=words) as caught:
        Record.from_json(text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (("config", "lr"), "NUMBER NaN", "the number NaN is not finite"),
        (("config", "lr"), "NUMBER 1e400", "the number 1e400 is not finite"),
        (("config", "lr"), "NUMBER 9223372036854775808", "the number 9223372036854775808 is too large"),
        (("config", "lr"), "NUMBER " + "[" * 20 + "]" * 20, "is nested too deeply"),
        (("reason",), "NUMBER " + "[" * 100_000, "nested too deeply"),
        (("reason",), "\ud800", "holds text with half a character"),
        (("axes", "batch_size"), 0, "field record.axes.batch_size is 0, must be at least 1"),
        (("config", "task"), "x", "field record.config.task should be an object, is str"),
        (("config", "task", "target"), "x", "field record.config.task.target should be float, is str"),
        (("environment", "threads"), [1], "field record.environment.threads should be int, is list"),
        (("trials", 0, "lr"), 0.0, r"field record.trials\[0\].lr is 0.0, must be above 0"),
        (("trials", 0, "seed"), -1, r"field record.trials\[0\].seed is -1, must be at least 0"),
    ],
)
def test_what_types_do_not_say(field: tuple[Any, ...], value: Any, words: str) -> None:
    raw = json.loads(record().to_json())
    node = raw
    for key in field[:-1]:
        node = node[key]
    node[field[-1]] = value
    text = json.dumps(raw)
    if isinstance(value, str) and value.startswith("NUMBER "):
        text = text.replace(f'"{value}"', value.removeprefix("NUMBER "))
    with pytest.raises(RecordError, match=words):
        Record.from_json(text)


def test_fields_of_later_versions_of_this_schema_are_passed_over() -> None:
    raw = json.loads(record().to_json()) | {"colour": "red"}
    raw["axes"]["colour"] = "red"
    assert Record.from_json(json.dumps(raw)) == record()


def leaves(kind: Any, value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every field of a record, with its path in the JSON object and its annotated type."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        here, hint = (*path, field.name), hints[field.name]
        yield here, hint
        inner = value[field.name]
        options = [hint, *typing.get_args(hint)]
        nested = next((option for option in options if dataclasses.is_dataclass(option)), None)
        if nested and isinstance(inner, list):
            yield from leaves(nested, inner[0], (*here, 0))
        elif nested:
            yield from leaves(nested, inner, here)


FIELDS = list(leaves(Record, json.loads(record().to_json())))


def written(path: tuple[str | int, ...]) -> str:
    return "record" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def put(path: tuple[str | int, ...], value: Any) -> str:
    raw: Any = json.loads(record().to_json())
    node = raw
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return json.dumps(raw)


def kinds(hint: Any) -> list[Any]:
    return list(typing.get_args(hint)) if isinstance(hint, types.UnionType) else [hint]


def misfits(hint: Any) -> Iterator[Any]:
    """JSON values that are not of a kind."""
    accepted = kinds(hint)
    if types.NoneType not in accepted:
        yield None
    (kind,) = [option for option in accepted if option is not types.NoneType]
    origin = typing.get_origin(kind) or kind
    wrong: dict[Any, list[Any]] = {
        int: ["1", 1.5, True, []],
        float: ["1", True, []],
        str: [1, 1.5, True, [], {}],
        bool: [0, 1, "true"],
        list: [{}, "x", 1, [1], ["x"], [None]],
        dict: [[], "x", 1],
    }
    if isinstance(origin, type) and issubclass(origin, StrEnum):
        yield from ["finished", 1, True, []]
    else:
        yield from wrong.get(origin, [[], "x", 1, True])


@pytest.mark.parametrize(("path", "hint"), FIELDS, ids=[written(path) for path, _ in FIELDS])
def test_every_mistyped_field_is_named(path: tuple[str | int, ...], hint: Any) -> None:
    tried = 0
    for value in misfits(hint):
        if path == ("schema",) and value == 1:
            continue
        tried += 1
        with pytest.raises(RecordError) as caught:
            Record.from_json(put(path, value))
        message = str(caught.value)
        assert written(path) in message or path == ("schema",)
        assert "\n" not in message
    assert tried >= 3


@pytest.mark.parametrize(("path", "hint"), FIELDS, ids=[written(path) for path, _ in FIELDS])
def test_every_missing_field_is_named_or_has_a_default(path: tuple[str | int, ...], hint: Any) -> None:
    raw: Any = json.loads(record().to_json())
    node = raw
    for part in path[:-1]:
        node = node[part]
    del node[path[-1]]
    defaults = {field.name for field in dataclasses.fields(Record) if field.default is not dataclasses.MISSING}
    defaults |= {field.name for field in dataclasses.fields(Record) if field.default_factory is not dataclasses.MISSING}
    #: Fields that records of earlier versions do not have.
    later = {field.name for field in dataclasses.fields(TrialSummary) if field.default is not dataclasses.MISSING}
    measured = {
        name: {
            field.name: field.default for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING
        }
        for name, kind in (("speed", Speed), ("memory", Memory), ("axes", Axes), ("engine", Engine))
    }
    if len(path) == 2 and path[1] in measured.get(str(path[0]), {}):
        again = Record.from_json(json.dumps(raw))
        assert getattr(getattr(again, str(path[0])), str(path[1])) == measured[str(path[0])][str(path[1])]
    elif path[0] == "trials" and path[-1] in later:
        again = Record.from_json(json.dumps(raw))
        assert getattr(again.trials[0], str(path[-1])) is None
    elif len(path) == 1 and path[0] in defaults:
        again = Record.from_json(json.dumps(raw))
        assert getattr(again, str(path[0])) == getattr(Record(*[None] * 10), str(path[0]))  # type: ignore[arg-type]
    else:
        with pytest.raises(RecordError) as caught:
            Record.from_json(json.dumps(raw))
        assert str(path[-1]) in str(caught.value)


@pytest.mark.parametrize("path", [("trials", 0, "final"), ("seconds",)])
def test_mistyped_values_of_open_objects_are_named(path: tuple[str | int, ...]) -> None:
    with pytest.raises(RecordError, match=rf"{path[-1]}\.here should be float, is str"):
        Record.from_json(put(path, {"here": "x"}))


def test_the_second_of_a_list_is_named() -> None:
    with pytest.raises(RecordError, match=r"record\.trials\[1\]\.seed should be int, is str"):
        Record.from_json(put(("trials", 1, "seed"), "zero"))
