"""MNIST and its relatives through torchvision.

What is verified of local files: MNIST, plain and .gz, by the SHA-256 of its content; Fashion-MNIST, KMNIST and QMNIST
by torchvision's MD5 of their .gz files; EMNIST by torchvision's MD5 of gzip.zip; USPS by torchvision's MD5. Of files
that no checksum is published for (the unpacked ones, and EMNIST's outside its archive) format, sizes and classes are
checked, which tells another file and a cut one but not a changed pixel. Where a file is there in both forms, the one
with a checksum is read.
"""

import functools
import os
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets import EMNIST, KMNIST, MNIST, QMNIST, USPS, FashionMNIST
from torchvision.datasets.utils import download_url

from bench.errors import UsageError
from bench.tasks.catalogue import DATA_SETS
from bench.tasks.files import Archive, DataFile, Source, load_files
from bench.tasks.images import Images, RawSplits, split_indices

#: SHA-256 of the four files, unpacked. Their .gz forms are those whose MD5 torchvision knows.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
#: Shapes of the files of MNIST and of what has its form.
MNIST_SHAPES = ((60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,))
#: Data sets with as many examples of each class as of any other.
BALANCED = ("fashion_mnist", "kmnist", "emnist")


def load_mnist(root: str, download: bool, seed: int) -> RawSplits:
    """Load MNIST: 60 000 training digits split by seed; test = t10k. See `load`."""
    return load("mnist", root, download, seed)


def load_fashion_mnist(root: str, download: bool, seed: int) -> RawSplits:
    """Load Fashion-MNIST (arXiv 1708.07747), which has the form of MNIST. See `load`."""
    return load("fashion_mnist", root, download, seed)


def load_kmnist(root: str, download: bool, seed: int) -> RawSplits:
    """Load Kuzushiji-MNIST (arXiv 1812.01718), which has the form of MNIST. See `load`."""
    return load("kmnist", root, download, seed)


def load_emnist(root: str, download: bool, seed: int) -> RawSplits:
    """Load EMNIST's balanced split (arXiv 1702.05373): 47 classes. Its files hold images transposed; here they stand.

    See `load`.
    """
    return load("emnist", root, download, seed)


def load_qmnist(root: str, download: bool, seed: int) -> RawSplits:
    """Load QMNIST (arXiv 1905.10498); test = the 10 000 digits that match MNIST's t10k. See `load`."""
    return load("qmnist", root, download, seed)


def load_usps(root: str, download: bool, seed: int) -> RawSplits:
    """Load USPS, 16 × 16 pixels, from LIBSVM's files. See `load`."""
    return load("usps", root, download, seed)


def load(name: str, root: str, download: bool, seed: int) -> RawSplits:
    """Load a data set and split its training images by seed, in the sizes of the catalogue.

    Args:
        name: A name of `SOURCES`.
        root: Folder with the files, in a folder of their own or in torchvision's layout.
        download: Whether torchvision may download them into `root` where they are missing.
        seed: Seed of the train/validation split.

    Raises:
        DataUnavailable: The files are not there and could not be downloaded.
        UsageError: A file does not match its checksum or is not what it should be.
    """
    (images, labels), test = tensors(name, os.path.abspath(root), download)  # noqa: PTH100
    entry = DATA_SETS[name]
    train, val = split_indices(len(labels), (entry.train, entry.val), seed)
    return RawSplits(Images(images[train], labels[train]), Images(images[val], labels[val]), test)


@functools.lru_cache(maxsize=2)
def tensors(name: str, root: str, download: bool) -> tuple[Images, Images]:
    """Return all training and all test images of a data set; see `load`. Kept for the next call: not to be changed."""
    loaded, entry = load_files(SOURCES[name], root, download), DATA_SETS[name]
    for images, examples in zip(loaded, (entry.train + entry.val, entry.test), strict=True):
        if not _belongs(images.labels, examples, entry.classes, name in BALANCED):
            raise UsageError(
                f"{name}: the labels found under {root} are not those of {SOURCES[name].title} "
                f"({examples} examples of {entry.classes} classes); replace the files with the original ones"
            )
    return loaded


