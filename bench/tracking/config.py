"""placeholder: replaced by the mirror room."""

from dataclasses import dataclass


@dataclass
class TrackerConfig:
    name: str = "wandb"
    mode: str = "offline"
    project: str = "batch-size-bench"
    entity: str | None = None
    dir: str | None = None


def check_tracker(c: TrackerConfig) -> None:
    """."""
