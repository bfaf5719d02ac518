"""Tables as the page and its Markdown twin print them: every number already written out."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis import words
from bench.analysis.budgets import BUDGETS
from bench.analysis.rules import RULES
from bench.analysis.study import CONDITION, examples_in_test
from bench.report.plot import Scene
from bench.report.sources import Sources, Unreadable, portable
from bench.results.record import Record


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
    """

    caption: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    csv: str = ""


def batch_table(scene: Scene) -> Table:
    """Everything about each batch size in one row, a group of rows per optimizer."""
    rows = scene.rows(scene.results.summary)
    groups = [
        Group(
            name, tuple(_batch_row(scene, row) for row in rows[rows["optimizer"] == name].to_dict("records"))
        )
        for name in scene.optimizers
    ]
    columns = (
        "batch size",
        "test accuracy",
        "gap",
        "steps to target",
        "examples to target",
        "seconds to target",
    )
    columns += ("examples/s", "peak memory", "best learning rate")
    return Table(
        "Re-tuned learning rate, accuracy and gap at equal epochs. ± is half the 95 % interval over seeds, ★ the best of an optimizer",
        columns,
        tuple(groups),
        "summary.csv",
    )


def _batch_row(scene: Scene, row: dict[Any, Any]) -> tuple[Cell, ...]:
    head = Cell(scene.batch(row["batch_size"]))
    if row["status"] != "complete":
        return (head, Cell(str(row["status"]), "see what failed", "bad"), *[Cell("–")] * 7)
    digits = 2 if examples_in_test(scene.setting["task"]) == 10_000 else 1
    half = 100 * (row["test_accuracy_hi"] - row["test_accuracy_lo"]) / 2
    spread = f"± {half:.{digits}f}" if half == half else ""
    lost = f"{round(row['n_diverged'])} of {round(row['n'])} diverged" if row["n_diverged"] else ""
    never = row["seconds_to_target"] != row["seconds_to_target"]
    count = f"{round(row['reached'])} of {round(row['seeds'])} seeds" if row["seeds"] == row["seeds"] else ""
    target = [
        Cell(
            "never" if never else form(row[f"{measure}_to_target"]),
            count if never or row["reached"] < row["seeds"] else "",
            "dim" if never else "best" if row[f"fewest_{measure}"] else "",
        )
        for measure, form in (("steps", words.count), ("examples", words.number), ("seconds", words.seconds))
    ]
    return (
        head,
        Cell(
            words.percent(row["test_accuracy"], digits),
            lost or spread,
            "bad" if lost else "best" if row["most_accurate"] else "",
        ),
        Cell(words.percentage_points(row["gap"], digits)),
        *target,
        Cell(words.number(row["examples_per_second"]), "", "best" if row["highest_throughput"] else ""),
        Cell(words.mebibytes(row["peak_mib"])),
        Cell(
            words.learning_rate(row["lr"]), "edge of grid" if row["edge"] is True or row["edge"] == 1 else ""
        ),
    )


def verdict_tables(scene: Scene) -> list[Table]:
    """One budget × rule matrix per optimizer: the largest batch's test accuracy against the smallest's."""
    compared = scene.rows(scene.results.comparisons)
    tables = []
    digits = 2 if examples_in_test(scene.setting["task"]) == 10_000 else 1
    for name in scene.optimizers:
        mine = compared[compared["optimizer"] == name]
        if mine.empty:
            continue
        shown = [budget for budget in BUDGETS if budget != "examples"]
        at = {str(row.budget): float(row.budget_value) for row in mine.itertuples()}
        rows = []
        for rule in RULES:
            cells = [Cell(rule)]
            for budget in shown:
                found = mine[(mine["rule"] == rule) & (mine["budget"] == budget)].to_dict("records")
                cells.append(_verdict_cell(found[0], digits) if found else Cell("–"))
            rows.append(tuple(cells))
        small, large = (int(mine[f"batch_{end}"].iloc[0]) for end in ("small", "large"))
        heads = tuple(
            f"{b} ({words.seconds(at[b]) if b == 'seconds' else words.number(at[b])})"
            if at.get(b, float("nan")) == at.get(b)
            else b
            for b in shown
        )
        caption = f"{name}: test accuracy at batch {scene.batch(large)} minus batch {scene.batch(small)}"
        tables.append(
            Table(caption, ("rule", *heads), (Group("", tuple(rows)),), "largest-against-smallest.csv")
        )
    return tables


