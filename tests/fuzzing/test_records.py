"""Sweeps that somebody or something has changed: read, or refused or skipped by name; never run, never markup.

`scripts/fuzz` asks of thousands of them; here are some, so that it keeps working and what it found stays mended.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzzing.mutations import mutations, sweep_of
from tests.fuzzing.records import ask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


# Not shrunk: that takes minutes; the example says enough.
@settings(max_examples=25, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_changed_sweep_is_read_or_refused_by_name(template: Path, folder: Path, data: st.DataObject) -> None:
    mutation = data.draw(mutations(sweep_of(template)))
    found = [problem for _, problems in ask(template, folder / "call", mutation, reports=False) for problem in problems]
    assert found == []
