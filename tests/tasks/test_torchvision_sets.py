"""MNIST and its relatives, read from small files in their true formats."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision import datasets

from bench.errors import UsageError
from bench.tasks import mnist5k, torchvision_sets
from bench.tasks.catalogue import DATA_SETS
from bench.tasks.files import find
from bench.tasks.images import RawSplits, scaled
from bench.tasks.registry import load_images
from bench.tasks.torchvision_sets import SOURCES, load_mnist, tensors
from tests.tasks.idx import PER_CLASS, elements, idx, idx_shape, labels_of, pixels, put, qmnist_labels, small_files

RELATIVES = sorted(SOURCES)
LAYOUTS = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "kmnist": "KMNIST/raw",
    "emnist": "EMNIST/raw",
    "qmnist": "QMNIST/raw",
    "usps": "",
}


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    tensors.cache_clear()
    yield
    tensors.cache_clear()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, bytes]]:
    """Return a function that lets small files be the original ones of a data set, and returns them."""

    def replace(name: str) -> dict[str, bytes]:
        source, entry = SOURCES[name], DATA_SETS[name]
        content = small_files(source, entry.classes)
        described = tuple(
            dataclasses.replace(
                file,
                checksum=f"md5:{hashlib.md5(content[file.name]).hexdigest()}" if file.checksum else "",
                gz_checksum=None if file.gz_checksum is None else "",
                shape=idx_shape(content[file.name]) if file.shape else (),
            )
            for file in source.files
        )
        monkeypatch.setitem(SOURCES, name, dataclasses.replace(source, files=described))
        train, test = (PER_CLASS[part] * entry.classes for part in ("train", "test"))
        monkeypatch.setitem(DATA_SETS, name, dataclasses.replace(entry, train=train - 4, val=4, test=test))
        return content

    return replace


def rows(pixels: Tensor) -> list[bytes]:
    return [image.contiguous().numpy().tobytes() for image in pixels]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", RELATIVES)
def test_small_files_in_torchvisions_layout_are_read_and_split(
    tmp_path: Path, small: Callable[[str], dict[str, bytes]], name: str, packed: bool
) -> None:
    content = small(name)
    put(tmp_path / LAYOUTS[name], content, packed and name != "usps")
    entry = DATA_SETS[name]
    raw = load_images(name, str(tmp_path), False, 3)
    assert [len(part.labels) for part in (raw.train, raw.val, raw.test)] == [entry.train, entry.val, entry.test]
    for part in (raw.train, raw.val, raw.test):
        assert part.pixels.shape[1:] == entry.shape[1:]
        assert part.pixels.dtype == torch.uint8
        assert part.labels.shape == (len(part.pixels),)
    everything = torch.cat([raw.train.labels, raw.val.labels])
    assert everything.bincount().tolist() == [PER_CLASS["train"]] * entry.classes
    assert raw.test.labels.tolist() == labels_of(entry.test, entry.classes)
    # Train and validation are the training file, shuffled by the seed.
    both, all_images = torch.cat([raw.train.pixels, raw.val.pixels]), tensors(name, str(tmp_path), False)[0].pixels
    assert Counter(rows(both)) == Counter(rows(all_images))
    again, other = (load_images(name, str(tmp_path), False, seed) for seed in (3, 4))
    assert torch.equal(again.val.pixels, raw.val.pixels)
    assert not torch.equal(other.val.pixels, raw.val.pixels)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "qmnist"])
def test_pixels_are_those_of_the_file(tmp_path: Path, small: Callable[[str], dict[str, bytes]], name: str) -> None:
    content = small(name)
    put(tmp_path / LAYOUTS[name], content, packed=False)
    images_file = next(file for file in content if "train-images" in file)
    assert tensors(name, str(tmp_path), False)[0].pixels.numpy().tobytes() == elements(content[images_file])


def test_images_of_emnist_stand(tmp_path: Path, small: Callable[[str], dict[str, bytes]]) -> None:
    content = small("emnist")
    name = "emnist-balanced-train-images-idx3-ubyte"
    shape = idx_shape(content[name])
    lying = torch.zeros(shape, dtype=torch.uint8)
    # The file goes down the columns: what stands in row 2 is written in column 2.
    lying[:, 5:20, 2] = 200
    content[name] = idx(shape, lying.numpy().tobytes())
    put(tmp_path / "emnist", content, packed=False)
    standing = tensors("emnist", str(tmp_path), False)[0].pixels
    assert (standing[:, 2, 5:20] == 200).all()
    assert standing.sum(dtype=torch.int64) == lying.sum(dtype=torch.int64)
    assert standing.is_contiguous()


def test_the_test_split_of_qmnist_is_the_first_ten_thousand(
    tmp_path: Path, small: Callable[[str], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, count = small("qmnist"), 10_030
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[10_000:] = 255
    content["qmnist-test-images-idx3-ubyte"] = idx(tuple(images.shape), images.numpy().tobytes())
    content["qmnist-test-labels-idx2-int"] = idx((count, 8), qmnist_labels(count, 10), 4)
    files = tuple(dataclasses.replace(f, shape=idx_shape(content[f.name])) for f in SOURCES["qmnist"].files)
    monkeypatch.setitem(SOURCES, "qmnist", dataclasses.replace(SOURCES["qmnist"], files=files))
    monkeypatch.setitem(DATA_SETS, "qmnist", dataclasses.replace(DATA_SETS["qmnist"], test=10_000))
    put(tmp_path / "qmnist", content, packed=False)
    test = load_images("qmnist", str(tmp_path), False, 0).test
    assert len(test.pixels) == 10_000
    assert not test.pixels.any()
    assert test.labels.tolist() == labels_of(10_000, 10)


def test_pixels_of_usps_are_those_of_the_file(tmp_path: Path, small: Callable[[str], dict[str, bytes]]) -> None:
    put(tmp_path / "usps", small("usps"), packed=False)
    train, _ = tensors("usps", str(tmp_path), False)
    # Pixel p was written as p/127.5 − 1, to six digits; torchvision rounds what it reads down.
    lost = torch.tensor(list(pixels(len(train.pixels), 16))) - train.pixels.flatten().int()
    assert set(lost.tolist()) <= {0, 1}
    assert scaled(load_images("usps", str(tmp_path), False, 0), "unit").train.inputs.shape[1:] == (1, 16, 16)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist", "emnist"])
def test_labels_of_another_data_set_are_refused(
    tmp_path: Path, small: Callable[[str], dict[str, bytes]], name: str
) -> None:
    content = small(name)
    file = next(file for file in content if "labels" in file)
    changed = bytearray(content[file])
    # Still labels of the same classes, but one class has one more and another one less.
    changed[-1] = (changed[-1] + 1) % DATA_SETS[name].classes
    content[file] = bytes(changed)
    put(tmp_path / LAYOUTS[name], content, packed=False)
    with pytest.raises(UsageError, match=rf"{name}: the labels found under .* replace the files") as caught:
        load_images(name, str(tmp_path), False, 0)
    assert "\n" not in str(caught.value)


def test_labels_out_of_range_are_refused(tmp_path: Path, small: Callable[[str], dict[str, bytes]]) -> None:
    content = small("qmnist")
    name = "qmnist-train-labels-idx2-int"
    for place, byte in ((12, 0x80), (12, 0x7F), (15, 10)):
        changed = bytearray(content[name])
        changed[place] = byte
        put(tmp_path / "qmnist", content | {name: bytes(changed)}, packed=False)
        with pytest.raises(UsageError, match="the labels found under"):
            load_images("qmnist", str(tmp_path), False, 0)
        tensors.cache_clear()


def test_files_of_mnist_are_not_taken_for_those_of_its_relatives(tmp_path: Path) -> None:
    for folder in ("", "mnist", "MNIST/raw"):
        put(tmp_path / folder, dict.fromkeys([file.name for file in SOURCES["mnist"].files], b""), packed=False)
    for name in ("fashion_mnist", "kmnist"):
        assert find(SOURCES[name], tmp_path) is None


def test_sizes_and_checksums_are_those_of_the_data_sets() -> None:
    for name in RELATIVES:
        source, entry = SOURCES[name], DATA_SETS[name]
        shapes = [file.shape for file in source.files]
        if name != "usps":
            assert shapes[0] == (entry.train + entry.val, 28, 28)
            assert shapes[1][0] == entry.train + entry.val
            assert shapes[3][0] == (60_000 if name == "qmnist" else entry.test)
    # As torchvision knows them.
    assert [f.gz_checksum for f in SOURCES["kmnist"].files] == [f"md5:{md5}" for _, md5 in datasets.KMNIST.resources]
    assert [f.gz_checksum for f in SOURCES["qmnist"].files] == [
        f"md5:{md5}" for part in ("train", "test") for _, md5 in datasets.QMNIST.resources[part]
    ]
    assert SOURCES["usps"].files[1].checksum == "md5:8ea070ee2aca1ac39742fdd1ef5ed118"
    archive = SOURCES["emnist"].archive
    assert archive is not None
    assert archive.checksum == f"md5:{datasets.EMNIST.md5}"


@pytest.mark.mnist
def test_whole_mnist(mnist_root: str) -> None:
    raw: RawSplits = load_mnist(mnist_root, download=False, seed=0)
    splits = scaled(raw, "standardised")
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [55_000, 5_000, 10_000]
    # Class counts of the data set as published.
    assert splits.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (splits.train.labels.bincount() + splits.val.labels.bincount()).tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    ]
    assert splits.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    grey = raw.train.pixels.double() / 255
    assert grey.mean().item() == pytest.approx(0.1307, abs=3e-4)
    assert grey.std(correction=0).item() == pytest.approx(0.3081, abs=3e-4)
    assert splits.train.inputs.double().std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.mnist
def test_all_of_mnist5k_are_training_digits_of_mnist(mnist_root: str) -> None:
    train, test = tensors("mnist", mnist_root, False)
    whole = Counter(zip(rows(train.pixels), train.labels.tolist(), strict=True))
    digits, their_labels = mnist5k._mnist5k_tensors()
    part = Counter(zip(rows(digits), their_labels.tolist(), strict=True))
    assert part <= whole
    assert not {image for image, _ in part} & set(rows(test.pixels))


@pytest.mark.mnist
def test_a_flipped_bit_of_the_real_file_is_seen(mnist_root: str, tmp_path: Path) -> None:
    folder = find(SOURCES["mnist"], Path(mnist_root))
    assert folder is not None
    for source in folder.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (file,) = tmp_path.glob("t10k-labels-idx1-ubyte*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"t10k-labels.*replace it with the original file"):
        load_mnist(str(tmp_path), download=False, seed=0)


@pytest.mark.parametrize("name", [name for name in RELATIVES if name != "mnist"])
def test_the_real_files(name: str, request: pytest.FixtureRequest) -> None:
    root = request.config.rootpath.parent / "shared" / "data"
    if find(SOURCES[name], root) is None:
        pytest.skip(f"the files of {name} are not in {root}")
    entry, raw = DATA_SETS[name], torchvision_sets.load(name, str(root), False, 0)
    assert [len(part.labels) for part in (raw.train, raw.val, raw.test)] == [entry.train, entry.val, entry.test]
