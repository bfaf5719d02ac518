"""A user's own task: found by file or module, called with its seed; whatever is wrong with it is one line."""

import hashlib
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import UsageError
from bench.references import source_sha256 as file_sha256
from bench.tasks.custom import load_custom
from tests.conftest import ROOT

RING = ROOT / "examples" / "ring.py"

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
from bench.tasks import own
from bench.tasks.problem import *

def data(seed, n=30):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(3 * n, 2, generator=generator)
    labels = (points[:, 0] > 0).long()
    return [(points[i::3], labels[i::3]) for i in range(3)]

def net():
    return nn.Linear(2, 2)
"""
GOOD = """
def task(seed: int):
    train, val, test = data(seed)
    return own.problem(train=train, val=val, test=test, model=net, target=0.9)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def source_sha256(reference: str) -> str:
    return file_sha256(reference, "task.module", "function")


def write(folder: Path, body: str, name: str = "mine.py") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + body, encoding="utf-8")
    return f"{name}:task"


def refusal(reference: str, seed: int = 0) -> str:
    with pytest.raises(UsageError) as error:
        load_custom(reference, seed)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"task.module={reference}: ")
    return line.removeprefix(f"task.module={reference}: ")


def test_the_example_is_a_task() -> None:
    problem = load_custom(f"{RING}:ring", 3)
    assert [len(split) for split in (problem.splits.train, problem.splits.val, problem.splits.test)] == [1000, 500, 500]
    assert (problem.classes, problem.target_metric, problem.target) == (2, "val_accuracy", 0.95)
    radius = problem.splits.test.inputs.norm(dim=1)
    assert torch.equal(problem.splits.test.labels == 1, (radius > 1) & (radius < 2))


def test_a_path_is_relative_to_the_current_folder_or_absolute(folder: Path) -> None:
    write(folder, GOOD, "deep/mine.py")
    relative, absolute = load_custom("deep/mine.py:task", 1), load_custom(f"{folder}/deep/mine.py:task", 1)
    assert torch.equal(relative.splits.train.inputs, absolute.splits.train.inputs)


def test_a_module_is_found_from_the_current_folder_and_may_import_beside_itself(folder: Path) -> None:
    write(folder, "from .sizes import SIZE\n" + GOOD.replace("data(seed)", "data(seed, SIZE)"), "ours/tasks.py")
    (folder / "ours" / "__init__.py").write_text("")
    (folder / "ours" / "sizes.py").write_text("SIZE = 7\n")
    before = list(sys.path)
    assert len(load_custom("ours.tasks:task", 0).splits.train) == 7
    assert sys.path == before
    assert source_sha256("ours.tasks:task") == hashlib.sha256((folder / "ours/tasks.py").read_bytes()).hexdigest()


def test_a_package_is_found_as_well(folder: Path) -> None:
    write(folder, "from .sizes import SIZE\n" + GOOD.replace("data(seed)", "data(seed, SIZE)"), "whole/__init__.py")
    (folder / "whole" / "sizes.py").write_text("SIZE = 5\n")
    assert len(load_custom("whole:task", 0).splits.train) == 5


def test_a_file_may_import_its_neighbours_and_hold_dataclasses(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "neighbour_of_mine.py").write_text("SIZE = 6\n")
    body = (
        "from __future__ import annotations\nimport dataclasses\nfrom neighbour_of_mine import SIZE\n"
        "@dataclasses.dataclass\nclass Sizes:\n    n: int = SIZE\n"
    )
    (folder / "sub" / "mine.py").write_text(body + HEAD + GOOD.replace("data(seed)", "data(seed, Sizes().n)"))
    assert len(load_custom("sub/mine.py:task", 0).splits.train) == 6


def test_the_same_is_loaded_once_and_other_content_anew(folder: Path) -> None:
    reference = write(folder, GOOD)
    first, sha256 = load_custom(reference, 0), source_sha256(reference)
    assert load_custom(reference, 0) is first
    assert load_custom(reference, 1) is not first
    write(folder, GOOD.replace("data(seed)", "data(seed, 9)"))
    assert len(load_custom(reference, 0).splits.train) == 9
    assert source_sha256(reference) != sha256


