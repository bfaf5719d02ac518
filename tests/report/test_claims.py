"""Claims in the report: the wall, matrices with their rows in the file, what is missing, and the language."""

import re
import string
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from bench.claims.claim import LANGUAGES, Claim, claim, claim_names, frozen_hash
from bench.claims.evidence import COLUMNS
from bench.claims.published import published
from bench.cli import main
from bench.errors import UsageError
from bench.report import build, figures_claims
from bench.report.build import write_report
from bench.report.messages import messages
from bench.report.units import write, write_interval
from bench.results.store import Store
from tests.report.pictured import pictures_alone
from tests.report.synthetic import Plan, write_sweep
from tests.report.test_build import tree


class Texts(HTMLParser):
    """Collects the text and the data attributes of every entry of the matrices."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.entries: list[tuple[dict[str, str], str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "td":
            self.inside = "data-task" in dict(attrs)
            if self.inside:
                self.entries.append(({k[5:]: v or "" for k, v in attrs if k.startswith("data-")}, ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag != "td"

    def handle_data(self, data: str) -> None:
        if self.inside:
            place, text = self.entries[-1]
            self.entries[-1] = (place, f"{text}|{data}")


@pytest.fixture(scope="module")
def html(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_sweep(tmp_path_factory.mktemp("small"), Plan(name="small", batch_sizes=(16, 256), epochs=1, steps=20))


@pytest.fixture
def alone() -> Iterator[None]:
    with pictures_alone():
        yield


def test_every_claim_is_on_the_wall_and_has_a_section(html: str, report: Path) -> None:
    wall = html[html.index('<ol class="wall">') :]
    wall = wall[: wall.index("</ol>")]
    markdown = (report / "report.md").read_text(encoding="utf-8")
    for name in claim_names():
        assert f'href="#claim-{name.lower()}"' in wall
        assert f'id="claim-{name.lower()}"' in html
        assert f"### {name} " in markdown
    assert frozen_hash() in html
    assert frozen_hash() in markdown
    assert "Holm" in html


def test_the_counts_of_the_wall_are_those_of_the_verdicts(html: str, report: Path) -> None:
    verdicts = pd.read_csv(report / "tables" / "claims.csv")
    listed = pd.read_csv(report / "tables" / "claims-wall.csv").set_index("claim")
    assert list(verdicts.columns) == list(COLUMNS)
    assert list(listed.index) == claim_names()
    for name, row in listed.iterrows():
        mine = verdicts[(verdicts["claim"] == name) & verdicts["primary"]]
        assert row["primary"] == len(mine)
        assert row["holds"] == (mine["verdict"] == "supported").sum()
        if len(mine):
            said = html[html.index(f'<a href="#claim-{str(name).lower()}"') :]
            assert f"holds in {row['holds']} of {row['primary']}" in said[: said.index("</li>")]


def test_every_entry_of_a_matrix_is_a_row_of_the_file(html: str, report: Path) -> None:
    verdicts = pd.read_csv(report / "tables" / "claims.csv", keep_default_na=False, na_values=[""])
    texts = {
        (
            f"|{row['verdict']}|{write(row['estimate'], row['unit'])} "
            f"{write_interval(row['lo_adjusted'], row['hi_adjusted'], row['unit']) or 'no interval'}"
        )
        for row in verdicts.to_dict("records")
    }
    entries = Texts(html).entries
    assert len(entries) >= 40
    for place, text in entries:
        assert text.rpartition("|")[0] in texts, (place, text)
        assert re.match(r"n = \d+", text.rpartition("|")[2])


def test_published_numbers_stand_beside_ours(html: str, report: Path) -> None:
    listed = pd.read_csv(report / "tables" / "published.csv")
    own = pd.read_csv(report / "tables" / "claims.csv")
    assert len(listed) == sum(len(item.values) for item in published())
    markdown = (report / "report.md").read_text(encoding="utf-8")
    section = html[html.index('id="claim-c5"') : html.index('id="claim-c6"')]
    row = listed[(listed["claim"] == "C5") & listed["who"].str.startswith("Keskar")].iloc[0]
    (ours,) = own.loc[(own["claim"] == "C5") & (own["optimizer"] == "adam") & own["primary"], "estimate"]
    assert row["estimate_here"] == ours
    for text in ("256: 98.03 ± 0.07 %; 6000: 97.81 ± 0.07 %", "+0.22 pp", "arXiv 1609.04836, table 2"):
        assert text in section
        assert text in markdown
    assert f"{write(ours, 'fraction')} " in section
    assert "not comparable" in section
    assert listed.loc[listed["claim"] == "C18", "estimate_here"].isna().all()


def without_data(claims: list[Claim], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "JUDGES", {item.name: lambda data, item: [] for item in claims})


@pytest.mark.usefixtures("alone")
def test_a_claim_without_data_names_its_experiment(
    small: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_data([claim("C5")], monkeypatch)
    with pytest.raises(SystemExit, match="0"):
        main(["report", str(small.path), "-o", str(tmp_path), "--claims", "c5"])
    command = f"bench run -m experiment={claim('C5').experiment}"
    assert f"C5: no data in this sweep; {command} supplies them" in capsys.readouterr().out
    for file in ("index.html", "report.md"):
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert command in text
        assert "C6" not in text
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<li class="missing"><a href="#claim-c5">' in page
    assert "<script" not in page
    assert pd.read_csv(tmp_path / "tables" / "claims.csv").empty


@pytest.mark.usefixtures("alone")
def test_claims_are_judged_on_the_sweep_of_their_experiment(
    small: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_sweep(tmp_path, Plan(name=claim("C5").experiment, batch_sizes=(16, 256), epochs=1, steps=20, seeds=4))
    words = ["report", str(small.path), "--also", str(other.path), "-o", str(tmp_path / "out")]
    for _ in range(2):
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--claims", "C5"])
        rows = pd.read_csv(tmp_path / "out/tables/claims.csv")
        assert set(rows["sweep"]) == {other.sweep}
        for source in set(rows["source"]) | {f"{other.sweep}/trials.csv"}:
            assert len(pd.read_csv(tmp_path / "out/tables" / source))
    for file in ("index.html", "report.md"):
        text = (tmp_path / "out" / file).read_text(encoding="utf-8").replace("\\", "")
        assert "small (4 cells), mnist5k_claims (4 cells)" in text
        assert "--also mnist5k_claims" in text
        assert "Judged on" in text
    main_only = [*words[:2], *words[4:], "--claims", "C5"]
    with pytest.raises(SystemExit, match="0"):
        main(main_only)
    assert not list((tmp_path / "out/tables").glob("*/*"))
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(small.path), "--also", str(small.path)])
    assert "sweep 'small' is given twice" in capsys.readouterr().err


@pytest.mark.usefixtures("alone")
def test_the_language_switches_and_two_renders_are_the_same(small: Store, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_report(small, tmp_path / name, [claim("C5")], messages("zh"))
    assert tree(tmp_path / "first") == tree(tmp_path / "second")
    page = (tmp_path / "first" / "index.html").read_text(encoding="utf-8")
    assert '<html lang="zh">' in page
    assert claim("C5").sentence["zh"] in page
    assert claim("C5").contrast["zh"] in page
    say = messages("zh")
    for key in ("title", "wall.title", "advice.title", "claims.title", "heading.failed", "nav.reproduce"):
        assert say(key) in page
    for english in (messages("en")(key) for key in ("wall.title", "advice.title", "heading.reproduce")):
        assert english not in page
    assert say("wall.title") in (tmp_path / "first" / "report.md").read_text(encoding="utf-8")


def test_catalogues_have_the_same_texts_with_the_same_values() -> None:
    def fields(text: str) -> set[str | None]:
        # A heading may say "Accuracy" where the other says "accuracy".
        return {name and name.lower() for _, name, _, _ in string.Formatter().parse(text)} - {None}

    english, *others = (messages(language).texts for language in LANGUAGES)
    for other in others:
        assert other.keys() == english.keys()
        for key, text in english.items():
            assert fields(other[key]) == fields(text), key
    with pytest.raises(UsageError, match="unknown language 'en-GB'; did you mean 'en'"):
        messages("en-GB")


def test_every_section_has_its_headings() -> None:
    for name, *_ in (*build.SECTIONS, *build.FOLDED):
        for language in LANGUAGES:
            assert f"section.{name}" in messages(language).texts
            assert f"short.{name}" in messages(language).texts


def verdicts(*rows: tuple[float, float, float, str]) -> pd.DataFrame:
    shared = {
        "claim": "C5",
        "task": "mnist5k/mlp",
        "model": "mlp",
        "device": "cpu",
        "precision": "float32",
        "budget": "epochs",
        "rule": "re-tuned",
        "measure": "",
        "primary": True,
        "null": 0.0,
        "margin": 0.005,
        "unit": "fraction",
        "n": 3,
    }
    return pd.DataFrame(
        [
            shared
            | {"optimizer": f"o{number}", "estimate": value, "lo_adjusted": lo, "hi_adjusted": hi, "verdict": word}
            for number, (value, lo, hi, word) in enumerate(rows)
        ]
    )


def test_a_figure_cuts_intervals_that_have_no_end_and_leaves_out_what_is_no_number() -> None:
    inf, nan = float("inf"), float("nan")
    found = verdicts(
        (0.02, -inf, inf, "inconclusive"), (0.01, 0.008, 0.012, "supported"), (nan, nan, nan, "inconclusive")
    )
    plot = figures_claims.forest(claim("C5"), found, messages("en"))
    assert plot is not None
    assert len(plot.table) == 2
    assert "o0 +2.00 pp [−∞, ∞], inconclusive; o1 +1.00 pp [+0.80, +1.20], supported" in plot.panels[0].alt
    assert figures_claims.forest(claim("C5"), found[2:], messages("en")) is None
    two = pd.concat([found, found.assign(unit="log ratio", task="quadratic/deep")], ignore_index=True)
    plot = figures_claims.forest(claim("C5"), two, messages("en"))
    assert plot is not None
    assert [panel.name for panel in plot.panels] == ["claim-c5-1", "claim-c5-2"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "fraction", "+1.23 pp"),
        (0.5, "log2 ratio", "×1.41"),
        (0.0, "log ratio", "×1"),
        (float("-inf"), "log ratio", "×0"),
        (4344.2, "log2 ratio", "×∞"),
        (-1.02, "slope", "−1.02"),
        (float("-inf"), "slope", "−∞"),
    ],
)
def test_statistics_are_written_in_their_unit(value: float, unit: str, text: str) -> None:
    assert write(value, unit) == text
