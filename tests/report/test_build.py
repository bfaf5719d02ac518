import csv
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from bench.report.build import build_report
from bench.report.sources import portable
from bench.results.store import Store
from tests.report.synthetic import BROKEN, COMMAND, TRAIN, Law, Plan, cell_id, write_sweep


class Elements(HTMLParser):
    """Collects every element with its attributes, and the ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.fixture(scope="session")
def html(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    return Elements(html).elements


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_two_renders_are_byte_identical_and_stale_files_go(report: Path, sweep: Store, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("left by an earlier report")
    (tmp_path / "figures" / "mine.svg").write_text("not the report's")
    (tmp_path / "precious.txt").write_text("not the report's")
    names = {"figures/old.svg": "", "../precious.txt": "", "precious.txt": ""}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": names}))
    build_report(sweep, tmp_path)
    assert (tmp_path / "precious.txt").exists()
    (tmp_path / "precious.txt").unlink()
    (tmp_path / "figures" / "mine.svg").unlink()
    assert tree(tmp_path) == tree(report)


def test_page_refers_to_nothing_outside(html: str, elements: list[tuple[str, dict[str, str | None]]]) -> None:
    assert "://" not in html
    assert "@import" not in html
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", html)
    for tag, attributes in elements:
        assert tag not in ("iframe", "object", "embed", "img")
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert not value.startswith(("http", "//", "/", "file:")), (tag, value)


def test_every_link_leads_somewhere(report: Path, elements: list[tuple[str, dict[str, str | None]]]) -> None:
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"] or "" for tag, a in elements if tag == "a"]
    assert len(links) > 20
    for link in links:
        if link.startswith("#"):
            assert link[1:] in ids
        else:
            assert (report / link).is_file(), link


def test_every_figure_has_alt_text_with_numbers(elements: list[tuple[str, dict[str, str | None]]]) -> None:
    alts = [attributes.get("aria-label") or "" for tag, attributes in elements if tag == "svg"]
    assert len(alts) >= 16
    for alt in alts:
        assert re.search(r"\d", alt), alt
        assert len(alt) > 60
    assert len(set(alts)) == len(alts)


def test_every_cell_without_a_place_is_listed(html: str, report: Path, plan: Plan) -> None:
    section = html[html.index('<section id="failed"') : html.index('<section id="audit"')]
    for (optimizer, batch_size), status in BROKEN.items():
        assert cell_id(plan, optimizer, batch_size) in section
        assert status in section
    assert cell_id(plan, "adam", 4) in section
    assert "perhaps truncated" in section
    listed = pd.read_csv(report / "tables" / "unfinished.csv")
    assert sorted(listed["status"]) == sorted([*BROKEN.values(), "unreadable"])


def test_markup_in_records_is_escaped(html: str, report: Path) -> None:
    # The one that filters verdicts, and nothing of a record.
    assert html.count("<script") == 1
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; died" in html
    assert "<b>disk full" not in html
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown
    assert "&lt;script&gt;" in markdown


def test_nothing_written_holds_an_absolute_path(report: Path, sweep: Store) -> None:
    for name, content in tree(report).items():
        assert str(sweep.path).encode() not in content, name
        assert b"/opt/somewhere" not in content, name
        assert b"/home/someone" not in content, name


def test_manifest_names_every_file_and_record(report: Path, sweep: Store, plan: Plan) -> None:
    manifest = json.loads((report / "manifest.json").read_text())
    files = tree(report)
    del files["manifest.json"]
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert manifest["sweep"] == "mixed"
    unreadable = cell_id(plan, "adam", 4)
    assert set(manifest["records"]) == set(sweep.cells()) - {unreadable}
    assert list(manifest["unreadable"]) == [unreadable]


def test_headline_numbers_stand_in_the_table_it_names(html: str, report: Path) -> None:
    found = pd.read_csv(report / "tables" / "findings.csv")
    speeds = pd.read_csv(report / "tables" / "speed-summary.csv").set_index("optimizer")
    speed = found[found["topic"] == "speed"].set_index("optimizer")
    assert speed.loc["sgd", "effect"] == speeds.loc["sgd", "eps_ratio"]
    # The law of the made-up sweep: 1000 B / (overhead + .004 B) examples per second.
    assert speed.loc["sgd", "effect"] == pytest.approx((4000 / 16.25) / (4 / 0.266))
    assert f"{speed.loc['sgd', 'effect']:.1f} times" in html or f"×{speed.loc['sgd', 'effect']:.1f}" in html
    epochs = found[(found["topic"] == "epochs") & (found["optimizer"] == "sgd")].iloc[0]
    assert f"−{-100 * epochs['effect']:.1f} pp" in html
    assert epochs["verdict"] == "supported"


def test_page_says_where_the_data_come_from_and_how_to_reproduce(html: str) -> None:
    assert "all MNIST training digits" in html
    assert COMMAND in html
    for command in ("bench report mixed", "bench export mixed", "bench verify mixed", "bench audit"):
        assert command in html
    assert "batch_size=full" in html
    assert "The mirror (wandb, offline) holds 11 of 12 cells." in html


def test_markdown_twin_says_the_same(html: str, report: Path) -> None:
    markdown = (report / "report.md").read_text(encoding="utf-8")
    lead = re.search(r'<p class="lead"><strong>(.*?)</strong> (.*?)</p>', html)
    assert lead is not None
    assert lead[2] in markdown
    for figure in re.findall(r"\(figures/([^)]+)\)", markdown):
        assert (report / "figures" / figure).is_file()
    assert set(re.findall(r"\((tables/[^)]+)\)", markdown)) <= set(tree(report))


def test_figures_of_their_own_are_whole_documents(report: Path) -> None:
    for path in (report / "figures").iterdir():
        text = path.read_text(encoding="utf-8")
        assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg" role="img" width=')
        assert "<title>" in text
        assert "<desc>" in text
        assert "prefers-color-scheme:dark" in text
        assert re.search(r"<(path|use)", text)
        assert "#010203" not in text


def test_sweep_without_a_complete_cell_renders(tmp_path: Path) -> None:
    broken = {(o, b): "failed" for o in ("sgd", "adam") for b in (16, TRAIN)}
    store = write_sweep(tmp_path, Plan(name="lost", batch_sizes=(16, TRAIN), broken=broken))
    page = build_report(store, tmp_path / "out").read_text(encoding="utf-8")
    assert "Not answered:" in page
    assert "No mirror was kept." in page
    assert page.count(">failed<") >= 4


def test_sweep_in_which_every_trial_diverged_renders(tmp_path: Path) -> None:
    hot = {"sgd": Law(rate=0.6, cap_log2=-9.0, grid_log2=(-8, 1), overhead_ms=0.25)}
    store = write_sweep(tmp_path, Plan(name="hot", optimizers=("sgd",), batch_sizes=(4, TRAIN), laws=hot))
    page = build_report(store, tmp_path / "out").read_text(encoding="utf-8")
    assert page.count("diverged at every rate") == 2


def test_sweep_of_which_nothing_can_be_read_renders(tmp_path: Path) -> None:
    store = Store(tmp_path / "gone")
    (store.path / "0123456789abcdef").mkdir(parents=True)
    (store.path / "mirror.json").write_text("{")
    page = build_report(store, tmp_path / "out").read_text(encoding="utf-8")
    assert "no record of this sweep could be read" in page
    assert "record.json: missing" in page
    assert "mirror.json cannot be read" in page


def test_two_devices_one_seed_and_a_lone_batch_size_render(tmp_path: Path) -> None:
    """What the figures have to get along with: several settings, no interval, a single point."""
    for device, sizes in (("cpu", (16, 64)), ("cuda", (64,))):
        write_sweep(
            tmp_path,
            Plan(name="both", optimizers=("sgd",), batch_sizes=sizes, device=device, seeds=1, epochs=1),
        )
    page = build_report(Store(tmp_path / "both"), tmp_path / "out").read_text(encoding="utf-8")
    assert "mnist5k/mlp on cuda, float32" in page
    assert "mnist5k/mlp on cpu, float32" in page
    ids = [a["id"] for _, a in Elements(page).elements if "id" in a]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('File "/home/someone/bench/training/loop.py", line 3', 'File "…/training/loop.py", line 3'),
        ("0.5 examples/s and/or 1/2", "0.5 examples/s and/or 1/2"),
        (r"C:\Users\someone\results\x", "…/results/x"),
        ("mnist5k/mlp 2/3", "mnist5k/mlp 2/3"),
    ],
)
def test_paths_are_shortened_and_nothing_else(text: str, expected: str) -> None:
    assert portable(text) == expected


def test_exported_text_cannot_be_a_formula(report: Path) -> None:
    for path in (report / "tables").glob("*.csv"):
        assert b"\r" not in path.read_bytes()
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                for value in row:
                    if value.startswith(("=", "+", "@", "-")):
                        float(value)
