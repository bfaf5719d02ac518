"""Pictures of what a model says about the plane of its inputs, beside the points it learned from.

One small picture per batch size and optimizer, all with the same frames: a slider in the page moves them together
through training. A frame is an image of n × n pixels, in which strength is transparency, so that one image serves a
light and a dark page, and the line where the output changes sign.
"""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from contourpy import contour_generator
from PIL import Image

from bench.analysis import words
from bench.analysis.measures import Accuracy, Loss
from bench.analysis.pictures import Plane
from bench.analysis.study import records
from bench.report.fonts import FONT_STACKS
from bench.report.messages import Messages
from bench.report.plot import Panel, Plot, Scene, tidy
from bench.report.style import SERIES, drawing

Array = npt.NDArray[np.float64]

#: Colours of a field that is sure: above 0 and below. Each keeps apart from the other for a colour-blind reader.
POSITIVE, NEGATIVE = (47, 134, 201), (226, 116, 38)
#: Steps from 0 to sure.
LEVELS = 20
#: So many optimizers have their boundaries drawn on a page of many tasks.
FEW_OPTIMIZERS = 3
#: Opacity of a sure field, of 255.
OPACITY = 150
#: Width of a picture in its own units, and the room above and below it.
WIDTH, ABOVE, BELOW = 400, 44, 40
#: Bins of the labels of a regression.
BINS = 7


@dataclass(frozen=True)
class Film(Plot):
    """A figure that moves: every panel holds the same frames, of which the last is shown where nothing moves.

    Attributes:
        rows: Name and panels of each row.
        frames: What each frame shows, in a word or two: "epoch 12".
    """

    rows: tuple[tuple[str, tuple[Panel, ...]], ...] = ()
    frames: tuple[str, ...] = ()


def boundary_of_few(scene: Scene) -> Film | None:
    """Draw the same where that is not too much for a page of many tasks; see `boundary`."""
    return boundary(scene) if len(scene.optimizers) <= FEW_OPTIMIZERS else None


def boundary(scene: Scene) -> Film | None:
    """Draw the output over the plane of inputs for each batch size, with the points, frame by frame."""
    fields = scene.rows(scene.pictures.fields)
    if fields.empty:
        return None
    moments = fields.drop_duplicates("frame").sort_values("frame")
    frames = tuple(scene.say("film.epoch", epoch=words.number(float(epoch))) for epoch in moments["frame_epoch"])
    shared: dict[str, str] = {}
    rows = []
    for optimizer in scene.optimizers:
        mine = fields[fields["optimizer"] == optimizer]
        panels = [
            _panel(scene, mine[mine["batch_size"] == size], shared)
            for size in sorted({int(size) for size in mine["batch_size"]})
        ]
        if panels:
            rows.append((optimizer, tuple(panels)))
    columns = ["optimizer", "batch_size", "lr", "seed", "frame", "frame_epoch", "step", "epoch"]
    columns += ["train_loss", "train_accuracy", "test_loss", "test_accuracy", "positive"]
    plane = scene.pictures.planes[str(fields["cell"].iloc[0])]
    return Film(
        scene.name("boundary"),
        scene.say(f"figure.boundary.{_kind(plane)}.title"),
        _caption(scene, plane, len(frames)),
        tuple(panel for _, panels in rows for panel in panels),
        tidy(fields, columns),
        rows=tuple(rows),
        frames=frames,
    )


def _caption(scene: Scene, plane: Plane, frames: int) -> str:
    say, ends = scene.say, dict(zip(("x_lo", "x_hi", "y_lo", "y_hi"), map(words.number, plane.extent), strict=True))
    points = say("figure.boundary.points", points=len(plane.points))
    if len(plane.test_points):
        points += say("figure.boundary.test_points", points=len(plane.test_points))
    text = say(f"figure.boundary.{_kind(plane)}.caption", points=points)
    text += say("figure.boundary.plane", **ends)
    if frames > 1:
        text += say("figure.boundary.slider", frames=frames)
    trials = records(scene.rows(scene.pictures.trials, status="diverged"))
    lost = [
        say("figure.boundary.lost", optimizer=row["optimizer"], batch=scene.batch(row["batch_size"])) for row in trials
    ]
    return text + (say("figure.boundary.diverged", names=say.listing(lost)) if lost else "")


def _kind(plane: Plane) -> str:
    return "classes" if plane.classes else "values"


