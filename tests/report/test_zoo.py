"""Reports of tasks without accuracy, and of sweeps with many tasks and optimizers."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from bench.analysis import words
from bench.report.build import build_report
from bench.report.overview import is_many, setting_labels
from bench.results.store import Store
from tests.report.synthetic import LOSS, Plan, write_sweep, write_zoo

TASKS, OPTIMIZERS = 5, 4


class Visible(HTMLParser):
    """Collects what a reader sees or hears: text, alt texts, and the entries of every matrix."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.alts: list[str] = []
        self.entries: list[str] = []
        self.matrix = self.entry = self.hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "svg":
            self.alts.append(attributes.get("aria-label") or "")
        if tag == "table":
            self.matrix = attributes.get("class") == "matrix"
        self.hidden = tag == "style"
        self.entry = self.matrix and tag == "td"
        if self.entry:
            self.entries.append("")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = False
        self.entry = self.entry and tag != "td"

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.text.append(data)
        if self.entry:
            self.entries[-1] += data


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_zoo(tmp_path_factory.mktemp("zoo"), TASKS, OPTIMIZERS)


@pytest.fixture(scope="module")
def report(zoo: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(zoo, tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="module")
def page(report: Path) -> Visible:
    return Visible((report / "index.html").read_text(encoding="utf-8"))


def assert_no_nan(seen: Visible, out: Path) -> None:
    told = " ".join([*seen.text, *seen.alts, (out / "report.md").read_text(encoding="utf-8")])
    assert not re.search(r"\b(nan|inf|None|NaN)\b", told)


def test_every_cell_of_the_grid_has_an_entry(page: Visible, report: Path, zoo: Store) -> None:
    assert len(page.entries) == TASKS * OPTIMIZERS * 2
    table = pd.read_csv(report / "tables" / "overview.csv")
    assert len(table) == len(page.entries)
    outcomes = table["outcome"].value_counts().to_dict()
    assert outcomes["not run"] == len(table) - len(zoo.cells()) == 2
    assert (outcomes["failed"], outcomes["oom"], outcomes["unavailable"]) == (1, 1, 2)
    for entry, count in (("failed", 1), ("oom", 1), ("n/a", 2), ("·", 2)):
        assert page.entries.count(entry) == count
    assert not [entry for entry in page.entries if not entry.strip()]


def test_steps_in_the_matrix_are_those_of_the_table(page: Visible, report: Path) -> None:
    table = pd.read_csv(report / "tables" / "overview.csv")
    targets = pd.read_csv(report / "tables" / "to-target.csv")
    steps = targets[(targets["measure"] == "steps") & targets["median"].notna()]["median"]
    assert sorted(table["to_target"].dropna()) == sorted(steps)
    written = Counter(words.number(value, 3 if value >= 10 else 2) for value in steps)
    assert written <= Counter(page.entries)
    never = table[(table["outcome"] == "never") & (table["ranked_by"] == "target")]
    assert sum(entry.startswith("never") for entry in page.entries) == len(never) > 0


def test_answer_counts_the_tasks_and_each_is_folded(page: Visible, report: Path) -> None:
    html = (report / "index.html").read_text(encoding="utf-8")
    assert re.search(rf"<strong>.*of {TASKS} tasks\.</strong>", html)
    assert html.count('<details class="task"') == TASKS
    assert html.count('class="lead"') == 1
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert markdown.count("### ") >= TASKS


def test_profile_stands_with_its_table(page: Visible, report: Path) -> None:
    scores = pd.read_csv(report / "tables" / "profile-scores.csv")
    assert set(scores["cost"]) == {"steps", "examples", "seconds"}
    assert scores["score"].between(0, 1).all()
    # One task of four is out of reach for all.
    assert set(scores["unsolved"]) == {2}
    assert sum("Performance profiles of 4 optimizers over 8 problems" in alt for alt in page.alts) == 2
    assert "problems nobody solved" in " ".join(page.text)


def test_every_figure_has_alt_text(page: Visible) -> None:
    # One for each claim that the sweep says something of stands beside those of the tasks.
    of_claims = [alt for alt in page.alts if alt.startswith("Estimates of claim")]
    assert of_claims
    assert len(page.alts) - len(of_claims) == 2 + 2 * TASKS
    for alt in page.alts:
        assert re.search(r"\d", alt)
        assert len(alt) > 60


def test_no_number_that_is_none_is_printed(page: Visible, report: Path) -> None:
    assert_no_nan(page, report)


def test_two_renders_are_byte_identical(report: Path, zoo: Store, tmp_path: Path) -> None:
    build_report(zoo, tmp_path)
    for path in report.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(report)).read_bytes() == path.read_bytes(), path.name


