"""Overrides for runs that take a fraction of a second, and how to call the command line in this process."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.composition import compose_config
from bench.config import Cell, resolve

SMALL = [
    "task=mnist5k/logreg",
    "lr=[0.01,0.1]",
    "seeds=1",
    "budget.epochs=1",
    "budget.steps=3",
    "evaluation.train_examples=100",
    "measure.windows=1",
    "measure.window_seconds=0.001",
    "measure.warmup_steps=1",
    "tracker=none",
]


def small_cell(*overrides: str) -> Cell:
    """Resolve a small cell; later overrides win."""
    return resolve(compose_config([*SMALL, *overrides]))


def call(*words: str) -> int:
    """Call the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(list(words))
    code = exit_.value.code
    assert isinstance(code, int)
    return code


def run(*overrides: str) -> int:
    """Run a small grid in this process, one worker."""
    return call("run", "-m", *SMALL, "hydra.launcher.workers=1", *overrides)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a sweep folder as plain JSON, by cell id; not those that are being written."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("[!.]*/record.json"))}


def digests(folder: Path) -> dict[str, object]:
    """Return the digest of every record in a sweep folder."""
    return {cell: record["digest"] for cell, record in records(folder).items()}
