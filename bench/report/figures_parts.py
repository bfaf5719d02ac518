"""The figure of what a step is made of: fetching the batch, forward, backward, update."""

from typing import Any

import pandas as pd
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from bench.analysis import words
from bench.analysis.speed import PARTS
from bench.report.axes import batch_places
from bench.report.plot import Panel, Plot, Scene, tidy
from bench.report.style import INK, SERIES, canvas

#: Part of a step → colour and hatching, which tells neighbours apart without colours.
LOOKS = dict(zip(PARTS, zip(SERIES, ("", "///", "", "..."), strict=False), strict=True))
#: So many batch sizes are labelled side by side.
LABELS = 8


def step_parts(scene: Scene) -> Plot | None:
    """Draw each part's share of a step against batch size, a panel per optimizer; None where none was measured."""
    rows = scene.rows(scene.results.parts)
    if rows.empty:
        return None
    panels = [
        _panel(scene, rows[rows["optimizer"] == optimizer], optimizer)
        for optimizer in scene.optimizers
        if (rows["optimizer"] == optimizer).any()
    ]
    windows = scene.say.listing([str(n) for n in sorted({int(n) for n in rows["n"]})])
    over = rows["parts_over_step"]
    caption = scene.say(
        "figure.parts.caption",
        windows=windows,
        least=words.percent(float(over.min()), 0),
        most=words.percent(float(over.max()), 0),
    )
    columns = ["optimizer", "batch_size", "full_batch", "part", "ms", "ms_lo", "ms_hi", "n", "share", "step_ms"]
    table = tidy(rows, [*columns, "parts_over_step"])
    return Plot(scene.name("parts"), scene.say("figure.parts.title"), caption, tuple(panels), table, 3)


def _panel(scene: Scene, rows: pd.DataFrame, optimizer: str) -> Panel:
    say = scene.say
    shares = rows.pivot(index="batch_size", columns="part", values="share").sort_index()
    whole = rows.drop_duplicates("batch_size").set_index("batch_size")["step_ms"].sort_index()
    sizes = [int(size) for size in shares.index]
    places = range(len(sizes))
    with scene.style():
        figure = canvas(height=3.7)
        axes = figure.add_subplot()
        axes.grid(visible=False)
        bottom = pd.Series(0.0, index=shares.index)
        for part, (colour, hatch) in LOOKS.items():
            looks: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": INK, "linewidth": 0.4}
            axes.bar(places, shares[part], bottom=bottom, width=0.82, **looks)
            bottom += shares[part]
        axes.set_ylim(0, 1.09)
        axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
        for size in batch_places(axes, sizes, scene.full, say, LABELS):
            step = words.number(float(whole[size]), 2)
            axes.text(sizes.index(size), 1.015, step, ha="center", va="bottom", fontsize=8.5)
        axes.set_ylabel(say("figure.parts.share"))
        axes.set_title(say("figure.parts.panel", optimizer=optimizer))
        handles = [
            Patch(facecolor=colour, hatch=hatch, edgecolor=INK, linewidth=0.4, label=say(f"figure.parts.part.{part}"))
            for part, (colour, hatch) in LOOKS.items()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1.6, columnspacing=1.2)
        name = scene.name("parts", optimizer)
        return scene.panel(figure, name, optimizer, _alt(scene, shares, whole, optimizer))


def _alt(scene: Scene, shares: pd.DataFrame, whole: pd.Series, optimizer: str) -> str:
    """Say what the parts take at the smallest and the largest batch."""
    say, told = scene.say, []
    for size in sorted({shares.index[0], shares.index[-1]}):
        taken = [(say(f"figure.parts.part.{part}"), float(shares[part][size])) for part in PARTS]
        parts = say("list.join").join(f"{name} {words.percent(share, 0)}" for name, share in taken)
        step = f"{words.number(float(whole[size]), 2)} ms"
        told.append(say("figure.parts.at", batch=scene.batch(float(size)), step=step, parts=parts))
    return say("figure.parts.alt", optimizer=optimizer, told=say("list.clause").join(told))
