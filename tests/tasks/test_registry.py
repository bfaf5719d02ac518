"""What is said of tasks without loading them is what loading gives."""

import math

import pytest
import torch

from bench.composition import choice, choices, compose_config
from bench.config import resolve
from bench.tasks.catalogue import DATA_SETS, NETWORKS
from bench.tasks.problem import Splits
from bench.tasks.registry import TaskSpec, build_network, load_problem, resolve_reference, task_facts, task_spec
from bench.tasks.targets import default_knobs
from bench.tasks.torchvision_sets import SOURCES


def test_facts_of_mnist5k_are_its_splits(splits: Splits) -> None:
    entry = DATA_SETS["mnist5k"]
    assert (entry.train, entry.val, entry.test) == (len(splits.train), len(splits.val), len(splits.test))
    assert splits.train.inputs.shape[1:] == entry.shape
    assert splits.train.labels.unique().tolist() == list(range(entry.classes))
    facts = task_facts(TaskSpec("mnist5k/mlp", "mnist5k", "mlp"))
    assert (facts.data, facts.model) == ("mnist5k", "mlp")
    assert (facts.train_examples, facts.val_examples, facts.test_examples, facts.classes) == (4000, 500, 500, 10)
    assert facts.parameters == 101_770
    facts = task_facts(TaskSpec("mnist/lenet5", "mnist", "lenet5"))
    assert (facts.train_examples, facts.val_examples, facts.test_examples) == (55_000, 5_000, 10_000)
    assert facts.parameters == 61_706
    assert task_facts(TaskSpec("usps/f1", "usps", "f1")).parameters == 1_462_794 - 512 * (784 - 256)


@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("model", NETWORKS)
def test_every_network_fits_every_data_set(data: str, model: str) -> None:
    entry, built = DATA_SETS[data], build_network(model, data)
    assert built.name == model
    weights = [*built.initialise(torch.Generator().manual_seed(0)), *built.buffers()]
    for forward in (built.forward, built.training_forward or built.forward):
        assert forward(weights, torch.zeros(2, *entry.shape)).shape == (2, entry.classes)


@pytest.mark.parametrize("network", NETWORKS)
def test_untrained_networks_guess_within_the_tolerance_of_the_audit(network: str) -> None:
    spec, _ = task_spec(f"mnist5k/{network}", "mnist5k", network, None, default_knobs(network))
    problem = load_problem(spec, "", False, 0)
    assert problem.untrained is not None
    assert problem.untrained.loss == math.log(10)
    split = problem.splits.val
    for seed in (0, 1):
        weights = [*problem.model.initialise(torch.Generator().manual_seed(seed)), *problem.model.buffers()]
        loss = problem.objective.losses(problem.model.forward(weights, split.inputs), split.labels).mean().item()
        assert loss == pytest.approx(math.log(10), abs=problem.untrained.tolerance)


def test_every_pair_of_data_set_and_network_is_a_task() -> None:
    images = [name for name in choices("task") if name.partition("/")[0] in DATA_SETS]
    assert images == sorted(f"{data}/{network}" for data in DATA_SETS for network in NETWORKS)
    for name in images:
        config = choice("task", name)
        assert (config.name, f"{config.data}/{config.model}") == (name, name)
        assert config.target_metric == "val_accuracy"
        # Better than guessing, and to be got past.
        assert 2 / DATA_SETS[config.data].classes < config.target < 1
        assert dict(config.knobs) == default_knobs(config.model)


@pytest.mark.parametrize("name", ["mnist5k/mlp", "mnist5k/f1", "usps/2c2d", "emnist/mlp_deepobs", "qmnist/lenet5"])
def test_tasks_of_files_and_of_the_catalogue_compose_alike(name: str) -> None:
    cell = resolve(compose_config([f"task={name}", "tracker=none"]))
    task = cell.config.task
    assert (task.name, f"{task.data}/{task.model}") == (name, name)
    assert task.target == choice("task", name).target
    assert task.knobs == default_knobs(task.model or "")
    assert cell.facts.train_examples == DATA_SETS[task.data or ""].train


def test_knobs_of_a_task_of_the_catalogue_turn() -> None:
    overrides = ["task=mnist5k/f1", "tracker=none", "task.knobs.ghost_batch=16", "task.knobs.label_noise=0.1"]
    cells = [resolve(compose_config(overrides[:count])) for count in (2, 3, 4)]
    assert len({cell.id for cell in cells}) == 3
    assert cells[2].config.task.knobs["ghost_batch"] == 16


def test_loaders_and_builders_are_there() -> None:
    for entry in DATA_SETS.values():
        assert callable(resolve_reference(entry.loader))
    assert {*SOURCES, "mnist5k"} == {*DATA_SETS}
    for network in NETWORKS.values():
        assert callable(resolve_reference(network.builder))