def _panel(scene: Scene, rows: pd.DataFrame, shared: dict[str, str]) -> Panel:
    """Draw one optimizer at one batch size."""
    shown = records(rows.sort_values("frame"))
    last = shown[-1]
    optimizer, batch = str(last["optimizer"]), scene.batch(last["batch_size"])
    plane = scene.pictures.planes[str(last["cell"])]
    name = scene.name("boundary", optimizer, last["batch_size"])
    sheet = Sheet(plane.extent)
    scale = 1.0 if plane.classes else float(np.abs(plane.points[:, 2]).max(initial=0.0)) or 1.0
    pictures, labels = [], []
    for group in _equal(shown):
        row, numbers = group[0], {int(item["frame"]) for item in group}
        kind = " ".join(["frame", *(f"f{number}" for number in sorted(numbers))])
        kind += " last shown" if row["step"] == last["step"] else ""
        pictures.append((kind, _field(sheet, row["values"], scale, "1" if plane.classes else ".6")))
        labels.append((kind, _words(sheet, row, plane.classes, scene.say)))
    points = _points(sheet, plane, scale)
    fonts = html.escape(FONT_STACKS[scene.say.language])
    head = (
        f'<defs><clipPath id="{name}-plane"><rect y="{ABOVE}" width="{WIDTH}" height="{sheet.height}"/>'
        "</clipPath></defs>"
        f'<g font-family="{fonts}" font-size="26" fill="currentColor">'
        f'<text y="31" font-weight="600">{html.escape(_title(scene, last["batch_size"]))}</text>'
    )
    tail = (
        f'<rect x="1" y="{ABOVE + 1}" width="{WIDTH - 2}" height="{sheet.height - 2}" fill="none" '
        'stroke="currentColor" stroke-opacity=".45" stroke-width="2"/></svg>'
    )

    def body(keep: Iterable[int], dots: str) -> str:
        kept = list(keep)
        return (
            head
            + "".join(f'<g class="{labels[index][0]}">{labels[index][1]}</g>' for index in kept)
            + f'</g><g clip-path="url(#{name}-plane)">'
            + "".join(f'<g class="{pictures[index][0]}">{pictures[index][1]}</g>' for index in kept)
            + f"{dots}</g>{tail}"
        )

    first = shared.setdefault(points, f"{name}-points")
    here = f'<g id="{first}">{points}</g>' if first == f"{name}-points" else f'<use href="#{first}"/>'
    text = _alt(scene, last, batch)
    title = scene.say("panel.optimizer_batch", optimizer=optimizer, batch=batch)
    inline, alone = body(range(len(pictures)), here), body([len(pictures) - 1], points)
    return Panel(
        name, title, text, drawing(f"0 0 {WIDTH} {sheet.total}", inline, title, text, alone, scene.say.language)
    )


def _title(scene: Scene, size: float) -> str:
    if round(size) in scene.full:
        return scene.say("panel.full_batch")
    return scene.say("panel.batch", batch=scene.short_batch(size))


