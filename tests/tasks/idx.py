"""Small files in the formats of the image data sets."""

import bz2
import gzip
import math
from pathlib import Path

import torch

from bench.tasks.files import Source

#: Sizes of the small data sets: training and test examples of each class.
PER_CLASS = {"train": 3, "test": 2}


def idx(shape: tuple[int, ...], content: bytes, element: int = 1) -> bytes:
    """Return an IDX file: two zeros, type, number of dimensions, each size as a big-endian integer, the elements."""
    header = bytes((0, 0, {1: 8, 4: 12}[element], len(shape)))
    return header + b"".join(size.to_bytes(4, "big") for size in shape) + content


def pixels(count: int, size: int = 28) -> bytes:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count * size * size,), generator=generator, dtype=torch.uint8).numpy().tobytes()


def labels_of(count: int, classes: int) -> list[int]:
    return [index % classes for index in range(count)]


def qmnist_labels(count: int, classes: int) -> bytes:
    """Return eight big-endian integers an example, the class first."""
    rows = [[label, 4, 100 + index, 0, 0, 0, index, 0] for index, label in enumerate(labels_of(count, classes))]
    return b"".join(value.to_bytes(4, "big") for row in rows for value in row)


def libsvm(count: int, classes: int, size: int = 16) -> bytes:
    """Return compressed lines "class index:value …", classes from 1, values from −1 to 1."""
    values = torch.tensor(list(pixels(count, size))).reshape(count, size * size) / 255 * 2 - 1
    lines = [
        f"{label + 1} " + " ".join(f"{index + 1}:{value:.6f}" for index, value in enumerate(row)) + " \n"
        for label, row in zip(labels_of(count, classes), values.tolist(), strict=True)
    ]
    return bz2.compress("".join(lines).encode())


def small_files(source: Source, classes: int) -> dict[str, bytes]:
    """Return small files in the place of a data set's own: name → content."""
    files = {}
    for file in source.files:
        count = classes * PER_CLASS["train" if "train" in file.name or file.name == "usps.bz2" else "test"]
        if not file.shape:
            files[file.name] = libsvm(count, classes)
        elif len(file.shape) == 3:
            files[file.name] = idx((count, 28, 28), pixels(count))
        elif file.element == 4:
            files[file.name] = idx((count, 8), qmnist_labels(count, classes), 4)
        else:
            files[file.name] = idx((count,), bytes(labels_of(count, classes)))
    return files


def idx_shape(content: bytes) -> tuple[int, ...]:
    """Return the shape an IDX file says it has."""
    return tuple(int.from_bytes(content[4 * i + 4 : 4 * i + 8], "big") for i in range(content[3]))


def put(folder: Path, files: dict[str, bytes], packed: bool) -> None:
    """Write files, or each as name.gz."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content, mtime=0) if packed else content)


def elements(content: bytes) -> bytes:
    """Return the elements of an IDX file of bytes."""
    return content[-math.prod(idx_shape(content)) :]
