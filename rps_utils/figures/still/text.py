"""The texts of a figure: lines and colours out of the few HTML tags that plotly knows."""

from __future__ import annotations

import html
import re

from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker

_SPAN = re.compile(r'<span style="color:\s*(#[0-9a-fA-F]{6})">(.*?)</span>')
_TAG = re.compile(r"<[^>]*>")


def written_lines(text: str | None) -> list[str]:
    """Return the lines of a text, without tags."""
    return [html.unescape(_TAG.sub("", line)) for line in re.split(r"<br\s*/?>", text or "")]


def coloured(line: str, colour: str) -> list[tuple[str, str]]:
    """Return a line in pieces, each with its colour."""
    pieces, at = [], 0
    for span in _SPAN.finditer(line):
        pieces += [(line[at : span.start()], colour), (span[2], span[1])]
        at = span.end()
    plain = [(html.unescape(_TAG.sub("", piece)), shade) for piece, shade in [*pieces, (line[at:], colour)]]
    return [(piece, shade) for piece, shade in plain if piece]


def place_words(
    canvas: Figure,
    at: tuple[float, float],
    text: str,
    align: tuple[float, float],
    *,
    size: float,
    colour: str | None,
    veil: bool = False,
) -> None:
    """Write a text at a place, in parts of the canvas; `align`: which part of its box lies there, 0 left or bottom."""
    font = {"fontsize": 0.72 * size}
    lines = []
    for line in re.split(r"<br\s*/?>", text):
        pieces = coloured(line, colour or "#1f2933") or [(" ", "#000000")]
        words = [TextArea(piece, textprops={"color": shade, **font}) for piece, shade in pieces]
        lines.append(HPacker(children=words, pad=0, sep=0, align="baseline"))
    box = VPacker(
        children=lines, pad=0, sep=3, align="right" if align[0] == 1 else "left" if align[0] == 0 else "center"
    )
    behind = {"facecolor": (1, 1, 1, 0.7 if veil else 0), "edgecolor": "none"}
    look = {"box_alignment": align, "bboxprops": behind, "pad": 0.1, "frameon": True}
    canvas.add_artist(AnnotationBbox(box, at, xycoords=canvas.transFigure, **look))
