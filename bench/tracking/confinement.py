"""The environment of a child that imports wandb: it writes where it is told and obeys our config alone."""

import os
from pathlib import Path

import bench
from bench.results.private import private

# All that an online mirror takes from the environment. Offline takes nothing: it has no use for a key.
_ONLINE = ("WANDB_API_KEY", "WANDB_BASE_URL")


def child_environment(scratch: Path, mode: str, folder: Path | None = None) -> dict[str, str]:
    """Return the environment for a child process that imports wandb.

    Every WANDB_ variable of the person's own is dropped: one that names a mode would overrule the config, one
    that names a running service would tie this child to another program's. wandb's caches, settings and
    sockets go to `scratch`; sockets need a short path, so that should lie in the system's temporary folder.

    Args:
        scratch: An existing folder that is removed when the child has ended.
        mode: The tracker's mode; only "online" sees an API key and a server's address.
        folder: Where wandb puts its `wandb/` folder; None for a child that only reads.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    if mode == "online":
        kept |= {name: os.environ[name] for name in _ONLINE if name in os.environ}
    return kept | {
        "WANDB_MODE": mode,
        "WANDB_DIR": str(folder or scratch),
        "WANDB_DATA_DIR": str(scratch / "data"),
        "WANDB_CACHE_DIR": str(scratch / "cache"),
        "WANDB_CONFIG_DIR": str(scratch / "config"),
        "WANDB_ARTIFACT_DIR": str(scratch / "artifacts"),
        "WANDB_CREDENTIALS_FILE": str(scratch / "credentials.json"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "TMPDIR": str(scratch),
        "PYTHONPATH": _python_path(),
        "PYTHONUNBUFFERED": "1",
    }


def one_line(text: str, limit: int = 300) -> str:
    """Return text as one line without secrets (`private`), at most `limit` characters long."""
    line = " ".join(private(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _python_path() -> str:
    # The child runs in another folder, so relative entries would no longer lead here.
    own = str(Path(bench.__file__).resolve().parent.parent)
    inherited = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return os.pathsep.join(dict.fromkeys([own, *inherited]))
