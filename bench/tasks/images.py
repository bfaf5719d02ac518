"""Image classification data: splits, standardisation, and how a split is drawn."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Inputs and labels of one split.

    Attributes:
        inputs: Examples × channels × height × width, standardised floats.
        labels: Examples, int64 class indices.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Split":
        """Return the split on another device and in another floating type."""
        return Split(self.inputs.to(device, dtype).contiguous(), self.labels.to(device))


@dataclass(frozen=True)
class ImageSplits:
    """The three splits of a data set, standardised by the training split.

    Attributes:
        train: What is trained on.
        val: What learning rates are chosen on.
        test: What results are reported on; never used to choose anything.
        mean: Mean of the raw training pixels (scaled to 0 … 1) that was subtracted.
        std: Their standard deviation that was divided by.
    """

    train: Split
    val: Split
    test: Split
    mean: float
    std: float


class Loader(Protocol):
    """Loads a data set and splits it."""

    def __call__(self, root: str, download: bool, seed: int) -> ImageSplits:
        """Load from `root`, perhaps downloading, and split by `seed`."""
        ...


def standardised(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> ImageSplits:
    """Scale pixels to 0 … 1 and standardise all splits by the training split's mean and standard deviation.

    Args:
        train: Images (examples × height × width, uint8) and labels (examples, integers).
        val: The same for validation.
        test: The same for test.

    Returns:
        Splits with one channel, float32.
    """
    pixels = train[0].to(torch.float64) / 255
    mean, std = pixels.mean().item(), pixels.std(correction=0).item()

    def split(images: Tensor, labels: Tensor) -> Split:
        inputs = (images.to(torch.float32) / 255 - mean) / std
        return Split(inputs.unsqueeze(1).contiguous(), labels.to(torch.int64))

    return ImageSplits(split(*train), split(*val), split(*test), mean, std)


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
