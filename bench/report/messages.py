"""What the report says, by language: one catalogue of texts for each."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from omegaconf import OmegaConf

from bench.analysis import words
from bench.analysis.measures import Measure
from bench.claims.claim import LANGUAGES
from bench.errors import unknown


@dataclass(frozen=True)
class Messages:
    """The texts of one language.

    Attributes:
        language: As in `<html lang>`.
        texts: Key, such as "wall.title", → text with places for values in braces.
    """

    language: str
    texts: dict[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values put in; a key or value that is not there is a KeyError."""
        return self.texts[key].format_map(values)

    def count(self, noun: str, number: float) -> str:
        """Write how many there are of something: 1 seed, 3 seeds."""
        return self(f"count.{noun}.{'one' if number == 1 else 'more'}", n=words.count(number))

    def listing(self, items: Sequence[str], last: str = "list.and") -> str:
        """Join names as in a sentence: a, b and c; or by another text before the last."""
        if len(items) < 2:
            return "".join(items)
        return self(last).join([self("list.join").join(items[:-1]), items[-1]])

    def names(self, items: Sequence[str], noun: str, most: int = 6) -> str:
        """Join names, or say how many there are where they would fill a paragraph: 19 optimizers."""
        return self.listing(items) if len(items) <= most else self.count(noun, len(items))

    def span(self, ascending: Sequence[float]) -> str:
        """Write the ends of ascending values: 1.2 to 3.4, or one number where they look the same."""
        low, high = (words.number(value, 2) for value in (ascending[0], ascending[-1]))
        return low if low == high else self("list.range", lo=low, hi=high)

    def result(self, measure: Measure, split: str) -> str:
        """Name a measure on a split ("train", "val" or "test"): validation accuracy."""
        return self("result", split=self(f"split.{split}"), measure=self(f"measure.{measure.name}"))

    def word(self, kind: str, name: str) -> str:
        """Return the word for a name of some kind, such as the budget "epochs"; the name itself where there is none."""
        return self.texts.get(f"{kind}.{name}", name)


@functools.cache
def messages(language: str) -> Messages:
    """Return the texts of a language.

    Raises:
        UsageError: There is no catalogue of that language.
    """
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES)
    file = resources.files("bench.report") / "catalogue" / f"{language}.yaml"
    return Messages(language, dict(_flat(OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8"))))))


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(tree, dict):
        return [(prefix, str(tree))]
    return [pair for key, value in tree.items() for pair in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
