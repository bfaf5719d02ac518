"""The Markdown twin of the page: the same words, tables and figures, for places that show no HTML."""

import re

from bench.analysis import words
from bench.report.advice import FILE as ADVICE
from bench.report.claims import FILE, Entry, Told
from bench.report.headline import Headline
from bench.report.messages import Messages
from bench.report.page import Page, Part
from bench.report.view import Cell, Table


def write_markdown(page: Page) -> str:
    """Write the report as Markdown; figures and tables are linked relative to it."""
    say = page.say
    lines = [f"# {_text(say('title'))} {_text(words.capital(say('page.sweep', sweep=page.sweep)))}", ""]
    if page.many:
        lines += [*_answer(page.summary(), say), "", *_advice(page), *_wall(page)]
        for table in page.matrices:
            lines += _table(table, page.say)
        lines += [_text(page.matrix_legend()), ""]
    for scene in () if page.many else page.scenes:
        lines += [f"## {_text(page.label(scene))}", "", *_answer(page.headline(scene), say)]
        lines += ["", *_table(page.batch_table(scene), page.say)]
    if page.scenes and not page.many:
        lines += [*_advice(page), *_wall(page)]
    lines += [_text(page.counts()), "", *[f"> {_text(note)}\n" for note in page.notes()]]
    lines += _claims(page) if page.scenes else []
    for section in page.sections:
        lines += [f"## {_text(section.title)}", ""]
        if not section.parts and not section.folded:
            lines += [_text(say("lead.empty")), ""]
        if section.folded:
            for scene in page.scenes:
                lines += [f"### {_text(page.label(scene))}", "", *_answer(page.headline(scene), say, details=False), ""]
                lines += [*_table(page.batch_table(scene), page.say), *_figures(page.part(section, scene), say)]
            continue
        for part in section.parts:
            if part.scene and section.name == "accuracy":
                for table in page.verdicts(part.scene):
                    lines += _table(table, page.say)
            if part.scene and section.name == "target" and (scaling := page.scaling(part.scene)):
                lines += _table(scaling, page.say)
            lines += _figures(part, say)
            if section.name == "profile" and (scores := page.profile_scores()):
                lines += _table(scores, page.say)
    return "\n".join([*lines, *_evidence(page)])


def _answer(headline: Headline, say: Messages, details: bool = True) -> list[str]:
    lines = [f"**{_text(headline.text)}**", ""]
    for statement in headline.statements:
        word = say.word("verdict", statement.verdict)
        tag = f" *({_text(word)}: {_text(statement.claim)})*" if statement.claim else ""
        lines.append(
            f"- **{_text(statement.title)}.** {_text(statement.text)}{tag} "
            f"([{statement.source}](tables/{statement.source}))"
        )
        lines += [f"  - {_text(detail)}" for detail in statement.details if details]
    return lines


def _advice(page: Page) -> list[str]:
    items = page.advised
    if not items:
        return []
    say = page.say
    lines = [f"## {_text(say('advice.title'))}", "", f"{_text(say('advice.lead'))} ([CSV](tables/{ADVICE}))", ""]
    for item in items:
        lines.append(f"- **{_text(item.where)}: {_text(item.answer)}.** {_text(' '.join(item.sentences))}")
    return [*lines, ""]


def _wall(page: Page) -> list[str]:
    told = page.claims.told
    if not told:
        return []
    lines = [
        f"## {_text(page.say('wall.title'))}",
        "",
        f"{_text(page.say('wall.lead'))} ([CSV](tables/claims-wall.csv))",
        "",
    ]
    for item in told:
        brick = item.brick
        said = f"*{_text(brick.word)}*, {_text(brick.counts)}"
        lines.append(f"- **{brick.name}** {_text(brick.sentence)}: {said}")
    return [*lines, ""]


