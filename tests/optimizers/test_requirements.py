"""What steps require, found by trying."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.optimizers.registry import (
    CLOSURE,
    GRADIENT_FIRST,
    GRADIENT_GRAPH,
    GROUPS,
    MATRICES,
    SPARSE,
    moves_at_zero,
    optimizer_classes,
    requirements,
)
from bench.optimizers.requirements import GROUP_KEY, grouped

NEEDS = {"LBFGS": {CLOSURE}, "SparseAdam": {SPARSE}, "Muon": {MATRICES}}


@pytest.mark.parametrize("target", optimizer_classes())
def test_the_classes_of_torch(target: str) -> None:
    assert requirements(target) == NEEDS.get(target, set())


def test_the_classes_of_this_suite() -> None:
    assert requirements("bench.optimizers.newton:Newton") == {CLOSURE, GRADIENT_GRAPH}
    assert requirements("bench.optimizers.bfgs:BFGS") == {CLOSURE}


class Curved(torch.optim.SGD):
    """Needs gradients that can be differentiated, and no closure."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                torch.autograd.grad(p.grad.sum(), p)
        super().step()


class Marked(torch.optim.SGD):
    """Needs groups with a mark, as implementations of Muon do that take every parameter."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        if any(GROUP_KEY not in group for group in params):
            raise ValueError("groups must say use_muon")
        super().__init__(params, lr)


class Wrapper(torch.optim.SGD):
    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer.params)


class Sized(torch.optim.SGD):
    def __init__(self, params: Any, lr: float, steps: int) -> None:
        super().__init__(params, lr)


class Broken(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise OverflowError("never\nmind")


class Second(torch.optim.SGD):
    """Takes its first step from a plain gradient, and needs a closure from the second on."""

    taken = False

    def step(self, closure: Any = None) -> Any:
        if self.taken and closure is None:
            raise RuntimeError("closure, please")
        self.taken = True
        super().step(closure)


class Ahead(torch.optim.SGD):
    """Sharpness-aware: climbs along the gradient that is there, asks for another, and descends from where it was."""

    def step(self, closure: Any = None) -> Any:
        (group,) = self.param_groups
        with torch.no_grad():
            climbs = [p.grad * 0.01 for p in group["params"]]
            torch._foreach_add_(group["params"], climbs)
            self.zero_grad()
            loss = closure()
            torch._foreach_sub_(group["params"], climbs)
        super().step()
        return loss


class Loud(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        warnings.warn("noise", stacklevel=1)
        torch.rand(3)
        super().step()


HERE = f"{Path(__file__)}:"


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("Curved", {GRADIENT_GRAPH}),
        ("Marked", {GROUPS}),
        ("Second", {CLOSURE}),
        ("Ahead", {CLOSURE, GRADIENT_FIRST}),
        ("Loud", set()),
        ("SGD", set()),
    ],
)
def test_classes_of_ones_own(name: str, needs: set[str]) -> None:
    assert requirements(HERE + name if name != "SGD" else "torch.optim:SGD") == needs


def test_trying_neither_warns_nor_draws(recwarn: pytest.WarningsRecorder) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    requirements(HERE + "Loud", {"momentum": 0.5})
    assert torch.equal(torch.rand(1), expected)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Wrapper", "requires 'optimizer', where an optimizer takes parameters"),
        ("Sized", "requires optimizer.arguments without a default: steps"),
        ("Broken", "cannot take a step with arguments {}: never"),
    ],
)
def test_what_cannot_step_says_what_it_lacks(name: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        requirements(HERE + name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_can_be_what_it_takes() -> None:
    assert requirements(HERE + "Sized", {"steps": 3}) == set()


@pytest.mark.parametrize(
    "target", [*optimizer_classes(), "bench.optimizers.newton:Newton", "bench.optimizers.bfgs:BFGS"]
)
def test_which_stand_still_at_learning_rate_0(target: str) -> None:
    words = {
        "Rprop": "the size of the optimizer's steps is not the learning rate's alone",
        "SparseAdam": "the optimizer takes no step at a learning rate of 0 (Invalid learning rate: 0.0)",
    }
    assert moves_at_zero(target) == words.get(target, "")


def test_a_line_search_has_no_use_for_learning_rate_0() -> None:
    assert "no step at a learning rate of 0" in moves_at_zero("LBFGS", {"line_search_fn": "strong_wolfe"})


@pytest.mark.parametrize(
    ("needs", "expected"), [(frozenset(), lambda a, b: [a, b]), (frozenset({MATRICES}), lambda a, b: [a, b])]
)
def test_parameters_go_as_they_are(needs: frozenset[str], expected: Callable[[Tensor, Tensor], list[Any]]) -> None:
    a, b = torch.zeros(2, 2), torch.zeros(2)
    assert all(x is y for x, y in zip(grouped([a, b], needs, 0.5), expected(a, b), strict=True))


def test_groups_are_matrices_and_the_rest_at_one_learning_rate() -> None:
    a, b, c = torch.zeros(2, 2), torch.zeros(2), torch.zeros(1, 2, 3)
    matrices, rest = grouped([b, a, c], frozenset({GROUPS}), 0.5)
    assert (matrices[GROUP_KEY], rest[GROUP_KEY], matrices["lr"], rest["lr"]) == (True, False, 0.5, 0.5)
    assert matrices["params"] == [a]
    assert [id(p) for p in rest["params"]] == [id(b), id(c)]
    assert len(grouped([b], frozenset({GROUPS}), 0.5)) == 1
