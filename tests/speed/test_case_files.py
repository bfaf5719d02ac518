"""Which files hold cases."""

from pathlib import Path

import pytest

from bench.speed.case_files import case_files
from tests.speed.repositories import write

CASE = "def test_step(benchmark):\n    benchmark(int)\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "cases/test_step.py": CASE,
        "cases/deep/test_more.py": "class TestMore:\n    def test_step(self, benchmark):\n        benchmark(int)\n",
        "cases/test_plain.py": "def test_plain(tmp_path):\n    pass\n",
        "cases/test_word.py": "def test_word():\n    benchmark = 1\n",
        "cases/helper.py": "def run(benchmark):\n    pass\n",
        "cases/test_keyword.py": "async def test_keyword(*, benchmark):\n    pass\n",
        "cases/test_positional.py": "def test_positional(benchmark, /):\n    pass\n",
        "cases/.hidden/test_hidden.py": CASE,
        "cases/node_modules/package/test_theirs.py": CASE,
        "none/test_plain.py": "def test_plain():\n    pass\n",
    }
    write(tmp_path, files)
    return tmp_path


FOUND = ("cases/deep/test_more.py", "cases/test_keyword.py", "cases/test_positional.py", "cases/test_step.py")


def test_of_a_folder_the_files_in_which_a_test_takes_the_fixture(root: Path) -> None:
    assert case_files(root, ["cases"]) == FOUND
    assert case_files(root, ["."]) == FOUND


def test_an_absolute_folder_gives_absolute_files(root: Path) -> None:
    assert case_files(root, [str(root / "cases")]) == tuple(str(root / file) for file in FOUND)


@pytest.mark.parametrize("place", ["through/conftest.py", "through/deep/helpers.py", "through/test_step.py"])
def test_a_test_may_take_the_fixture_through_others(tmp_path: Path, place: str) -> None:
    fixtures = "def timer(benchmark):\n    return benchmark\n\ndef warm(timer):\n    return timer\n"
    test = "def test_step(warm):\n    warm(int)\n"
    write(tmp_path, {"through/test_step.py": test, "through/test_plain.py": "def test_plain(tmp_path):\n    pass\n"})
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(fixtures + (file.read_text() if file.exists() else ""))
    assert case_files(tmp_path, ["through"]) == ("through/test_step.py",)


@pytest.mark.parametrize("case", ["cases/test_plain.py", "cases/test_step.py::test_step", "missing", "none"])
def test_what_is_no_folder_with_cases_is_left_for_pytest_to_judge(root: Path, case: str) -> None:
    assert case_files(root, [case]) == (case,)
    assert case_files(root, [case, "cases"]) == (case, *FOUND)


def test_a_folder_whose_own_name_is_hidden_is_looked_into(root: Path) -> None:
    assert case_files(root, ["cases/.hidden"]) == ("cases/.hidden/test_hidden.py",)


@pytest.mark.parametrize("text", [b"def test_step(benchmark:\n", b"\xff\xfe\x00", b"x = '\x00'\n"])
def test_a_test_file_that_cannot_be_read_is_pytest_s_to_explain(root: Path, text: bytes) -> None:
    (root / "none/test_broken.py").write_bytes(text)
    (root / "none/helper.py").write_bytes(text)
    assert case_files(root, ["none"]) == ("none/test_broken.py",)
