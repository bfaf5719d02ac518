"""Pictures: known paths and fields, drawn as what they are, the same every time, and in words."""

import base64
import dataclasses
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path as Path2D
from PIL import Image

from bench.analysis.pictures import FRAMES, Plane
from bench.report.boundary import ABOVE, LEVELS, NEGATIVE, OPACITY, POSITIVE, WIDTH, Sheet, png
from bench.report.build import build_report
from bench.report.downhill import regions
from bench.results.store import Store
from tests.report.pictured import EXTENT, PLANE, SURFACE, bowl, pictures_alone, write_pictured
from tests.report.synthetic import Plan, cell_id, write_sweep
from tests.report.test_build import Elements, tree


@pytest.fixture(scope="module", autouse=True)
def _pictures_alone() -> Iterator[None]:
    with pictures_alone():
        yield


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_pictured(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def report(pictured: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(pictured, tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    start = page.index(f'<section id="{name}">')
    return page[start : page.index("</section>", start)]


def test_two_renders_are_byte_identical(pictured: Store, report: Path, tmp_path: Path) -> None:
    build_report(pictured, tmp_path)
    assert tree(tmp_path) == tree(report)


def test_page_refers_to_nothing_outside_and_is_small(page: str) -> None:
    assert "://" not in page
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)
    elements = Elements(page).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements:
        target = attributes.get("href") or attributes.get("src") or ""
        if tag in ("use", "image"):
            assert target.startswith("data:image/png;base64,") or target[1:] in ids
    assert len(page) < 5_000_000


def test_every_surface_has_a_panel_per_batch_size(page: str) -> None:
    shown = section(page, "downhill")
    alts = re.findall(r'<svg role="img" aria-label="([^"]+)"', shown)
    assert len(alts) == 2 * len(SURFACE.batch_sizes)
    # What the made-up path says: after 2000 steps it is 1.68 / 2001 from the minimiser.
    ending = "sgd ends at (−0.00075, 0.000375) after 2 000 steps, 0.00084 from the nearest minimiser"
    assert any(alt.startswith("surfaces/bowl, batch 16: ") and ending in alt for alt in alts)
    assert "What noise does to sgd" in shown
    assert "playground" not in shown


def test_a_surface_is_in_the_page_once_and_in_every_file(page: str, report: Path) -> None:
    figure = section(page, "downhill")
    paths = figure[: figure.index("batch-noise")]
    layers = len(re.findall(r'id="[\w-]+-landscape\d+"', paths))
    assert layers >= 8
    assert len(re.findall(r'<use href="#[\w-]+-landscape\d+"/>', paths)) == layers * (len(SURFACE.batch_sizes) - 1)
    for file in (report / "figures").glob("*downhill*.svg"):
        text = file.read_text(encoding="utf-8")
        assert len(re.findall(r'id="[\w-]+-landscape\d+"', text)) == layers
        assert "landscape" not in "".join(re.findall(r"<use[^>]*>", text))


def test_paths_that_leave_are_named(pictured: Store, tmp_path: Path) -> None:
    store = write_pictured(tmp_path, [dataclasses.replace(SURFACE, optimizers=("sgd",))])
    for cell in store.cells():
        table = store.snapshots(cell)
        wild = table.apply(lambda row: np.float32([3, 0]) if row["step"] == 4 else row["values"], axis=1)
        record, curves = store.read(cell), store.curves(cell)
        for file in store.cell_path(cell).iterdir():
            file.unlink()
        store.write(record, curves, table.assign(values=wild))
    page = build_report(store, tmp_path / "out").read_text(encoding="utf-8")
    assert "Paths that leave the picture are cut off at its edge: sgd (batch 16 and 256)." in page


def test_slider_is_labelled_and_names_its_frames(page: str) -> None:
    shown = section(page, "boundary")
    elements = Elements(shown).elements
    (slider,) = [attributes for tag, attributes in elements if tag == "input"]
    assert slider["type"] == "range"
    (label,) = [attributes for tag, attributes in elements if tag == "label"]
    assert label["for"] == slider["id"]
    names = (slider["data-frames"] or "").split("|")
    assert 3 <= len(names) <= FRAMES
    assert names[0] == "epoch 0"
    assert slider["value"] == slider["max"] == str(len(names) - 1)
    assert slider["aria-valuetext"] == names[-1]
    # Without JavaScript there is nothing to slide.
    assert re.search(r'<p class="bar" hidden>', shown)


def test_one_frame_of_each_panel_is_shown_and_every_number_has_one(page: str) -> None:
    shown = section(page, "boundary")
    panels = re.findall(r"<svg role=.*?</svg>", shown, re.DOTALL)
    assert len(panels) == len(PLANE.optimizers) * len(PLANE.batch_sizes)
    most = int(re.search(r'max="(\d+)"', shown)[1])  # type: ignore[index]
    for panel in panels:
        kinds = re.findall(r'<g class="(frame[^"]*)">', panel)
        numbers = sorted(int(n) for kind in kinds for n in re.findall(r"\bf(\d+)", kind))
        # Once among the words and once among the images.
        assert numbers == sorted([*range(most + 1), *range(most + 1)])
        assert [kind for kind in kinds if "shown" in kind] == [kind for kind in kinds if "last" in kind]
        assert sum("shown" in kind for kind in kinds) == 2
    assert shown.count('-points">') == 1
    assert len(re.findall(r'<use href="#[\w-]+-points"/>', shown)) == len(panels) - 1


def test_alt_texts_say_what_the_last_frame_shows(page: str) -> None:
    alts = re.findall(r'<svg role="img" aria-label="([^"]+)"', section(page, "boundary"))
    assert len(set(alts)) == len(alts)
    for alt in alts:
        # Four of nine columns lie right of x = 0.
        assert re.search(
            r"^(adam|sgd) on playground/line, batch (16|256|full \(4000\)), epoch \d+: the output is positive over "
            r"44.4 % of the plane, training accuracy \d+.\d %, test accuracy \d+.\d %\.$",
            alt,
        )


def test_markdown_and_files_show_the_last_frame(report: Path) -> None:
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "## Downhill" in markdown
    assert "## Decision boundary" in markdown
    files = re.findall(r"\(figures/([\w-]*boundary[\w-]*\.svg)\)", markdown)
    assert len(files) == len(PLANE.optimizers) * len(PLANE.batch_sizes)
    for name in files:
        text = (report / "figures" / name).read_text(encoding="utf-8")
        assert text.count("<image") == 1
        assert "last shown" in text
        assert "<use" not in text
    table = pd.read_csv(report / "tables" / "figure-playground-line-mlp-cpu-float32-boundary.csv")
    assert len(table.groupby(["optimizer", "batch_size"])) == len(files)


def test_the_line_is_where_the_output_is_zero(report: Path) -> None:
    name = "playground-line-mlp-cpu-float32-boundary-sgd-16.svg"
    text = (report / "figures" / name).read_text(encoding="utf-8")
    start_x, moves = re.search(r'<path d="M(\d+) \d+l([^"]+)" fill="none" stroke="currentColor"', text).groups()  # type: ignore[union-attr]
    assert int(start_x) == WIDTH / 2
    assert set(re.findall(r"-?\d+", moves)[::2]) == {"0"}


def test_png_is_upright_and_clear_where_undecided() -> None:
    values = np.array([[-1.0, -0.5, 0.0], [0.5, 1.0, 7.0], [np.nan, np.inf, -np.inf]])
    pixels = np.asarray(Image.open(io.BytesIO(png(values))).convert("RGBA"))
    # y ascends in the values and descends in the image.
    assert pixels[0, :, 3].tolist() == [0, 0, 0]
    assert pixels[1, 1].tolist() == [*POSITIVE, OPACITY]
    assert pixels[1, 2].tolist() == [*POSITIVE, OPACITY]
    assert pixels[2, 0].tolist() == [*NEGATIVE, OPACITY]
    assert pixels[2, 1, 3] == pixels[1, 0, 3] == round(OPACITY * 0.5**0.75)
    assert pixels[2, 2, 3] == 0
    assert png(values) == png(values)
    assert 2 * LEVELS + 1 <= 256


def test_sheet_puts_the_corners_of_the_plane_into_its_own() -> None:
    sheet = Sheet(EXTENT)
    corners = sheet.units(np.array([-2.0, 2.0]), np.array([1.0, -1.0]))
    assert corners.tolist() == [[0, ABOVE], [WIDTH, ABOVE + sheet.height]]
    assert sheet.height == WIDTH / 2


def test_levels_of_a_bowl_are_circles_with_the_minimum_outside() -> None:
    none = np.empty((0, 2))
    plane = Plane(EXTENT, np.array(bowl()).reshape(21, 21), none, none, none)
    drawn = regions(plane)
    assert len(drawn) == 10
    for region in drawn:
        rings = [Path2D(polygon) for polygon in region.to_polygons()]
        # What lies in the plane and in a hole, or outside all rings, is not covered.
        assert [sum(ring.contains_point(at) for ring in rings) % 2 for at in ((0, 0), (1.99, 0.99))] == [0, 1]
    # The loss that a level encloses, from where it crosses the axis: evenly spaced in the logarithm.
    across = [
        region.vertices[(abs(region.vertices[:, 1]) < 1e-9) & (region.vertices[:, 0] > 0), 0].min() for region in drawn
    ]
    ratios = np.diff(np.log(np.square(across)))
    assert ratios == pytest.approx(np.full(9, ratios.mean()), rel=0.5)
    assert regions(dataclasses.replace(plane, landscape=np.full((5, 5), np.nan))) == []
    assert regions(dataclasses.replace(plane, landscape=np.ones((5, 5)))) == []


def test_regression_has_a_continuous_field(tmp_path: Path) -> None:
    store = write_pictured(tmp_path, [dataclasses.replace(PLANE, optimizers=("sgd",))])
    for cell in store.cells():
        table = store.snapshots(cell)
        points = np.float32([-1, 0, -0.8, 0.1, 0, 0.0, 1, 0, 0.8])
        table["values"] = [
            points if "points" in kind else v for kind, v in zip(table["kind"], table["values"], strict=True)
        ]
        record, curves = store.read(cell), store.curves(cell)
        for file in store.cell_path(cell).iterdir():
            file.unlink()
        store.write(record, curves[curves["metric"] == "loss"], table)
    page = build_report(store, tmp_path / "out").read_text(encoding="utf-8")
    shown = section(page, "boundary")
    assert "the stronger, the larger" in shown
    assert "3 training points" in shown
    assert "test loss" in shown
    assert "accuracy" not in "".join(re.findall(r'aria-label="sgd[^"]+"', shown))


def test_a_damaged_file_costs_its_own_picture_and_is_named(tmp_path: Path) -> None:
    store = write_pictured(tmp_path, [dataclasses.replace(PLANE, optimizers=("sgd",))])
    cell = cell_id(PLANE, "sgd", 256)
    (store.cell_path(cell) / "snapshots.parquet").write_bytes(b"PAR1")
    page = build_report(store, tmp_path / "out").read_text(encoding="utf-8")
    assert f"No picture of cell {cell}: {cell}: snapshots.parquet cannot be read" in page
    shown = section(page, "boundary")
    assert len(re.findall(r"<svg role=", shown)) == 2
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert cell in manifest["records"]
    assert manifest["unreadable"] == {}


def test_a_sweep_without_snapshots_says_nothing_of_them(tmp_path: Path) -> None:
    store = write_sweep(tmp_path, Plan(optimizers=("sgd",), batch_sizes=(16, 64), seeds=1))
    index = build_report(store, tmp_path / "out")
    page, markdown = index.read_text(encoding="utf-8"), (index.parent / "report.md").read_text(encoding="utf-8")
    for text in ("'.film'", 'id="downhill"', 'id="boundary"', ".strip"):
        assert text not in page
    assert "## Downhill" not in markdown
    assert "## Decision boundary" not in markdown


def test_embedded_images_are_the_fields(page: str) -> None:
    images = re.findall(r"base64,([^\"]+)", section(page, "boundary"))
    sizes = {Image.open(io.BytesIO(base64.b64decode(image))).size for image in images}
    assert sizes == {(9, 9)}
