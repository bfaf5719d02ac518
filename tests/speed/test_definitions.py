import shutil
from pathlib import Path

import pytest

from bench.speed.definitions import Plan, plan
from tests.speed.repositories import commit_all, contents, repository_of, run_git, write

pytestmark = pytest.mark.usefixtures("person")

FROM_HEAD, FROM_BASE = "'head'\n", "'base'\n"


def overlay(tmp_path: Path, base: dict[str, str], head: dict[str, str], *cases: str) -> tuple[Plan, dict[str, str]]:
    """Overlay a checkout of `base` with the definitions of `head`; return what was done and all files afterwards."""
    theirs, ours = repository_of(tmp_path / "base", base), repository_of(tmp_path / "head", head)
    planned = plan(ours, theirs, cases)
    planned.apply(ours, theirs)
    once = contents(theirs)
    planned.apply(ours, theirs)
    assert contents(theirs) == once
    assert contents(ours) == head
    return planned, once


PACKAGE = ["pkg/__init__.py", "pkg/a.py"]
PERF = ["perf/__init__.py", "perf/a.py", "setup.py"]
#: The case file, what else defines it, and the sources.
LAYOUTS = {
    "src": (
        "tests/speed/test_fast.py",
        ["tests/helper.py", "tests/conftest.py", "conftest.py"],
        ["src/pkg/__init__.py", "src/pkg/a.py"],
    ),
    "flat package": ("tests/test_fast.py", ["tests/__init__.py", "tests/speed/helper.py"], PACKAGE),
    "flat modules": ("test_speed.py", ["conftest.py", "pytest.ini"], ["my_optimizer.py", "helper.py"]),
    "tests in src": (
        "src/pkg/tests/test_speed.py",
        ["src/pkg/tests/__init__.py", "src/pkg/tests/helper.py", "src/conftest.py", "src/pkg/conftest.py"],
        ["src/pkg/__init__.py", "src/pkg/a.py", "src/conf.py"],
    ),
    "tests in package": ("pkg/tests/test_speed.py", ["pkg/tests/helper.py"], PACKAGE),
    "beside modules of a package": ("pkg/test_speed.py", ["pkg/conftest.py"], PACKAGE),
    "in src itself": ("src/test_speed.py", [], ["src/my_optimizer.py", "src/helper.py"]),
    "beside modules without a package": (
        "lib/test_speed.py",
        ["lib/test_more.py"],
        ["lib/my_optimizer.py", "other.py"],
    ),
    "benchmarks": ("benchmarks/speed/test_x.py", ["benchmarks/common.py"], PACKAGE),
    "a package called perf": ("perf/tests/test_x.py", ["perf/tests/helper.py"], PERF),
    "a package called perf and another": ("perf/tests/test_x.py", ["perf/tests/helper.py"], [*PERF, *PACKAGE]),
    "all in a package called perf": ("perf/test_x.py", [], PERF),
    "monorepo": ("python/tests/test_x.py", ["python/tests/helper.py"], ["python/pkg/a.py", "tests/other.py"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_definitions_come_from_head_and_sources_from_base(tmp_path: Path, layout: str) -> None:
    case, helpers, sources = LAYOUTS[layout]
    files = [case, *helpers, *sources]
    planned, found = overlay(tmp_path, dict.fromkeys(files, FROM_BASE), dict.fromkeys(files, FROM_HEAD), case)
    assert {name for name, text in found.items() if text == FROM_HEAD} == {case, *helpers}
    assert {name for name, text in found.items() if text == FROM_BASE} == set(sources)
    assert planned.absent == frozenset()


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("pkg/a.py", "import benchmarks"),
        ("pkg/a.py", "import os, benchmarks.kernels as kernels"),
        ("pkg/a.py", "from benchmarks import (\n    kernels,\n)"),
        ("pkg/a.py", "def late():\n    from benchmarks.kernels import step"),
        ("run.py", "from benchmarks.kernels import step"),
    ],
)
def test_a_folder_of_cases_that_the_package_imports_is_source(tmp_path: Path, importer: str, statement: str) -> None:
    files = ["benchmarks/test_x.py", "benchmarks/kernels.py", "pkg/__init__.py", importer]
    base = dict.fromkeys(files, FROM_BASE) | {importer: statement}
    planned, found = overlay(tmp_path, base, dict.fromkeys(files, FROM_HEAD), "benchmarks/test_x.py")
    assert found == base | {"benchmarks/test_x.py": FROM_HEAD}
    assert planned.kept == ("benchmarks/kernels.py",)


@pytest.mark.parametrize(
    ("importer", "statement", "source"),
    [
        ("src/pkg/a.py", "from pkg.tests import helper", True),
        ("src/pkg/a.py", "from pkg import tests", True),
        ("src/pkg/a.py", "from .tests import helper", True),
        ("src/pkg/a.py", "from . import tests", True),
        ("src/pkg/deep/a.py", "from ..tests.helper import VALUE", True),
        ("src/pkg/deep/a.py", "from .tests.helper import VALUE", False),
        ("src/pkg/a.py", "from numpy.tests import helper", False),
        ("src/pkg/a.py", "import tests", False),
        ("src/pkg/a.py", "from . import latests", False),
        ("src/pkg/a.py", "print 'tests'", False),
        ("examples/show.py", "from pkg.tests import helper", False),
        ("other/tests/more.py", "from pkg.tests import helper", False),
        ("src/pkg/test_more.py", "from pkg.tests import helper", False),
    ],
)
def test_who_imports_a_folder_of_tests(tmp_path: Path, importer: str, statement: str, source: bool) -> None:
    files = ["src/pkg/__init__.py", "src/pkg/tests/__init__.py", "src/pkg/tests/helper.py", "src/pkg/tests/test_x.py"]
    base = dict.fromkeys(files, FROM_BASE) | {importer: statement}
    _, found = overlay(
        tmp_path, base, dict.fromkeys(files, FROM_HEAD) | {importer: statement}, "src/pkg/tests/test_x.py"
    )
    assert found["src/pkg/tests/test_x.py"] == FROM_HEAD
    assert found["src/pkg/tests/helper.py"] == (FROM_BASE if source else FROM_HEAD)


def test_a_package_of_the_same_name_elsewhere_is_another(tmp_path: Path) -> None:
    base = {"perf/__init__.py": "from . import a  # perf", "perf/a.py": FROM_BASE, "more/perf/helper.py": FROM_BASE}
    head = {"perf/a.py": FROM_HEAD, "more/perf/test_x.py": FROM_HEAD, "more/perf/helper.py": FROM_HEAD}
    _, found = overlay(tmp_path, base, head, "more/perf/test_x.py")
    assert found == head | {"perf/__init__.py": "from . import a  # perf", "perf/a.py": FROM_BASE}


def test_a_folder_that_was_the_package_in_base_stays_base_s(tmp_path: Path) -> None:
    base = {"perf/__init__.py": FROM_BASE, "perf/step.py": FROM_BASE, "run.py": "import perf.step"}
    head = {"perf/test_x.py": FROM_HEAD, "perf/step.py": FROM_HEAD, "pkg/step.py": FROM_HEAD}
    planned, found = overlay(tmp_path, base, head, "perf/test_x.py")
    assert found == base | {"perf/test_x.py": FROM_HEAD}
    assert planned.absent == {"perf/test_x.py"}


def test_a_folder_of_definitions_is_replaced_whole(tmp_path: Path) -> None:
    base = {"tests/test_old.py": "", "tests/data": "a file", "tests/gone/x.txt": "", "pkg.py": FROM_BASE}
    head = {"tests/test_new.py": "", "tests/data/numbers.json": "[1]", "pkg.py": FROM_HEAD}
    planned, found = overlay(tmp_path, base, head, "tests")
    assert found == head | {"pkg.py": FROM_BASE}
    assert planned.absent == {"tests/test_new.py"}
    assert planned.definitions == ("tests",)


def test_files_not_committed_and_deletions_not_committed_count(tmp_path: Path) -> None:
    theirs = repository_of(tmp_path / "base", {"tests/test_x.py": FROM_BASE, "tests/old.py": FROM_BASE, "pkg.py": ""})
    ours = repository_of(tmp_path / "head", {"tests/test_x.py": FROM_BASE, "tests/old.py": FROM_BASE})
    write(ours, {"tests/test_x.py": FROM_HEAD, "tests/new.py": FROM_HEAD})
    (ours / "tests/old.py").unlink()
    plan(ours, theirs, ["tests/test_x.py"]).apply(ours, theirs)
    assert contents(theirs) == {"tests/test_x.py": FROM_HEAD, "tests/new.py": FROM_HEAD, "pkg.py": ""}


def test_a_new_folder_of_cases_comes_whole_and_one_with_modules_in_base_does_not(tmp_path: Path) -> None:
    head = {
        "speed/test_x.py": FROM_HEAD,
        "speed/helper.py": FROM_HEAD,
        "speed/data.json": FROM_HEAD,
        "pkg/a.py": FROM_HEAD,
    }
    planned, found = overlay(tmp_path, {"pkg/a.py": FROM_BASE}, head, "speed")
    assert found == head | {"pkg/a.py": FROM_BASE}
    assert (planned.kept, planned.absent) == ((), {"speed/test_x.py"})
    shutil.rmtree(tmp_path / "base")
    shutil.rmtree(tmp_path / "head")
    base = {
        "speed/step.py": FROM_BASE,
        "speed/data.json": FROM_BASE,
        "speed/test_old.py": FROM_BASE,
        "pkg/a.py": FROM_BASE,
    }
    planned, found = overlay(tmp_path, base, head | {"speed/more.json": FROM_HEAD}, "speed")
    assert found == {
        "speed/test_x.py": FROM_HEAD,
        "speed/more.json": FROM_HEAD,
        "speed/step.py": FROM_BASE,
        "speed/data.json": FROM_BASE,
        "pkg/a.py": FROM_BASE,
    }
    assert planned.kept == ("speed/data.json", "speed/helper.py", "speed/step.py")


def test_configuration_of_pytest_is_head_s(tmp_path: Path) -> None:
    base = {
        "pytest.ini": "[pytest]\n",
        "tox.ini": "[tox]\n",
        "setup.cfg": "[tool:pytest]\n",
        "conftest.py": FROM_BASE,
        "pkg/conftest.py": FROM_BASE,
        "pkg/deep/conftest.py": FROM_BASE,
        "pkg/deep/a.py": FROM_BASE,
    }
    head = {
        "pyproject.toml": "[tool.pytest.ini_options]\n",
        "pkg/conftest.py": FROM_HEAD,
        "pkg/deep/test_x.py": FROM_HEAD,
    }
    _, found = overlay(tmp_path, base, head, "pkg/deep/test_x.py")
    assert found == head | {"tox.ini": "[tox]\n", "pkg/deep/a.py": FROM_BASE}


def test_writing_through_a_link_of_base_s_never_reaches_its_sources(tmp_path: Path) -> None:
    theirs = repository_of(tmp_path / "base", {"pkg/test_x.py": FROM_BASE, "pkg/__init__.py": FROM_BASE})
    (theirs / "tests").symlink_to("pkg")
    (theirs / "speed").symlink_to("pkg")
    commit_all(theirs)
    ours = repository_of(
        tmp_path / "head", {"tests/test_x.py": FROM_HEAD, "speed/test_x.py": FROM_HEAD, "pkg/a.py": ""}
    )
    plan(ours, theirs, ["tests", "speed/test_x.py"]).apply(ours, theirs)
    assert contents(theirs / "pkg") == {"test_x.py": FROM_BASE, "__init__.py": FROM_BASE}
    assert (theirs / "tests/test_x.py").read_text() == (theirs / "speed/test_x.py").read_text() == FROM_HEAD


def test_ignored_data_beside_the_cases_are_linked_and_builds_and_caches_are_not(tmp_path: Path) -> None:
    theirs = repository_of(tmp_path / "base", {"tests/test_x.py": "", "pkg/a.py": ""})
    ours = repository_of(
        tmp_path / "head", {"tests/test_x.py": "", "pkg/a.py": "", ".gitignore": "data/\n__pycache__/\n*.so\n"}
    )
    write(ours, {"tests/data/big.bin": "7", "tests/__pycache__/x.pyc": "", "tests/x.so": "", "data/more": ""})
    planned = plan(ours, theirs, ["tests/test_x.py"])
    planned.apply(ours, theirs)
    assert planned.linked == ("tests/data",)
    assert (theirs / "tests/data/big.bin").read_text() == "7"
    shutil.rmtree(theirs)
    assert (ours / "tests/data/big.bin").is_file()


def test_what_a_build_leaves_is_copied_where_it_is_a_version_and_named_where_it_is_compiled(tmp_path: Path) -> None:
    theirs = repository_of(tmp_path / "base", {"test_x.py": "", "src/pkg/__init__.py": "from ._version import version"})
    ours = repository_of(
        tmp_path / "head", {"test_x.py": "", "src/pkg/__init__.py": "", ".gitignore": "*.so\n*version.py\n.venv\n"}
    )
    made = ["src/pkg/_version.py", "src/pkg/conversion.py", "src/pkg/_ext.abi3.so", "src/new/_version.py"]
    write(ours, dict.fromkeys([*made, ".venv/lib/python3/site-packages/x/_version.py"], FROM_HEAD))
    planned = plan(ours, theirs, ["test_x.py"])
    assert planned.generated == ("src/pkg/_version.py",)
    assert planned.unbuilt == ("src/pkg/_ext.abi3.so",)
    planned.prepare(ours, theirs)
    assert (theirs / "src/pkg/_version.py").read_text() == FROM_HEAD
    assert sorted(path.name for path in (theirs / "src/pkg").iterdir()) == ["__init__.py", "_version.py"]


def test_a_submodule_beside_the_cases_is_left_out(tmp_path: Path) -> None:
    theirs = repository_of(tmp_path / "base", {"tests/test_x.py": FROM_BASE, "pkg.py": ""})
    ours = repository_of(tmp_path / "head", {"tests/test_x.py": FROM_HEAD, "pkg.py": ""})
    run_git(ours, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(theirs), "tests/vendored")
    commit_all(ours)
    plan(ours, theirs, ["tests"]).apply(ours, theirs)
    assert contents(theirs) == {"tests/test_x.py": FROM_HEAD, "pkg.py": ""}
