"""`bench report`: records in, one HTML page with its Markdown twin, figures and tables out."""

import contextlib
import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench import __version__
from bench.analysis.outcomes import unfinished_cells
from bench.analysis.pictures import Pictures
from bench.analysis.study import CONDITION, SETTING
from bench.analysis.words import capital
from bench.claims.claim import Claim, chosen_claims, frozen_hash
from bench.claims.data import claim_data
from bench.claims.evidence import Data, Judged, judged
from bench.claims.judges import JUDGES
from bench.claims.wall import wall
from bench.errors import UsageError
from bench.report import (
    boundary,
    downhill,
    figures_claims,
    figures_cost,
    figures_learning,
    figures_parts,
    figures_profile,
    figures_trade_off,
    overview,
)
from bench.report.claims import Claims
from bench.report.evidence import audit_frame, environment_frame
from bench.report.markdown import write_markdown
from bench.report.messages import Messages, messages
from bench.report.overview import is_many
from bench.report.page import PICTURES, Page, Part, Section, render_html
from bench.report.plot import Plot, Scene
from bench.report.published import published_frame
from bench.report.sources import Sources, Sweep, Unreadable, read_pictures, read_sweep
from bench.results.csv import write_csv
from bench.results.store import Store

#: Section id (the texts of a language have its heading, under `section` and in a word under `short`), and the figures.
SECTIONS = (
    ("accuracy", (figures_learning.accuracy,)),
    ("gap", (figures_learning.gap,)),
    ("target", (figures_cost.to_target,)),
    ("cost", (figures_cost.throughput, figures_parts.step_parts, figures_cost.memory)),
    ("trade-off", (figures_trade_off.trade_off,)),
    ("learning-rate", (figures_learning.best_rates,)),
    ("curves", (figures_learning.learning_curves,)),
    ("downhill", (downhill.paths, downhill.noise)),
    ("boundary", (boundary.boundary,)),
    ("divergence", (figures_learning.divergence,)),
)

#: The same where a sweep has so many settings or optimizers that each setting is folded (`is_many`): few and small,
#: for they are drawn for every setting.
FOLDED = (
    ("downhill", (downhill.paths, downhill.noise)),
    ("boundary", (boundary.boundary_of_few,)),
    ("tasks", (overview.best_curves,)),
)


@dataclass(frozen=True)
class Written:
    """A report on disk.

    Attributes:
        index: Path of the page.
        missing: Claims that the sweep has no data for.
    """

    index: Path
    missing: tuple[Claim, ...]


def build_report(store: Store, out: Path) -> Path:
    """Write the report of a sweep on all claims, in English; see `write_report`."""
    return write_report(store, out, chosen_claims(""), messages("en")).index


def write_report(
    store: Store, out: Path, claims: Sequence[Claim], language: Messages, others: Sequence[Store] = ()
) -> Written:
    """Write the report of a sweep.

    Two calls on the same records write the same bytes. Nothing is written outside `out`; files of an earlier
    report there that this one has no more are removed, as its manifest names them. Records that cannot be
    read are listed in the report.

    Args:
        store: The sweep.
        out: Folder to write to; made if missing. The page is out/index.html.
        claims: Which claims to judge.
        language: Its texts.
        others: Sweeps that claims may be judged on besides (`bench.claims.evidence.judged` says which).

    Raises:
        UsageError: Two sweeps have the same name.
        OSError: Something cannot be written.
    """
    names = [item.sweep for item in (store, *others)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"sweep {twice[0]!r} is given twice: a report tells its sweeps apart by their names")
    with _read((store, *others)) as (sweep, *beside):
        return _written(store, sweep, beside, out, claims, language)


