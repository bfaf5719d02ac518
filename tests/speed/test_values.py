"""How far apart two arms' numbers are."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bench.speed.values import largest_difference

NAN, INF = math.nan, math.inf


def difference(tmp_path: Path, base: Sequence[torch.Tensor], head: Sequence[torch.Tensor]) -> float | None:
    torch.save(list(base), tmp_path / "base")
    torch.save(list(head), tmp_path / "head")
    found = largest_difference(tmp_path / "base", tmp_path / "head")
    torch.save(list(reversed(base)), tmp_path / "base")
    torch.save(list(reversed(head)), tmp_path / "head")
    assert largest_difference(tmp_path / "head", tmp_path / "base") == found
    return found


@pytest.mark.parametrize(
    ("base", "head", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 10.0], [1.0, 10.0], 0.1),
        ([0.0], [1e-30], 1.0),
        ([1.0], [-1.0], 2.0),
        ([], [], 0.0),
        ([NAN, 4.0], [NAN, 4.0], 0.0),
        ([NAN, 4.0], [NAN, 5.0], 0.2),
        ([INF, 4.0], [INF, 5.0], 0.2),
        ([NAN], [1.0], INF),
        ([INF], [1.0], INF),
        ([INF], [-INF], INF),
        ([INF], [NAN], INF),
        ([NAN], [NAN], 0.0),
    ],
)
def test_known_differences(tmp_path: Path, base: list[float], head: list[float], expected: float) -> None:
    assert difference(tmp_path, [torch.tensor(base)], [torch.tensor(head)]) == pytest.approx(expected)


def test_each_tensor_by_its_own_largest_number(tmp_path: Path) -> None:
    base = [torch.tensor([1000.0]), torch.tensor([1.0])]
    assert difference(tmp_path, base, [torch.tensor([999.0]), torch.tensor([1.0])]) == pytest.approx(0.001)
    assert difference(tmp_path, base, [torch.tensor([1000.0]), torch.tensor([0.5])]) == pytest.approx(0.5)


def test_other_shapes_or_another_number_of_tensors_cannot_be_compared(tmp_path: Path) -> None:
    assert difference(tmp_path, [torch.zeros(2)], [torch.zeros(3)]) is None
    assert difference(tmp_path, [torch.zeros(2)], [torch.zeros(2, 1)]) is None
    assert difference(tmp_path, [torch.zeros(2)], [torch.zeros(2), torch.zeros(2)]) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_types_are_compared_as_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    one = torch.tensor([0, 1])
    assert difference(tmp_path, [one.to(dtype)], [one.float()]) == 0
    assert difference(tmp_path, [one.to(dtype)], [one.flip(0).float()]) == 1


def test_imaginary_parts_count(tmp_path: Path) -> None:
    assert difference(tmp_path, [torch.tensor([1 + 1j])], [torch.tensor([1 - 1j])]) == pytest.approx(2)
