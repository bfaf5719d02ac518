"""The trade-off figure: a layer for every budget and rule, each mark with the values of its row."""

import html
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest

from bench.analysis import words
from bench.analysis.budgets import AXES
from bench.analysis.measures import Accuracy
from bench.analysis.rules import RULES
from bench.report import figures_trade_off
from bench.report.figures_trade_off import MARKERS, Switched, _outline
from bench.report.messages import messages
from tests.report.synthetic import TRAIN

MEASURE = Accuracy(500)


@pytest.fixture(scope="module")
def figure(report: Path) -> str:
    page = (report / "index.html").read_text(encoding="utf-8")
    start = page.index('<figure id="figure-trade-off"')
    return page[start : page.index("</figure>", start)]


@pytest.fixture(scope="module")
def table(report: Path) -> pd.DataFrame:
    return pd.read_csv(report / "tables" / "figure-trade-off.csv")


def layers(figure: str) -> dict[str, ET.Element]:
    svg = figure[figure.index("<svg") : figure.index("</svg>") + len("</svg>")]
    root = ET.fromstring(re.sub(r"&(?!amp;|lt;|gt;|quot;|#)", "&amp;", svg))
    return {layer.attrib["data-view"]: layer for layer in root.iter() if "data-view" in layer.attrib}


def test_every_budget_and_rule_has_a_layer_and_a_choice(figure: str) -> None:
    views = [f"{budget} {rule}" for budget in AXES for rule in RULES]
    assert list(layers(figure)) == views
    assert re.findall(r'name="trade-off-budget" value="([\w-]+)"', figure) == list(AXES)
    assert re.findall(r'name="trade-off-rule" value="([\w-]+)"', figure) == list(RULES)
    notes = json.loads(html.unescape(re.findall(r"data-notes='([^']+)'", figure)[0]))
    assert set(notes) == set(views)


def test_marks_of_each_layer_say_their_rows(figure: str, table: pd.DataFrame) -> None:
    for view, layer in layers(figure).items():
        budget, rule = view.split()
        rows = table[(table["budget"] == budget) & (table["rule"] == rule) & (table["n_diverged"] != table["n"])]
        rows = rows[rows["test_accuracy"].notna() & (rows["train_seconds"] > 0)]
        told = [title.text or "" for title in layer.iter() if title.tag.endswith("title")]
        assert len(told) == len(rows), view
        for text, row in zip(told, rows.sort_values(["optimizer", "batch_size"]).to_dict("records"), strict=True):
            batch = messages("en").batch(row["batch_size"], row["batch_size"] == TRAIN)
            assert text.startswith(f"{row['optimizer']}, batch {batch}: {MEASURE.value(row['test_accuracy'])}")
            assert f"in {words.seconds(row['train_seconds'])}; " in text
            assert f"{words.mebibytes(row['step_mib'])} held by a step" in text


def test_notes_count_every_point(figure: str, table: pd.DataFrame) -> None:
    notes = json.loads(html.unescape(re.findall(r"data-notes='([^']+)'", figure)[0]))
    outside = table["outside"].astype(bool)
    assert outside.any()
    for view, note in notes.items():
        budget, rule = view.split()
        rows = table[(table["budget"] == budget) & (table["rule"] == rule)]
        drawn, of = map(int, re.findall(r"(\d+) of (\d+)", note)[0])
        assert of == len(rows)
        assert drawn + sum(int(count) for count in re.findall(r": (\d+)\.", note)) == of
        gone = int(rows["outside"].astype(bool).sum())
        assert (f"outside the grid: {gone}." in note) == bool(gone)


def test_the_file_of_the_drawing_holds_the_first_view_alone(report: Path, figure: str) -> None:
    text = (report / "figures" / "trade-off.svg").read_text(encoding="utf-8")
    ET.fromstring(text)
    assert "data-view" not in text
    first = layers(figure)["epochs re-tuned"]
    titles = [title.text for title in first.iter() if title.tag.endswith("title")]
    assert re.findall(r"</?path[^>]*><title>([^<]+)</title>", text) == titles


def test_page_and_script_stay_small(figure: str, report: Path) -> None:
    scripts = Path(figures_trade_off.__file__).parent / "templates"
    assert (scripts / "switch.js").stat().st_size + (scripts / "switch.css").stat().st_size < 4000
    assert len(figure) < 200_000


def test_a_mark_grows_with_memory_and_none_is_nothing() -> None:
    sheet = figures_trade_off._Sheet(lambda x, y: (x, y), 0, 0, 100, 100, 16.0)
    sizes = [sheet.radius(memory) for memory in (0.0, 4.0, 16.0)]
    areas = [size**2 for size in sizes]
    assert (areas[1] - areas[0]) * 4 == pytest.approx(areas[2] - areas[0])
    assert 0 < sheet.radius(float("nan")) < sizes[-1]
    for marker in MARKERS:
        path = _outline(marker, 50, 40, 5)
        assert path.startswith("M")
        assert path.endswith("z")


def test_labels_stay_inside_and_apart() -> None:
    sheet = figures_trade_off._Sheet(lambda x, y: (x, y), 0, 0, 60, 60, 1.0)
    labels = [figures_trade_off._Label(10.0 + 5 * place, 30.0, 3.0, "1024", 0) for place in range(6)]
    placed = figures_trade_off._place_labels(labels, sheet)
    assert 0 < len(placed) < len(labels)
    for x, y, text, _ in placed:
        assert 3 * len(text) <= x <= 60 - 3 * len(text)
        assert 5 <= y <= 55
    assert Switched("a", "b", "c", (), pd.DataFrame()).noted() == {}
