"""What the report says, by language: one catalogue of texts for each."""

import functools
import math
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
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
        declared: The same for what `bench/claims` says in English alone: "literature.C5", "published.start".
    """

    language: str
    texts: dict[str, str]
    declared: dict[str, str] = field(default_factory=dict)

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
        return _joined(self("list.join").join(items[:-1]), self(last), items[-1])

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

    def axis(self, measure: Measure, split: str) -> str:
        """Label an axis of a measure on a split, with its unit."""
        return self(f"axis.{measure.name}", result=self.result(measure, split))

    def interval(self, measure: Measure, lo: float, hi: float, unit: str) -> str:
        """Write the interval of a comparison as `Measure.interval` does, or that there is none."""
        known = math.isfinite(lo) and math.isfinite(hi)
        return measure.interval(lo, hi, unit) if known else self("entry.no_interval")

    def batch(self, size: float, full: bool = False) -> str:
        """Write a batch size, marking the one that is the whole training split: full (4000)."""
        return self("batch.full", size=round(size)) if full else str(round(size))

    def short_batch(self, size: float, full: bool = False) -> str:
        """Write a batch size where there is little room: 1024, 16k, full."""
        return self("batch.short") if full else words.short_batch(size)

    def word(self, kind: str, name: str) -> str:
        """Return the word for a name of some kind, such as the budget "epochs"; the name itself where there is none."""
        return self.texts.get(f"{kind}.{name}", name)

    def place(self, column: str, name: str) -> str:
        """Return the word for what stands in a column of a verdict's place: condition, budget, rule or measure."""
        return self.retold("place", name) if column == "measure" else self.word(column, name)

    def from_declaration(self, kind: str, name: str, english: str) -> str:
        """Return what a declaration says in English alone; in English where this language has no text for it."""
        return self.declared.get(f"{kind}.{name}", english)

    def retold(self, kind: str, text: str) -> str:
        """Say in this language what a table or a record says in English, by the English text that it was made of.

        Verdicts and records keep their notes in English, in one piece. The texts of a kind in the English catalogue
        are what such pieces look like: the one that a piece fits, with the most of its own words, is said in this
        language with the same values, which are retold likewise. Pieces are joined by "; ".

        Args:
            kind: First part of the keys, such as "remark".
            text: In English; what fits no text is returned as it is.
        """
        if self.language == "en":
            return text
        for key, pattern in _patterns(kind):
            if match := pattern.fullmatch(text):
                return self(key, **{name: self.retold(kind, value) for name, value in match.groupdict().items()})
        parts = text.split("; ")
        return self("list.clause").join(self.retold(kind, part) for part in parts) if len(parts) > 1 else text


def _joined(before: str, joint: str, after: str) -> str:
    """Join two texts by a word; an ideograph is set apart from Latin letters and digits beside it."""
    if re.fullmatch("[\u4e00-\u9fff]+", joint):
        joint = " " * _is_latin(before[-1:]) + joint + " " * _is_latin(after[:1])
    return f"{before}{joint}{after}"


def _is_latin(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


@functools.cache
def _patterns(kind: str) -> list[tuple[str, re.Pattern[str]]]:
    """Return key and pattern of the English texts of a kind, those with the most words of their own first."""
    texts = {key: text for key, text in messages("en").texts.items() if key.startswith(f"{kind}.")}
    found = []
    for key, text in texts.items():
        parts = [(literal, name) for literal, name, _, _ in string.Formatter().parse(text)]
        pattern = "".join(
            re.escape(literal) + (f"(?P<{name}>(?:(?!; ).)+?)" if name else "") for literal, name in parts
        )
        found.append((sum(len(literal) for literal, _ in parts), key, re.compile(pattern)))
    return [(key, pattern) for _, key, pattern in sorted(found, key=lambda item: -item[0])]


@functools.cache
def messages(language: str) -> Messages:
    """Return the texts of a language.

    Raises:
        UsageError: There is no catalogue of that language.
    """
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES)
    return Messages(language, _read(f"{language}.yaml"), {} if language == "en" else _read(f"{language}-declared.yaml"))


def _read(name: str) -> dict[str, str]:
    file = resources.files("bench.report") / "catalogue" / name
    return dict(_flat(OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8")))))


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(tree, dict):
        return [(prefix, str(tree))]
    return [pair for key, value in tree.items() for pair in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
