"""What a claim says and how it is judged: declared in a file of its own before any study."""

import functools
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from omegaconf import OmegaConf

from bench.analysis.statistics.verdicts import DIRECTIONS
from bench.errors import BenchError, UsageError, unknown

#: Languages that a claim is written in.
LANGUAGES = ("en", "zh")
#: What a declaration has to say.
_FIELDS = (
    *("sentence", "who", "contrast", "direction", "held_against", "margin", "unit"),
    *("tasks", "primary", "literature", "experiment"),
)


@dataclass(frozen=True)
class Claim:
    """A sentence with an operational definition.

    Attributes:
        name: "C1" … "C25".
        sentence: What people say, by language.
        who: Who says it: an arXiv id, or "folk".
        contrast: What is compared with what, by language; the statistic and its unit are named there.
        direction: What the claim says of the statistic (`bench.analysis.statistics.verdicts.DIRECTIONS`).
        held_against: The value that the statistic is compared with.
        margin: By task pattern, the effect that matters, > 0, in the statistic's unit; "else" for all others. A
            pattern is the beginning of a task's name, such as "mnist/".
        unit: Of the statistic, such as "fraction" or "slope".
        tasks: Beginnings of the names of tasks that it speaks of; empty for any.
        primary: The one place of the matrix that stands for the claim: values of `budget`, `rule` and `measure`.
        literature: What is published, in a sentence or two with its source.
        experiment: The experiment that supplies its data.
    """

    name: str
    sentence: dict[str, str]
    who: str
    contrast: dict[str, str]
    direction: str
    held_against: float
    margin: dict[str, float]
    unit: str
    tasks: tuple[str, ...]
    primary: dict[str, str]
    literature: str
    experiment: str

    def speaks_of(self, task: str) -> bool:
        """Whether a task is one of those that the claim is about."""
        return not self.tasks or task.startswith(self.tasks)

    def margin_of(self, task: str) -> float:
        """Return the effect that matters on a task: of the longest pattern that fits."""
        fitting = [pattern for pattern in self.margin if pattern != "else" and task.startswith(pattern)]
        return self.margin[max(fitting, key=len, default="else")]


def claim_names() -> list[str]:
    """Return the names of all claims, C1 first."""
    names = [file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml")]
    return sorted(names, key=lambda name: int(name[1:]))


@functools.cache
def claim(name: str) -> Claim:
    """Return a claim.

    Raises:
        UsageError: No claim has this name.
        BenchError: Its file does not say what it has to.
    """
    if name not in claim_names():
        raise unknown("claim", name, claim_names())
    raw: Any = OmegaConf.to_container(OmegaConf.create((_folder() / f"{name}.yaml").read_text(encoding="utf-8")))
    missing = [field for field in _FIELDS if field not in raw]
    if missing:
        raise BenchError(f"claim {name}: its file has no {', '.join(missing)}")
    if raw["direction"] not in DIRECTIONS or "else" not in raw["margin"] or min(raw["margin"].values()) <= 0:
        raise BenchError(
            f"claim {name}: needs a direction of {', '.join(DIRECTIONS)} and margins above 0, one for else"
        )
    return Claim(name, **(raw | {"tasks": tuple(raw["tasks"]), "held_against": float(raw["held_against"])}))


def chosen_claims(words: str) -> list[Claim]:
    """Return the claims that a word such as "C5,C16" names; all of them for an empty one.

    Raises:
        UsageError: A name that is none.
    """
    names = [word.strip().upper() for word in words.split(",") if word.strip()]
    if words and not names:
        raise UsageError(f"claims {words!r}: names such as C5,C16")
    return [claim(name) for name in dict.fromkeys(names or claim_names())]


def frozen_hash() -> str:
    """Return the SHA-256 of all claims' files, in the order of their names: what was declared before a study."""
    digest = hashlib.sha256()
    for name in claim_names():
        digest.update(f"{name}\n".encode() + (_folder() / f"{name}.yaml").read_bytes())
    return digest.hexdigest()


def _folder() -> Any:
    return resources.files("bench.claims") / "declared"
