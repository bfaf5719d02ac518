import errno
import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.composition import compose_config
from bench.config import resolve
from bench.results.record import SCHEMA_VERSION
from tests.small import SMALL, call, digests, records, run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was said, and check that it is one line and no traceback."""
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert captured.out == ""
    assert lines[0].startswith("bench: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["run", "optimizer=sgdd"], "unknown optimizer 'sgdd'; did you mean 'sgd'?"),
        (["run", "task=mnist5k/mpl"], "unknown task 'mnist5k/mpl'; did you mean 'mnist5k/mlp'?"),
        (["run", "experiment=quikstart"], "unknown experiment 'quikstart'; did you mean 'quickstart'?"),
        (["run", "hydra/launcher=bnch"], "unknown hydra/launcher 'bnch'; did you mean 'bench'?"),
        (["run", "device=gpu"], "unknown device 'gpu'"),
        (["run", "device=cuda:99"], "unknown device 'cuda:99'"),
        (["run", "device=cpu:all"], "unknown device 'cpu:all'; did you mean"),
        (["run", "device=cuda:0-99"], "unknown device 'cuda:0-99'"),
        (["frontier", "device=cpu:2"], "device=cpu:2: bench frontier measures a single device, such as cpu"),
        (["throughput", "device=cpu:2"], "device=cpu:2: bench throughput measures a single device, such as cpu"),
        (["run", "batch_size=0"], "batch_size=0: must be an integer from 1 to 4000, or full"),
        (["run", "batch_size=-3"], "batch_size=-3: must be"),
        (["run", "batch_size=1.5"], "batch_size=1.5: must be"),
        (["run", "batch_size=all"], "batch_size=all: must be"),
        (["run", "batch_size=4001"], "has only 4000 examples"),
        (["run", "lr=nan"], "lr=nan: a learning rate must be a finite number above 0"),
        (["run", "lr=-0.1"], "lr=-0.1"),
        (["run", "lr=[]"], "lr=[]"),
        (["run", "seeds=0"], "seeds=0: must be at least 1"),
        (["run", "seeds=[1,-2]"], "-2 is not"),
        (["run", "training.remaindr=drop"], "did you mean 'training.remainder'?"),
        (["run", "+training.foo=1"], "unknown config key 'training.foo'"),
        (["run", "+foo=1"], "unknown config key 'foo'"),
        (["run", "device.threads=many"], "device.threads: Value 'many'"),
        (["run", "batch_size=4,8"], "several values need -m"),
        (["run", "nonsense"], "cannot read the override 'nonsense'; write key=value"),
        (["run", "[a=3"], "cannot read the override"),
        (["run", "precision=tf32"], "tf32 is a mode of CUDA devices"),
        (["run", "optimizer=rmsprop", "optimizer.implementation=fused"], "offers default, forloop, foreach"),
        (["run", "+optimizer.arguments.momentm=1"], "did you mean 'momentum'?"),
        (["run", "budget.epochs=null", "budget.steps=null"], "set at least one of"),
        (["run", "sweep=../escape"], "a sweep's name is letters"),
        (["run", "task=mnist/mlp", "data.download=false", "data.root=nowhere"], "nowhere/MNIST/raw"),
        (["run", "results_root=/proc/nothing"], "/proc/nothing/default cannot be written"),
        (["run", "hydra.launcher.workers=0", "-m"], "hydra.launcher.workers=0: must be an integer"),
        (["run", "-m", "lr=0.1,nan"], "lr=nan: a learning rate must be a finite number above 0 [in the cell lr=nan]"),
        (["run", "-m", "sweep=one,two"], "a multirun is one sweep"),
        (["run", "-m", "optimizer=sgd,adm"], "unknown optimizer 'adm'; did you mean 'adam'?"),
        (
            ["run", "optimizer=newton", "task=mnist5k/lenet5"],
            "Newton: keeps a matrix of parameters × parameters, so at most 1 024 parameters; mnist5k with lenet5 has",
        ),
        (
            ["run", "optimizer=sparse_adam"],
            "SparseAdam: requires sparse gradients, which mnist5k with mlp does not give",
        ),
        (
            ["run", "optimizer=muon", "task=surface/beale"],
            "Muon: is made for matrices, of which surface/beale with beale has none among its parameters",
        ),
        (
            ["run", "optimizer=muon", "optimizer.fallback=null"],
            "takes matrices alone, and 2 of the 4 parameters of mnist5k with mlp are none",
        ),
        (["run", "-m", "optimizer=sgd,newton"], "[in the cell optimizer=newton]"),
        (["run", "optimizer.target=torch.optim:Adm"], "did you mean 'Adam'?"),
        (["run", "optimizer.target=nowhere:Adam"], "no module nowhere (looked in"),
        (
            ["run", "task=playground/spiral", "task.knobs.hiden=[8]"],
            "unknown knob (task.knobs) 'hiden'; did you mean 'hidden'?",
        ),
        (
            ["run", "-m", "task=playground/spiral,mnist5k/mlp", "task.knobs.hidden=[8]"],
            "unknown knob (task.knobs) 'hidden' (allowed: inputs, label_noise, subset) [in the cell task=mnist5k/mlp",
        ),
        (["run", "optimizer.arguments.momentm=1"], "did you mean 'momentum'?"),
        (["run", "task=playground/spiral", "task.knobs.noise=70"], "task.knobs.noise=70"),
        (["run", "task=playground/spiral", "task.model=mlp"], "has a model of its own; leave task.model out"),
        (["run", "task=nqm", "batch_size=100000"], "an epoch of nqm has only 65536 examples"),
        (["run", "task=custom", "task.module=nothing.py:ring"], "nothing.py"),
        (["run", "schedule=cosine", "budget=seconds"], "schedule=cosine: needs to know how many steps there will be"),
        (["run", "schedule=cosin"], "unknown schedule 'cosin'; did you mean 'cosine'?"),
        (["run", "rule=adam_sqrt"], "rule=adam_sqrt: SGD has no argument 'betas' for it to move"),
        (["run", "batch_schedule=growth", "training.remainder=carry"], "carry needs one batch size"),
        (["run", "training.micro_batch=65"], "training.micro_batch=65: must be from 1 to the batch size (64)"),
        (["run", "incompatible=ignore"], "unknown incompatible 'ignore'"),
        (["report", "nothing"], "unknown sweep 'nothing'"),
        (["report", "nothing", "--claims", "C5,Cs5"], "unknown claim 'CS5'; did you mean 'C5'?"),
        (["report", "nothing", "--language", "zhh"], "unknown language 'zhh'; did you mean 'zh'?"),
        (["list", "claim"], "unknown thing to list 'claim'; did you mean 'claims'?"),
        (["export", "nothing"], "unknown sweep 'nothing'"),
        (["verify", "nothing"], "unknown sweep 'nothing'"),
        (["wandb-check", "nothing"], "unknown sweep 'nothing'"),
        (["compare", "nothing", "nowhere"], "unknown sweep 'nothing'"),
        (["compare", "nothing"], "the following arguments are required: SWEEP_B"),
        (["import", "batch-sciense", "x"], "unknown layout to import 'batch-sciense'; did you mean 'batch-science'?"),
        (["import", "batch-science", "nowhere"], "nowhere: no such folder"),
        (["list", "task"], "unknown thing to list 'task'; did you mean 'tasks'?"),
        (["audit", "optimizer=sgdd"], "unknown optimizer 'sgdd'"),
        (["speed", "engine", "--rounds", "1"], "--rounds 1: must be at least 3"),
        (["speed"], "the following arguments are required"),
        (["speed", "chek"], "invalid choice: 'chek'"),
        (["speed", "check"], "nothing to compare with: give --base REF, --base-python PATH, or both"),
        (["speed", "check", "--base", "main", "--gate", "many"], "invalid float value: 'many'"),
        (["speed", "history", "nothing.jsonl"], "nothing.jsonl"),
        (["speed", "self-test", "--checks", "-1"], "--checks -1: must be at least 0"),
        (["report"], "the following arguments are required: SWEEP"),
        (["verify", "x", "-n", "many"], "invalid int value: 'many'"),
        # Found by scripts/fuzz.
        (["run", "--nothing"], "unrecognized arguments: --nothing (see bench run --help)"),
        (["run", "--resolve"], "--resolve flag can only be used in conjunction with --cfg"),
        (["run", "-m", "--cfg", "job"], "Only one of --run, --multirun, --cfg"),
        (["run", "seeds=1000000000000"], "seeds=1000000000000: must be at most 10000"),
        (["run", "budget.epochs=1e300"], "at most 2^53 can be counted"),
        (["run", "hydra.run.dir=x"], "hydra.run.dir: the suite has no use for Hydra's own folders"),
        (["run", "sweep=???"], "missing mandatory value: sweep"),
        (["run", "data.root='a\x1b[2J'"], "must be text on one line, without control characters"),
        (["throughput", "-m", "nan"], "cannot read the override 'nan'"),
        (["status", "x", "--results-root", "x" * 300], "File name too long"),
        (["status", "\udcff"], "must be UTF-8 text without null characters"),
        (["run", "measure.at_evaluations=[{name: x}]"], "unknown measure \"{'name': 'x'}\""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(*words) == 2
    assert said in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: [1", "line 1: not YAML that configurations have: expected ',' or ']'"),
        ("\tlr: 1", "line 1: not YAML that configurations have"),
        ("lr: 1\nlr: 2", "found duplicate key lr"),
        ("lr: !!python/object/apply:os.mkdir [ran]", "could not determine a constructor"),
        ("- 1", "mine"),
        ("defaults: 3", "defaults"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("# @package _global_\nhydra: {sweeper: {params: {lr: '1,2'}}}\nlr: nan", "lr=nan"),
    ],
)
def test_a_config_file_of_ones_own_that_is_none(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/mine.yaml").write_text(text)
    assert call("run", "--config-dir", "mine", "experiment=mine") == 2
    assert said in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_cuda_index_that_names_no_device_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("run", "device=cuda:63") == 2
    assert "available: cpu" in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_results_root_that_is_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert call("run", *SMALL, "results_root=file") == 2
    assert "results_root: file/default cannot be written" in one_line(capsys)
    assert (tmp_path / "file").read_text() == "x"


def test_a_missing_device_is_a_status_and_the_sweep_goes_on(tmp_path: Path) -> None:
    missing = "mps" if os.uname().sysname == "Linux" else "cuda"
    assert run(f"device=cpu,{missing}") == 0
    statuses = {r["axes"]["device"]: (r["status"], r["reason"]) for r in records(tmp_path / "results/default").values()}
    assert statuses["cpu"] == ("complete", None)
    assert statuses[missing][0] == "unavailable"
    assert missing in statuses[missing][1]


def test_a_grid_of_missing_devices_alone_is_recorded_and_fails(tmp_path: Path) -> None:
    missing = "mps" if os.uname().sysname == "Linux" else "cuda"
    assert run(f"device={missing}") == 1
    assert [r["status"] for r in records(tmp_path / "results/default").values()] == ["unavailable"]


def is_of(command: str, record: dict[str, Any]) -> bool:
    """Whether a command names the optimizer and batch size of a record."""
    axes = record["axes"]
    batch_size = "full" if axes["full_batch"] else axes["batch_size"]
    words = shlex.split(command)
    return f"optimizer={axes['optimizer']}" in words and f"batch_size={batch_size}" in words


def test_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "results/tour"
    assert run("sweep=tour", "optimizer=sgd,adam", "batch_size=64,full") == 0
    assert "4 of 4 cells done" in capsys.readouterr().err
    before = digests(sweep)
    assert len(before) == 4
    assert all(before.values())
    times = {path: path.stat().st_mtime_ns for path in sweep.glob("*/record.json")}

    # A second run trains nothing and touches nothing.
    assert run("sweep=tour", "optimizer=sgd,adam", "batch_size=64,full") == 0
    assert "4 cells, 4 done already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in sweep.glob("*/record.json")} == times

    assert call("export", "tour") == 0
    header = (sweep / "export/cells.csv").read_text().splitlines()
    assert header[0].startswith("sweep,cell,task,model,optimizer,batch_size,device,precision,status")
    assert len(header) == 5
    assert call("export", "tour", "--format", "parquet", "-o", "tables") == 0
    assert sorted(p.name for p in Path("tables").iterdir()) == ["cells.parquet", "curves.parquet", "trials.parquet"]

    assert call("report", "tour") == 0
    page = (sweep / "report/report.md").read_text()
    launched = next(line for line in page.splitlines() if line.startswith("bench run -m"))
    assert launched.startswith("bench run -m task=mnist5k/logreg")
    assert launched.endswith("sweep=tour optimizer=sgd,adam batch_size=64,full")
    for record in records(sweep).values():
        alone = next(
            line for line in page.splitlines() if line.startswith("bench run sweep=tour") and is_of(line, record)
        )
        composed = compose_config(shlex.split(alone)[2:])
        assert resolve(composed).id == record["cell"], "the command of a cell is that very cell"

    capsys.readouterr()
    assert call("verify", "tour", "-n", "2") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 equal, 0 differ, 0 not comparable"
    assert call("verify", "tour", "-n", "100") == 0
    repeated = [line.split()[1] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert repeated == sorted(before), "more than there are means each of them once"
    assert call("wandb-check", "tour") == 4  # tracker=none: no mirror was kept


def test_a_single_run_of_an_experiment_says_that_it_is_one_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "experiment=quickstart", *SMALL) == 0
    said = capsys.readouterr().err
    assert "without -m only one cell" in said
    assert "1 of 1 cells done" in said


def test_records_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    sweep = tmp_path / "results/default"
    (file,) = sweep.glob("*/record.json")
    good, before = file.read_text(), sorted(sweep.iterdir())
    capsys.readouterr()

    file.write_text(good[: len(good) // 2])
    for command in ("report", "export", "verify"):
        assert call(command, "default") == 2
        assert f"{file}: not valid JSON, perhaps truncated" in one_line(capsys)
    assert sorted(sweep.iterdir()) == before

    newer = json.loads(good) | {"schema": SCHEMA_VERSION + 1}
    file.write_text(json.dumps(newer))
    for words in (["report", "default"], ["export", "default"], ["verify", "default"]):
        assert call(*words) == 2
        assert f"record schema {SCHEMA_VERSION + 1} is newer" in one_line(capsys)
    assert run() == 2
    assert "is newer" in one_line(capsys)
    assert json.loads(file.read_text()) == newer

    # A record of no use to anyone is trained again.
    file.write_text(good[:100])
    assert run() == 0
    assert "damaged record, the cell is trained again" in capsys.readouterr().err
    assert json.loads(file.read_text())["digest"] == json.loads(good)["digest"]


def test_skip_unreadable_names_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("batch_size=64,full") == 0
    file = sorted((tmp_path / "results/default").glob("*/record.json"))[0]
    file.write_text("{")
    capsys.readouterr()
    assert call("export", "default", "--skip-unreadable") == 0
    assert f"left out: {file}" in capsys.readouterr().err
    assert len((tmp_path / "results/default/export/cells.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("what", ["tasks", "optimizers", "experiments"])
def test_list(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", what) == 0
    out = capsys.readouterr().out
    wanted = {"tasks": "mnist5k/lenet5", "optimizers": "torch.optim.Adagrad", "experiments": "mnist_batch_size"}
    assert wanted[what] in out


def test_audit(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("audit", "optimizer=nesterov", "batch_size=16") == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out
    assert out.count("ok ") == 11


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("bench 0.")
    assert call() == 2
    assert "wandb-check" in capsys.readouterr().out
    assert call("run", "--help") == 0
    assert "batch_size: 64" in capsys.readouterr().out
    assert call("run", "--cfg", "job", "batch_size=7") == 0
    assert "batch_size: 7" in capsys.readouterr().out


def test_hydras_own_launcher_runs_the_grid_too(tmp_path: Path) -> None:
    assert call("run", "-m", *SMALL, "hydra/launcher=basic", "batch_size=64,full") == 0
    assert len(digests(tmp_path / "results/default")) == 2


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (
            "bench ",
            "audit compare export frontier import list merge report retry run speed status throughput verify "
            "wandb-check",
        ),
        ("bench re", "report retry"),
        ("bench run opti", "optimizer"),
        ("bench run optimizer=ada", "optimizer=adagrad"),
        ("bench run -m experiment=", "experiment=quickstart"),
        ("bench run batch", "batch_size="),
    ],
)
def test_shell_completion(
    line: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert call("-sc", "query=bash") == 0
    assert offered in capsys.readouterr().out


def test_shell_completion_installs_for_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COMP_LINE", raising=False)
    assert call("-sc", "install=bash") == 0
    assert capsys.readouterr().out.rstrip().endswith("hydra_bash_completion bench")


BAD_TASK = """
import torch
from bench.tasks import own