def _claims(page: Page) -> list[str]:
    say, told = page.say, page.claims.told
    if not told:
        return []
    lines = [f"## {_text(say('claims.title'))}", "", _text(page.claims.families()), ""]
    lines += [_text(page.judged_on()), ""] if page.judged_on() else []
    lines += [f"{_text(say('claims.hash'))} `{page.claims.digest}` ([CSV](tables/{FILE})).", ""]
    for item in told:
        lines += [
            *_claim(item, say),
            *([_text(say("claims.none")), "", f"    {item.command}", ""] if item.command else []),
        ]
    return lines


def _claim(item: Told, say: Messages) -> list[str]:
    brick = item.brick
    lines = [f"### {brick.name} {_text(brick.sentence)}", "", f"*{_text(brick.word)}*, {_text(brick.counts)}", ""]
    lines += [*[f"- {_text(name)}: {_text(text)}" for name, text in item.facts], ""]
    for plot in item.plots:
        for panel in plot.panels:
            lines += [f"![{_text(panel.alt)}](figures/{panel.name}.svg)", ""]
        lines += [f"{_text(plot.caption)} ([CSV](tables/figure-{plot.name}.csv))", ""]
    for table in (*item.tables, *([item.published] if item.published else [])):
        lines += _table(table, say)
    return [*lines, *[f"- {_text(note)}" for note in item.notes], *([""] if item.notes else [])]


def _figures(part: Part | None, say: Messages) -> list[str]:
    lines: list[str] = []
    for plot in part.plots if part else ():
        lines += [f"### {_text(plot.title)}", ""]
        for panel in plot.panels:
            lines += [f"![{_text(panel.alt)}](figures/{panel.name}.svg)", ""]
        lines += [f"{_text(plot.caption)} {say('table.file')}[CSV](tables/figure-{plot.name}.csv).", ""]
    return lines


def _evidence(page: Page) -> list[str]:
    say = page.say
    lines = [f"## {_text(say('heading.failed'))}", ""]
    failed = page.failed()
    lines += _table(failed, say) if failed else [_text(say("evidence.complete")), ""]
    mirror = page.mirror()
    lines += [
        f"## {_text(say('heading.mirror'))}",
        "",
        _text(mirror.text),
        "",
        *(_table(mirror.table, say) if mirror.table else []),
    ]
    audit, environment = page.audit, page.environment
    lines += [
        f"## {_text(say('heading.audit'))}",
        "",
        *(_table(audit, say) if audit else [_text(say("evidence.no_audit")), ""]),
    ]
    lines += [
        f"## {_text(say('heading.environment'))}",
        "",
        *(_table(environment, say) if environment else [_text(say("evidence.no_environment")), ""]),
    ]
    lines += [f"## {_text(say('heading.reproduce'))}", ""]
    for recipe in [*page.recipes(), *page.cell_recipes]:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", recipe.command)), default=0))
        lines += [f"{_text(recipe.part)}:", "", f"{fence}sh", recipe.command.replace("\n", " "), fence, ""]
    return [
        *lines,
        f"{_text(say('footer', version=page.version, sweep=page.sweep))} [manifest.json](manifest.json)",
        "",
    ]


def _table(table: Table, say: Messages) -> list[str]:
    lines = [f"*{_text(table.caption)}*" + (f" ([CSV](tables/{table.csv}))" if table.csv else ""), ""]
    grouped = any(group.name for group in table.groups)
    columns = ([say("column.optimizer")] if grouped else []) + list(table.columns)
    lines += [f"| {' | '.join(_text(name) for name in columns)} |", f"|{'---|' * len(columns)}"]
    for group in table.groups:
        for row in group.rows:
            cells = [_text(_cell(cell)) for cell in row]
            lines.append(f"| {' | '.join(([_text(group.name)] if grouped else []) + cells)} |")
    return [*lines, ""]


def _cell(cell: Cell) -> str:
    text = f"{cell.text} ({cell.note})" if cell.note else cell.text
    return f"{cell.word}: {text}" if isinstance(cell, Entry) else text


def _text(text: str) -> str:
    """Keep text from being read as markup: HTML, emphasis, links, table bars."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)
