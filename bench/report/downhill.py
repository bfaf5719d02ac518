"""Pictures of paths: where each optimizer walks on a 2-D surface, and how the batch size shakes it."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from contourpy import FillType, contour_generator
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.analysis import words
from bench.analysis.pictures import Plane, noise_paths, path_ends
from bench.analysis.study import records, select
from bench.report.axes import legend
from bench.report.messages import Messages
from bench.report.plot import Panel, Plot, Scene, tidy
from bench.report.style import DASHES, INK, MARKERS, PAPER, SERIES, Drawing, canvas

Array = npt.NDArray[np.float64]

#: Levels of the loss: bands between them are so many shades.
LEVELS = 10
#: One shade; a band as high as the k-th level lies under k of them. The same in light and dark.
SHADE, SHADE_OPACITY = "#5f7f9f", 0.05
#: A plane of more nodes than this on a side is thinned for its contours.
MOST_NODES = 101
#: How far a contour may run from where it is, in widths of the plane.
THINNING = 7e-4


def paths(scene: Scene) -> Plot | None:
    """Draw the path of every optimizer over the contours of the surface, a panel per batch size."""
    trials, shown = scene.rows(scene.pictures.trials), scene.rows(scene.pictures.paths)
    if shown.empty:
        return None
    shown = shown.merge(trials[["cell", "lr", "seed"]], on=["cell", "lr", "seed"])
    ends = path_ends(scene.pictures, shown).merge(trials[["cell", "lr", "seed", "status"]], on=["cell", "lr", "seed"])
    shared: dict[str, str] = {}
    panels = []
    for size in sorted({int(size) for size in shown["batch_size"]}):
        for number, group in enumerate(scene.groups()):
            mine = select(shown[shown["optimizer"].isin(group)], batch_size=size)
            if not mine.empty:
                panels.append(_paths_panel(scene, mine, select(ends, batch_size=size), group, number, shared))
    columns = ["optimizer", "batch_size", "lr", "seed", "step", "x", "y"]
    title = scene.say("figure.downhill.title", task=scene.setting["task"])
    return Plot(scene.name("downhill"), title, _caption(scene, ends), tuple(panels), tidy(shown, columns), 3)


def _caption(scene: Scene, ends: pd.DataFrame) -> str:
    text, diverged = scene.say("figure.downhill.caption"), ends["status"] == "diverged"
    if named := _named(scene, ends[ends["left"] & ~diverged]):
        text += scene.say("figure.downhill.cut", names=named)
    if named := _named(scene, ends[diverged]):
        text += scene.say("figure.downhill.diverged", names=named)
    return text


def _named(scene: Scene, rows: pd.DataFrame) -> str:
    said = []
    for optimizer, group in rows.groupby("optimizer"):
        sizes = [scene.batch(size) for size in sorted(group["batch_size"])]
        said.append(scene.say("figure.downhill.named", optimizer=optimizer, sizes=scene.say.listing(sizes)))
    return scene.say.listing(said)


def _paths_panel(
    scene: Scene, rows: pd.DataFrame, ends: pd.DataFrame, group: list[str], number: int, shared: dict[str, str]
) -> Panel:
    size = int(rows["batch_size"].iloc[0])
    plane = scene.pictures.planes[str(rows["cell"].iloc[0])]
    batch = scene.batch(size)
    title = scene.say("panel.batch", batch=batch)
    with scene.style():
        figure = canvas(height=4.9)
        axes = figure.add_subplot()
        _surface(axes, plane)
        for index, optimizer in enumerate(group):
            _path(axes, rows[rows["optimizer"] == optimizer], index)
        _marks(axes, plane, rows)
        axes.set_title(title)
        legend(figure, group, columns=3)
        said = [_ending(row, scene.say) for row in records(ends[ends["optimizer"].isin(group)])]
        told = scene.say("list.clause").join(said)
        alt = scene.say("alt.paths", task=scene.setting["task"], batch=batch, told=told)
        name = scene.name("downhill", size, number or "")
        return _light(scene.panel(figure, name, title, alt), shared)


def _ending(row: dict[str, object], say: Messages) -> str:
    at = f"({words.number(float(str(row['x'])))}, {words.number(float(str(row['y'])))})"
    away, steps = float(str(row["distance"])), words.count(float(str(row["steps"])))
    how = "diverged" if row["status"] == "diverged" else "ends"
    text = say(f"alt.path.{how}", optimizer=row["optimizer"], at=at, steps=steps)
    if np.isfinite(away):
        text += say("alt.path.away", away=words.number(away, 2))
    return text + (say("alt.path.left") if row["left"] else "")


def noise(scene: Scene) -> Plot | None:
    """Draw the path of one optimizer at one learning rate, a small panel per batch size: what noise does."""
    trials = scene.rows(scene.pictures.trials)
    shown = noise_paths(trials, scene.rows(scene.pictures.paths))
    sizes = sorted({int(size) for size in shown["batch_size"]})
    if len(sizes) < 2:
        return None
    optimizer = str(shown["optimizer"].iloc[0])
    index = next(group.index(optimizer) for group in scene.groups() if optimizer in group)
    ends = path_ends(scene.pictures, shown).merge(
        scene.results.study.trials[["cell", "lr", "seed", "status"]], on=["cell", "lr", "seed"]
    )
    shared: dict[str, str] = {}
    panels = [_noise_panel(scene, select(shown, batch_size=size), ends, index, shared) for size in sizes]
    common = shown.loc[shown["common"], "lr"]
    rate = scene.say("figure.noise.rate", lr=words.learning_rate(float(common.iloc[0]))) if len(common) else ""
    elsewhere = "" if shown["common"].all() else scene.say("figure.noise.elsewhere")
    text = scene.say("figure.noise.caption", optimizer=optimizer, rate=rate, elsewhere=elsewhere)
    columns = ["optimizer", "batch_size", "lr", "seed", "step", "x", "y", "common"]
    title = scene.say("figure.noise.title", optimizer=optimizer)
    return Plot(scene.name("batch-noise"), title, text, tuple(panels), tidy(shown, columns), 4)


def _noise_panel(scene: Scene, rows: pd.DataFrame, ends: pd.DataFrame, index: int, shared: dict[str, str]) -> Panel:
    size, rate = int(rows["batch_size"].iloc[0]), float(rows["lr"].iloc[0])
    plane = scene.pictures.planes[str(rows["cell"].iloc[0])]
    title = scene.say("panel.batch", batch=scene.short_batch(size))
    title += "" if rows["common"].all() else f" ({words.learning_rate(rate)})"
    with scene.style():
        figure = canvas(2.5, 2.65)
        axes = figure.add_subplot()
        _surface(axes, plane)
        _path(axes, rows, index)
        _marks(axes, plane, rows)
        axes.set(xlabel="", ylabel="", title=title)
        told = scene.say("list.clause").join(_ending(row, scene.say) for row in records(select(ends, batch_size=size)))
        where = {"task": scene.setting["task"], "batch": scene.batch(size)}
        alt = scene.say("alt.paths_at", **where, lr=words.learning_rate(rate), told=told)
        return _light(scene.panel(figure, scene.name("batch-noise", size), title, alt), shared)


def _surface(axes: Axes, plane: Plane) -> None:
    """Draw the loss in shades, each level's region over the lower ones."""
    x_lo, x_hi, y_lo, y_hi = plane.extent
    axes.set(xlim=(x_lo, x_hi), ylim=(y_lo, y_hi), xlabel="x", ylabel="y")
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    for spine in axes.spines.values():
        spine.set_alpha(0.45)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    for index, region in enumerate(regions(plane)):
        axes.add_patch(
            PathPatch(
                region,
                facecolor=(SHADE, SHADE_OPACITY),
                edgecolor=(SHADE, 0.35),
                linewidth=0.6,
                zorder=0.5,
                gid=f"landscape{index}",
            )
        )


