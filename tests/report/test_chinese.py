"""A Chinese report is Chinese throughout: page, drawings and twin, but for names, symbols and units."""

import re
import warnings
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.claims.claim import claim, claim_names
from bench.claims.evidence import COLUMNS, Judged
from bench.claims.published import published
from bench.claims.wall import wall
from bench.report import build
from bench.report.build import write_report
from bench.report.claims import Claims
from bench.report.figures_claims import LABEL, fill
from bench.report.fonts import WIDE_CHARACTERS, half_ems
from bench.report.messages import messages
from bench.report.page import PICTURES
from bench.report.style import FONT_STACKS, canvas, figure_style, svg
from bench.results.store import Store
from tests.report.chinese import Said, strange
from tests.report.pictured import PLANE, SURFACE, write_pictured
from tests.report.synthetic import Plan, write_sweep, write_zoo

NAMES = ("batch-size-bench", "small", "pictured", "zoo", "cpu", "float32")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All figures but pictures, and all claims, of a sweep of few cells."""
    store = write_sweep(tmp_path_factory.mktemp("small"), Plan(name="small", batch_sizes=(16, 256), epochs=1, steps=20))
    return written(store, tmp_path_factory.mktemp("chinese"), claim_names())


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one optimizer, on a surface and on a plane."""
    plans = [Plan(**vars(plan) | {"optimizers": ("sgd",), "batch_sizes": (16, 256)}) for plan in (SURFACE, PLANE)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SECTIONS", tuple(section for section in build.SECTIONS if section[0] in PICTURES))
        store = write_pictured(tmp_path_factory.mktemp("pictured"), plans)
        return written(store, tmp_path_factory.mktemp("chinese"), [])


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The overview and the profile of several tasks; figures of a task are those of a small sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "FOLDED", tuple((name, makers[-1:]) for name, makers in build.FOLDED[:1]))
        return written(write_zoo(tmp_path_factory.mktemp("zoo"), 5, 2), tmp_path_factory.mktemp("chinese"), ["C5"])


def written(store: Store, out: Path, claims: list[str]) -> Path:
    return write_report(store, out, [claim(name) for name in claims], messages("zh")).index.parent


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def names(report: Path) -> tuple[str, ...]:
    cells = pd.read_csv(report / "tables" / "cells.csv")
    return (*NAMES, *map(str, {*cells["task"], *cells["optimizer"]}))


@pytest.mark.parametrize("report", ["small", "pictured", "zoo"], indirect=True)
def test_a_chinese_page_has_no_other_words(report: Path) -> None:
    texts, known = Said((report / "index.html").read_text(encoding="utf-8")).texts, names(report)
    assert len([text for text in texts if re.search("[\u4e00-\u9fff]", text)]) > 30
    assert {text: found for text in texts if (found := strange(text, known))} == {}
    markdown = (report / "report.md").read_text(encoding="utf-8").split(f"## {messages('zh')('heading.failed')}")[0]
    spoken = re.sub(r"[\w-]+\.csv|\]\([^)]*\)|`[^`]*`|^    .*$", " ", markdown.replace("\\", ""), flags=re.MULTILINE)
    assert strange(spoken, known) == []


@pytest.mark.parametrize("report", ["small", "pictured", "zoo"], indirect=True)
def test_chinese_drawings_have_no_other_words(report: Path) -> None:
    drawings = {path.name: path.read_text(encoding="utf-8") for path in sorted((report / "figures").glob("*.svg"))}
    assert drawings
    known = names(report)
    for name, drawing in drawings.items():
        said = Said(drawing).texts
        assert [found for text in said if (found := strange(text, known))] == [], name
        assert any(re.search("[\u4e00-\u9fff]", text) for text in said), name
        assert ' lang="zh"' in drawing[:100]
        assert "DejaVu" not in drawing


def test_what_is_declared_in_english_alone_has_a_text() -> None:
    declared = messages("zh").declared
    for name in claim_names():
        assert f"literature.{name}" in declared
        who = claim(name).who
        assert f"who.{who}" in declared or re.fullmatch(r"arXiv [\d.]+", who)
    texts = {text for item in published() for text in (item.place, item.network, *(value.at for value in item.values))}
    assert [text for text in texts if strange(text) and f"published.{text}" not in declared] == []


