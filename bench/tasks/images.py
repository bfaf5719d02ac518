"""Image classification: raw images, how a split is drawn, and the knobs that every image task has."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from bench.tasks.image_knobs import ImageKnobs
from bench.tasks.problem import Split, Splits


class Images(NamedTuple):
    """Images and labels as they lie in a file.

    Attributes:
        pixels: Examples × height × width, uint8.
        labels: Examples, integers.
    """

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class RawSplits:
    """The three splits of an image data set, as loaded."""

    train: Images
    val: Images
    test: Images


class Loader(Protocol):
    """Loads a data set and splits it."""

    def __call__(self, root: str, download: bool, seed: int) -> RawSplits:
        """Load from `root`, perhaps downloading, and split by `seed`."""
        ...


def turned(raw: RawSplits, knobs: ImageKnobs, classes: int, seed: int) -> RawSplits:
    """Return the splits with the training split cut and its labels made noisy, as the knobs say.

    Args:
        raw: What was loaded.
        knobs: The knobs.
        classes: Number of classes.
        seed: Data seed of both draws.
    """
    pixels, labels = raw.train
    generator = Generator().manual_seed(seed)
    if knobs.subset is not None:
        kept = torch.randperm(len(labels), generator=generator)[: knobs.subset].sort().values
        pixels, labels = pixels[kept], labels[kept]
    if knobs.label_noise:
        changed = torch.randperm(len(labels), generator=generator)[: round(knobs.label_noise * len(labels))]
        shift = torch.randint(1, classes, (len(changed),), generator=generator)
        labels = labels.clone()
        labels[changed] = (labels[changed] + shift) % classes
    return replace(raw, train=Images(pixels, labels))


def scaled(raw: RawSplits, inputs: str) -> Splits:
    """Scale pixels to 0 … 1 and, where asked, standardise all splits by the training split.

    Args:
        raw: What was loaded.
        inputs: "standardised" or "unit".

    Returns:
        Splits with one channel, float32.
    """
    mean, std = 0.0, 1.0
    if inputs == "standardised":
        pixels = raw.train.pixels.to(torch.float64) / 255
        mean, std = pixels.mean().item(), pixels.std(correction=0).item()

    def split(images: Images) -> Split:
        pixels = (images.pixels.to(torch.float32) / 255 - mean) / std
        return Split(pixels.unsqueeze(1).contiguous(), images.labels.to(torch.int64))

    return Splits(split(raw.train), split(raw.val), split(raw.test), standardised=inputs == "standardised")


def split_indices(examples: int, sizes: tuple[int, ...], seed: int) -> tuple[Tensor, ...]:
    """Draw disjoint random subsets.

    Args:
        examples: Number of examples to draw from.
        sizes: Size of each subset; they sum to `examples`.
        seed: Seed of the draw.

    Returns:
        One tensor of ascending indices per subset.
    """
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(seed))
    return tuple(part.sort().values for part in order.split(list(sizes)))
