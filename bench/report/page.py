"""The page: what stands where. The template decides how it looks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import resources

import jinja2
import pandas as pd
from markupsafe import Markup

from bench import __version__
from bench.analysis import words
from bench.analysis.outcomes import unfinished_cells
from bench.analysis.results import Results
from bench.analysis.study import data_set
from bench.report import advice
from bench.report.advice import Advice
from bench.report.claims import Claims
from bench.report.evidence import (
    Mirror,
    audit_frame,
    audit_table,
    environment_frame,
    environment_table,
    failed_table,
    mirror_view,
)
from bench.report.figures_profile import score_table
from bench.report.figures_trade_off import Switched
from bench.report.fonts import page_fonts
from bench.report.headline import Headline, headlines
from bench.report.messages import Messages
from bench.report.overview import matrices
from bench.report.plot import Plot, Scene
from bench.report.reproduce import Recipe, cell_command, recipes
from bench.report.sources import Sources, Sweep, Unreadable, portable
from bench.report.style import HALO, theme_variables
from bench.report.summary import summarise
from bench.report.view import Table, batch_table, data_table, dense_table, scaling_table, verdict_tables
from bench.results.record import Record

#: Sections that only some tasks can have; the others say it when they are empty.
PICTURES = ("downhill", "boundary")


@dataclass(frozen=True)
class Part:
    """The figures of one section: for one setting, or for the whole sweep."""

    scene: Scene | None
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Section:
    """A section of figures.

    Attributes:
        name: Id, for links.
        title: Heading.
        short: The same in a word, for the navigation.
        parts: One per setting that has figures here, or one for all.
        folded: Whether each setting's part is folded, with its answer and its table before the figures.
    """

    name: str
    title: str
    short: str
    parts: tuple[Part, ...]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """All that the page and its Markdown twin say.

    Attributes:
        sources: What was read.
        results: What the analysis found.
        claims: What it says of claims, and the language.
        scenes: One per setting.
        sections: Figures.
        unpictured: Cells whose snapshots could not be read.
        many: Whether the sweep has so many settings or optimizers that an overview stands first and each setting is
            folded.
        others: Sweeps that claims were judged on besides.
    """

    sources: Sources
    results: Results
    claims: Claims
    scenes: tuple[Scene, ...]
    sections: tuple[Section, ...]
    unpictured: tuple[Unreadable, ...] = ()
    many: bool = False
    others: tuple[Sweep, ...] = ()

    def plots(self) -> Iterator[Plot]:
        """All figures, in order."""
        for plots in self.claims.plots.values():
            yield from plots
        for section in self.sections:
            for part in section.parts:
                yield from part.plots

    @property
    def sweep(self) -> str:
        """Name of the sweep."""
        return self.sources.sweep

    @property
    def version(self) -> str:
        """Version of the suite."""
        return __version__

    @property
    def say(self) -> Messages:
        """The texts of its language."""
        return self.claims.say

    @cached_property
    def advised(self) -> list[Advice]:
        """Which batch size to use, for every task and optimizer."""
        return advice.advised(self.results, self.say)

    @cached_property
    def headlines(self) -> list[Headline]:
        """The answers, one for each setting."""
        return headlines(self.results.findings, self.results.study.cells, self.say)

    def headline(self, scene: Scene) -> Headline:
        """The answer for one setting."""
        return next(headline for headline in self.headlines if headline.setting == scene.setting)

    def summary(self) -> Headline:
        """The answer over all settings."""
        return summarise(self.headlines, self.results.findings, self.say)

    def where(self) -> str:
        """What the settings are, in a few words."""
        settings = [scene.setting for scene in self.scenes]
        shared = {name: {setting[name] for setting in settings} for name in ("device", "precision")}
        return self.say(
            "setting.where",
            tasks=self.say.count("task", len({setting["task"] for setting in settings})),
            devices=self.say.listing(sorted(shared["device"])),
            precisions=self.say.listing(sorted(shared["precision"])),
        )

    def lead(self) -> str:
        """The answer in a sentence or two, for what shows no page."""
        if not self.scenes:
            return self.say("lead.nothing")
        return (self.summary() if self.many else self.headline(self.scenes[0])).text

    @cached_property
    def matrices(self) -> list[Table]:
        """Optimizers against tasks."""
        return matrices(self.results, self.say)

    def matrix_legend(self) -> str:
        """How to read them."""
        return self.say("overview.legend")

    def part(self, section: Section, scene: Scene) -> Part | None:
        """The figures of a section for one setting."""
        return next((part for part in section.parts if part.scene is scene), None)

    def label(self, scene: Scene) -> str:
        """A setting in words."""
        setting = scene.setting
        return self.say("setting.label", **{name: setting[name] for name in ("task", "device", "precision")})

    def counts(self) -> str:
        """How many cells there are, by status."""
        statuses = Counter(str(record.status) for record in self.sources.records)
        statuses["unreadable"] = len(self.sources.unreadable)
        trials = len(self.results.study.trials)
        diverged = int((self.results.study.trials["status"] == "diverged").sum())
        say = self.say
        named = [
            say("counts.status", count=number, status=say.word("status", status))
            for status, number in sorted(statuses.items())
            if number
        ]
        return say(
            "counts.text",
            cells=sum(statuses.values()),
            statuses=say("list.join").join(named) or say("counts.none"),
            trials=words.count(trials),
            diverged=words.count(diverged),
        )

    def notes(self) -> list[str]:
        """What a reader has to know before believing a number."""
        notes = []
        for name in sorted({data_set(str(task)) for task in self.results.study.cells["task"]}):
            if name == "mnist5k":
                notes.append(self.say("note.mnist5k"))
        cells = self.results.study.cells
        judged = cells[(cells["measure"] == "accuracy") & cells["test_examples"].notna()]
        for test in sorted({int(size) for size in judged["test_examples"]})[:1]:
            more = judged["test_examples"].nunique() > 1
            points = words.number(100 * (0.93 * 0.07 / test) ** 0.5, 2)
            fewest = self.say("note.fewest") if more else ""
            notes.append(self.say("note.binomial", examples=words.count(test), fewest=fewest, points=points))
        if (cells["measure"] == "loss").any():
            notes.append(self.say("note.loss"))
        notes += [self.say("note.unpictured", cell=item.cell, reason=item.reason) for item in self.unpictured]
        return notes

    def pictured(self) -> bool:
        """Whether there is any picture: only then the page brings along how they look and move."""
        return any(section.name in PICTURES for section in self.sections)

    def references(self) -> str:
        """Which batch size the learning-rate rules start from."""
        sizes = sorted({int(size) for size in self.results.references["reference"]})
        return self.say.listing([str(size) for size in sizes]) if sizes else "–"

    def batch_table(self, scene: Scene) -> Table:
        """Batch sizes in rows."""
        return dense_table(scene) if self.many else batch_table(scene)

    def verdicts(self, scene: Scene) -> list[Table]:
        """Budget × rule matrices."""
        return verdict_tables(scene)

    def scaling(self, scene: Scene) -> Table | None:
        """Slopes."""
        return scaling_table(scene)

    def profile_scores(self) -> Table | None:
        """Scores of the performance profile."""
        return score_table(self.results, self.say)

    def failed(self) -> Table | None:
        """What has no place in the figures, and why."""
        studies = [self.results.study, *(sweep.results.study for sweep in self.others)]
        return failed_table(
            pd.concat([unfinished_cells(study.cells) for study in studies]),
            [item for sources in self._all_sources() for item in sources.unreadable],
            pd.concat([study.repeated for study in studies]),
            self.say,
        )

    def tracebacks(self) -> list[tuple[str, str]]:
        """Cell id and traceback of every failed cell that kept one."""
        return [(record.cell, portable(record.traceback)) for record in self._records() if record.traceback]

    @cached_property
    def audit(self) -> Table | None:
        """The self-audit."""
        return audit_table(audit_frame(self._records()), self.say)

    @cached_property
    def environment(self) -> Table | None:
        """Versions and hardware."""
        records = self._records()
        return environment_table(environment_frame(records), len(records), self.say)

    def mirror(self) -> Mirror:
        """What the tracking mirror holds."""
        return mirror_view(self.sources, self.say)

    def recipes(self) -> list[Recipe]:
        """Commands for every part."""
        others = [(sweep.sources.sweep, sweep.sources.command) for sweep in self.others]
        return recipes(self.sweep, self.sources.command, self.say, others)

    def judged_on(self) -> str:
        """Which sweeps claims were judged on; empty where it is this one alone."""
        if not self.others:
            return ""
        told = [(sources.sweep, len(sources.records)) for sources in self._all_sources()]
        sweeps = [self.say("claims.sweep", sweep=sweep, cells=cells) for sweep, cells in told]
        return self.say("claims.sweeps", sweeps=self.say("list.join").join(sweeps))

    def _all_sources(self) -> list[Sources]:
        return [self.sources, *(sweep.sources for sweep in self.others)]

    def _records(self) -> list[Record]:
        return [record for sources in self._all_sources() for record in sources.records]

    @cached_property
    def cell_recipes(self) -> list[Recipe]:
        """Commands for single cells, in the order of the tables."""
        records = sorted(
            self.sources.records,
            key=lambda r: (
                r.axes.task,
                r.axes.optimizer,
                r.axes.device,
                r.axes.precision,
                r.axes.batch_size,
                r.cell,
            ),
        )
        return [Recipe(record.cell, cell_command(record)) for record in records]


def render_html(page: Page) -> str:
    """Render the page: one file that refers to nothing but its own tables."""
    templates = resources.files("bench.report") / "templates"

    def read(name: str) -> str:
        return (templates / name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.DictLoader({name: read(name) for name in ("index.html.j2", "claims.html.j2")}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = read("style.css")
    style = style.replace("/*light*/", theme_variables(dark=False)).replace("/*dark*/", theme_variables(dark=True))
    pictured = page.pictured()
    switched = any(isinstance(plot, Switched) for plot in page.plots())
    wanted = (("film.js", pictured), ("switch.js", switched), ("claims.js", page.claims.filters()))
    scripts = [read(name) for name, needed in wanted if needed]
    styles = [read(name) for name, needed in (("pictures.css", pictured), ("switch.css", switched)) if needed]
    return environment.get_template("index.html.j2").render(
        page=page,
        say=page.say,
        style=Markup(style + HALO + read("claims.css") + "".join(styles) + page_fonts(page.say.language)),
        script=Markup("".join(scripts)),
        drawing=lambda panel: Markup(panel.drawing.inline),
        data_table=partial(data_table, say=page.say),
    )