def test_links_and_ids_are_sound(report: Path) -> None:
    html = (report / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for link in re.findall(r'href="([^"]+)"', html):
        if not link.startswith(("#", "data:")):
            assert (report / link).is_file(), link


@pytest.mark.slow
def test_twenty_by_twenty_by_two_stays_small(tmp_path: Path) -> None:
    page = build_report(write_zoo(tmp_path, 20, 20), tmp_path / "out")
    assert page.stat().st_size < 5_000_000
    assert len(Visible(page.read_text(encoding="utf-8")).entries) == 800


def test_a_small_sweep_of_a_loss_task(tmp_path: Path) -> None:
    plan = Plan(name="loss", batch_sizes=(16, 256), seeds=2, broken={("adam", 256): "failed"}, **LOSS)  # type: ignore[arg-type]
    out = build_report(write_sweep(tmp_path, plan), tmp_path / "out").parent
    seen = Visible((out / "index.html").read_text(encoding="utf-8"))
    assert_no_nan(seen, out)
    told = " ".join([*seen.text, *seen.alts])
    assert "a validation loss below 0.3" in told
    assert "Test loss of sgd" in told
    # Left: what the page says of tasks without accuracy, and how it counts the others.
    figures = " ".join(alt for alt in seen.alts if not alt.startswith("Shares of a training step"))
    assert "accuracy" not in figures
    assert "%" not in figures


def test_one_task_with_many_optimizers_has_batch_sizes_in_columns(tmp_path: Path) -> None:
    for number in range(2):
        plan = Plan(name="wide", seeds=1, batch_sizes=(16, 64), epochs=0.0, **LOSS)  # type: ignore[arg-type]
        laws = {f"{name}{number}{copy}": law for name, law in plan.laws.items() for copy in range(3)}
        names = tuple(laws)
        write_sweep(tmp_path, Plan(**{**vars(plan), "laws": laws, "optimizers": names}))
    out = build_report(Store(tmp_path / "wide"), tmp_path / "out").parent
    html = (out / "index.html").read_text(encoding="utf-8")
    assert '<th scope="col"><span>batch 16</span></th><th scope="col"><span>batch 64</span></th>' in html
    assert len(Visible(html).entries) == 18 * 2
    assert '<section id="profile"' not in html


def test_when_a_sweep_is_many() -> None:
    def cells(tasks: int, optimizers: int) -> pd.DataFrame:
        rows = [
            {"task": str(task), "model": "m", "device": "cpu", "precision": "p", "optimizer": str(optimizer)}
            for task in range(tasks)
            for optimizer in range(optimizers)
        ]
        return pd.DataFrame(rows)

    assert [is_many(cells(*size)) for size in ((1, 16), (3, 5), (1, 17), (4, 1))] == [False, False, True, True]


def test_settings_are_named_by_what_tells_them_apart() -> None:
    assert setting_labels([("a", "m", "cpu", "f"), ("b", "n", "cpu", "f")]) == ["a", "b"]
    assert setting_labels([("a", "m", "cpu", "f"), ("a", "m", "cuda", "f")]) == ["a, cpu", "a, cuda"]
    assert setting_labels([("a", "m", "cpu", "f"), ("a", "n", "cpu", "f")]) == ["a, m", "a, n"]
