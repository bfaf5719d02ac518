"""Tables and Markdown of `bench compare`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.analysis import words
from bench.analysis.compare import PLACE
from bench.analysis.comparisons import MEMORY_MARGIN, STEPS_MARGIN, TIME_MARGIN
from bench.analysis.measures import MEASURES
from bench.analysis.study import records

#: Title, names of the columns, rows in words.
Table = tuple[str, Sequence[str], list[Sequence[str]]]

_UNITS = {"log ratio": "ratio"}


def environment_differences(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return what differs between two environments.

    Args:
        first: As `bench.report.evidence.environment_frame` returns, of the first sweep.
        second: Of the second.

    Returns:
        Columns `name`, `a`, `b`: values, several of them separated by "; ", empty where there is none.
    """
    sides = [
        frame.groupby("name")["value"].agg(lambda found: "; ".join(sorted(map(str, found))))
        for frame in (first, second)
    ]
    both = pd.DataFrame({"a": sides[0], "b": sides[1]}).fillna("").rename_axis("name").reset_index()
    return both[both["a"] != both["b"]].reset_index(drop=True)


def tables(environment: pd.DataFrame, lone: pd.DataFrame, compared: pd.DataFrame) -> list[Table]:
    """Return a comparison in words: environments, cells in one sweep only, cells in both; those without rows left out.

    Args:
        environment: As `environment_differences` returns.
        lone: Rows of `bench.analysis.compare.matches` that are in one sweep only.
        compared: As `bench.analysis.compare.compare` returns.
    """
    found: list[Table] = [
        (
            "environments that differ",
            ("fact", "A", "B"),
            [(row["name"], row["a"] or "–", row["b"] or "–") for row in records(environment)],
        ),
        (
            "cells in one sweep only",
            ("cell", "id", "in"),
            [(_place(row), row["cell_a"] or row["cell_b"], row["match"][-1].upper()) for row in records(lone)],
        ),
        (
            "cells in both, B against A",
            ("cell", "status", "digest", "trials changed", "test result", "steps to target", "speed", "memory"),
            [_row(row) for row in records(compared)],
        ),
    ]
    return [table for table in found if table[2]]


def in_words(compared: pd.DataFrame, outcome: str) -> str:
    """Say in a sentence or two what a comparison found.

    Args:
        compared: As `bench.analysis.compare.compare` returns.
        outcome: As `bench.analysis.compare.outcome` returns.
    """
    said = {
        "equal": "equal within the margins",
        "different": "some of it different beyond the margins",
        "inconclusive": "no difference beyond the margins, but not all of it is known to be within",
    }[outcome]
    counted = []
    for aspect in ("status", "digest", "result", "steps", "speed", "memory"):
        counts = compared[aspect].value_counts().sort_index()
        counted.append(
            f"{aspect} {', '.join(f'{count} {word}' for word, count in counts.items() if word != 'none') or '–'}"
        )
    text = f"{words.plural(len(compared), 'cell')} in both: {said}. {words.capital('; '.join(counted))}."
    if (compared["speed"] == "other machine").any():
        text += " Hardware or threads differ: times are shown and not judged, as they compare within one machine only."
    if (compared["speed"] == "inconclusive").any():
        text += (
            f" A speed that is inconclusive is not known to {TIME_MARGIN:.0%}; bench speed check measures two commits "
            "or environments in turn."
        )
    if (compared["digest"] == "other").any():
        text += " Digests that differ where configuration, hardware, versions or threads do are no difference."
    return text


def markdown(names: tuple[str, str], found: Sequence[Table], said: str) -> str:
    """Return the comparison as Markdown.

    Args:
        names: Names of the sweeps.
        found: As `tables` returns.
        said: As `in_words` returns.
    """
    lines = [f"# Sweep {_cell(names[1])} (B) against {_cell(names[0])} (A)", "", _cell(said)]
    for title, header, rows in found:
        lines += ["", f"## {words.capital(title)}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [f"| {' | '.join(_cell(str(value)) for value in row)} |" for row in rows]
    lines += [
        "",
        "Results and steps are those of the learning rate that is best in A on validation data, in both sweeps; "
        "differences are within a seed, with a 95 % t interval over seeds adjusted for the number of cells (Holm). "
        f"Margins: that of each task's measure for results, {STEPS_MARGIN:.0%} for steps, {TIME_MARGIN:.0%} for "
        f"examples per second, {MEMORY_MARGIN:.0%} for the bytes that a step holds. `cells.csv` has the numbers.",
    ]
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any]) -> Sequence[str]:
    status = row["status_a"] if row["status"] == "equal" else f"{row['status_a']} → {row['status_b']}"
    digest = {"differs": "DIFFERS", "other": "other, as expected", "none": "–"}.get(row["digest"], row["digest"])
    named = _place(row) + ("" if row["match"] == "id" else " (another configuration)")
    return (
        *(named, status, digest, f"{row['trials_changed']} of {row['trials']}"),
        *(_result(row), _steps(row), _ratio(row, "speed"), _memory(row)),
    )


def _result(row: Mapping[str, Any]) -> str:
    if row["result"] == "none":
        return "–"
    if not math.isfinite(row["difference"]):
        return f"diverged: {row['result']}"
    measure, unit = MEASURES[row["measure"]](None), _UNITS.get(row["unit"], row["unit"])
    values = [row["difference"], row["lo"], row["hi"]]
    if row["unit"] == "log ratio":
        values = [math.exp(value) for value in values]
    return f"{measure.effect(values[0], unit)} {measure.interval(values[1], values[2], unit)} {row['result']}"


def _steps(row: Mapping[str, Any]) -> str:
    if row["reached_a"] != row["reached_b"]:
        return f"reached by {row['reached_a']} → {row['reached_b']} seeds: {row['steps']}"
    return _ratio(row, "steps")


def _ratio(row: Mapping[str, Any], name: str) -> str:
    if row[name] == "none":
        return "–"
    ends = [row[f"{name}_{end}"] for end in ("lo", "hi")]
    interval = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if all(map(math.isfinite, ends)) else ""
    return f"×{row[f'{name}_ratio']:.3f}{interval} {row[name]}"


def _memory(row: Mapping[str, Any]) -> str:
    return "–" if row["memory"] == "none" else f"×{row['memory_ratio']:.3f} {row['memory']}"


def _place(row: Mapping[str, Any]) -> str:
    named = {name: row[name] for name in PLACE}
    task, optimizer = (
        f"{named[name]} ({named[beside]})" if named[beside] else str(named[name])
        for name, beside in (("task", "knobs"), ("optimizer", "method"))
    )
    return f"{task} {optimizer} batch {named['batch_size']} {named['precision']}"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
