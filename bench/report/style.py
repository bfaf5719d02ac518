"""How figures look: one palette safe for colour-blind readers, markers and dashes beside it, light and dark.

Figures are drawn once. Ink and series colours are sentinels that `svg` replaces: in the page by CSS
variables, so that both themes share one drawing; in the file of its own by fixed colours with a small style
of both themes.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure as Canvas

from bench.report.fonts import FONT_STACKS, LAYOUT, layout_fonts

INK = "#010203"
#: What lies behind the drawing: fills marks that should look hollow.
PAPER = "#040506"

#: Drawn colour → CSS variable. The first six follow Okabe and Ito's palette, each shifted so that it keeps a
#: contrast of at least 3 against the page in either theme.
SERIES = ("#0072b2", "#d55e00", "#00946c", "#a8509a", "#8a6d00", "#5b6570")
SERIES_DARK = ("#5cb3ee", "#f28c4c", "#36c596", "#dd92cb", "#dcc04a", "#a9b3bd")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[tuple[float, ...] | str, ...] = ("", (5, 1.6), (1.4, 1.4), (6, 1.4, 1.4, 1.4), (3, 1.4), (8, 2))

#: Ordered series (batch sizes in the learning curves): small to large.
RAMP = ("#7a3fa0", "#5a55c4", "#2a70c0", "#0a7f95", "#1f8a5b", "#6b8212")
RAMP_DARK = ("#c792ea", "#9fa2f7", "#6fb3f2", "#4cc5d3", "#62cf98", "#b9cf5a")

#: Size of a panel in inches; in the page it fills a phone's width at about its natural size.
PANEL = (4.7, 3.5)

_SETTINGS: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "font.size": 10,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.7,
    "hatch.color": INK,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "patch.edgecolor": INK,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
}


#: Labels that stand on data get a rim of the background's colour.
HALO = "[id*='-halo-'] text{paint-order:stroke;stroke:var(--paper);stroke-width:3px}"


@contextmanager
def figure_style(language: str = "en") -> Iterator[None]:
    """Draw in the report's style and language, without touching anyone else's matplotlib settings."""
    settings = _SETTINGS | {"font.family": layout_fonts(language)}
    with warnings.catch_warnings(), sns.axes_style("ticks"), mpl.rc_context(settings):
        # Seaborn 0.13 still calls what newer pandas and matplotlib have deprecated.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"seaborn\.")
        warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module=r"seaborn\.")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"seaborn\.")
        yield


def canvas(width: float = PANEL[0], height: float = PANEL[1]) -> Canvas:
    """Return an empty figure of the given size in inches, which no window or global list knows of."""
    return Canvas(figsize=(width, height), layout="constrained")


@dataclass(frozen=True)
class Drawing:
    """One drawing, twice.

    Attributes:
        inline: SVG element for the page: ids made unique, no size of its own, colours as CSS variables.
        file: SVG document of its own, with both themes inside.
    """

    inline: str
    file: str


def svg(
    figure: Canvas, name: str, title: str, alt: str, over: str = "", file_over: str = "", language: str = "en"
) -> Drawing:
    """Write a figure as SVG, the same bytes for the same figure.

    Args:
        figure: What to draw.
        name: Name of the panel, unique in the report; prefixes every id.
        title: Title, read out with the file.
        alt: What the figure shows, in words.
        over: What is laid over it in the page, as SVG in points from the upper left corner.
        file_over: The same in the file of its own.
        language: Of what is written in it.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(rf"'{LAYOUT}'(?:, [^;\"]*)?", FONT_STACKS[language], text)
    text = re.sub(r"\n\s*", "\n", text)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box is not None
    body = body.removesuffix("\n").removesuffix("</svg>")
    return drawing(box[1], f"{body}{over}</svg>\n", title, alt, f"{body}{file_over}</svg>\n", language)


def drawing(box: str, body: str, title: str, alt: str, file_body: str | None = None, language: str = "en") -> Drawing:
    """Finish a drawing.

    Args:
        box: Its view box.
        body: What stands between the opening and the closing tag, the latter included; ids are unique in the page.
        title: Title, read out with the file.
        alt: What it shows, in words.
        file_body: The same for the file of its own, where that differs.
        language: Of what is written in it; the file says it, so that ideographs look as they do there.
    """
    shared = f'viewBox="{box}" stroke-linejoin="round" stroke-linecap="butt"'
    inline = f'<svg role="img" aria-label="{html.escape(alt)}" {shared}>{_themed(body)}'
    size = "".join(
        f' {side}="{float(part):g}"' for side, part in zip(("width", "height"), box.split()[2:], strict=True)
    )
    spoken = "" if language == "en" else f' lang="{language}"'
    file = (
        f'<svg xmlns="http://www.w3.org/2000/svg"{spoken} role="img"{size} {shared}>'
        f"<title>{html.escape(title)}</title><desc>{html.escape(alt)}</desc>"
        f"<style>{_file_style()}</style>{_themed(file_body or body)}"
    )
    return Drawing(inline, file)


def theme_variables(dark: bool) -> str:
    """Return the CSS custom properties of the series colours in one theme."""
    series, ramp = (SERIES_DARK, RAMP_DARK) if dark else (SERIES, RAMP)
    pairs = [*((f"--s{i}", c) for i, c in enumerate(series)), *((f"--r{i}", c) for i, c in enumerate(ramp))]
    return "".join(f"{name}:{colour};" for name, colour in pairs)


def _themed(body: str) -> str:
    body = body.replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    for prefix, colours in (("s", SERIES), ("r", RAMP)):
        for index, colour in enumerate(colours):
            body = body.replace(colour, f"var(--{prefix}{index},{colour})")
    return body


def _file_style() -> str:
    light, dark = theme_variables(dark=False), theme_variables(dark=True)
    return (
        f"{HALO}svg{{color:#1d2126;background:#fdfdfc;--paper:#fdfdfc;{light}}}"
        f"@media(prefers-color-scheme:dark){{svg{{color:#d9dde1;background:#14171a;--paper:#14171a;{dark}}}}}"
    )