def test_a_word_that_no_text_has_is_found() -> None:
    english = messages("en")
    told = [
        english("figure.downhill.caption"),
        english("wall.lead"),
        english("panel.curves", optimizer="sgd", axis="x"),
    ]
    assert all(strange(text, NAMES) for text in told)
    assert Said("<p title='One'>Two<script>Three</script><pre>Four</pre></p>").texts == ["One", "Two"]


def test_what_tables_say_is_retold_in_its_pieces() -> None:
    say = messages("zh")
    note = "batch 4096 against 16; 1 of 3 seeds have a diverged trial"
    assert say.retold("remark", note) == "批量 4096 对 16；3 个随机种子中有 1 个含发散的试验"
    assert say.retold("remark", "2 of 5 batch sizes left out (a seed never reached the target)") == (
        "5 个批量中有 2 个未计入（有随机种子从未达到目标）"
    )
    assert say.retold("place", "keskar_1e-3") == "keskar_1e-3"
    assert messages("en").retold("remark", note) == note


def test_names_are_set_apart_from_the_word_that_joins_them() -> None:
    assert messages("zh").listing(["sgd", "adam", "训练"]) == "sgd、adam 和训练"
    assert messages("zh").listing(["训练", "3 步"]) == "训练和 3 步"
    assert messages("en").listing(["sgd", "adam"]) == "sgd and adam"


def test_layout_takes_an_ideograph_for_one_em_without_a_warning() -> None:
    with warnings.catch_warnings(), figure_style("zh"):
        warnings.simplefilter("error")
        figure = Figure(dpi=72)
        texts = [figure.text(0, 0, text, fontsize=10, weight=weight) for text, weight in WIDTHS]
        figure.draw_without_rendering()
        widths = [text.get_window_extent().width for text in texts]
    assert widths == pytest.approx([40, 40, 80], abs=1)
    assert half_ems("批量 a") == 6
    assert all(first < last for first, last in WIDE_CHARACTERS)


WIDTHS = (("批量大小", "normal"), ("批量大小", "bold"), ("准确率（测试），", "normal"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_drawing_is_set_in_fonts_of_its_language(language: str) -> None:
    with figure_style(language):
        figure = canvas()
        figure.add_subplot().set_title(messages(language)("axis.batch"))
        drawn = svg(figure, "name", "title", "alt", language=language)
    assert FONT_STACKS[language] in drawn.inline
    assert ("Noto Sans CJK SC" in drawn.file) == (language == "zh")


@pytest.mark.parametrize("text", ["mnist5k/mlp、sgd、最大批量对最小批量，每隔一个种子重新缩放", "步数相同", "a 批量"])
def test_labels_are_broken_beside_ideographs(text: str) -> None:
    lines = fill(text).split("\n")
    assert all(half_ems(line) <= LABEL + 2 for line in lines)
    assert not any(line.startswith(("，", "、", "）")) for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("verdicts", "english", "chinese"),
    [
        (["refuted", "inconclusive", "refuted"], "partly refuted: in 2 of 3, else inconclusive", "部分被否定"),
        (["supported", "refuted"], "mixed: holds in 1 of 2, refuted in 1", "不一致"),
        (["inconclusive"], "inconclusive: holds in 0 of 1", "尚无定论"),
    ],
)
def test_the_wall_says_what_a_claim_is(verdicts: list[str], english: str, chinese: str) -> None:
    rows = pd.DataFrame([{"claim": "C5", "verdict": word, "primary": True} for word in verdicts], columns=list(COLUMNS))
    judged = Judged((claim("C5"),), rows)
    row = wall(judged).to_dict("records")[0]
    bricks = [Claims(judged, wall(judged), {}, "", messages(language))._brick(row) for language in ("en", "zh")]
    assert f"{bricks[0].word}: {bricks[0].counts}" == english
    assert bricks[1].word == chinese
    assert strange(bricks[1].counts) == []
