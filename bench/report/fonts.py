"""Fonts of the drawings: what the reader's machine sets them in, and what their layout is computed with."""

import atexit
import functools
import tempfile
from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib.tables._c_m_a_p import CmapSubtable
from matplotlib import font_manager

#: What a reader has, first come first served.
FONT_STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
#: The same by language: Latin letters and digits look as in the others, then fonts that have the language's own.
FONT_STACKS = {
    "en": FONT_STACK,
    "zh": (
        "system-ui, -apple-system, 'Segoe UI', Roboto, 'PingFang SC', 'Hiragino Sans GB', 'Microsoft YaHei', "
        "'Noto Sans CJK SC', 'Noto Sans SC', 'Source Han Sans SC', 'WenQuanYi Micro Hei', 'Liberation Sans', Arial, "
        "sans-serif"
    ),
}
#: The same of headings in the page, where the language has other letters than English.
HEADING_STACKS = {
    "zh": "'Iowan Old Style', Palatino, 'Songti SC', 'Noto Serif CJK SC', 'Source Han Serif SC', Georgia, serif",
}
#: Metrics of a wide font that matplotlib brings along: what fits with it fits with any system font.
LAYOUT = "DejaVu Sans"
#: Name of the font of `wide_font`.
WIDE = "One Wide Box"
#: Characters that are one em wide in every font that has them: ideographs, their punctuation and full-width forms.
WIDE_CHARACTERS = ((0x2E80, 0x303F), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF00, 0xFF60))
_EM = 1000


def layout_fonts(language: str) -> list[str]:
    """Return the families that the layout of a language's drawings is computed with; their glyphs are never drawn."""
    if language == "en":
        return [LAYOUT]
    wide_font()
    return [LAYOUT, WIDE]


def page_fonts(language: str) -> str:
    """Return what the page's style sheet says besides for a language's letters; nothing for English."""
    if language == "en":
        return ""
    # Upright ideographs in headings that are turned would stand on their heads.
    turned = ".matrix thead th span{text-orientation:sideways}"
    return f":root{{--sans:{FONT_STACKS[language]};--serif:{HEADING_STACKS[language]}}}{turned}"


def half_ems(text: str) -> int:
    """Return how wide a text is in halves of an em, which is about a letter: 2 for an ideograph, 1 for all else."""
    return len(text) + sum(1 for letter in text if is_wide(letter))


def is_wide(letter: str) -> bool:
    """Whether a character is as wide as an ideograph."""
    return any(first <= ord(letter) <= last for first, last in WIDE_CHARACTERS)


@functools.cache
def wide_font() -> Path:
    """Make a font in which every wide character is the same box of one em, and make it known to matplotlib.

    Drawings keep their text as text, which the reader's own fonts set; matplotlib needs glyphs for the room it takes
    alone. It brings along no font with ideographs, and one that is installed somewhere would give another layout there.
    """
    builder = FontBuilder(_EM, isTTF=True)
    builder.setupGlyphOrder([".notdef", "box"])
    pen = TTGlyphPen(None)
    for number, corner in enumerate(((40, -110), (40, 850), (960, 850), (960, -110))):
        (pen.lineTo if number else pen.moveTo)(corner)
    pen.closePath()
    builder.setupCharacterMap({})
    builder.font["cmap"].tables = [_many_to_one()]
    builder.setupGlyf(dict.fromkeys((".notdef", "box"), pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "box"), (_EM, 40)))
    builder.setupHorizontalHeader(ascent=880, descent=-120)
    builder.setupNameTable({"familyName": WIDE, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=880, usWinAscent=880, usWinDescent=120)
    builder.setupPost()
    folder = tempfile.TemporaryDirectory(prefix="bench-font-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "wide.ttf"
    builder.save(path)
    font_manager.fontManager.ttflist += [
        font_manager.FontEntry(str(path), name=WIDE, weight=weight, size="scalable") for weight in (400, 700)
    ]
    return path


def _many_to_one() -> CmapSubtable:
    """Return a character map of format 13, in which a range of characters has one glyph."""
    table = CmapSubtable.newSubtable(13)
    table.platformID, table.platEncID, table.language = 3, 10, 0
    table.format, table.reserved, table.length, table.nGroups = 13, 0, 0, 0
    table.cmap = {code: "box" for first, last in WIDE_CHARACTERS for code in range(first, last + 1)}
    return table