def pairs(n=8):
    generator = torch.Generator().manual_seed(n)
    inputs = torch.randn(n, 2, generator=generator)
    return inputs, inputs.sum(1, keepdim=True)

def task(seed):
    parts = dict(train=pairs(), val=pairs(4), test=pairs(5), model=lambda: torch.nn.Linear(2, 1),
                 loss="half_squared_error", target_metric="val_loss", target=0.1)
    parts |= CHANGE
    return own.problem(**parts)
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("dict(train=(torch.full((8, 2), float('nan')), torch.zeros(8, 1)))", "train"),
        ("dict(train=(torch.zeros(8, 2), torch.zeros(7, 1)))", "train"),
        ("dict(model=lambda: torch.nn.Linear(3, 1))", "model"),
        ("dict(target=None)", "target"),
        ("dict(target=float('nan'))", "target"),
        ("dict(target_metric='val_accuracy')", "target_metric"),
        ("dict(loss=lambda outputs, labels: (outputs - labels).mean())", "loss"),
        ("dict(loss=lambda outputs, labels: (outputs - labels).flatten() / 0)", "loss"),
    ],
)
def test_a_task_of_ones_own_that_is_none_gets_a_line_that_names_the_field(
    change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "mine.py"
    source.write_text(BAD_TASK.replace("CHANGE", change), encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    assert call("run", "task=custom", f"task.module={source}:task", "lr=0.1") == 2
    line = one_line(capsys)
    assert said in line
    assert sorted(path for path in tmp_path.iterdir() if path.name != "__pycache__") == before


def test_a_full_disk_is_a_line_and_no_mistake_of_typing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(words: list[str]) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *words)

    monkeypatch.setattr("bench.cli._dispatch", full)
    for words, said in (
        ([], "bench: No space left on device\n"),
        (["out/x"], "bench: out/x: No space left on device\n"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert (ended.value.code, capsys.readouterr().err) == (1, said)
