import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.report.build import build_report
from tests.report.pictured import pictures_alone, write_pictured
from tests.report.synthetic import write_zoo

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the path"),
]

#: Contrast of the colours an element is really drawn with, as WCAG defines it.
CONTRAST = """
selector => {
  const light = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number).slice(0, 3)
      .map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c) && c !== 'transparent') return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll(selector)].map(e => {
    const style = getComputedStyle(e), svg = e.closest('svg');
    const ink = light(svg ? (style.stroke !== 'none' ? style.stroke : style.fill) : style.color);
    const paper = light(behind(e));
    return [(Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05), e.outerHTML.slice(0, 120)];
  });
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(write_zoo(tmp_path_factory.mktemp("zoo"), 12, 3), tmp_path_factory.mktemp("report"))


@pytest.fixture(params=[(w, s) for w in (390, 1440) for s in ("light", "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def opened(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.requests, page.complaints = [], []
    page.on("request", lambda r: page.requests.append(r.url))
    page.on("console", lambda m: page.complaints.append(m.text))
    page.on("pageerror", lambda e: page.complaints.append(str(e)))
    page.goto((report / "index.html").as_uri())
    yield page
    context.close()


def test_opens_alone_and_in_silence(opened: Any) -> None:
    opened.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert [url for url in opened.requests if not url.startswith("data:")] == [opened.url]
    assert opened.complaints == []


def test_page_is_as_wide_as_the_window(opened: Any) -> None:
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide, window = opened.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window


def test_figures_are_drawn_labelled_and_legible(opened: Any) -> None:
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    figures = opened.evaluate(
        """[...document.querySelectorAll('figure svg[role=img]')].map(s => ({
             alt: s.getAttribute('aria-label'), width: s.getBoundingClientRect().width,
             outside: [...s.querySelectorAll('text')].filter(t => t.getBoundingClientRect().width).filter(t => {
               const a = t.getBoundingClientRect(), b = s.getBoundingClientRect();
               return a.left < b.left - 2 || a.right > b.right + 2
                 || a.top < b.top - 2 || a.bottom > b.bottom + 2;
             }).map(t => t.textContent),
             least: Math.min(...[...s.querySelectorAll('text')].filter(t => t.getBoundingClientRect().width)
               .map(t => t.getBoundingClientRect().height)),
           }))"""
    )
    assert len(figures) >= 16
    for figure in figures:
        assert re.search(r"\d", figure["alt"])
        assert figure["width"] > 280
        assert figure["outside"] == []
        assert figure["least"] >= 9


def test_axis_labels_do_not_overlap(opened: Any) -> None:
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    overlaps = opened.evaluate(
        """[...document.querySelectorAll('figure svg[role=img]')].flatMap(s => {
             const ticks = [...s.querySelectorAll('[id*=tick] text')]
               .map(t => [t.textContent, t.getBoundingClientRect()]);
             return ticks.flatMap(([m, a], i) => ticks.slice(i + 1).filter(([n, b]) =>
               a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
               .map(([n, b]) => m + ' / ' + n));
           })"""
    )
    assert overlaps == []


def test_contrast(opened: Any) -> None:
    for selector, least in (
        ("p, li, td, th, dd, dt, h1, h2, h3, a, figcaption, summary, small, .verdict", 4.5),
        ("figure svg g[id*='tick'] text", 4.5),
        ("figure svg g[id*='legend'] path[style*='var(--s']", 3.0),
        ("figure svg g[id*='legend'] path[style*='var(--r']", 3.0),
    ):
        measured = opened.evaluate(CONTRAST, selector)
        assert measured, selector
        poor = [(round(ratio, 2), where) for ratio, where in measured if ratio < least]
        assert not poor, poor[:3]


def test_keyboard_reaches_the_skip_link_first(opened: Any) -> None:
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    opened.wait_for_function("location.hash === '#answer'", timeout=10_000)


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = write_pictured(tmp_path_factory.mktemp("results"))
    with pictures_alone():
        return build_report(store, tmp_path_factory.mktemp("pictured"))


@pytest.mark.parametrize("width", [390, 1440])
def test_slider_shows_another_frame_by_keyboard(browser: Any, pictured: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, reduced_motion="reduce")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(pictured.as_uri())
    figure = page.locator("#boundary figure")
    slider = figure.get_by_role("slider", name="Training")
    names = slider.get_attribute("data-frames").split("|")
    shown = """f => [...f.querySelectorAll('svg[role=img]')].map(s => [...s.querySelectorAll('.frame')]
        .filter(g => getComputedStyle(g).display !== 'none').map(g => g.innerHTML).join(' '))"""
    last = figure.evaluate(shown)
    assert all(panel.count("<image") == 1 for panel in last)
    assert figure.locator("output").inner_text() == names[-1]
    slider.focus()
    page.keyboard.press("Home")
    first = figure.evaluate(shown)
    assert figure.locator("output").inner_text() == slider.get_attribute("aria-valuetext") == "epoch 0"
    # Every batch size moves.
    assert all(before != after for before, after in zip(last, first, strict=True))
    assert all("epoch 0<" in panel for panel in first)
    page.keyboard.press("ArrowRight")
    assert figure.locator("output").inner_text() == names[1]
    page.emulate_media(media="print")
    assert figure.evaluate(shown) == last
    assert not slider.is_visible()
    page.emulate_media(media="screen")
    slider.focus()
    page.keyboard.press("End")
    assert figure.evaluate(shown) == last
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window
    assert complaints == []
    context.close()


def test_pictures_need_no_script(browser: Any, pictured: Path) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(pictured.as_uri())
    assert not page.locator("#boundary .bar").is_visible()
    for kind in ("#boundary .frame.last image", "#boundary .frame.last text"):
        assert page.locator(kind).first.is_visible()
    assert not page.locator("#boundary .frame.f0 text").first.is_visible()
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_overview_fits_and_can_be_read(browser: Any, zoo: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.goto(zoo.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window
    measured = page.evaluate(CONTRAST, "p, li, td, th, caption span, small, summary, figcaption")
    assert len(measured) > 500
    assert not [where for ratio, where in measured if ratio < 4.5]
    # The names of the optimizers stay beside the entries however far the matrix is scrolled.
    page.evaluate("document.querySelectorAll('.scroll').forEach(s => s.scrollLeft = 9999)")
    lefts = page.evaluate(
        """[...document.querySelectorAll('.matrix tbody th')].map(t =>
             t.getBoundingClientRect().left - t.closest('.scroll').getBoundingClientRect().left)"""
    )
    assert lefts
    assert max(map(abs, lefts)) < 2
    context.close()


SHOWN = """() => [...document.querySelectorAll('#trade-off .view')].filter(v => getComputedStyle(v).display !== 'none')
    .map(v => v.dataset.view)"""


def test_the_trade_off_changes_by_keyboard_and_prints_its_first_view(opened: Any) -> None:
    figure = opened.locator("#trade-off figure")
    picture = figure.locator("svg[role=img]")
    assert opened.evaluate(SHOWN) == ["epochs re-tuned"]
    before = picture.get_attribute("aria-label")
    figure.get_by_role("group", name="Budget").get_by_label("epochs").focus()
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate(SHOWN) == ["steps re-tuned"]
    figure.get_by_role("group", name="Rule").get_by_label("re-tuned").focus()
    opened.keyboard.press("ArrowLeft")
    assert opened.evaluate(SHOWN) == ["steps sqrt"]
    after = picture.get_attribute("aria-label")
    assert "at equal epochs, learning rate re-tuned" in before
    assert "at equal steps, learning rate sqrt" in after
    assert re.match(r"\d+ of \d+ batch sizes drawn\.", figure.locator("output").inner_text())
    opened.emulate_media(media="print")
    assert opened.evaluate(SHOWN) == ["epochs re-tuned"]
    assert not figure.get_by_role("radio").first.is_visible()
    assert opened.complaints == []


def test_the_trade_off_needs_no_script(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((report / "index.html").as_uri())
    assert not page.locator("#trade-off .switch").is_visible()
    visible = page.locator("#trade-off .view:visible")
    assert [view.get_attribute("data-view") for view in visible.all()] == ["epochs re-tuned"]
    context.close()


ENTRIES = """() => [...document.querySelectorAll('#claims td[data-task]')].filter(t => t.getBoundingClientRect().width)
    .map(t => ({...t.dataset}))"""


def test_filters_leave_what_was_asked_for(opened: Any) -> None:
    opened.evaluate("document.querySelectorAll('details.told-of').forEach(d => d.open = true)")
    everything = opened.evaluate(ENTRIES)
    output = opened.locator(".filters output")
    assert output.inner_text() == f"{len(everything)} of {len(everything)} verdicts shown"
    opened.get_by_label("Budget").select_option("steps")
    opened.get_by_label("Optimizer").select_option("adam")
    wanted = [place for place in everything if place["budget"] in ("", "steps") and place["optimizer"] in ("", "adam")]
    assert 0 < len(wanted) < len(everything)
    assert opened.evaluate(ENTRIES) == wanted
    assert output.inner_text() == f"{len(wanted)} of {len(everything)} verdicts shown"
    for name in ("Budget", "Optimizer"):
        opened.get_by_label(name).select_option("")
    assert opened.evaluate(ENTRIES) == everything
    wide, window = opened.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window


def test_a_link_of_the_wall_opens_its_claim_by_keyboard(opened: Any) -> None:
    link = opened.locator(".wall a[href='#claim-c5']")
    inside = opened.locator("#claim-c5")
    assert not inside.is_visible()
    link.focus()
    opened.keyboard.press("Enter")
    inside.wait_for(state="visible", timeout=10_000)


def test_claims_need_no_script_and_print_whole(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((report / "index.html").as_uri())
    assert not page.locator(".filters").is_visible()
    page.locator("#claims details.told-of summary", has_text="C5").first.click()
    assert page.locator("#claim-c5 table.places").first.is_visible()
    page.locator("#claims details.told-of summary", has_text="C5").first.click()
    assert not page.locator("#claim-c5 table.places").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator("#claim-c5 table.places").first.bounding_box()["height"] > 50
    context.close()
