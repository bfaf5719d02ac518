"""What a person can choose about the mirror."""

import re
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError, unknown

TRACKERS = ("none", "wandb")
MODES = ("offline", "online", "disabled")

# What W&B accepts as the name of a project or an entity.
_PROJECT = re.compile(r"[^/\\#?%:\s][^/\\#?%:]{0,127}")


@dataclass
class TrackerConfig:
    r"""Where the records of a sweep are mirrored to.

    Attributes:
        name: "wandb", or "none" for no mirror.
        mode: "offline" (files that `wandb sync` uploads later), "online" (sent after the sweep), "disabled".
        project: W&B project, 1 to 128 characters, none of them one of / \ # ? % :
        entity: W&B user or team; None for the default of the API key.
        dir: Folder that gets the mirror's `wandb/` folder; None for the sweep's own folder.
    """

    name: str = "wandb"
    mode: str = "offline"
    project: str = "batch-size-bench"
    entity: str | None = None
    dir: str | None = None

    def validate(self) -> None:
        """Check every value.

        Raises:
            UsageError: One cannot be used; the message names it and what is allowed.
        """
        if self.name not in TRACKERS:
            raise unknown("tracker", self.name, TRACKERS)
        if self.mode not in MODES:
            raise unknown("tracker.mode", self.mode, MODES)
        for field, value in (("project", self.project), ("entity", self.entity)):
            if value is not None and not _PROJECT.fullmatch(value):
                raise UsageError(f"tracker.{field} {value!r} cannot be used (1 to 128 characters without / \\ # ? % :)")
        if self.dir == "":
            raise UsageError("tracker.dir is empty (allowed: a folder, or null for the sweep's own folder)")

    def folder(self, sweep: Path) -> Path:
        """Return the absolute folder that holds the mirror's `wandb/` folder.

        Args:
            sweep: Folder of the sweep.
        """
        return (Path(self.dir).expanduser() if self.dir else sweep).absolute()
