import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import NotComparable, UsageError
from bench.speed.sources import Source, base_tree, check_isolation, project, working_tree
from tests.speed.repositories import commit_all, contents, repository_of, run_git, write

pytestmark = pytest.mark.usefixtures("person")

CASE = "from pkg import VALUE\n\ndef test_value(): ...\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A src layout: `main` holds VALUE 1 and no tests of speed, the working tree VALUE 2 and one, not committed."""
    root = repository_of(tmp_path / "répo with spaces", {"src/pkg/__init__.py": "VALUE = 1\n", "pyproject.toml": ""})
    write(root, {"src/pkg/__init__.py": "VALUE = 2\n", "tests/speed/test_value.py": CASE})
    return root


def loaded(source: Source) -> dict[str, str | None]:
    """Import every case file of a source in a process of its own, its paths first; return all modules."""
    files = [str(file) for case in source.cases for file in sorted((source.root / case).rglob("test_*.py"))]
    files += [str(source.root / case) for case in source.cases if case.endswith(".py")]
    code = (
        "import sys, json, runpy\nsys.path[:0] = json.loads(sys.argv[1])\nfor f in sys.argv[2:]: runpy.run_path(f)\n"
        "print(json.dumps({n: getattr(m, '__file__', None) for n, m in list(sys.modules.items())}))"
    )
    arguments = [sys.executable, "-c", code, json.dumps([str(path) for path in source.paths]), *files]
    modules: dict[str, str | None] = json.loads(subprocess.run(arguments, capture_output=True, check=True).stdout)
    return modules


def test_base_runs_its_own_sources_under_head_s_definitions(root: Path) -> None:
    before, first = contents(root), run_git(root, "rev-parse", "--short=12", "HEAD")
    head = working_tree(root)
    assert head == Source("working tree", first + "+", root, (root / "src", root), ("tests/speed",))
    with base_tree(root, "main") as base:
        assert (base.pristine.name, base.pristine.commit, base.pristine.cases) == ("main", first, ())
        assert base.absent == {"tests/speed/test_value.py"}
        source = base.overlay()
        assert source.cases == ("tests/speed",)
        assert source.definitions == ("pyproject.toml", "tests")
        assert source.paths == (source.root / "src", source.root)
        modules = loaded(source)
        assert modules["pkg"] == str(source.root / "src/pkg/__init__.py")
        assert Path(modules["pkg"]).read_text() == "VALUE = 1\n"
        check_isolation(modules, source, head)
    assert not source.root.exists()
    assert contents(root) == before


def test_base_may_be_head(root: Path) -> None:
    sha = commit_all(root)
    with base_tree(root, "HEAD") as base:
        assert base.pristine.commit == working_tree(root).commit == sha[:12]
        assert base.absent == frozenset()
        assert contents(base.overlay().root) == contents(root)


def test_a_linked_worktree_is_a_head_like_any_other(root: Path, tmp_path: Path) -> None:
    commit_all(root)
    run_git(root, "worktree", "add", "-q", "-b", "topic/two", str(tmp_path / "linked"))
    write(tmp_path / "linked", {"src/pkg/__init__.py": "VALUE = 3\n"})
    with base_tree(tmp_path / "linked", "topic/two", ["tests/speed/test_value.py::test_value"]) as base:
        source = base.overlay()
        assert source.cases == base.pristine.cases == ("tests/speed/test_value.py::test_value",)
        assert (source.root / "src/pkg/__init__.py").read_text() == "VALUE = 2\n"
    assert run_git(root, "branch", "--show-current") == "main"


def test_a_project_in_a_folder_of_a_repository(tmp_path: Path) -> None:
    top = repository_of(tmp_path / "mono", {"README.md": "", "python/setup.py": "", "python/pkg.py": "VALUE = 1\n"})
    write(
        top,
        {"python/pkg.py": "VALUE = 2\n", "python/tests/test_x.py": CASE, "new/pyproject.toml": "", "new/test_x.py": ""},
    )
    assert project(top) == project(top / "new/..") == top
    assert project(top / "python/tests") == top / "python"
    with base_tree(top / "python", "main", ["tests/test_x.py"]) as base:
        assert base.pristine.root.parts[-2:] == ("mono", "python")
        assert contents(base.overlay().root)["pkg.py"] == "VALUE = 1\n"
    with (
        pytest.raises(NotComparable, match="new does not exist in main"),
        base_tree(top / "new", "main", ["test_x.py"]),
    ):
        pass