def test_the_hash_is_of_the_file_and_imports_nothing(folder: Path) -> None:
    reference = write(folder, "raise SystemExit(3)\n")
    assert source_sha256(reference) == hashlib.sha256((folder / "mine.py").read_bytes()).hexdigest()


def test_global_generators_are_seeded_for_it_and_restored(folder: Path) -> None:
    body = """
import random
import numpy as np
def task(seed):
    points = torch.randn(30, 2) + float(np.random.rand()) + random.random()
    part = (points, (points[:, 0] > 0).long())
    return own.problem(train=part, val=part, test=part, model=net, target=0.9, distinct=False)
"""
    reference = write(folder, body)
    numpy_state = np.random.get_state
    states = torch.get_rng_state(), numpy_state()[1].copy(), random.getstate()
    first = load_custom(reference, 0).splits.train.inputs
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (numpy_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert not torch.equal(first, load_custom(reference, 1).splits.train.inputs)
    load_custom.__globals__["_load"].cache_clear()
    assert torch.equal(first, load_custom(reference, 0).splits.train.inputs)


@pytest.mark.parametrize("reference", ["mine.py", "mine.py:", ":task", "mine.py:two words", "task"])
def test_a_reference_has_two_parts(reference: str) -> None:
    expected = "write path/to/file.py:function or module:function"
    assert refusal(reference) == expected
    with pytest.raises(UsageError, match=re.escape(expected)):
        source_sha256(reference)


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        ("nowhere.py:task", "no file nowhere.py (looked in "),
        ("no/where.py:task", "no file no/where.py (looked in "),
        ("nowhere_at_all:task", "no module nowhere_at_all (looked in "),
        ("nowhere_at_all.deep:task", "cannot look for module nowhere_at_all.deep: ModuleNotFoundError: "),
        ("sys:task", "module sys has no source file"),
        ("..mine:task", "cannot look for module ..mine: "),
    ],
)
def test_what_is_not_there(folder: Path, reference: str, line: str) -> None:
    assert refusal(reference).startswith(line)
    with pytest.raises(UsageError):
        source_sha256(reference)


def test_a_file_written_as_a_module_is_told_so(folder: Path) -> None:
    (folder / "of-mine.py").write_text(HEAD + GOOD)
    assert refusal("of-mine:nothing").startswith("unknown function in of-mine.py 'nothing'")
    assert len(load_custom("of-mine:task", 0).splits.train) == 30


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = write(folder, GOOD)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(reference) == "cannot read mine.py: Permission denied"


