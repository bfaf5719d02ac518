"""Data are never run, secrets never written, and no name leaves the folder of results (docs/security.md)."""

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from bench.cli import main
from bench.results.private import private
from tests.small import call, records, run

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "bench").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")])
#: Modules whose files are programs to whoever reads them.
PROGRAMS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
#: The one place that runs what a person's own command line or configuration names.
RUNS_CODE = "bench/references.py"


def _called(node: ast.Call) -> str:
    """The dotted name of what is called; empty where it has none."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def _unsafe(path: Path) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in PROGRAMS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PROGRAMS:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            called = _called(node)
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called in ("eval", "exec", "compile", "__import__") and name != RUNS_CODE:
                yield called
            if called.endswith("torch.load") and keywords.get("weights_only") != "True":
                yield "torch.load without weights_only=True"
            if called.endswith(("read_pickle", "to_pickle", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load")):
                yield called
            if keywords.get("shell") == "True" or keywords.get("allow_pickle") == "True":
                yield f"{called} with shell or allow_pickle"
            if called.endswith("Environment") and "loader" in keywords and keywords.get("autoescape") != "True":
                yield f"{called} without autoescape=True"


def test_nothing_that_is_read_is_a_program() -> None:
    assert len(SOURCES) > 100
    assert {path.name: found for path in SOURCES if (found := list(_unsafe(path)))} == {}


def test_the_walk_sees_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_security.ROOT", tmp_path)
    file = tmp_path / "file.py"
    file.write_text(
        "import pickle\nfrom dill import load\neval('1')\ntorch.load(x)\ntorch.load(x, weights_only=False)\n"
        "pd.read_pickle(x)\nrun(x, shell=True)\njinja2.Environment(loader=x)\n"
    )
    assert len(list(_unsafe(file))) == 8


SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "HF_TOKEN": "hf_abcdefghijklmnop",
    "DATABASE_PASSWORD": "correct horse battery",
}
REMOTE = "ghp_remotetokenremotetoken"
#: An optimizer whose steps fail and say what they must not: two variables of the environment.
FAILS = """
import os
import torch


class Fails(torch.optim.SGD):
    def step(self, closure=None):
        if sum(p.numel() for group in self.param_groups for p in group["params"]) > 9:
            raise ValueError(f"{os.environ['AWS_SECRET_ACCESS_KEY']} {os.environ['HF_TOKEN']}")
        return super().step(closure)
"""


@pytest.mark.slow
@pytest.mark.xdist_group("wandb")
def test_no_secret_is_in_any_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, home = tmp_path / "work", tmp_path / "someones-home"
    work.mkdir()
    home.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    remote = f"https://someone:{REMOTE}@example.org/x.git"
    for words in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", *words], check=True, cwd=work, env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull})
    (home / "fails.py").write_text(FAILS)
    failing = f"optimizer.target={home}/fails.py:Fails"
    small = "task=regression/linear"
    assert run(small, "tracker=wandb", f"data.root={home}/data", "sweep=s") == 0
    assert run(failing, small, f"results_root={work}/results", "sweep=s") == 1
    assert run(small, f"data.root={remote}", "sweep=t") == 0
    for words in (
        ["status", "s", "--json"],
        ["status", "s"],
        ["report", "s"],
        ["export", "s"],
        ["export", "s", "--format", "parquet"],
        ["compare", "s", "t", "-o", "compared"],
        ["merge", "s", "t", "-o", "merged"],
        ["retry", "s", "--status", "failed"],
        ["wandb-check", "s"],
    ):
        with pytest.raises(SystemExit):
            main(words)
    said = capsys.readouterr()
    written = [path for path in work.rglob("*") if path.is_file() and ".git" not in path.parts]
    # All kinds of output are there to be searched.
    kinds = {path.suffix for path in written} | {path.name for path in written}
    assert {".json", ".parquet", ".csv", ".html", ".svg", ".md", ".wandb", "plan.json", "mirror.json"} <= kinds
    assert any(record["traceback"] for record in records(work / "results/s").values())
    texts = {str(path): path.read_bytes() for path in written}
    texts |= {
        f"{path} in words": pd.read_parquet(path).to_csv().encode() for path in written if path.suffix == ".parquet"
    }
    texts |= {"standard output": said.out.encode(), "standard error": said.err.encode()}
    hidden = [*SECRETS.values(), REMOTE, home.name]
    found = {(name, secret) for name, text in texts.items() for secret in hidden if secret.encode() in text}
    # What a person is told on the spot may name their own folder.
    assert {pair for pair in found if pair[1] != home.name or not pair[0].startswith("standard")} == set()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a /home/someone/data b", "a ~/data b"),
        ("/home/someone", "~"),
        ("data.root=/home/someone/x", "data.root=~/x"),
        ("/home/someone-else/x", "/home/someone-else/x"),
        ("/mnt/home/someone/x", "/mnt/home/someone/x"),
        ("https://me:pass@example.org/x", "https://***@example.org/x"),
        ("git@example.org:x", "git@example.org:x"),
        ("key=a-long-secret!", "key=***!"),
        ("short", "short"),
    ],
)
def test_private(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("MY_API_KEY", "a-long-secret")
    monkeypatch.setenv("MY_TOKEN", "short")
    assert private(text) == shown


@pytest.mark.parametrize(
    "name",
    ["../x", "/tmp/x", "a/../../x", "a/b", ".", "..", ".hidden", "-x", "", "a\\b", "C:x", "~", "${results_root}/../x"],
)
def test_a_sweep_stays_in_the_folder_of_results(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "a/b/work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    assert call("run", f"sweep='{name}'") == 2
    assert "a sweep's name is letters" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/b", work]


def test_a_pickle_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra can run a configuration that it pickled: whoever wrote the file decides what is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pickle").write_bytes(b"cpathlib\nPath\n(S'was run'\ntR.")
    assert call("run", "--experimental-rerun", "mine.pickle") == 2
    assert "runs what a pickle says" in capsys.readouterr().err
