"""Tables as the page and its Markdown twin print them: every number already written out."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis import words
from bench.analysis.budgets import BUDGETS
from bench.analysis.measures import Measure
from bench.analysis.rules import RULES
from bench.analysis.study import records
from bench.report.messages import Messages
from bench.report.plot import Scene


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        text: What it says.
        note: Second line, smaller; empty for none.
        kind: CSS class; empty for none.
    """

    text: str
    note: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under a common heading.

    Attributes:
        name: Heading; empty for none.
        rows: Entries, the first of which heads the row.
    """

    name: str
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Table:
    """A table to print.

    Attributes:
        caption: What it holds.
        columns: Headings.
        groups: Rows.
        csv: File under tables/ with the same data and more; empty for none.
        kind: CSS class; empty for none.
    """

    caption: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    csv: str = ""
    kind: str = ""


def batch_table(scene: Scene) -> Table:
    """Everything about each batch size in one row, a group of rows per optimizer."""
    of_optimizer: dict[str, list[dict[str, Any]]] = {name: [] for name in scene.optimizers}
    for row in records(scene.rows(scene.results.summary)):
        of_optimizer[row["optimizer"]].append(row)
    groups = [Group(name, tuple(_batch_row(scene, row) for row in rows)) for name, rows in of_optimizer.items()]
    say = scene.say
    heads = [say(f"column.{name}") for name in ("batch", "gap", "steps", "examples", "seconds", "rate", "held", "lr")]
    columns = (heads[0], say.result(scene.measure, "test"), *heads[1:])
    caption = say("table.batches", measure=say(f"measure.{scene.measure.name}"))
    return Table(caption, columns, tuple(groups), "summary.csv")


def dense_table(scene: Scene) -> Table:
    """The same without headings between optimizers, for many of them."""
    table = batch_table(scene)
    rows = tuple((Cell(group.name), *row) for group in table.groups for row in group.rows)
    return Table(table.caption, (scene.say("column.optimizer"), *table.columns), (Group("", rows),), table.csv, "dense")


def _batch_row(scene: Scene, row: dict[Any, Any]) -> tuple[Cell, ...]:
    head, say = Cell(scene.batch(row["batch_size"])), scene.say
    if row["status"] != "complete":
        return (head, Cell(say.word("status", str(row["status"])), say("entry.see"), "bad"), *[Cell("–")] * 7)
    measure = scene.measure
    column = measure.column("test")
    half = (row[f"{column}_hi"] - row[f"{column}_lo"]) / 2
    spread = f"± {measure.half_interval(half)}" if half == half else ""
    lost = say("entry.lost", lost=round(row["n_diverged"]), all=round(row["n"])) if row["n_diverged"] > 0 else ""
    if row["lr"] != row["lr"]:
        lost = say("entry.all_lost")
    never = row["seconds_to_target"] != row["seconds_to_target"]
    known = row["seeds"] == row["seeds"]
    count = say("entry.reached", reached=round(row["reached"]), seeds=round(row["seeds"])) if known else ""
    target = [
        Cell(
            say("entry.never") if never else form(row[f"{measure}_to_target"]),
            count if never or row["reached"] < row["seeds"] else "",
            "dim" if never else "best" if row[f"fewest_{measure}"] else "",
        )
        for measure, form in (("steps", words.count), ("examples", words.number), ("seconds", words.seconds))
    ]
    return (
        head,
        Cell(
            measure.value(row[column]),
            lost or spread,
            "bad" if lost else "best" if row["most_accurate"] else "",
        ),
        Cell(measure.gap(row["gap"])),
        *target,
        Cell(words.number(row["examples_per_second"]), "", "best" if row["highest_throughput"] else ""),
        Cell(words.mebibytes(row["step_mib"])),
        Cell(words.learning_rate(row["lr"]), say("entry.edge") if row["edge"] is True or row["edge"] == 1 else ""),
    )


def verdict_tables(scene: Scene) -> list[Table]:
    """One budget × rule matrix per optimizer: the largest batch's test result against the smallest's."""
    compared = scene.rows(scene.results.comparisons)
    tables = []
    measure, say = scene.measure, scene.say
    for name in scene.optimizers:
        mine = compared[compared["optimizer"] == name]
        if mine.empty:
            continue
        shown = [budget for budget in BUDGETS if budget != "examples"]
        at = {str(row["budget"]): float(row["budget_value"]) for row in records(mine)}
        rows = []
        for rule in RULES:
            cells = [Cell(say.word("rule", rule))]
            for budget in shown:
                found = records(mine[(mine["rule"] == rule) & (mine["budget"] == budget)])
                cells.append(_verdict_cell(found[0], measure, say) if found else Cell("–"))
            rows.append(tuple(cells))
        small, large = (int(mine[f"batch_{end}"].iloc[0]) for end in ("small", "large"))
        heads = tuple(
            f"{say.word('budget', b)} ({words.seconds(at[b]) if b == 'seconds' else words.number(at[b])})"
            if at.get(b, float("nan")) == at.get(b)
            else say.word("budget", b)
            for b in shown
        )
        ends = {"large": scene.batch(large), "small": scene.batch(small)}
        kind = "table.matrix_ratio" if "log ratio" in set(mine["unit"]) else "table.matrix"
        caption = say(kind, optimizer=name, result=say.result(measure, "test"), **ends)
        columns = (say("column.rule"), *heads)
        tables.append(Table(caption, columns, (Group("", tuple(rows)),), "largest-against-smallest.csv"))
    return tables


def _verdict_cell(row: dict[Any, Any], measure: Measure, say: Messages) -> Cell:
    verdict = str(row["verdict"])
    if verdict == "outside the grid":
        return Cell(say("entry.outside"), "", "dim")
    word = say(f"compared.{verdict}")
    lost = row["diverged_small"] + row["diverged_large"] if measure.name == "loss" else 0
    if lost:
        word += say("entry.trials_diverged", trials=say.count("trial", lost))
    elif verdict == "inconclusive":
        if row["seeds_needed"] != row["seeds_needed"]:
            word += say("entry.one_seed")
        elif row["resolvable"]:
            word += say("entry.needed", n=words.count(row["seeds_needed"]))
        else:
            word += say("entry.few_examples")
    if not row["n"]:
        return Cell(say("entry.no_difference"), word, verdict)
    scale, ends = str(row["unit"]), [row["difference"], row["lo_wide"], row["hi_wide"]]
    if scale == "log ratio":
        scale, ends = "ratio", [math.exp(end) for end in ends]
    return Cell(f"{measure.effect(ends[0], scale)} {say.interval(measure, ends[1], ends[2], scale)}", word, verdict)


def scaling_table(scene: Scene) -> Table | None:
    """Slopes against batch size, and where perfect scaling ends."""
    rows = scene.rows(scene.results.scaling)
    rows = rows[rows["slope"].notna()]
    if rows.empty:
        return None
    lines, say = [], scene.say
    for row in records(rows):
        interval = f"[{words.number(row['lo'], 2)}, {words.number(row['hi'], 2)}]" if row["lo"] == row["lo"] else ""
        edge = say("table.edges", count=row["n_edge"]) if row["n_edge"] else ""
        lines.append(
            (
                Cell(str(row["optimizer"])),
                Cell(say.word("quantity", str(row["quantity"]))),
                Cell(words.number(row["slope"], 2), interval),
                Cell(say("table.sizes", count=row["n"]) + edge),
                Cell(
                    scene.batch(row["b_perfect"]) if row["b_perfect"] == row["b_perfect"] and row["b_perfect"] else "–"
                ),
                Cell(scene.batch(row["b_max"]) if row["b_max"] == row["b_max"] and row["b_max"] else "–"),
            )
        )
    names = ("optimizer", "quantity", "slope", "from", "perfect", "beyond")
    columns = tuple(say(f"column.{name}") for name in names)
    return Table(say("table.scaling"), columns, (Group("", tuple(lines)),), "scaling.csv")


def data_table(frame: pd.DataFrame, most: int, say: Messages) -> Table:
    """The data behind a figure as it stands in the CSV file, its first rows at most."""
    shown = frame.head(most)
    rows = tuple(tuple(Cell(_plain(value, say)) for value in row) for row in shown.itertuples(index=False, name=None))
    caption = say("table.all") if len(frame) <= most else say("table.first", most=most, all=len(frame))
    return Table(caption, tuple(str(name) for name in frame.columns), (Group("", rows),))


def _plain(value: Any, say: Messages) -> str:
    if isinstance(value, bool):
        return say("entry.is" if value else "entry.is_not")
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if value != value else words.number(value, 4)
    return str(value)
