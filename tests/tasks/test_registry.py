"""What is said of tasks without loading them is what loading gives."""

import pytest
import torch
from omegaconf import OmegaConf

from bench.tasks.images import ImageSplits
from bench.tasks.registry import DATA_SETS, MODELS, TaskFacts, build_model, task_facts
from tests.cases import CONF


def test_facts_of_mnist5k_are_its_splits(splits: ImageSplits) -> None:
    entry = DATA_SETS["mnist5k"]
    assert (entry.train, entry.val, entry.test) == (len(splits.train), len(splits.val), len(splits.test))
    assert splits.train.inputs.shape[1:] == entry.shape
    assert splits.train.labels.unique().tolist() == list(range(entry.classes))
    assert task_facts("mnist5k", "mlp") == TaskFacts("mnist5k", "mlp", 4000, 500, 500, 10)
    assert task_facts("mnist", "lenet5") == TaskFacts("mnist", "lenet5", 55_000, 5_000, 10_000, 10)


@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_fits_every_data_set(data: str, model: str) -> None:
    entry, built = DATA_SETS[data], build_model(model, data)
    assert built.name == model
    parameters = built.initialise(torch.Generator().manual_seed(0))
    assert built.forward(parameters, torch.zeros(2, *entry.shape)).shape == (2, entry.classes)


def test_every_task_file_names_registered_things() -> None:
    files = sorted(path for path in (CONF / "task").rglob("*.yaml") if path.stem != "default")
    names = [path.relative_to(CONF / "task").with_suffix("").as_posix() for path in files]
    assert names == sorted(f"{data}/{model}" for data in DATA_SETS for model in MODELS)
    for path, name in zip(files, names, strict=True):
        config = OmegaConf.load(path)
        assert (config.name, f"{config.data}/{config.model}") == (name, name)
        assert 0 < config.target < 1
