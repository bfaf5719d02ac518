from pathlib import Path

import pytest

from tests.fuzzing.template import make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that calls are made in, before anything in it is changed."""
    return make_template(tmp_path_factory.mktemp("fuzzing") / "template")
