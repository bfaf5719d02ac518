"""Settings of the launchers, `hydra.launcher.KEY=VALUE`: what each may be, checked before anything is written."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bench.errors import UsageError, unknown

Settings = TypeVar("Settings")
Check = Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_text(value: Any) -> bool:
    """Whether it can stand in one line of a batch script; a line break would begin another."""
    return isinstance(value, str | int) and not isinstance(value, bool) and str(value).isprintable() and value != ""


def _setting(default: Any, allowed: str, check: Check) -> Any:
    return field(default=default, metadata={"allowed": allowed, "check": check})


def _or(word: Any, check: Check) -> Check:
    return lambda value: value == word or check(value)


def _counted(default: int) -> Any:
    return _setting(default, "an integer ≥ 1", _is_count)


def _positive(default: float) -> Any:
    return _setting(default, "a number > 0", _is_positive)


def _named() -> Any:
    return _setting(None, "a name, or null", _or(None, _is_text))


def _lines(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_text(line) for line in value)


#: Options by which the launcher finds its jobs and their logs, and by which jobs learn that their time is up.
_OURS = ("array", "job-name", "output", "error", "open-mode", "signal", "time", "nodes", "ntasks", "ntasks-per-node")


def _options(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        re.fullmatch(r"[a-z][a-z-]*", str(name)) and name not in _OURS and (_is_text(word) or word is True)
        for name, word in value.items()
    )


def _limit() -> Any:
    return _setting(None, "a number of seconds > 0, or null", _or(None, _is_positive))


def _switch() -> Any:
    return _setting(False, "true or false", lambda value: isinstance(value, bool))


@dataclass(frozen=True)
class LocalSettings:
    """How cells are run on this machine.

    Attributes:
        workers: Worker processes; "auto": one per core for CPU cells, one where another device takes part.
        cell_seconds: Seconds that a cell may take before its process is killed and it is recorded as failed; None for
            no limit. The start of a process counts.
        isolate: Whether a single worker is a process of its own too, so that a crash costs its cell only.
        dry_run: Whether only to say what would be run.
    """

    workers: int | str = _setting("auto", "an integer ≥ 1, or auto", _or("auto", _is_count))
    cell_seconds: float | None = _limit()
    isolate: bool = _switch()
    dry_run: bool = _switch()


@dataclass(frozen=True)
class SlurmSettings:
    """How cells are run by jobs of Slurm.

    Attributes:
        jobs: How many jobs there are at once, at most: one array.
        processes: Cells that a job runs at once, each in a process of its own.
        minutes: Time limit of a job.
        fill_minutes: How long a job should have work for; there are no more jobs than that takes.
        cpus: CPUs of a process; "auto": the threads of its cells (`device.threads`).
        gpus: GPUs of a process; "auto": one if a cell runs on a CUDA device.
        memory_gib: Memory of a process, GiB; None leaves it to the cluster.
        partition: As `sbatch --partition`; likewise account, qos, constraint, nodelist, exclude.
        setup: Lines of shell before a job begins, such as "module load cuda".
        options: Other options of sbatch by their long names; true for one without a value.
        cell_seconds: As for `LocalSettings`.
        attempts: How often a cell is begun, if the job ends under it each time, before it is recorded as failed.
        submissions: How often in a row jobs are submitted again without a cell that ended meanwhile.
        stop_seconds: How long before its time limit a job begins no cell any more and stops the running ones.
        patience_seconds: How long to wait for a Slurm that does not answer, while no cell is seen to run.
        dry_run: Whether only to say what would be submitted.
    """

    jobs: int = _counted(8)
    processes: int = _counted(1)
    minutes: int = _counted(60)
    fill_minutes: float = _positive(30)
    cpus: int | str = _setting("auto", "an integer ≥ 1, or auto", _or("auto", _is_count))
    gpus: int | str = _setting("auto", "an integer ≥ 0, or auto", _or("auto", _or(0, _is_count)))
    memory_gib: float | None = _setting(None, "a number > 0, or null", _or(None, _is_positive))
    partition: str | None = _named()
    account: str | None = _named()
    qos: str | None = _named()
    constraint: str | None = _named()
    nodelist: str | None = _named()
    exclude: str | None = _named()
    setup: tuple[str, ...] = _setting((), "a list of lines", _lines)
    options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={
            "allowed": "long names of sbatch options without the two dashes, each with a value or true; not "
            + ", ".join(_OURS),
            "check": _options,
        },
    )
    cell_seconds: float | None = _limit()
    attempts: int = _counted(3)
    submissions: int = _counted(3)
    stop_seconds: int = _counted(60)
    patience_seconds: float = _positive(600)
    dry_run: bool = _switch()


def local_settings(given: Mapping[str, Any]) -> LocalSettings:
    """Check the settings of a launcher that runs cells here.

    Raises:
        UsageError: A key is unknown, or a value is not allowed.
    """
    for key in given:
        if key not in _names(LocalSettings) and key in _names(SlurmSettings):
            raise UsageError(f"hydra.launcher.{key}: jobs of a cluster have it; give hydra/launcher=slurm too")
    return _checked(LocalSettings, given)


def slurm_settings(given: Mapping[str, Any]) -> SlurmSettings:
    """Check the settings of the Slurm launcher.

    Raises:
        UsageError: A key is unknown, or a value is not allowed.
    """
    settings = _checked(SlurmSettings, given)
    if 2 * settings.stop_seconds > 60 * settings.minutes:
        raise UsageError(
            f"hydra.launcher.stop_seconds={settings.stop_seconds}: must be at most half of the "
            f"{settings.minutes} min that a job has (hydra.launcher.minutes)"
        )
    return settings


def _names(kind: type[Any]) -> list[str]:
    return [each.name for each in dataclasses.fields(kind)]


def _shown(value: Any) -> str:
    """Return a value in one line."""
    return str(value) if str(value).isprintable() else repr(value)


def _checked(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    for key in given:
        if key not in _names(kind):
            raise unknown("key of hydra.launcher", key, _names(kind))
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        if each.name in given and not each.metadata["check"](given[each.name]):
            raise UsageError(
                f"hydra.launcher.{each.name}={_shown(given[each.name])}: must be {each.metadata['allowed']}"
            )
    return kind(**given)
