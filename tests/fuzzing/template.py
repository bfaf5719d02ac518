"""The folder in which fuzzed commands are called: a small sweep, one that did not end well, code that nobody named."""

import contextlib
import io
import os
import shutil
from pathlib import Path

import torch

from bench.cli import main

SWEEP, FAILED, BESIDE = "fuzzed", "failed", "beside"
#: Said by `planted.py` to whoever imports it.
RAN = "planted.py ran"
_PLANTED = f"""\
import pathlib

pathlib.Path(__file__).with_name("ran").touch()
import torch


class Planted(torch.optim.SGD):
    pass


def planted(seed):
    return {RAN!r}
"""


def make_template(folder: Path) -> Path:
    """Run the sweeps once, in this process; return the folder."""
    folder.mkdir(parents=True)
    back = Path.cwd()
    os.chdir(folder)
    try:
        for words in (
            [f"sweep={SWEEP}", "task=regression/linear", "batch_size=8,full"],
            [f"sweep={SWEEP}", "task=playground/xor", "batch_size=8", "task.knobs.hidden=[2]", "task.knobs.points=40"],
            [f"sweep={FAILED}", "task=regression/linear", "batch_size=8", "device=cuda"],
        ):
            _quietly(["run", "-m", "lr=[0.01,0.1]", "seeds=1", "budget.epochs=null", "budget.steps=3", *words, *SMALL])
    finally:
        os.chdir(back)
        torch.set_flush_denormal(False)
    shutil.copytree(folder / "results" / SWEEP, folder / "results" / BESIDE)
    (folder / "planted.py").write_text(_PLANTED)
    (folder / "file").write_text("a file\n")
    (folder / "empty").mkdir()
    return folder


SMALL = (
    *("tracker=none", "measure.windows=1", "measure.window_seconds=0.001", "measure.warmup_steps=1"),
    *("training.stack=off", "hydra.launcher.workers=1"),
)


def _quietly(words: list[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main(words)
    except SystemExit as ended:
        # A device that is not here is recorded, and the sweep of it alone counts as failed.
        if ended.code not in (0, 1):
            raise RuntimeError(said.getvalue()) from None
