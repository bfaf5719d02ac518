"""Finding optimizer classes and what their constructors take."""

from pathlib import Path

import pytest
import torch

from bench.errors import UsageError
from bench.optimizers.classes import (
    argument_names,
    class_title,
    implementations,
    learning_rate_argument,
    learning_rate_key,
    missing_arguments,
    optimizer_class,
    optimizer_classes,
)
from bench.optimizers.newton import Newton


class Renamed(torch.optim.SGD):
    def __init__(self, parameters: object, depth: int, learning_rate: float = 0.1, *, wide: bool = False) -> None:
        super().__init__(parameters, learning_rate)  # type: ignore[arg-type]


class Open(torch.optim.SGD):
    def __init__(self, params: object, **rest: float) -> None:
        super().__init__(params, **rest)  # type: ignore[arg-type]


class Rateless(torch.optim.SGD):
    def __init__(self, params: object) -> None:
        super().__init__(params, 0.1)  # type: ignore[arg-type]


def test_classes_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = optimizer_classes()
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "LBFGS", "SparseAdam"} <= set(classes)
    assert "Optimizer" not in classes
    for name, value in classes.items():
        assert getattr(torch.optim, name) is value
    monkeypatch.setattr(torch.optim, "Later", Open, raising=False)
    assert optimizer_classes()["Later"] is Open


def test_a_class_by_name_and_by_reference(tmp_path: Path) -> None:
    assert optimizer_class("SGD") is torch.optim.SGD
    assert optimizer_class("torch.optim:SGD") is torch.optim.SGD
    assert optimizer_class("bench.optimizers.newton:Newton") is Newton
    path = tmp_path / "mine.py"
    path.write_text("import torch\nclass Mine(torch.optim.SGD):\n    pass\nvalue = 3\n", encoding="utf-8")
    assert issubclass(optimizer_class(f"{path}:Mine"), torch.optim.SGD)
    with pytest.raises(UsageError, match=r"must be a subclass of torch\.optim\.Optimizer"):
        optimizer_class(f"{path}:value")
    with pytest.raises(UsageError, match=r"^here=torch:Tensor: must be a subclass"):
        optimizer_class("torch:Tensor", "here")
    assert (class_title("SGD"), class_title("mine.py:Mine")) == ("torch.optim.SGD", "mine.py:Mine")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("SGD", ("default", "forloop", "foreach", "fused")),
        ("Adam", ("default", "forloop", "foreach", "fused")),
        ("Adagrad", ("default", "forloop", "foreach", "fused")),
        ("RMSprop", ("default", "forloop", "foreach")),
        ("LBFGS", ("default",)),
        ("bench.optimizers.newton:Newton", ("default",)),
    ],
)
def test_implementations_on_offer(target: str, expected: tuple[str, ...]) -> None:
    assert implementations(target) == expected


def test_what_a_constructor_takes() -> None:
    assert argument_names(Renamed) == {"depth", "wide"}
    assert missing_arguments(Renamed, {}) == ["depth"]
    assert missing_arguments(Renamed, {"depth": 3}) == []
    assert "params" not in argument_names(torch.optim.SGD)
    assert not {"lr", "foreach", "fused"} & argument_names(torch.optim.SGD)
    assert {"momentum", "weight_decay"} <= argument_names(torch.optim.SGD)


def test_the_learning_rate_by_any_name() -> None:
    assert learning_rate_argument(torch.optim.Adam) == "lr"
    assert learning_rate_argument(Renamed) == "learning_rate"
    assert learning_rate_argument(Open) == "lr", "may be among what it does not name"
    assert learning_rate_argument(Rateless) is None
    assert learning_rate_key({"params": [], "lr": 0.1}) == "lr"
    assert learning_rate_key({"params": [], "max_lr": 0.1}) == "max_lr"
    assert learning_rate_key({"params": []}) is None