LINE = HEAD.count("\n") + 1
FIELDS = "own.problem(train=train, val=val, test=test, model=net, target=0.9)"
WRONG = {
    "syntax": ("def task(seed:\n", f"cannot be read: SyntaxError: '(' was never closed (line {LINE})"),
    "raises at import": ("1 / 0\n", f"cannot be imported: ZeroDivisionError: division by zero (line {LINE})"),
    "exits at import": ("raise SystemExit\n", f"cannot be imported: SystemExit (line {LINE})"),
    "imports nothing": ("import nothing_like_it\n", "cannot be imported: ModuleNotFoundError: No module named"),
    "misspelt": (
        GOOD.replace("def task", "def taks"),
        "unknown function in mine.py 'task'; did you mean 'taks'?",
    ),
    "no function": ("task = 3\n", "task is of type int, must be a function of a seed"),
    "no seed": ("def task():\n    pass\n", "task must take a seed and nothing else: too many positional arguments"),
    "two arguments": (
        "def task(seed, width):\n    pass\n",
        "task must take a seed and nothing else: missing a required argument: 'width'",
    ),
    "raises": (
        "def task(seed):\n    raise ValueError('no\\nluck')\n",
        f"task(0) raised ValueError: no (line {LINE + 1})",
    ),
    "returns nothing": ("def task(seed):\n    pass\n", "task returned nothing, must return a Problem"),
    "returns a list": ("def task(seed):\n    return []\n", "task returned a list, must return a Problem"),
}
WRONG_FIELDS = {
    "target missing": (FIELDS.replace(", target=0.9", ""), "task(0) raised TypeError: problem() missing 1 required"),
    "target nan": (FIELDS.replace("0.9", "float('nan')"), "target=nan: must be a finite number"),
    "target word": (FIELDS.replace("0.9", "'high'"), "target=high: must be a finite number"),
    "target of an accuracy": (
        FIELDS.replace("0.9", "90"),
        "target=90: an accuracy to get past must be from 0 to below 1",
    ),
    "metric": (
        FIELDS.replace("target=", "target_metric='accuracy', target="),
        "unknown target_metric 'accuracy'; did you mean 'val_accuracy'?",
    ),
    "no accuracy": (
        FIELDS.replace("target=", "loss=lambda o, l: o.sum(1), target_metric='val_accuracy', target="),
        "target_metric=val_accuracy: lambda has no accuracy; give one (correct=…) or take val_loss",
    ),
    "lengths": (FIELDS.replace("val=val", "val=(val[0][:5], val[1])"), "val: 5 inputs and 30 labels, must be as many"),
    "empty": (FIELDS.replace("test=test", "test=(test[0][:0], test[1][:0])"), "test: has no examples"),
    "other examples": (
        FIELDS.replace("test=test", "test=(test[0][:, :1], test[1])"),
        "test: an example has the shape (1,), one of train (2,)",
    ),
    "nan input": (
        FIELDS.replace("val=val", "val=(val[0].index_fill(0, torch.tensor(4), torch.nan), val[1])"),
        "val: inputs hold NaN or infinity, first in example 4",
    ),
    "infinite label": (
        FIELDS.replace("test=test", "test=(test[0], test[1] / 0)").replace(
            "target", "loss='half_squared_error', target"
        ),
        "test: labels hold NaN or infinity, first in example 0",
    ),
    "real classes": (
        FIELDS.replace("train=train", "train=(train[0], train[1] * 1.0)"),
        "train: labels are float32, cross-entropy takes integers (class indices)",
    ),
    "class too high": (
        FIELDS.replace("val=val", "val=(val[0], val[1] + 1)"),
        "val: label 2 is no class; the model has 2 outputs (0 … 1)",
    ),
    "class too low": (
        FIELDS.replace("val=val", "val=(val[0], val[1] - 1)"),
        "val: label -1 is no class; the model has 2 outputs (0 … 1)",
    ),
    "labels in a column": (
        FIELDS.replace("train=train", "train=(train[0], train[1][:, None])"),
        "train: labels are of shape (30, 1), cross-entropy takes one per example",
    ),
    "outputs without classes": (
        FIELDS.replace("model=net", "model=lambda: nn.Sequential(net(), nn.Flatten(0))"),
        "model: outputs of shape (60,) for 30 examples, must be batch × …",
    ),
    "outputs too deep": (
        FIELDS.replace("model=net", "model=lambda: nn.Sequential(net(), nn.Unflatten(1, (2, 1)))"),
        "model: outputs of shape (30, 2, 1), cross-entropy takes batch × classes",
    ),
    "mean loss": (
        FIELDS.replace("target", "loss=F.cross_entropy, target"),
        "loss: of shape () for 30 examples (train), must be one for each (reduction='none'",
    ),
    "loss raises": (
        FIELDS.replace("target", "loss=lambda o, l: o @ l, target"),
        "loss: cannot take (30, 2), (30,): RuntimeError: ",
    ),
    "infinite loss": (
        FIELDS.replace("target", "loss=lambda o, l: o[:, 0] / 0, target"),
        "loss: untrained it is NaN or infinite on train",
    ),
    "loss without slope": (
        FIELDS.replace("target", "loss=lambda o, l: (o.argmax(1) - l).abs().float(), target"),
        "loss: has no gradient; it must be differentiable in the model's outputs",
    ),
    "infinite slope": (
        FIELDS.replace("target", "loss=lambda o, l: (o[:, 0] * 0).abs().sqrt(), target"),
        "loss: its untrained gradient by parameter 0 (of shape (2, 2)) holds NaN or infinity",
    ),
    "idle parameter": (
        FIELDS.replace("model=net", "model=Idle"),
        "model: parameter 0 (of shape (3,)) plays no part in the loss",
    ),
    "one verdict": (
        FIELDS.replace("target", "correct=lambda o, l: (o.argmax(1) == l).all(), target"),
        "correct: of shape () for 30 examples (train), must be one for each",
    ),
    "field of own": (FIELDS.replace("model=net", "model=net()"), "model: is a module, must be a function that makes a"),
    "unseeded data": (
        FIELDS.replace("val=val", "val=(torch.rand(30, 2, generator=unseeded), val[1])"),
        "val: two calls with one seed gave different data; draw everything from the seed",
    ),
    "unseeded model": (
        FIELDS.replace("model=net", "model=drifting"),
        "model: one seed gave different initial parameters; draw them from torch alone",
    ),
}
DRIFT = """
unseeded = torch.Generator()
def drifting():
    module = nn.Linear(2, 2)
    nn.init.uniform_(module.weight, generator=unseeded)
    return module
class Idle(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.weight, self.bias, self.idle = None, None, nn.Parameter(torch.zeros(3))
        self.used = nn.Parameter(torch.ones(2, 2))
    def forward(self, inputs):
        return inputs @ self.used
"""


