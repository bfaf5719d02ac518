"""References to a user's own code."""

import hashlib
import os
import py_compile
import sys
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.references import definition_sha256, is_foreign, load_reference, source_sha256

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
    before = definition_sha256(f"{file}:Own", "key")
    assert before == definition_sha256(f"{file}:count", "key") == source_sha256(f"{file}:Own", "key")
    assert before == hashlib.sha256(SOURCE.encode()).hexdigest()
    other = tmp_path / "elsewhere.py"
    other.write_text(SOURCE, encoding="utf-8")
    assert definition_sha256(f"{other}:Own", "key") == before, "places do not matter"
    file.write_text(SOURCE + "# changed\n", encoding="utf-8")
    assert definition_sha256(f"{file}:Own", "key") != before
    assert source_sha256(f"{file}:Own", "key") != before
    # Through the module that only hands it on, the file that defines it counts too.
    handed_on, defined = (f"bench.optimizers.registry:{name}" for name in ("build", "state_bytes"))
    assert definition_sha256(handed_on, "key") != definition_sha256(defined, "key")
    assert source_sha256(handed_on, "key") == source_sha256(defined, "key") == definition_sha256(defined, "key")


def test_what_is_run_is_the_text_and_no_bytecode_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "of_two_texts"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    path, times = package / "part.py", (1_000_000_000, 1_000_000_000)
    for number in (3, 4):
        path.write_text(SOURCE.replace("= 3", f"= {number}"), encoding="utf-8")
        # Bytecode is kept by time and size, and these are equal.
        os.utime(path, times)
        if number == 3:
            py_compile.compile(str(path))
        kind = load_reference("of_two_texts.part:Own", "key")
        assert kind().number == number
        assert load_reference("of_two_texts.part:Own", "key") is kind
        assert sys.modules["of_two_texts"].part is sys.modules[kind.__module__]
    assert str(tmp_path) not in sys.path
    for name in ("of_two_texts.part", "of_two_texts"):
        del sys.modules[name]


def test_a_file_may_import_its_neighbours(file: Path) -> None:
    (file.parent / "beside_the_file.py").write_text("NUMBER = 5\n", encoding="utf-8")
    file.write_text("from beside_the_file import NUMBER\n" + SOURCE.replace("= 3", "= NUMBER"), encoding="utf-8")
    assert load_reference(f"{file}:Own", "key")().number == 5
    del sys.modules["beside_the_file"]


@pytest.mark.parametrize(
    ("reference", "foreign"),
    [
        ("SGD", False),
        ("bench.optimizers.newton:Newton", False),
        ("benchmarks.newton:Newton", True),
        ("torch.optim:SGD", True),
        ("mine.py:Own", True),
        ("bench.py:Own", True),
        ("bench.d/mine.py:Own", True),
    ],
)
def test_what_is_not_the_suites_own(reference: str, foreign: bool) -> None:
    assert is_foreign(reference) is foreign


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("mine.py", ["key=mine.py: write path/to/file.py:class or module:class"]),
        ("mine.py:", ["write path/to/file.py:class"]),
        ("mine.py:a b", ["write path/to/file.py:class"]),
        ("other.py:Own", ["key=other.py:Own: no file other.py (looked in"]),
        ("mine.py:Owm", ["key=mine.py:Owm: unknown class in mine.py 'Owm'; did you mean 'Own'?"]),
        ("broken.py:Own", ["key=broken.py:Own: cannot be imported: ValueError: boom (line 1)"]),
        ("syntax.py:Own", ["key=syntax.py:Own: cannot be read: SyntaxError:", "(line 1)"]),
        ("imports.py:Own", ["key=imports.py:Own: cannot be imported: SyntaxError:", "(line 2)"]),
        ("no_such_module:Own", ["no module no_such_module (looked in", "given as path/to/file.py:class"]),
        ("hashlib:nothing_like_it", ["unknown class in hashlib.py 'nothing_like_it'"]),
        ("json:nothing_like_it", ["unknown class in json 'nothing_like_it' (allowed: JSONDecodeError, JSONDecoder"]),
        (".relative:Own", ["cannot look for module .relative: "]),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, reference: str, words: list[str]
) -> None:
    monkeypatch.chdir(file.parent)
    Path("broken.py").write_text("raise ValueError('boom\\nand more')\n", encoding="utf-8")
    Path("syntax.py").write_text("class Own(\n", encoding="utf-8")
    Path("imports.py").write_text("\nimport syntax\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_reference(reference, "key")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
