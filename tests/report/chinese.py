"""Which Latin words a Chinese report may have: those that its writers left in its texts, names and units."""

import functools
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser

from bench.claims.claim import claim, claim_names
from bench.claims.published import published
from bench.measure.catalogue import MEASURES, RESCALED
from bench.report.messages import messages

#: Units, formats, and what a file is called.
UNITS = {"pp", "ms", "min", "KiB", "MiB", "GiB", "CSV", "SVG", "Markdown"}
WORD = re.compile(r"(?=[A-Za-z]\w)[A-Za-z][A-Za-z0-9_]*(?:[.'-][A-Za-z0-9_]+)*")


@functools.cache
def left() -> frozenset[str]:
    """Latin words of the Chinese texts themselves, and the names of measures."""
    say = messages("zh")
    texts = [re.sub(r"\{\w+\}|“[^”]*”", " ", text) for text in (*say.texts.values(), *say.declared.values())]
    for name in claim_names():
        texts += [claim(name).sentence["zh"], claim(name).contrast["zh"], claim(name).experiment]
    for entry in published():
        texts += [entry.who, entry.source, entry.task, entry.optimizer, entry.quantity["zh"], entry.differs["zh"]]
        texts += [item.at for item in entry.values if item.at.startswith("B_")]
    names = {*claim_names(), "ln", "mnist"}
    metrics = {name + end for kind in MEASURES.values() for name in kind.metrics for end in ("", RESCALED)}
    return frozenset(word for text in texts for word in WORD.findall(text)) | metrics | names | UNITS


@functools.cache
def known(names: tuple[str, ...]) -> frozenset[str]:
    """What may stand in a report where names do."""
    return left() | {word for name in names for word in WORD.findall(name)}


def strange(text: str, names: Sequence[str] = ()) -> list[str]:
    """Return the Latin words of a text that are neither left in Chinese texts nor among names."""
    # Titles of tables elsewhere are quoted as they are; a script puts values in.
    words = WORD.findall(re.sub(r"\{\w+\}|“[^”]*”", " ", text))
    return [word for word in words if word not in known(tuple(names)) and not re.fullmatch("[0-9a-f]{8,}", word)]


class Said(HTMLParser):
    """Collects what a page or a drawing says to a reader: texts and the attributes that are read out.

    Left out are commands, hashes and tracebacks, scripts and styles, the data behind a figure as its file has them, the
    environment, which is as the records have it, and why cells failed or the mirror lacks them, as programs said it.
    """

    VOID = ("meta", "link", "input", "br")
    SPOKEN = ("aria-label", "aria-valuetext", "title", "data-alt", "data-frames", "data-text", "content")
    SILENT = ("script", "style", "pre", "code")
    SECTIONS = ("environment", "reproduce", "failed")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.silent = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        data = tag == "details" and "figure" in self.open
        if not self.silent and (tag in self.SILENT or values.get("id") in self.SECTIONS or data):
            self.silent = len(self.open) + 1
        if not self.silent and values.get("name") not in ("viewport", "color-scheme"):
            self.texts += [values[name] for name in self.SPOKEN if name in values]
            self.texts += json.loads(values.get("data-notes", "{}")).values()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self.open and self.open.pop() != tag:
            pass
        if len(self.open) < self.silent:
            self.silent = 0

    def handle_data(self, data: str) -> None:
        if not self.silent and data.strip():
            self.texts.append(data.strip())