@pytest.mark.parametrize("case", WRONG)
def test_a_file_or_function_that_cannot_be_used(folder: Path, case: str) -> None:
    body, line = WRONG[case]
    assert refusal(write(folder, body)).startswith(line)


@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_a_problem_that_cannot_be_used(folder: Path, case: str) -> None:
    call, line = WRONG_FIELDS[case]
    body = f"{DRIFT}\ndef task(seed):\n    train, val, test = data(seed)\n    return {call}\n"
    assert refusal(write(folder, body)).startswith(line)


WRONG_PROBLEMS = {
    "no split": ("Splits(train, val, (1, 2))", "MODEL", "test: is of type tuple, must be a Split"),
    "no tensors": ("Splits(train, Split([1], [2]), test)", "MODEL", "val: inputs must be a tensor with one entry"),
    "no parameters": (
        "Splits(train, val, test)",
        "Model('m', lambda g: [], lambda w, x: x)",
        "model: has no parameters",
    ),
    "double parameters": (
        "Splits(train, val, test)",
        "Model('m', lambda g: [torch.zeros(2).double()], lambda w, x: x)",
        "model: initial parameter 0 must be a float32 tensor on cpu",
    ),
    "nan parameters": (
        "Splits(train, val, test)",
        "Model('m', lambda g: [torch.full((2,), torch.nan)], lambda w, x: x)",
        "model: initial parameter 0 holds NaN or infinity",
    ),
    "nan outputs": (
        "Splits(train, val, test)",
        "Model('m', lambda g: [torch.zeros(2)], lambda w, x: x / w[0])",
        "model: untrained outputs are NaN or infinite on train",
    ),
    "classes": ("Splits(train, val, test)", "MODEL", "classes=3: the model has 2 outputs"),
}


@pytest.mark.parametrize("case", WRONG_PROBLEMS)
def test_a_problem_built_by_hand_is_checked_likewise(folder: Path, case: str) -> None:
    splits, model, line = WRONG_PROBLEMS[case]
    body = f"""
MODEL = Model("m", lambda g: [torch.zeros(2)], lambda w, x: x * w[0])
def task(seed):
    train, val, test = (Split(*pair) for pair in data(seed))
    return Problem({splits}, {model}, CROSS_ENTROPY, "val_accuracy", 0.9, {3 if case == "classes" else None})
"""
    assert refusal(write(folder, body)).startswith(line)
