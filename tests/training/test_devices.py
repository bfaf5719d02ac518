"""Devices: which are here, and what is switched for them."""

from collections.abc import Iterator

import pytest
import torch

from bench.errors import DeviceUnavailable
from bench.training.devices import available_devices, prepare, why_unavailable


@pytest.fixture
def _switches() -> Iterator[None]:
    """Put this process back as it was."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    torch.set_flush_denormal(False)
    torch.set_num_threads(1)


def machine(monkeypatch: pytest.MonkeyPatch, cuda: int, built: bool = True, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.version, "cuda", "13.0" if built else None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "built", "mps", "name", "reason"),
    [
        (0, True, False, "cpu", None),
        (0, True, False, "cuda", "no CUDA device on this machine"),
        (0, False, False, "cuda:0", "this torch was built without CUDA"),
        (1, True, False, "cuda", None),
        (1, True, False, "cuda:0", None),
        (1, True, False, "cuda:1", "this machine has 1 CUDA device (cuda:0 … cuda:0)"),
        (4, True, False, "cuda:3", None),
        (4, True, False, "cuda:4", "this machine has 4 CUDA devices (cuda:0 … cuda:3)"),
        (4, True, False, "mps", "no MPS device on this machine"),
        (0, True, True, "mps", None),
    ],
)
def test_why_a_device_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, cuda: int, built: bool, mps: bool, name: str, reason: str | None
) -> None:
    machine(monkeypatch, cuda, built, mps)
    assert why_unavailable(name) == reason
    if reason is not None:
        with pytest.raises(DeviceUnavailable) as caught:
            prepare(name, 1, "float32")
        assert str(caught.value) == f"device {name}: {reason}"


def test_available_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0)
    assert available_devices() == ["cpu"]
    machine(monkeypatch, 2, mps=True)
    assert available_devices() == ["cpu", "cuda:0", "cuda:1", "mps"]
    assert all(why_unavailable(name) is None for name in available_devices())


@pytest.mark.usefixtures("_switches")
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_switches(precision: str) -> None:
    torch.backends.cudnn.benchmark = True
    assert prepare("cpu", 2, precision) == torch.device("cpu")
    assert torch.get_num_threads() == 2
    assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    # The smallest normal float32 halved would be a denormal number.
    assert (torch.tensor([2.0**-126]) / 2).item() == 0
    torch.set_flush_denormal(False)
    assert (torch.tensor([2.0**-126]) / 2).item() == 2.0**-127