def _verdict_cell(row: dict[Any, Any], digits: int) -> Cell:
    verdict = str(row["verdict"])
    if verdict == "outside the grid":
        return Cell("outside the grid", "", "dim")
    word = {
        "supported": "worse",
        "refuted": "better",
        "equivalent": "equivalent",
        "inconclusive": "inconclusive",
    }[verdict]
    if verdict == "inconclusive":
        if row["resolvable"]:
            word += f", about {words.count(row['seeds_needed'])} seeds needed"
        else:
            word += ", too few test examples"
    interval = words.points_interval(row["lo_wide"], row["hi_wide"], digits)
    return Cell(f"{words.percentage_points(row['difference'], digits)} {interval}", word, verdict)


def scaling_table(scene: Scene) -> Table | None:
    """Slopes against batch size, and where perfect scaling ends."""
    rows = scene.rows(scene.results.scaling)
    rows = rows[rows["slope"].notna()]
    if rows.empty:
        return None
    lines = []
    for row in rows.to_dict("records"):
        interval = (
            f"[{words.number(row['lo'], 2)}, {words.number(row['hi'], 2)}]" if row["lo"] == row["lo"] else ""
        )
        edge = f", {row['n_edge']} at the edge of the grid" if row["n_edge"] else ""
        lines.append(
            (
                Cell(str(row["optimizer"])),
                Cell(str(row["quantity"])),
                Cell(words.number(row["slope"], 2), interval),
                Cell(f"{row['n']} batch sizes{edge}"),
                Cell(
                    scene.batch(row["b_perfect"])
                    if row["b_perfect"] == row["b_perfect"] and row["b_perfect"]
                    else "–"
                ),
                Cell(scene.batch(row["b_max"]) if row["b_max"] == row["b_max"] and row["b_max"] else "–"),
            )
        )
    columns = (
        "optimizer",
        "quantity",
        "slope per doubling",
        "from",
        "perfect scaling up to",
        "no gain beyond",
    )
    return Table(
        "Doublings of the quantity per doubling of the batch size",
        columns,
        (Group("", tuple(lines)),),
        "scaling.csv",
    )


def failed_table(
    cells: pd.DataFrame, unreadable: Sequence[Unreadable], repeated: pd.DataFrame
) -> Table | None:
    """Every cell that is not complete, could not be read, or shares its place with another."""
    rows = [
        (
            Cell(str(row.cell)),
            Cell(_axes(row)),
            Cell(str(row.status), "", "bad"),
            Cell(portable(str(row.reason)) if isinstance(row.reason, str) else "–"),
        )
        for row in cells.itertuples()
    ]
    rows += [
        (Cell(item.cell), Cell("unknown"), Cell("unreadable", "", "bad"), Cell(item.reason))
        for item in unreadable
    ]
    rows += [
        (
            Cell(str(row.cell)),
            Cell(_axes(row)),
            Cell("not shown", "", "dim"),
            Cell(
                "another cell has the same task, optimizer, device, precision and batch size and is shown in its place"
            ),
        )
        for row in repeated.itertuples()
    ]
    if not rows:
        return None
    return Table(
        "Cells without a place in the figures",
        ("cell", "axes", "status", "reason"),
        (Group("", tuple(rows)),),
        "unfinished.csv",
    )


def _axes(row: Any) -> str:
    return f"{row.task} {row.optimizer} batch {row.batch_size} {row.device} {row.precision}"


