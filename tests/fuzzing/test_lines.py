"""Command lines and config files that nobody wrote by hand: valid, or exit code 2 with one line and nothing written.

`scripts/fuzz` calls thousands of them; here are some, so that it keeps working and what it found stays mended.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzzing.calls import call, fresh
from tests.fuzzing.lines import Line, lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines")


# Not shrunk: that takes minutes; the example says enough.
@settings(max_examples=50, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(lines())
def test_a_command_line_is_valid_or_refused_in_one_line(template: Path, folder: Path, line: Line) -> None:
    assert call(line.words, fresh(template, folder / "call", line.files), train=False).complaints == []
