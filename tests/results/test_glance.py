"""A glance at a record says what reading all of it would."""

import dataclasses
import json

import pytest
from hypothesis import given

from bench.results.glance import Glance, glance
from bench.results.record import SCHEMA_VERSION, CellStatus, Record, RecordError, TrialStatus
from tests.results.records import record, strategy, trial


def test_known_record(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [trial(0.5), trial(1.0, status=TrialStatus.DIVERGED), trial(2.0, status=TrialStatus.DIVERGED)]
    axes = {"full_batch": True, "precision": "bfloat16"}
    content = record(axes=axes, status=CellStatus.FAILED, reason="a reason", trials=trials).to_json().encode()
    # A record as this suite writes it is not read whole.
    monkeypatch.delattr(Record, "from_json")
    assert glance(content) == Glance(
        CellStatus.FAILED, "a reason", 2.0, 3, 2, "mnist5k/mlp sgd B=full cpu bfloat16", "mnist5k/mlp", "cpu"
    )


@given(made=strategy(Record))
def test_any_record_as_written_and_as_laid_out_otherwise(made: Record) -> None:
    made = dataclasses.replace(made, schema=SCHEMA_VERSION)
    quick = glance(made.to_json().encode())
    # Compact, and in another order of fields, so that all of it has to be read.
    assert glance(json.dumps(dict(reversed(json.loads(made.to_json()).items()))).encode()) == quick
    assert (quick.status, quick.reason, quick.trials) == (made.status, made.reason, len(made.trials))
    assert quick.diverged == [trial.status for trial in made.trials].count(TrialStatus.DIVERGED)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (record().to_json()[:-20].encode(), "not valid JSON, perhaps truncated"),
        (b"", "not valid JSON"),
        (b"\xff\xfe{", "not text"),
        (b"[]", "not a record"),
        (dataclasses.replace(record(), schema=SCHEMA_VERSION + 1).to_json().encode(), "is newer than this version"),
        (
            record().to_json().replace('"status": "complete",\n "sweep"', '"status": "done",\n "sweep"').encode(),
            "'done'",
        ),
    ],
)
def test_what_cannot_be_read(content: bytes, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        glance(content)
