"""Configurations of the classes of torch.optim that have no file in conf/optimizer: those of a newer torch."""

import ast
import importlib.util
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore

from bench.errors import UsageError
from bench.optimizers.classes import constructor, learning_rate_argument, optimizer_classes
from bench.optimizers.requirements import MATRICES, requirements

if TYPE_CHECKING:
    from torch.optim import Optimizer

#: Octaves of the learning-rate grid below and above the class's default.
OCTAVES = (-5, 4)
#: Where a class has no default learning rate that is a number.
USUAL_LEARNING_RATE = 1e-3
FILE_TARGET = re.compile(r"^target: *(\w+) *(?:#.*)?$", re.MULTILINE)


def register_optimizers(conf: Path) -> list[str]:
    """Register a configuration for each class of torch.optim that no file of conf/optimizer names.

    Torch is imported only where there is such a class: what it offers is read from its source.

    Args:
        conf: Folder with the configuration groups.

    Returns:
        Names of the configurations: the classes' own in snake case.
    """
    files = {path.stem: path.read_text(encoding="utf-8") for path in (conf / "optimizer").glob("*.yaml")}
    named = {match for text in files.values() for match in FILE_TARGET.findall(text)}
    if not _offered() - named:
        return []
    store, names = ConfigStore.instance(), []
    for target, kind in optimizer_classes().items():
        name = snake_case(target)
        if target not in named and name not in files:
            store.store(group="optimizer", name=name, node=generated_config(name, target, kind))
            names.append(name)
    return names


def generated_config(name: str, target: str, kind: "type[Optimizer]") -> dict[str, Any]:
    """Return the configuration of a class: its defaults, and a grid of learning rates around its own.

    Matrices alone are the class's where it takes nothing else; the rest is AdamW's then.
    """
    argument = learning_rate_argument(kind)
    default: Any = constructor(kind)[argument].default if argument in constructor(kind) else None
    usual = isinstance(default, int | float) and default > 0
    middle = round(math.log2(default if usual else USUAL_LEARNING_RATE))
    try:
        needs = requirements(target)
    except UsageError:
        # Said again, in full, to whoever chooses it.
        needs = frozenset()
    return {
        "name": name,
        "target": target,
        "implementation": "default",
        "arguments": {},
        "weight_decay": None,
        "lr_log2": [0, 0] if argument is None else [middle + octaves for octaves in OCTAVES],
        "batch_size": None,
        "fallback": {"target": "AdamW", "arguments": {}} if MATRICES in needs else None,
    }


def snake_case(name: str) -> str:
    """Return a class name in snake case: "SparseAdam" is "sparse_adam", "LBFGS" is "lbfgs", "AdamW" is "adamw"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z]\w)", "_", name).lower()


def _offered() -> set[str]:
    """Return the names that may be classes of torch.optim."""
    if "torch" in sys.modules:
        return set(optimizer_classes())
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0], "optim", "__init__.py").read_text(encoding="utf-8")
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (alias.asname or alias.name)[0].isupper()
    } - {"Optimizer"}