def audit_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Every check of every cell: columns `CONDITION`, `batch_size`, `cell`, `check`, `passed`, `value`, `expected`."""
    rows = [
        {
            "task": record.axes.task,
            "model": record.axes.model,
            "optimizer": record.axes.optimizer,
            "device": record.axes.device,
            "precision": record.axes.precision,
            "batch_size": record.axes.batch_size,
            "cell": record.cell,
            "check": check.check,
            "passed": check.passed,
            "value": portable(check.value),
            "expected": portable(check.expected),
        }
        for record in records
        for check in record.audit
    ]
    columns = [*CONDITION, "batch_size", "cell", "check", "passed", "value", "expected"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values(["check", *CONDITION, "batch_size", "cell"], ignore_index=True)


def audit_table(frame: pd.DataFrame) -> Table | None:
    """The self-audit, one row per check; cells that failed it are named."""
    if frame.empty:
        return None
    rows = []
    for check, group in frame.groupby("check", sort=False):
        failed = group[~group["passed"].astype(bool)]
        example = (failed if len(failed) else group).iloc[0]
        verdict = Cell(f"failed in {len(failed)}", "", "bad") if len(failed) else Cell("passed", "", "good")
        named = ", ".join(
            f"{row.optimizer} batch {row.batch_size} {row.device}" for row in failed.head(6).itertuples()
        )
        more = f" and {len(failed) - 6} more" if len(failed) > 6 else ""
        rows.append(
            (
                Cell(str(check)),
                verdict,
                Cell(f"{len(group) - len(failed)} of {len(group)} cells", named + more),
                Cell(str(example["value"])),
                Cell(str(example["expected"])),
            )
        )
    columns = ("check", "result", "cells", "value (an example)", "expected")
    return Table(
        "What each cell checked about itself before training", columns, (Group("", tuple(rows)),), "audit.csv"
    )


def environment_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Every value of the environment and how many cells ran in it: columns `name`, `value`, `cells`."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for name, value in _flat(record.environment):
            seen[name][portable(value)] += 1
        if record.implementation:
            seen["optimizer implementation"][record.implementation] += 1
    rows = [
        {"name": name, "value": value, "cells": cells}
        for name in sorted(seen)
        for value, cells in sorted(seen[name].items(), key=lambda item: (-item[1], item[0]))
    ]
    return pd.DataFrame(rows, columns=["name", "value", "cells"])


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append(
                (f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, sort_keys=True))
            )
    return pairs


def environment_table(frame: pd.DataFrame, cells: int) -> Table | None:
    """The environment, one row per fact; where cells differ, each value with its count."""
    if frame.empty:
        return None
    rows = []
    for name, group in frame.groupby("name", sort=False):
        if len(group) == 1 and int(group["cells"].iloc[0]) == cells:
            text = str(group["value"].iloc[0])
        else:
            shown = [f"{row.value} ({row.cells} cells)" for row in group.head(8).itertuples()]
            more = f"; {len(group) - 8} more values" if len(group) > 8 else ""
            text = "; ".join(shown) + more
        rows.append((Cell(str(name)), Cell(text)))
    return Table(
        "Versions, hardware and flags, from the records",
        ("fact", "value"),
        (Group("", tuple(rows)),),
        "environment.csv",
    )


@dataclass(frozen=True)
class Mirror:
    """What the tracking mirror holds.

    Attributes:
        text: In one or two sentences.
        table: What it lacks and why; None where it lacks nothing.
    """

    text: str
    table: Table | None


def mirror_view(sources: Sources) -> Mirror:
    """Say what the tracking mirror holds of this sweep's cells."""
    if sources.mirror_problem:
        return Mirror(f"Whether the mirror is complete is unknown: {sources.mirror_problem}.", None)
    if sources.mirror is None:
        return Mirror("No mirror was kept.", None)
    entries: dict[str, Any] = sources.mirror["cells"]
    cells = [record.cell for record, _ in sources.pairs] + [item.cell for item in sources.unreadable]
    lacking = []
    for cell in sorted(set(cells) | set(entries)):
        entry = entries.get(cell)
        entry = entry if isinstance(entry, dict) else {}
        if entry.get("status") != "mirrored":
            reason = entry.get("reason") or ("no entry" if cell not in entries else "no reason given")
            lacking.append((Cell(cell), Cell(portable(str(reason)))))
    total = len(set(cells) | set(entries))
    tracker, mode = str(sources.mirror.get("tracker", "?")), str(sources.mirror.get("mode", "?"))
    text = f"The mirror ({tracker}, {mode}) holds {total - len(lacking)} of {total} cells."
    if sources.mirror.get("note"):
        text += f" Note: {portable(str(sources.mirror['note']))}"
    table = (
        Table("What the mirror lacks", ("cell", "reason"), (Group("", tuple(lacking)),)) if lacking else None
    )
    return Mirror(text, table)


def data_table(frame: pd.DataFrame, most: int = 60) -> Table:
    """The data behind a figure as it stands in the CSV file, its first rows at most."""
    shown = frame.head(most)
    rows = tuple(
        tuple(Cell(_plain(value)) for value in row) for row in shown.itertuples(index=False, name=None)
    )
    caption = (
        "All rows" if len(frame) <= most else f"The first {most} of {len(frame)} rows; all are in the file"
    )
    return Table(caption, tuple(str(name) for name in frame.columns), (Group("", rows),))


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return "" if value != value else words.number(value, 4)
    return str(value)
