"""The knobs of image tasks; apart, so that configurations are composed without loading torch."""

from dataclasses import dataclass

from bench.errors import UsageError


@dataclass(frozen=True)
class ImageKnobs:
    """What can be turned at every image task.

    Attributes:
        label_noise: Fraction of training labels replaced by another class, drawn uniformly; 0 … 0.5. Validation and
            test labels stay clean.
        subset: Training examples to keep, drawn by the data seed, the classes as they come; null for all.
        inputs: "standardised" (by the mean and standard deviation of all training pixels) or "unit" (0 … 1).
    """

    label_noise: float = 0.0
    subset: int | None = None
    inputs: str = "standardised"

    def __post_init__(self) -> None:
        if not 0 <= self.label_noise <= 0.5:
            raise UsageError(f"task.knobs.label_noise={self.label_noise}: must be from 0 to 0.5")
        if self.inputs not in ("standardised", "unit"):
            raise UsageError(f"task.knobs.inputs={self.inputs}: must be standardised or unit")
        if self.subset is not None and self.subset < 1:
            raise UsageError(f"task.knobs.subset={self.subset}: must be at least 1, or null for all")


@dataclass(frozen=True)
class BatchNormKnobs:
    """What can be turned at every network with batch normalisation.

    Attributes:
        ghost_batch: Training statistics are taken over consecutive chunks of this many examples instead of the whole
            batch, ≥ 2 (arXiv 1705.08741); the last chunk of a batch that is no multiple of it is smaller. Null for the
            whole batch.
    """

    ghost_batch: int | None = None

    def __post_init__(self) -> None:
        if self.ghost_batch is not None and self.ghost_batch < 2:
            raise UsageError(
                f"task.knobs.ghost_batch={self.ghost_batch}: must be at least 2 (one example has no variance), "
                "or null for the whole batch"
            )