def _equal(shown: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group neighbouring frames that show the same evaluation."""
    groups: list[list[dict[str, Any]]] = []
    for row in shown:
        if groups and groups[-1][0]["step"] == row["step"]:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _words(sheet: "Sheet", row: dict[str, Any], classes: bool, say: Messages) -> str:
    epoch = say("film.epoch", epoch=words.number(row["epoch"]))
    at = f'<text x="{WIDTH}" y="31" text-anchor="end">{epoch}</text>'
    if not np.isfinite(row["values"]).all():
        result = say("status.diverged")
    elif classes and math.isfinite(row["test_accuracy"]):
        result = say("film.accuracy", value=words.percent(row["test_accuracy"]))
    elif math.isfinite(row["test_loss"]):
        result = say("film.loss", value=words.number(row["test_loss"], 2))
    else:
        return at
    return f'{at}<text y="{sheet.total - 8}" fill-opacity=".8">{result}</text>'


def _alt(scene: Scene, row: dict[str, Any], batch: str) -> str:
    say, where = scene.say, {"optimizer": row["optimizer"], "task": scene.setting["task"], "batch": batch}
    said = say("alt.film.where", **where, epoch=words.number(row["epoch"]))
    if not np.isfinite(row["values"]).all():
        return said + say("alt.film.diverged", steps=words.count(row["step"]))
    said += say("alt.film.positive", share=words.percent(row["positive"]))
    for split in ("train", "test"):
        for measure, form in ((Accuracy(), words.percent), (Loss(), words.number)):
            if math.isfinite(value := row[measure.column(split)]):
                said += say("alt.film.result", result=say.result(measure, split), value=form(value))
                break
    return said + say("alt.film.end")


class Sheet:
    """From the plane to the units of a picture, in which a line or a dot is written in whole numbers."""

    def __init__(self, extent: tuple[float, float, float, float]) -> None:
        self.x_lo, self.x_hi, self.y_lo, self.y_hi = extent
        ratio = (self.y_hi - self.y_lo) / (self.x_hi - self.x_lo)
        self.height = round(WIDTH * min(max(ratio, 0.5), 2.0))
        self.total = ABOVE + self.height + BELOW

    def units(self, x: Array, y: Array) -> npt.NDArray[np.int64]:
        """Return points of the plane in units of the picture, count × 2."""
        across = (x - self.x_lo) / (self.x_hi - self.x_lo) * WIDTH
        down = ABOVE + (self.y_hi - y) / (self.y_hi - self.y_lo) * self.height
        return np.stack([across, down], axis=1).round().astype(np.int64)


def _field(sheet: Sheet, values: Array, scale: float, opacity: str) -> str:
    """Draw an output over the plane: an image, and the line where it changes sign."""
    side = len(values)
    # Values stand at the nodes, so that the outer half of the outer pixels lies beyond the plane.
    across, down = WIDTH / (side - 1) / 2, sheet.height / (side - 1) / 2
    image = (
        f'<image x="{-across:.2f}" y="{ABOVE - down:.2f}" width="{WIDTH + 2 * across:.2f}" '
        f'height="{sheet.height + 2 * down:.2f}" preserveAspectRatio="none" href="data:image/png;base64,'
        f'{base64.b64encode(png(values / scale)).decode("ascii")}"/>'
    )
    if not np.isfinite(values).all():
        return image
    x, y = np.linspace(sheet.x_lo, sheet.x_hi, side), np.linspace(sheet.y_lo, sheet.y_hi, side)
    lines = contour_generator(x=x, y=y, z=values).lines(0.0)
    path = "".join(_path(sheet.units(line[:, 0], line[:, 1])) for line in lines if isinstance(line, np.ndarray))
    if not path:
        return image
    return f'{image}<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="{opacity}" stroke-width="3.5"/>'


def png(values: Array) -> bytes:
    """Write values, of which ±1 is sure, as a PNG; the larger, the less transparent.

    Args:
        values: n × n, y ascending. What is not finite is transparent.
    """
    levels = np.clip(np.rint(np.nan_to_num(values, posinf=0.0, neginf=0.0) * LEVELS), -LEVELS, LEVELS)
    image = Image.fromarray((levels[::-1] + LEVELS).astype(np.uint8), mode="L")
    image.putpalette([part for level in range(-LEVELS, LEVELS + 1) for part in (POSITIVE if level > 0 else NEGATIVE)])
    # Rising faster at first: a field that is hardly sure is still seen.
    alpha = bytes(round(OPACITY * (abs(level) / LEVELS) ** 0.75) for level in range(-LEVELS, LEVELS + 1))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", transparency=alpha, optimize=True)
    return buffer.getvalue()


def _path(units: npt.NDArray[np.int64]) -> str:
    """Write a line through whole-numbered points: where it starts, then how far each next one is."""
    steps = np.diff(units, axis=0)
    steps = steps[(steps != 0).any(axis=1)]
    if not len(steps):
        return ""
    moves = "".join(f" {x} {y}" for x, y in steps).replace(" -", "-").strip()
    return f"M{units[0][0]} {units[0][1]}l{moves}"


def _points(sheet: Sheet, plane: Plane, scale: float) -> str:
    """Draw points as lines of no length, whose ends are round for positive labels and square for the others."""
    drawn = ""
    for points, faint in ((plane.test_points, True), (plane.points, False)):
        for label, chosen in _labelled(points, plane.classes, scale):
            cap, colour = ("round", SERIES[0]) if label > 0 else ("square", SERIES[1])
            dots = "".join(f"M{x} {y}h0" for x, y in sheet.units(chosen[:, 0], chosen[:, 1]))
            # A square of the same width looks larger than a circle.
            width = 10 if label > 0 else 8.5
            layers = [
                ("var(--paper)", width + 4, 1.0),
                (colour, width, 1.0 if plane.classes else 0.3 + 0.7 * abs(label)),
            ]
            if faint or label == 0:
                layers = [("currentColor", 5, 0.4 if plane.classes else 0.25)]
            drawn += "".join(
                f'<path d="{dots}" fill="none" stroke="{ink}" stroke-opacity="{opacity:g}" stroke-width="{thick:g}" '
                f'stroke-linecap="{cap}"/>'
                for ink, thick, opacity in layers
            )
    return drawn


def _labelled(points: Array, classes: bool, scale: float) -> list[tuple[float, Array]]:
    """Group points by class, or by the bin of their label between −1 and 1."""
    if classes:
        groups = [(label, points[points[:, 2] == label]) for label in (-1.0, 1.0)]
    else:
        half = (BINS - 1) / 2
        bins = np.clip(np.rint(points[:, 2] / scale * half), -half, half) / half
        groups = [(float(label), points[bins == label]) for label in np.unique(bins)]
    return [(label, chosen) for label, chosen in groups if len(chosen)]