def _belongs(labels: Tensor, examples: int, classes: int, balanced: bool) -> bool:
    if len(labels) != examples or not (labels.min() == 0 and labels.max() == classes - 1):
        return False
    return not balanced or len(labels.bincount().unique()) == 1


def _images(data: Any) -> Images:
    """Return pixels and labels of a torchvision data set."""
    return Images(torch.as_tensor(data.data), torch.as_tensor(data.targets))


def _upright(images: Images) -> Images:
    return Images(images.pixels.transpose(1, 2).contiguous(), images.labels)


def _classes_alone(images: Images) -> Images:
    """Keep the class of QMNIST's labels, which tell the writer too."""
    labels: Tensor = images.labels[:, 0]
    return Images(images.pixels, labels.contiguous())


def _like_mnist(name: str, title: str, kind: type[Any], folders: tuple[str, ...]) -> Source:
    """Describe a data set whose four files have the names and sizes of MNIST's."""
    layout = f"{kind.__name__}/raw"
    files = []
    for (packed, md5), shape in zip(kind.resources, MNIST_SHAPES, strict=True):
        plain = packed.removesuffix(".gz")
        known = kind is MNIST
        files.append(
            DataFile(plain, f"sha256:{MNIST_SHA256[plain]}" if known else "", "" if known else f"md5:{md5}", shape)
        )
    return Source(
        name,
        title,
        layout,
        (*folders, layout),
        tuple(files),
        lambda root: (_images(kind(root, train=True)), _images(kind(root, train=False))),
        lambda root: kind(root, download=True),
    )


def _emnist() -> Source:
    shapes = ((112_800, 28, 28), (112_800,), (18_800, 28, 28), (18_800,))
    names = [f"emnist-balanced-{part}-{kind}" for part in ("train", "test") for kind in ("images-idx3", "labels-idx1")]
    return Source(
        "emnist",
        "EMNIST",
        "EMNIST/raw",
        ("", "emnist", "EMNIST/raw"),
        tuple(DataFile(f"{name}-ubyte", shape=shape) for name, shape in zip(names, shapes, strict=True)),
        lambda root: (
            _upright(_images(EMNIST(root, "balanced", train=True))),
            _upright(_images(EMNIST(root, "balanced", train=False))),
        ),
        # Torchvision's own download unpacks all six splits of EMNIST; one is read here.
        lambda root: download_url(EMNIST.url, f"{root}/EMNIST/raw", "gzip.zip", EMNIST.md5),
        Archive("gzip.zip", f"md5:{EMNIST.md5}", "gzip"),
    )


def _qmnist() -> Source:
    files = []
    for part in ("train", "test"):
        (images, images_md5), (labels, labels_md5) = QMNIST.resources[part]
        for url, md5, shape, element in (
            (images, images_md5, (60_000, 28, 28), 1),
            (labels, labels_md5, (60_000, 8), 4),
        ):
            name = url.rpartition("/")[2].removesuffix(".gz")
            files.append(DataFile(name, gz_checksum=f"md5:{md5}", shape=shape, element=element))
    return Source(
        "qmnist",
        "QMNIST",
        "QMNIST/raw",
        ("", "qmnist", "QMNIST/raw"),
        tuple(files),
        lambda root: (
            _classes_alone(_images(QMNIST(root, what="train"))),
            _classes_alone(_images(QMNIST(root, what="test10k"))),
        ),
        lambda root: [QMNIST(root, what=what, download=True) for what in ("train", "test10k")],
    )


def _usps() -> Source:
    return Source(
        "usps",
        "USPS",
        "",
        ("", "usps", "USPS"),
        tuple(DataFile(name, f"md5:{md5}", None) for _, name, md5 in USPS.split_list.values()),
        lambda root: (_images(USPS(root, train=True)), _images(USPS(root, train=False))),
        lambda root: [USPS(root, train=train, download=True) for train in (True, False)],
    )


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _like_mnist("mnist", "MNIST", MNIST, ("", "mnist")),
        _like_mnist("fashion_mnist", "Fashion-MNIST", FashionMNIST, ("fashion_mnist",)),
        _like_mnist("kmnist", "KMNIST", KMNIST, ("kmnist",)),
        _emnist(),
        _qmnist(),
        _usps(),
    )
}