def test_a_working_tree_needs_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "plain", {"test_x.py": "", "module.py": ""})
    expected = Source("working tree", None, tmp_path / "plain", (tmp_path / "plain",), ("test_x.py",))
    assert working_tree(tmp_path / "plain", ["test_x.py"]) == expected
    monkeypatch.setenv("PATH", str(tmp_path))
    assert working_tree(tmp_path / "plain", ["test_x.py"]) == expected
    with pytest.raises(UsageError, match=r"--cases test_y\.py: no such file or folder; did you mean 'test_x\.py'\?"):
        working_tree(tmp_path / "plain", ["test_y.py"])
    with pytest.raises(UsageError, match="git is not installed"), base_tree(tmp_path / "plain", "main", ["test_x.py"]):
        pass


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"a.py": ""}, []),
        ({"src/pkg/__init__.py": ""}, ["src"]),
        ({"src/__init__.py": "", "src/types.py": ""}, []),
        ({"lib/a.py": "", "pyproject.toml": '[tool.setuptools.package-dir]\n"" = "lib"'}, ["lib"]),
        ({"lib/a.py": "", "pyproject.toml": '[tool.setuptools.packages.find]\nwhere = ["lib", "."]'}, ["lib"]),
        ({"lib/a.py": "", "src/a.rs": "", "pyproject.toml": '[tool.maturin]\npython-source = "lib"'}, ["src", "lib"]),
        ({"lib/a.py": "", "pyproject.toml": '[[tool.poetry.packages]]\ninclude = "a"\nfrom = "lib"'}, ["lib"]),
        ({"lib/a.py": "", "pyproject.toml": '[tool.pdm.build]\npackage-dir = "lib"'}, ["lib"]),
        ({"lib/a.py": "", "pyproject.toml": '[tool.setuptools.package-dir]\n"" = "../lib"'}, []),
        ({"lib/a.py": "", "pyproject.toml": "[tool\n"}, []),
        ({"lib/a.py": "", "pyproject.toml": "[tool]\nsetuptools = 3\npoetry.packages = [3]\npdm.build = []"}, []),
    ],
)
def test_packages_are_found_where_the_project_says(tmp_path: Path, files: dict[str, str], wanted: list[str]) -> None:
    write(tmp_path / "root", files | {"test_x.py": ""})
    (tmp_path / "lib").mkdir()
    root = tmp_path / "root"
    assert working_tree(root, ["test_x.py"]).paths == (*(root / name for name in wanted), root)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("tests/speed/test_valeu.py", r"no such file or folder; did you mean 'tests/speed/test_value\.py'\?$"),
        ("test_value.py::test_value", r"no such file or folder; did you mean 'tests/speed/test_value\.py'\?$"),
        ("", "no such file or folder$"),
        ("pyproject.toml", r"not a Python file \(allowed: \.py files and folders of them\)"),
        ("tests/speed::test_value", "a folder has no case 'test_value'; name its file"),
    ],
)
def test_cases_that_are_none_are_refused(root: Path, case: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        working_tree(root, [case])
    with pytest.raises(UsageError, match=said), base_tree(root, "main", [case]):
        pass


def test_without_cases_and_without_a_place_for_them_they_have_to_be_named(tmp_path: Path) -> None:
    root = repository_of(tmp_path / "repo", {"a.py": ""})
    with pytest.raises(UsageError, match=r"no tests/speed in .*: name the cases, --cases path/to/test_file\.py"):
        working_tree(root)


def test_cases_are_named_from_where_one_stands_or_from_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "tests")
    case = "tests/speed/test_value.py::test_value[a/b::c]"
    given = [case, case.removeprefix("tests/"), str(root / case), f"../{case}"]
    assert working_tree(root, given).cases == (case,)
    monkeypatch.chdir(root)
    assert working_tree(root, ["."]).cases == (".",)


def test_a_case_file_from_outside_measures_any_commit(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside", {"test_x.py": "from pkg import VALUE\n", "test_y.py": ""})
    case = str(tmp_path / "outside/test_x.py")
    head = working_tree(root, [case])
    assert head.cases == (case,)
    with base_tree(root, "HEAD", [case]) as base:
        assert base.pristine.cases == ()
        assert base.absent == {case}
        source = base.overlay()
        assert source.cases == head.cases
        assert source.definitions == ("pyproject.toml",)
        check_isolation(loaded(source), source, head)
    with pytest.raises(UsageError, match="more than one from outside"):
        working_tree(root, [case, str(tmp_path / "outside/test_y.py")])
    assert working_tree(root, [case + "::a", case + "::b"]).cases == (case + "::a", case + "::b")


def source(root: Path, *definitions: str) -> Source:
    return Source(root.name, None, root, (root,), (), definitions)


def test_a_base_that_loads_head_s_code_is_not_comparable(tmp_path: Path) -> None:
    base, head = source(tmp_path / "base", "tests"), source(tmp_path / "head")
    write(head.root, {"env/conda-meta/x": "", "venv/pyvenv.cfg": ""})
    fine: dict[str, str | None] = {
        "builtins": None,
        "__main__": str(head.root / "bench/worker.py"),
        "torch": str(head.root / ".venv/lib/python3/site-packages/torch/__init__.py"),
        "os": str(head.root / "env/lib/python3/os.py"),
        "x": str(head.root / "venv/lib/x.py"),
        "json": "/usr/lib/python3/json/__init__.py",
        "neighbour": str(tmp_path / "header/x.py"),
        "tests.test_x": str(base.root / "tests/test_x.py"),
        "pkg": str(base.root / "pkg/__init__.py"),
    }
    check_isolation(fine, base, head)
    said = (
        r"loaded pkg\.step from the working tree \(pkg/step\.py\): an editable install or PYTHONPATH .* sources of base"
    )
    with pytest.raises(NotComparable, match=said):
        check_isolation(fine | {"pkg.step": str(head.root / "pkg/step.py")}, base, head)
    with pytest.raises(NotComparable, match="no module of base but their own definitions"):
        check_isolation({name: file for name, file in fine.items() if name != "pkg"}, base, head)
    check_isolation({"pkg": str(head.root / "pkg.py")}, head, head)


def test_an_editable_install_that_goes_first_is_found(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path / "site", {"usercustomize.py": "", "sitecustomize.py": "import pkg\n"})
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{root / 'src'}")
    with base_tree(root, "main") as base:
        overlaid = base.overlay()
        with pytest.raises(NotComparable, match=r"loaded pkg from the working tree \(src/pkg/__init__\.py\)"):
            check_isolation(loaded(overlaid), overlaid, working_tree(root))