def _written(
    store: Store, sweep: Sweep, beside: Sequence[Sweep], out: Path, claims: Sequence[Claim], language: Messages
) -> Written:
    data, *more = (claim_data(item.sources.exported, item.results, item.sources.sweep) for item in (sweep, *beside))
    told = _claims(data, more, claims, language)
    page = _page(sweep, beside, told, *read_pictures(store, sweep.sources, sweep.results))
    written = _Files(out)
    for plot in page.plots():
        for panel in plot.panels:
            written.text(f"figures/{panel.name}.svg", panel.drawing.file + "\n")
        written.table(f"figure-{plot.name}.csv", plot.table)
    for name, frame in (_tables(sweep, data) | _tables_of_claims(told)).items():
        written.table(name, frame)
    for item, source in zip(beside, more, strict=True):
        for name, frame in _tables_behind(item, source, told.judged).items():
            written.table(name, frame)
    written.text("report.md", write_markdown(page))
    written.text("index.html", render_html(page))
    written.manifest(sweep.sources, [item.sources for item in beside])
    return Written(out / "index.html", told.judged.missing)


@contextlib.contextmanager
def _read(stores: Sequence[Store]) -> Iterator[list[Sweep]]:
    """Read sweeps; within the block the garbage collector leaves them alone, which saves a tenth of a report's time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        sweeps = [read_sweep(store) for store in stores]
        gc.freeze()
    finally:
        if collecting:
            gc.enable()
    try:
        yield sweeps
    finally:
        gc.unfreeze()


def _claims(data: Data, others: Sequence[Data], claims: Sequence[Claim], language: Messages) -> Claims:
    found = judged(data, claims, JUDGES, others)
    plots: dict[str, tuple[Plot, ...]] = {
        claim.name: (plot,)
        for claim in claims
        if (plot := figures_claims.forest(claim, found.of(claim), language)) is not None
    }
    return Claims(found, wall(found), plots, frozen_hash(), language, bool(others))


def _page(
    sweep: Sweep, beside: Sequence[Sweep], claims: Claims, pictures: Pictures, unpictured: tuple[Unreadable, ...]
) -> Page:
    results = sweep.results
    settings = [
        dict(zip(SETTING, (str(value) for value in key), strict=True))
        for key in results.study.cells[SETTING].drop_duplicates().sort_values(SETTING).itertuples(index=False)
    ]
    many = is_many(results.study.cells)
    scenes = [
        Scene(results, setting, "-".join(setting.values()) if len(settings) > 1 else "", pictures, claims.say)
        for setting in settings
    ]
    sections = []
    measure = _measure(scenes)
    for name, makers in FOLDED if many else SECTIONS:
        parts = []
        for scene in scenes:
            plots: list[Plot] = [plot for make in makers if (plot := make(scene))]
            if plots:
                parts.append(Part(scene, tuple(plots)))
        if parts or name not in PICTURES:
            folded = many and name not in PICTURES
            sections.append(Section(name, *_headings(name, measure, claims.say), tuple(parts), folded))
    if plot := figures_profile.performance_profile(results, claims.say):
        section = Section("profile", *_headings("profile", measure, claims.say), (Part(None, (plot,)),))
        # Before the folded settings; after the figures that every sweep has.
        sections.insert(0 if many else len(sections), section)
    return Page(sweep.sources, results, claims, tuple(scenes), tuple(sections), unpictured, many, tuple(beside))


def _measure(scenes: Sequence[Scene]) -> str:
    """Return what the settings are judged by, "result" where they differ."""
    names = {scene.measure.name for scene in scenes}
    return names.pop() if len(names) == 1 else "result"


def _headings(section: str, measure: str, say: Messages) -> tuple[str, str]:
    """Return the heading of a section, and the same in a word."""
    name = say.word("measure", measure)
    values = {"measure": name, "Measure": capital(name)}
    return say(f"section.{section}", **values), say(f"short.{section}", **values)


def _tables(sweep: Sweep, data: Data) -> dict[str, pd.DataFrame]:
    """Return the tables of a sweep."""
    sources, exported, results = sweep.sources, sweep.sources.exported, sweep.results
    unreadable = pd.DataFrame(
        [{"cell": item.cell, "status": "unreadable", "reason": item.reason} for item in sources.unreadable],
        columns=["cell", "status", "reason"],
    )
    unfinished = unfinished_cells(results.study.cells)
    failed = pd.concat([unfinished, unreadable], ignore_index=True) if len(unreadable) else unfinished
    found = {
        "cells.csv": exported.cells,
        "trials.csv": exported.trials,
        "summary.csv": results.summary,
        "overview.csv": results.overview,
        "profile-scores.csv": results.profile_scores,
        "findings.csv": results.findings,
        "largest-against-smallest.csv": results.comparisons,
        "rules.csv": results.rule_outcomes,
        "to-target.csv": results.targets,
        "seeds-to-target.csv": results.seeds_to_target,
        "throughput.csv": results.throughput,
        "speed-summary.csv": results.speeds,
        "memory.csv": results.memory,
        "scaling.csv": results.scaling,
        "budgets.csv": results.budgets,
        "advice.csv": results.advice,
        "unfinished.csv": failed.reindex(columns=unfinished.columns),
        "audit.csv": audit_frame(sources.records),
        "environment.csv": environment_frame(sources.records),
    }
    # What a cell's axes are stands in cells.csv; with them the file is half as large again.
    measures = data.measures.drop(columns=[name for name in CONDITION if name in data.measures])
    return found | ({"measures.csv": measures} if len(measures) else {})


def _tables_of_claims(claims: Claims) -> dict[str, pd.DataFrame]:
    return {
        "claims.csv": claims.judged.verdicts,
        "claims-wall.csv": claims.wall,
        "published.csv": published_frame(claims.judged),
    }


def _tables_behind(sweep: Sweep, data: Data, found: Judged) -> dict[str, pd.DataFrame]:
    """Return the tables of another sweep that verdicts were taken from, and what tells of its cells and trials."""
    name = sweep.sources.sweep
    sources = set(found.verdicts.loc[found.verdicts["sweep"] == name, "source"])
    kept = {"cells.csv", "trials.csv", "unfinished.csv", "audit.csv", "environment.csv"}
    mine = {f"{name}/{table}": (table, frame) for table, frame in _tables(sweep, data).items()}
    return {path: frame for path, (table, frame) in mine.items() if table in kept or path in sources}


@dataclass
class _Files:
    """The files of a report, counted as they are written."""

    out: Path

    def __post_init__(self) -> None:
        self.digests: dict[str, str] = {}
        for folder in ("figures", "tables"):
            (self.out / folder).mkdir(parents=True, exist_ok=True)

    def text(self, name: str, text: str) -> None:
        self._count(name, text.encode())
        (self.out / name).write_bytes(text.encode())

    def table(self, name: str, frame: pd.DataFrame) -> None:
        path = self.out / "tables" / name
        path.parent.mkdir(exist_ok=True)
        write_csv(frame, path)
        self._count(f"tables/{name}", path.read_bytes())

    def _count(self, name: str, content: bytes) -> None:
        self.digests[name] = hashlib.sha256(content).hexdigest()

    def manifest(self, sources: Sources, others: Sequence[Sources]) -> None:
        """Write manifest.json, after removing what an earlier report left and this one no longer has."""
        path = self.out / "manifest.json"
        self._remove_stale(path)
        manifest = {
            "suite_version": __version__,
            "sweep": sources.sweep,
            "files": dict(sorted(self.digests.items())),
            "records": {record.cell: record.digest for record in sources.records},
            "unreadable": {item.cell: item.reason for item in sources.unreadable},
        }
        if others:
            manifest["others"] = {
                item.sweep: {record.cell: record.digest for record in item.records} for item in others
            }
        path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def _remove_stale(self, manifest: Path) -> None:
        try:
            known = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        for name in known if isinstance(known, dict) else ():
            # Only what such a report can have written; a manifest from elsewhere must not delete anything
            # else.
            folder, *parts = str(name).split("/")
            plain = 1 <= len(parts) <= 2 and all(part and not part.startswith(".") for part in parts)
            if folder in ("figures", "tables") and plain and name not in self.digests:
                (self.out / folder).joinpath(*parts).unlink(missing_ok=True)
