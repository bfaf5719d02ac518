"""A figure of the report: panels that share a caption and the table behind them."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.analysis.measures import Measure, measure_of
from bench.analysis.pictures import Pictures, no_pictures
from bench.analysis.results import Results
from bench.analysis.study import SETTING, select
from bench.report.axes import batch_axis, measure_axis
from bench.report.messages import Messages, messages
from bench.report.style import Drawing, figure_style, svg

#: So many optimizers share a panel: as many as there are colours, markers and dashes.
TOGETHER = 6


@dataclass(frozen=True)
class Panel:
    """One drawing of a figure.

    Attributes:
        name: Unique in the report; the file is figures/<name>.svg.
        title: What it shows, in a few words.
        alt: What it shows, in numbers.
        drawing: The drawing.
    """

    name: str
    title: str
    alt: str
    drawing: Drawing


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        name: Unique in the report; the data are tables/<name>.csv.
        title: Title.
        caption: How to read it: what is drawn, intervals, n.
        panels: Drawings.
        table: The data behind it.
        columns: How many panels stand side by side on a wide page.
        most_rows: How many rows of its data the page prints.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    table: pd.DataFrame
    columns: int = 2
    most_rows: int = 60


@dataclass(frozen=True)
class Scene:
    """What the figures of one setting are drawn from.

    Attributes:
        results: Everything the analysis found.
        setting: Task, model, device and precision.
        prefix: Put before the names of figures; tells settings apart.
        pictures: What pictures are drawn from.
        say: The report's language.
    """

    results: Results
    setting: dict[str, str]
    prefix: str
    pictures: Pictures = field(default_factory=no_pictures)
    say: Messages = field(default_factory=lambda: messages("en"))

    def rows(self, frame: pd.DataFrame, **keys: object) -> pd.DataFrame:
        """Return the rows of this setting (and of what else is asked for)."""
        return select(frame, **self.setting, **keys)

    @cached_property
    def measure(self) -> Measure:
        """What the setting is judged by."""
        return measure_of(self.rows(self.results.study.cells))

    @cached_property
    def optimizers(self) -> list[str]:
        """Names of the optimizers, sorted."""
        return sorted({str(name) for name in self.rows(self.results.study.cells)["optimizer"]})

    @cached_property
    def sizes(self) -> list[int]:
        """All batch sizes of the setting, ascending, whether or not their cells are complete."""
        return sorted({int(size) for size in self.rows(self.results.study.cells)["batch_size"]})

    @cached_property
    def full(self) -> set[int]:
        """Batch sizes that are the whole training split."""
        cells = self.rows(self.results.study.cells)
        return {int(size) for size in cells.loc[cells["full_batch"].astype(bool), "batch_size"]}

    def batch(self, size: float) -> str:
        """Write a batch size."""
        return self.say.batch(size, round(size) in self.full)

    def short_batch(self, size: float) -> str:
        """Write a batch size where there is little room."""
        return self.say.short_batch(size, round(size) in self.full)

    def batch_axis(self, axes: Axes, sizes: Sequence[int] | None = None) -> None:
        """Label the horizontal axis with batch sizes, all those of the setting unless others are given."""
        batch_axis(axes, self.sizes if sizes is None else sizes, self.full, self.say)

    def measure_axis(self, axes: Axes, split: str, low: float, high: float) -> None:
        """Set up the vertical axis for the setting's measure on a split."""
        measure_axis(axes, self.measure, self.say.axis(self.measure, split), low, high)

    def style(self) -> AbstractContextManager[None]:
        """Draw in the report's style and language."""
        return figure_style(self.say.language)

    def name(self, *parts: object) -> str:
        """Make a name for a figure or panel: lower case, digits and dashes alone."""
        text = "-".join(str(part) for part in (self.prefix, *parts) if str(part))
        return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

    def panel(self, figure: Canvas, name: str, title: str, alt: str) -> Panel:
        """Finish a drawing."""
        return Panel(name, title, alt, svg(figure, name, title, alt, language=self.say.language))

    def groups(self) -> list[list[str]]:
        """Split the optimizers into groups that fit into one panel."""
        names = self.optimizers
        return [names[start : start + TOGETHER] for start in range(0, len(names), TOGETHER)]


def tidy(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return a figure's data: the setting and the named columns."""
    return frame[[*SETTING, *columns]].reset_index(drop=True)
