"""References to a user's own code."""

import hashlib
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.references import load_reference, source_sha256

SOURCE = """
import dataclasses

@dataclasses.dataclass
class Own:
    number: int = 3

count = 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_class_of_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = load_reference(f"{file}:Own", "key")
    assert kind().number == 3
    monkeypatch.chdir(file.parent)
    assert load_reference("mine.py:Own", "key") is kind, "relative to the working directory"


def test_a_class_of_a_module() -> None:
    assert load_reference("hashlib:sha256", "key") is hashlib.sha256
    assert load_reference("bench.errors:UsageError", "key") is UsageError


def test_a_file_is_run_once_as_long_as_it_stays_what_it_is(file: Path) -> None:
    first = load_reference(f"{file}:Own", "key")
    assert load_reference(f"{file}:Own", "key") is first
    file.write_text(SOURCE.replace("= 3", "= 4"), encoding="utf-8")
    assert load_reference(f"{file}:Own", "key")().number == 4


def test_the_hash_is_that_of_the_code(file: Path, tmp_path: Path) -> None:
    before = source_sha256(f"{file}:Own")
    assert before == source_sha256(f"{file}:count")
    other = tmp_path / "elsewhere.py"
    other.write_text(SOURCE, encoding="utf-8")
    assert source_sha256(f"{other}:Own") == before, "places do not matter"
    file.write_text(SOURCE + "# changed\n", encoding="utf-8")
    assert source_sha256(f"{file}:Own") != before
    # Through the module that only hands it on, the file that defines it counts too.
    assert source_sha256("bench.optimizers.registry:build") != source_sha256("bench.optimizers.registry:state_bytes")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("mine.py", ["key=mine.py: must be path.py:name or package.module:name"]),
        ("mine.py:", ["must be path.py:name"]),
        ("mine.py:a b", ["must be path.py:name"]),
        ("other.py:Own", ["key=other.py:Own: no file other.py in"]),
        ("mine.py:Owm", ["key=mine.py:Owm: mine.py has no 'Owm'; did you mean 'Own'?"]),
        ("broken.py:Own", ["broken.py cannot be imported (ValueError: boom)"]),
        ("syntax.py:Own", ["syntax.py cannot be imported (SyntaxError:"]),
        ("no_such_module:Own", ["no_such_module cannot be imported (ModuleNotFoundError", "given as path.py:name"]),
        ("hashlib:nothing_like_it", ["hashlib has no 'nothing_like_it'"]),
        (".relative:Own", [".relative cannot be imported"]),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, reference: str, words: list[str]
) -> None:
    monkeypatch.chdir(file.parent)
    Path("broken.py").write_text("raise ValueError('boom\\nand more')\n", encoding="utf-8")
    Path("syntax.py").write_text("class Own(\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_reference(reference, "key")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