def regions(plane: Plane) -> list[Path]:
    """Return the regions where the loss is above each of its levels, ascending.

    Levels are evenly spaced in the logarithm of the loss above its minimum in the plane.
    """
    if plane.landscape is None:
        return []
    stride = -(-len(plane.landscape) // MOST_NODES)
    # From the middle outward, so that a thinned plane still reaches both ends.
    kept = np.unique(np.linspace(0, len(plane.landscape) - 1, -(-len(plane.landscape) // stride)).round().astype(int))
    loss = plane.landscape[np.ix_(kept, kept)]
    finite = np.isfinite(loss)
    if not finite.any():
        return []
    height = np.where(finite, loss, loss[finite].max()) - loss[finite].min()
    top = float(height.max())
    if top <= 0:
        return []
    low = max(float(np.quantile(height, 0.03)), 1e-5 * top)
    x_lo, x_hi, y_lo, y_hi = plane.extent
    share = kept / (len(plane.landscape) - 1)
    x, y = x_lo + share * (x_hi - x_lo), y_lo + share * (y_hi - y_lo)
    logarithm = np.log(np.maximum(height, low / 10))
    generator = contour_generator(x=x, y=y, z=logarithm, fill_type=FillType.OuterCode)
    found = []
    for level in np.linspace(np.log(low), np.log(top), LEVELS + 1)[:-1]:
        points, codes = generator.filled(level, np.log(top) + 1)[:2]
        parts = [
            _thinned(p, c, np.array([x_hi - x_lo, y_hi - y_lo]))
            for p, c in zip(points, codes, strict=True)
            if p is not None and c is not None
        ]
        if parts:
            found.append(Path.make_compound_path(*parts))
    return found


def _thinned(points: Array, codes: npt.NDArray[Any], size: Array, passes: int = 5) -> Path:
    """Leave out vertices that nobody would see: within a few tenths of a pixel of the line between their neighbours."""
    for _ in range(passes):
        before, here, after = (points[part] / size for part in (slice(None, -2), slice(1, -1), slice(2, None)))
        chord, way = after - before, here - before
        length = np.maximum(np.hypot(*chord.T), 1e-12)
        away = np.abs(chord[:, 0] * way[:, 1] - chord[:, 1] * way[:, 0]) / length
        plain = (codes[:-2] == Path.LINETO) & (codes[1:-1] == Path.LINETO) & (codes[2:] == Path.LINETO)
        # Every other one at most: the neighbours a vertex was held against must stay.
        gone = plain & (away < THINNING) & (np.arange(1, len(points) - 1) % 2 == 0)
        kept = np.concatenate([[True], ~gone, [True]])
        points, codes = points[kept], codes[kept]
    return Path(points, codes)


def _path(axes: Axes, rows: pd.DataFrame, index: int) -> None:
    places = rows.sort_values("step")[["x", "y"]].to_numpy(dtype=float)
    x, y = places[np.isfinite(places).all(axis=1)].T
    colour, order = SERIES[index], 0.1 * index
    # Rims lie under all paths and lines have gaps, so that paths on top of one another all show.
    axes.plot(x, y, color=PAPER, alpha=0.8, linewidth=3.2, zorder=2.5)
    axes.plot(
        x, y, color=colour, linewidth=1.6, linestyle=(0, DASHES[index]) if DASHES[index] else "-", zorder=3 + order
    )
    end = axes.scatter(x[-1:], y[-1:], s=62, marker=MARKERS[index], color=colour, zorder=5 + order)
    end.set(edgecolors=PAPER, linewidths=1.2)


def _marks(axes: Axes, plane: Plane, rows: pd.DataFrame) -> None:
    x, y = plane.minimisers.T
    axes.scatter(x, y, s=150, marker="*", color=INK, edgecolors=PAPER, linewidths=0.9, zorder=4.5)
    x, y = rows.sort_values("step")[["x", "y"]].iloc[:1].to_numpy(dtype=float).T
    axes.scatter(x, y, s=52, facecolors=PAPER, edgecolors=INK, linewidths=1.5, zorder=4.6)


_LAYER = re.compile(r'<g id="([\w-]+-landscape\d+)">\s*(<path.*?/>)\s*</g>', re.DOTALL)


def _light(panel: Panel, shared: dict[str, str]) -> Panel:
    """Make a panel smaller: numbers to a tenth of a pixel, and a surface that the page already has only by name."""

    def name_again(match: re.Match[str]) -> str:
        # Clipping regions have a name of their own in each panel but are the same wherever the drawing is.
        drawn = re.sub(r'clip-path="[^"]*"', "", match[2])
        first = shared.setdefault(drawn, match[1])
        return match[0] if first == match[1] else f'<use href="#{first}"/>'

    inline, file = (_rounded(text) for text in (panel.drawing.inline, panel.drawing.file))
    return Panel(panel.name, panel.title, panel.alt, Drawing(_LAYER.sub(name_again, inline), file))


def _rounded(text: str) -> str:
    return re.sub(
        r'\bd="([^"]+)"',
        lambda path: 'd="' + re.sub(r"\s*\n\s*|\s+$", "", re.sub(r"(\.\d)\d+", r"\1", path[1])) + '"',
        text,
    )
