"""Configuration: what is refused, what is decided, and what a cell's id depends on."""

import copy
import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bench import config as module
from bench import validation
from bench.composition import compose_config
from bench.config import NOT_IDENTITY, Cell, cell_id, conf_path, resolve
from bench.errors import UsageError
from bench.results.record import Axes
from bench.schema import Config
from bench.tasks.catalogue import DATA_SETS
from bench.validation import steps_per_epoch
from tests.cases import OPTIMIZERS

#: The default configuration, with the values that may well be tuned held where these tests know them.
BASE = OmegaConf.to_container(
    compose_config(["optimizer.lr_log2=[-7,1]", "budget.epochs=5", "budget.steps=100", "seeds=3", "task.target=0.9"])
)


def cell(**changes: Any) -> Cell:
    """Resolve the default configuration with changes; a__b stands for a.b."""
    config = OmegaConf.create(copy.deepcopy(BASE))
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, merge=False)
    return resolve(config)


@pytest.fixture
def anything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tasks have what any optimizer requires: few parameters, matrices among them, sparse gradients."""
    real = module.task_facts
    monkeypatch.setattr(
        module, "task_facts", lambda *given: dataclasses.replace(real(*given), shapes=((5, 4), (5,)), sparse=True)
    )


# --- what is decided -------------------------------------------------------------------------------------------------


def test_the_default_cell() -> None:
    default = cell()
    assert default.batch_size == 64
    assert default.lrs == tuple(2.0**k for k in range(-7, 2))
    assert default.seeds == (0, 1, 2)
    # 4000 examples at 64: 63 steps an epoch; 5 epochs are more than the 100 steps.
    assert default.steps_per_epoch == 63
    assert default.steps == 315
    assert default.axes == Axes("mnist5k/mlp", "mlp", "sgd", 64, False, "cpu", "float32")
    assert default.label == "mnist5k/mlp sgd B=64 cpu"
    assert default.plain()["lr"] == list(default.lrs)
    assert default.plain()["seeds"] == [0, 1, 2]
    # Round trip: a record's configuration resolves to the same cell.
    assert resolve(OmegaConf.create(default.plain())) == default


def test_labels_and_axes() -> None:
    full = cell(batch_size="full", precision="float64", device__name="cuda:1")
    assert full.label == "mnist5k/mlp sgd B=full cuda:1 float64"
    assert (full.batch_size, full.axes.batch_size, full.axes.full_batch) == (4000, 4000, True)
    assert not cell(batch_size=4000).axes.full_batch


def test_axes_tell_turned_knobs_and_methods_apart() -> None:
    turned = cell(
        task__knobs={"label_noise": 0.2}, training={"clip_norm": 1.0, "stack": "off"}, rule={"name": "linear"}
    )
    assert (turned.axes.knobs, turned.axes.method) == ("label_noise=0.2", "rule=linear clip_norm=1.0")
    assert cell(optimizer__weight_decay=0.01).axes.method == "weight_decay=0.01"
    step = cell(schedule={"name": "step", "milestones": [0.5, 0.75]})
    assert step.axes.method == "schedule=step milestones=[0.5,0.75]", "no spaces: it is also how one would set it"
    # How a paper scales pixels is its network's own way.
    assert resolve(compose_config(["task=mnist5k/2c2d"])).axes.knobs == ""


def test_the_cost_orders_cells() -> None:
    small = cell(batch_size=4)
    assert small.cost > cell(batch_size=64).cost
    assert small.cost == 9 * 3 * 5000 * 64
    assert cell(budget__epochs=None, budget__steps=None, budget__seconds=5).cost == 9 * 3 * 10_000 * 124


@pytest.mark.parametrize(
    ("given_lr", "lrs"),
    [
        (0.5, (0.5,)),
        (1, (1.0,)),
        ([0.5, 0.25, 0.5], (0.25, 0.5)),
        ([1, 1.0], (1.0,)),
        (1e-30, (1e-30,)),
    ],
)
def test_learning_rates(given_lr: Any, lrs: tuple[float, ...]) -> None:
    assert cell(lr=given_lr).lrs == lrs


@pytest.mark.usefixtures("anything_goes")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_octave_grids(name: str) -> None:
    first, last = OPTIMIZERS[name]["lr_log2"]
    lrs = cell(optimizer=OPTIMIZERS[name]).lrs
    assert (lrs[0], lrs[-1], len(lrs)) == (2.0**first, 2.0**last, last - first + 1)
    assert all(b == 2 * a for a, b in pairwise(lrs))


@pytest.mark.parametrize(
    ("given_seeds", "seeds"), [(1, (0,)), (4, (0, 1, 2, 3)), ([7, 3, 7], (3, 7)), ([2**63 - 1], (2**63 - 1,))]
)
def test_seeds(given_seeds: Any, seeds: tuple[int, ...]) -> None:
    assert cell(seeds=given_seeds).seeds == seeds


LIMITS = ("epochs", "steps", "examples", "seconds")


@pytest.mark.parametrize(
    ("size", "remainder", "budget", "steps"),
    # 4000 examples. At 64: 62 whole batches and one of 32.
    [
        (64, "keep", {"epochs": 1}, 63),
        (64, "drop", {"epochs": 1}, 62),
        (64, "keep", {"epochs": 0.5}, 32),
        (64, "keep", {"epochs": 0.001}, 1),
        (400, "keep", {"epochs": 1.1}, 11),
        (40, "keep", {"epochs": 0.07}, 7),
        ("full", "keep", {"epochs": 5}, 5),
        (1, "keep", {"epochs": 2}, 8000),
        (64, "keep", {"steps": 17}, 17),
        (64, "keep", {"examples": 1}, 1),
        (64, "keep", {"examples": 64}, 1),
        (64, "keep", {"examples": 65}, 2),
        (64, "keep", {"examples": 3968}, 62),
        (64, "keep", {"examples": 3969}, 63),
        (64, "keep", {"examples": 4000}, 63),
        (64, "keep", {"examples": 4001}, 64),
        (64, "keep", {"examples": 8000}, 126),
        (64, "drop", {"examples": 3968}, 62),
        (64, "drop", {"examples": 3969}, 63),
        (64, "keep", {"epochs": 1, "steps": 100}, 100),
        (64, "keep", {"epochs": 1, "steps": 100, "until": "smallest"}, 63),
        (64, "keep", {"epochs": 1, "steps": 100, "examples": 640, "until": "smallest"}, 10),
        (64, "keep", {"seconds": 3}, None),
        (64, "keep", {"seconds": 3, "steps": 9}, 9),
        (64, "keep", {"gradient_evaluations": 7}, 7),
        (64, "keep", {"gradient_evaluations": 7, "steps": 5, "until": "smallest"}, 5),
    ],
)
def test_steps_of_a_budget(size: Any, remainder: str, budget: dict[str, Any], steps: int | None) -> None:
    limits = dict.fromkeys(LIMITS) | {"until": "largest"} | budget
    assert cell(batch_size=size, training__remainder=remainder, budget=limits).steps == steps


@given(examples=st.integers(1, 300), size=st.integers(1, 300), wanted=st.integers(1, 2000), drop=st.booleans())
def test_the_fewest_steps_that_see_enough_examples(examples: int, size: int, wanted: int, drop: bool) -> None:
    size = min(size, examples)
    per_epoch = steps_per_epoch(examples, size, "drop" if drop else "keep")
    seen, steps = 0, 0
    while seen < wanted:
        last = not drop and steps % per_epoch == per_epoch - 1
        seen += examples - (per_epoch - 1) * size if last else size
        steps += 1
    assert validation._steps_to_see(wanted, examples, size, per_epoch) == steps


# --- what is refused -------------------------------------------------------------------------------------------------

LINE = {"name": "regression/linear", "data": "regression/linear"}
REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"sweep": "a/b"}, "sweep='a/b': a sweep's name is letters, digits"),
    ({"sweep": ""}, "sweep=''"),
    ({"sweep": ".hidden"}, "sweep='.hidden'"),
    ({"task__data": "mnst"}, "unknown data set or problem (task.data) 'mnst'; did you mean 'mnist'? (allowed: "),
    ({"task__model": "mpl"}, "unknown model (task.model) 'mpl'; did you mean 'mlp'? (allowed: "),
    ({"task__target_metric": "test_accuracy"}, "unknown task.target_metric 'test_accuracy'"),
    ({"task__target": float("nan")}, "task.target=nan: must be a finite number"),
    ({"optimizer__target": "Sgd"}, "unknown optimizer class (optimizer.target) 'Sgd'; did you mean 'SGD'?"),
    ({"optimizer__target": "SparseAdam"}, "optimizer.target=SparseAdam: requires sparse gradients"),
    ({"optimizer__target": "Muon"}, "optimizer.target=Muon: takes matrices alone, and 2 of the 4 parameters"),
    (
        {"optimizer__target": "bench.optimizers.newton:Newton"},
        "so at most 1 024 parameters; mnist5k with mlp has 101 770",
    ),
    ({"optimizer__implementation": "fast"}, "unknown optimizer.implementation 'fast'"),
    ({"optimizer__arguments": {"momentom": 0.9}}, "'momentom'; did you mean 'momentum'?"),
    ({"optimizer__arguments": {"momentum": -1}}, "torch.optim.SGD says: Invalid momentum value: -1"),
    ({"precision": "float16"}, "unknown precision 'float16'; did you mean 'bfloat16'?"),
    ({"task__model": None}, "unknown model (task.model) 'None'"),
    ({"task__data": "regression/linear"}, "task.model=mlp: task.data=regression/linear has a model of its own"),
    ({"task__target": None}, "task.target=nan: must be a finite number (val_accuracy of mnist5k/mlp)"),
    (
        {"task": {"name": "line", "data": "regression/linear", "target_metric": "val_accuracy", "target": 0.5}},
        "task.target_metric=val_accuracy: line has no accuracy; use val_loss",
    ),
    ({"task__knobs__label_nois": 0.1}, "unknown knob (task.knobs) 'label_nois'; did you mean 'label_noise'?"),
    ({"task__knobs__label_noise": 0.6}, "task.knobs.label_noise=0.6: must be from 0 to 0.5"),
    ({"task__knobs__label_noise": "much"}, "task.knobs.label_noise=much: must be a number"),
    ({"task__knobs__subset": 2.5}, "task.knobs.subset=2.5: must be an integer"),
    ({"task__knobs__subset": 5000}, "task.knobs.subset=5000: the training split of mnist5k has only 4000 examples"),
    ({"schedule__name": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'?"),
    ({"schedule__warmup": 1.0}, "schedule.warmup=1.0: must be a fraction of the budget"),
    ({"schedule__name": "step"}, "schedule.milestones=[]: schedule=step needs at least one"),
    ({"schedule__milestones": [0.5, 0.2]}, "schedule.milestones=[0.5, 0.2]: must be ascending fractions"),
    ({"schedule__gamma": 0.0}, "schedule.gamma=0.0: must be above 0 and finite"),
    ({"schedule__peak_at": 1.5}, "schedule.peak_at=1.5: must be above 0 and at most 1"),
    ({"schedule__start_divisor": 0.5}, "schedule.start_divisor=0.5: must be at least 1"),
    (
        {"schedule__name": "cosine", "budget": dict.fromkeys(LIMITS) | {"seconds": 1.0}},
        "schedule=cosine: needs to know how many steps there will be",
    ),
    ({"batch_schedule__name": "grow"}, "unknown batch_schedule 'grow'; did you mean 'growth'?"),
    ({"batch_schedule__name": "growth"}, "batch_schedule.milestones=[]: must be one or more ascending fractions"),
    (
        {"batch_schedule": {"name": "growth", "milestones": [0.5], "factor": 1}},
        "batch_schedule.factor=1: must be at least 2",
    ),
    (
        {"batch_schedule": {"name": "growth", "milestones": [0.5], "most": 5000}},
        "batch_schedule.most=5000: must be from the batch size (64) to the training split's 4000 examples",
    ),
    (
        {"batch_schedule": {"name": "growth", "milestones": [0.5]}, "budget__seconds": 1.0},
        "batch_schedule=growth: needs a budget in epochs, steps or examples alone",
    ),
    (
        {"batch_schedule": {"name": "growth", "milestones": [0.5]}, "training__remainder": "carry"},
        "batch_schedule=growth: training.remainder=carry needs one batch size",
    ),
    ({"rule__name": "linar"}, "unknown rule 'linar'; did you mean 'linear'?"),
    ({"rule__reference": 0}, "rule.reference=0: must be at least 1"),
    ({"rule__name": "adam_sqrt"}, "rule=adam_sqrt: SGD has no argument 'betas' for it to move"),
    ({"training__remainder": "cary"}, "unknown training.remainder 'cary'; did you mean 'carry'?"),
    ({"training__clip_norm": 0.0}, "training.clip_norm=0.0: must be a finite number above 0, or null"),
    ({"training__stack": 1}, "training.stack=1: must be auto, off or a number of trials, at least 2"),
    ({"training__stack": "of"}, "training.stack=of: must be auto, off or a number of trials, at least 2"),
    ({"training__micro_batch": 65}, "training.micro_batch=65: must be from 1 to the batch size (64), or null"),
    ({"training__compile": "one"}, "unknown training.compile 'one'; did you mean 'on'? (allowed: off, on)"),
    ({"training__compile": "on", "training__micro_batch": 8}, "training.compile=on: training.micro_batch must be null"),
    (
        {"training__compile": "on", "training__remainder": "carry"},
        "training.compile=on: training.remainder=carry at batch size 64 makes batches of many sizes",
    ),
    (
        {"training__compile": "on", "optimizer": OPTIMIZERS["lbfgs"]},
        "training.compile=on: optimizer lbfgs asks for the loss itself, which is not compiled",
    ),
    ({"training__cuda_graph": "of"}, "unknown training.cuda_graph 'of'; did you mean 'off'? (allowed: auto, off, on)"),
    (
        {"training__cuda_graph": "on"},
        "training.cuda_graph=on with device=cpu: only CUDA devices have graphs",
    ),
    *(
        ({"training__cuda_graph": "on", "device__name": "cuda"} | changes, f"training.cuda_graph=on: {words}")
        for changes, words in (
            ({"training__clip_norm": 1.0}, "needs training.clip_norm=null; a recorded step is the same every time"),
            ({"training__average": 0.9}, "needs training.average=null"),
            ({"training__micro_batch": 8}, "training.micro_batch must be null; a batch is recorded as a whole"),
            ({"schedule__name": "cosine"}, "needs schedule=constant and schedule.warmup=0"),
            ({"batch_schedule": {"name": "growth", "milestones": [0.5]}}, "needs batch_schedule=constant"),
            ({"optimizer": OPTIMIZERS["lbfgs"]}, "optimizer lbfgs asks for the loss itself, which is not recorded"),
            ({"training__remainder": "carry"}, "training.remainder=carry at batch size 64 makes batches of many sizes"),
        )
    ),
    ({"training__average": 1.0}, "training.average=1.0: must be between 0 and 1, or null"),
    ({"budget__until": "both"}, "unknown budget.until 'both' (allowed: largest, smallest)"),
    ({"measure__memory_process": "frsh"}, "unknown measure.memory_process 'frsh'; did you mean 'fresh'?"),
    *(
        ({"measure__energy_seconds": value}, f"measure.energy_seconds={value}: must be a finite number, at least 0")
        for value in (-1.0, float("inf"), float("nan"))
    ),
    ({"device__name": "gpu"}, "unknown device 'gpu'"),
    ({"device__name": "cuda:"}, "unknown device 'cuda:'"),
    ({"device__name": "cuda:al"}, "unknown device 'cuda:al'; did you mean 'cuda:all'?"),
    ({"device__name": "cpu:0"}, "unknown device 'cpu:0'"),
    ({"device__name": "mps:2"}, "unknown device 'mps:2'"),
    ({"device__name": "cpu:65"}, "data parallel: cpu:1 … cpu:64 processes, cuda:all, cuda:0-1 … cuda:0-63)"),
    *(
        ({"device__timeout_seconds": value}, f"device.timeout_seconds={value}: must be a finite number, at least 1")
        for value in (0.5, -1.0, float("inf"), float("nan"))
    ),
    *(
        ({"device__name": "cpu:2"} | changes, words)
        for changes, words in (
            ({"optimizer": OPTIMIZERS["newton"], "task": LINE}, "device=cpu:2: optimizer newton differentiates"),
            ({"task__model": "f1"}, "device=cpu:2: f1 uses statistics of a whole batch in training"),
            (
                {"training__compile": "on"},
                "with device=cpu:2: compiled gradients are of one device",
            ),
            ({"training__cuda_graph": "on"}, "training.cuda_graph=on with device=cpu:2: only CUDA devices have graphs"),
            ({"training__cuda_graph": "on", "device__name": "cuda:all"}, "recorded steps are of one device"),
            ({"measure__at_evaluations": ["step_loss_variance"]}, "it looks at whole batches, of which each device"),
        )
    ),
    ({"precision": "tf32"}, "precision=tf32 with device=cpu: tf32 is a mode of CUDA devices"),
    ({"precision": "float64", "device__name": "mps"}, "precision=float64 with device=mps: mps has no float64"),
    *(
        ({"batch_size": size}, f"batch_size={size}: must be an integer from 1 to 4000, or full")
        for size in (0, -1, 1.5, "all", "64", True, None, [1])
    ),
    ({"batch_size": 4001}, "batch_size=4001: the training split of mnist5k has only 4000 examples (allowed: 1 … 4000"),
    *(
        ({"lr": lr}, "a learning rate must be a finite number above 0")
        for lr in (0, -0.1, float("inf"), float("nan"), "fast", True, [0.1, 0], [0.1, "x"], [[0.1]])
    ),
    ({"lr": []}, "lr=[]: give at least one learning rate"),
    *(
        ({"optimizer__lr_log2": span}, f"optimizer.lr_log2={span}: must be two exponents")
        for span in ([1], [], [1, 2, 3], [2, 1], [-2000, 0], [0, 2000])
    ),
    ({"seeds": 0}, "seeds=0: must be at least 1, or a list of seeds"),
    ({"seeds": []}, "seeds=[]: must be a number of seeds ≥ 1"),
    ({"seeds": "x"}, "seeds=x: must be a number of seeds ≥ 1"),
    ({"seeds": True}, "seeds=True: must be a number of seeds ≥ 1"),
    ({"seeds": [0, -1]}, "-1 is not"),
    ({"seeds": [0, 1.5]}, "1.5 is not"),
    ({"seeds": [True]}, "True is not"),
    ({"seeds": [2**63]}, "9223372036854775808 is not"),
    ({"tracker__name": "wandbb"}, "unknown tracker 'wandbb'; did you mean 'wandb'?"),
    *(
        ({name.replace(".", "__"): least - 1}, f"{name}={least - 1}: must be at least {least}")
        for name, least in {
            "device.threads": 1,
            "evaluation.per_octave": 1,
            "evaluation.every_epoch": 0,
            "evaluation.batch_size": 1,
            "evaluation.train_examples": 1,
            "measure.warmup_steps": 1,
            "measure.windows": 1,
            "seed.data": 0,
            "seed.init": 0,
            "seed.order": 0,
            "seed.noise": 0,
        }.items()
    ),
    ({"seed__data": 2**64}, "seed.data=18446744073709551616: must be below 2^63"),
    *(
        ({name.replace(".", "__"): value}, f"{name}={value}: must be a finite number above 0")
        for name in ("training.divergence_factor", "measure.window_seconds")
        for value in (0.0, -1.0, float("inf"), float("nan"))
    ),
    ({"evaluation__train_examples": 4001}, "evaluation.train_examples=4001: the training split of mnist5k has only"),
    ({"budget": dict.fromkeys(LIMITS)}, "budget: set at least one of budget.epochs"),
    *(
        ({f"budget__{name}": value}, f"budget.{name}={value}: must be a finite number above 0")
        for name, values in {
            "epochs": (0.0, -1.0, float("inf"), float("nan")),
            "steps": (0, -3),
            "gradient_evaluations": (0,),
            "examples": (0,),
            "seconds": (0.0, float("inf")),
        }.items()
        for value in values
    ),
    ({"bacth_size": 3}, "unknown config key 'bacth_size'; did you mean 'batch_size'?"),
    ({"device__thread": 3}, "unknown config key 'device.thread'; did you mean 'device.threads'?"),
    ({"tracker__projct": "x"}, "unknown config key 'tracker.projct'; did you mean 'tracker.project'?"),
    ({"device__threads": "many"}, "device.threads"),
    ({"evaluation__per_octave": 1.5}, "evaluation.per_octave"),
    ({"task__name": "???"}, "task.name"),
    ({"optimizer__lr_log2": "???"}, "optimizer.lr_log2"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSALS, ids=[str(changes) for changes, _ in REFUSALS])
def test_refusals(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        cell(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# --- identity --------------------------------------------------------------------------------------------------------


def leaf_fields(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaf_fields(value, (*path, field.name))
        else:
            yield (*path, field.name)


def changed(config: Any, path: tuple[str, ...]) -> Any:
    """Return the configuration with one leaf changed to another value of its kind."""
    name, *rest = path
    value = getattr(config, name)
    if rest:
        return dataclasses.replace(config, **{name: changed(value, tuple(rest))})
    if isinstance(value, bool):
        other: Any = not value
    elif value == []:
        other = [0.5]
    elif isinstance(value, int | float):
        other = value + 1
    elif isinstance(value, str):
        other = value + "x"
    elif isinstance(value, list):
        other = value[:-1]
    elif isinstance(value, dict):
        other = value | {"momentum": 0.5}
    else:
        assert value is None
        other = 1
    return dataclasses.replace(config, **{name: other})


RESOLVED = cell().config
LEAVES = list(leaf_fields(RESOLVED))


@pytest.mark.parametrize("path", LEAVES, ids=[".".join(path) for path in LEAVES])
def test_the_id_depends_on_what_is_computed_and_on_nothing_else(path: tuple[str, ...]) -> None:
    same = cell_id(changed(RESOLVED, path), {}) == cell_id(RESOLVED, {})
    # Knobs count as they differ from their defaults, a task of one's own by its source.
    assert same == (
        path[0] in ("sweep", "results_root", "tracker", "data", "incompatible")
        or path[1:] in (("knobs",), ("module",))
        or path == ("device", "timeout_seconds")
    )


def test_what_is_left_out_of_the_id_exists() -> None:
    assert set(NOT_IDENTITY) == {"sweep", "results_root", "tracker", "data", "incompatible"}
    assert set(NOT_IDENTITY) < {field.name for field in dataclasses.fields(Config)}


def test_ids_never_change() -> None:
    # Another id for the same configuration would train a finished sweep again.
    assert cell().id == "ca053dc965d757e9"
    assert cell().id == cell_id(RESOLVED, {})
    assert len(LEAVES) == 84


def test_knobs_count_where_they_are_turned() -> None:
    turned = cell(task__knobs__label_noise=0.25)
    assert turned.id != cell().id
    assert turned.spec.knobs == (("label_noise", 0.25),)
    assert turned.config.task.knobs == {"label_noise": 0.25, "subset": None, "inputs": "standardised"}
    assert cell(task__knobs={}).id == cell().id
    assert cell(task__knobs__subset=100).facts.train_examples == 100


def test_an_optimizer_of_ones_own_is_what_its_source_says(tmp_path: Path) -> None:
    ids = {}
    for folder, source in (("a", "pass"), ("b", "pass"), ("c", "more = 1")):
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir()
        path.write_text(f"import torch\nclass Mine(torch.optim.SGD):\n    {source}\n", encoding="utf-8")
        made = cell(optimizer__target=f"{path}:Mine")
        assert len(made.config.optimizer.source_sha256 or "") == 64
        assert resolve(OmegaConf.create(made.plain())).id == made.id
        ids[folder] = made.id
    assert ids["a"] == ids["b"] != ids["c"]
    assert ids["a"] != cell(optimizer__target="SGD").id
    fallen_back = [
        cell(optimizer__target="Muon", optimizer__fallback={"target": f"{tmp_path / folder / 'mine.py'}:Mine"}).id
        for folder in "abc"
    ]
    assert fallen_back[0] == fallen_back[1] != fallen_back[2]
    newton = cell(optimizer__target="bench.optimizers.newton:Newton", task__model="logreg", incompatible="record")
    assert newton.config.optimizer.source_sha256 is None


def test_an_optimizer_that_is_not_compiled_may_be_recorded() -> None:
    made = cell(training__compile="on", optimizer=OPTIMIZERS["lbfgs"], incompatible="record")
    assert made.incompatible == "training.compile=on: optimizer lbfgs asks for the loss itself, which is not compiled"
    assert cell(optimizer=OPTIMIZERS["lbfgs"], incompatible="record").incompatible == ""


def test_ways_of_saying_the_same_have_one_id() -> None:
    assert cell(lr=[2.0**k for k in range(1, -8, -1)], seeds=[2, 1, 0]).id == cell().id
    assert cell(lr=1).id == cell(lr=[1.0]).id
    assert cell(seeds=1).id == cell(seeds=[0]).id
    assert cell(task__target=1).id == cell(task__target=1.0).id
    # YAML 1.1 reads on and off as true and false.
    assert cell(training__compile=True).id == cell(training__compile="on").id != cell().id
    assert cell(training__cuda_graph=False).id == cell(training__cuda_graph="off").id != cell().id
    assert cell(training__cuda_graph="auto").id == cell().id
    assert cell(training__compile=False).id == cell(training__compile="off").id == cell().id


# --- files -----------------------------------------------------------------------------------------------------------


def test_configuration_is_found_beside_or_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (conf_path() / "config.yaml").is_file()
    package = tmp_path / "site" / "bench"
    (package / "conf").mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(package / "config.py"))
    assert conf_path() == package / "conf"
    (package / "conf").rmdir()
    assert conf_path() == tmp_path / "site" / "conf"


@pytest.mark.usefixtures("anything_goes")
@pytest.mark.parametrize("group", ["task", "optimizer", "budget", "device", "tracker"])
def test_every_file_of_every_group_resolves(group: str) -> None:
    for path in sorted((conf_path() / group).rglob("*.yaml")):
        if path.stem in ("default", "custom"):
            continue  # names another file of its group, or one of yours
        chosen = OmegaConf.to_container(OmegaConf.load(path))
        # Some tasks have fewer examples than a usual batch.
        made = cell(batch_size="full", **{group: chosen})
        resolved = dataclasses.asdict(getattr(made.config, group))
        later = {field.name: module._default(field) for field in dataclasses.fields(getattr(made.config, group))}
        if group == "task":
            # A file may leave the target to the task; what is resolved says it.
            later |= {"target_metric": made.target_metric, "target": made.target}
        written = {name: value for name, value in chosen.items() if value is not None}
        assert resolved == {name: value for name, value in later.items() if name not in written} | written


def test_every_batch_size_up_to_the_data_set_resolves() -> None:
    for data, entry in DATA_SETS.items():
        assert cell(task__data=data, batch_size=entry.train).batch_size == entry.train
        with pytest.raises(UsageError, match="only"):
            cell(task__data=data, batch_size=entry.train + 1)
