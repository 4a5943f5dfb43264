"""A plotly figure as a still picture, drawn by matplotlib without a browser, the same bytes each time."""

from __future__ import annotations

import io
from typing import Any

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox, BboxTransformTo, Transform

from rps_utils.figures.still.axes import AxisPair, axis_of, pairs_of, set_axes, set_ranges
from rps_utils.figures.still.text import place_words, written_lines
from rps_utils.figures.still.traces import DASHES, Place, check_kinds, colour_of, draw_trace, series_colours

WIDTH, HEIGHT, SHARPNESS = 800, 450, 1.5  # pixels of a page, and of the picture for one of them
MARGINS = (80, 80, 100, 80)  # left, right, top, bottom, where neither figure nor template names one
COLOURS = 96  # of the palette: CT slices still look smooth, and the file is a third


def png(figure: go.Figure) -> bytes:
    """Return a figure as a PNG.

    Drawn is what the figures of this package use: scatter, box, bar, histogram, heatmap and contour traces with their
    axes, legends, annotations and lines. Of a figure with a slider, the picture shows where it starts.

    Raises
    ------
    ValueError
        The figure holds a kind of trace that has no picture.
    """
    check_kinds(figure)
    canvas = _draw(figure)
    raw = io.BytesIO()
    canvas.savefig(raw, format="png", bbox_inches="tight", pad_inches=0.12, pil_kwargs={"compress_level": 0})
    return _small(raw)


def _small(raw: io.BytesIO) -> bytes:
    """Return the picture with a palette of few colours."""
    from PIL import Image

    out = io.BytesIO()
    picture = Image.open(raw).convert("RGB")
    picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, "PNG")
    return out.getvalue()


def _draw(figure: go.Figure) -> Figure:
    layout = figure.layout
    width, height = layout.width or WIDTH, layout.height or HEIGHT
    canvas = Figure((width / 100, height / 100), dpi=100 * SHARPNESS, facecolor="white")
    paper = _paper(canvas, layout, width, height)
    axes = {pair: _new_axes(canvas, paper, pair) for pair in pairs_of(figure)}
    for pair, place in axes.items():
        set_axes(place, pair, figure)
    handles = _draw_traces(figure, axes)
    for pair, place in axes.items():
        set_ranges(place, pair, figure)
        place.apply_aspect()
    for shape in layout.shapes:
        _draw_line(canvas, shape, axes, paper)
    for note in layout.annotations:
        _annotate(canvas, figure, note, axes, paper)
    _legend(canvas, figure, handles, paper, width)
    left, top = paper.transform((0, 1))[0] / canvas.bbox.width, 1 - 12 / height
    title = "\n".join(written_lines(layout.title.text))
    canvas.text(left, top, title, fontsize=11, va="top", color=layout.template.layout.font.color)
    return canvas


def _paper(canvas: Figure, layout: go.Layout, width: int, height: int) -> Transform:
    """Return the way from the unit square of the plot area to the canvas."""
    own, usual = layout.margin, layout.template.layout.margin
    left, right, top, bottom = (
        next(value for value in values if value is not None)
        for values in zip((own.l, own.r, own.t, own.b), (usual.l, usual.r, usual.t, usual.b), MARGINS, strict=True)
    )
    inner = Bbox([[left / width, bottom / height], [1 - right / width, 1 - top / height]])
    return BboxTransformTo(inner) + canvas.transFigure


def _new_axes(canvas: Figure, paper: Transform, pair: AxisPair) -> Axes:
    box = Bbox([[pair.x_domain[0], pair.y_domain[0]], [pair.x_domain[1], pair.y_domain[1]]])
    place = box.transformed(paper).transformed(canvas.transFigure.inverted())
    return canvas.add_axes(place.bounds)


def _draw_traces(figure: go.Figure, axes: dict[AxisPair, Axes]) -> list[tuple[Any, str]]:
    """Draw all visible traces; return what the legend is to show."""
    handles, colours = [], series_colours(figure)
    before: dict[AxisPair, Any] = {}
    shown = [trace for trace in figure.data if trace.visible in (None, True)]
    for number, trace in enumerate(figure.data):
        if trace.visible not in (None, True):
            continue
        pair = next(p for p in axes if p.holds(trace))
        place = Place(figure, axes[pair], pair, colours[number], before.get(pair))
        handle = draw_trace(trace, place)
        before[pair] = trace
        if trace.showlegend is not False and trace.name and handle is not None:
            handles.append((handle, " ".join(written_lines(trace.name))))
    several = figure.layout.showlegend or (len(shown) > 1 and figure.layout.showlegend is None)
    return handles if several or any(t.showlegend for t in shown) else []


def _legend(canvas: Figure, figure: go.Figure, handles: list, paper: Transform, width: int) -> None:
    if not handles or figure.layout.showlegend is False:
        return
    legend = figure.layout.legend
    longest = max(len(name) for _, name in handles)
    columns = max(1, min(len(handles), int((width - 100) / (7 * longest + 50))))
    at = (legend.x or 0, legend.y if legend.y is not None else 1.02)
    canvas.legend(
        *zip(*handles, strict=True),
        loc="lower left" if at[1] >= 1 or at[1] < -0.5 else "upper left",
        bbox_to_anchor=at,
        bbox_transform=paper,
        ncols=columns,
        **{"fontsize": 9, "frameon": False, "borderpad": 0, "handlelength": 1.8, "columnspacing": 1.4},
    )


def _pixel(value: Any, ref: str | None, side: str, axes: dict[AxisPair, Axes], paper: Transform) -> float:
    """Return where a value along one side ("x" or "y") lies on the canvas; `ref` says what it counts."""
    name, _, domain = (ref or side).partition(" ")
    if name == "paper":
        return float(paper.transform((value, value))["xy".index(side)])
    pair = next(p for p in axes if name == getattr(p, side))
    place = axes[pair]
    if domain:
        return float(place.transAxes.transform((value, value))["xy".index(side)])
    position = pair.position(side, value)
    if side == "x":
        return float(place.get_xaxis_transform().transform((position, 0))[0])
    return float(place.get_yaxis_transform().transform((0, position))[1])


def _draw_line(canvas: Figure, shape: Any, axes: dict[AxisPair, Axes], paper: Transform) -> None:
    """Draw a shape: a line, or the rectangle between two points."""
    (x0, y0), (x1, y1) = (
        canvas.transFigure.inverted().transform(
            (_pixel(x, shape.xref, "x", axes, paper), _pixel(y, shape.yref, "y", axes, paper))
        )
        for x, y in ((shape.x0, shape.y0), (shape.x1, shape.y1))
    )
    line = {"linewidth": 0.75 * (shape.line.width or 1.5), "transform": canvas.transFigure, "zorder": 1.5}
    if shape.type == "line":
        dash = DASHES.get(shape.line.dash or "solid")
        canvas.add_artist(Line2D([x0, x1], [y0, y1], color=colour_of(shape.line.color, "#7b8794"), ls=dash, **line))
        return
    face = colour_of(shape.fillcolor, "none")
    canvas.add_artist(Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor=face, edgecolor="none", **line))


def _logarithmic(figure: go.Figure, ref: str) -> bool:
    return ref != "paper" and " " not in ref and axis_of(figure, ref).type == "log"


def _annotate(canvas: Figure, figure: go.Figure, note: Any, axes: dict[AxisPair, Axes], paper: Transform) -> None:
    if not note.text or note.visible is False:
        return
    # A place on a logarithmic axis is given by its logarithm.
    given = {
        side: 10 ** note[side] if _logarithmic(figure, note[f"{side}ref"] or side) else note[side] for side in "xy"
    }
    x, y = (_pixel(given[side], note[f"{side}ref"], side, axes, paper) for side in "xy")
    at = (x + (note.xshift or 0) * SHARPNESS, y + (note.yshift or 0) * SHARPNESS)
    # An anchor that is not given: on paper by thirds, elsewhere the middle.
    align = (
        {"left": 0.0, "center": 0.5, "right": 1.0}.get(note.xanchor, _third(note.x, note.xref)),
        {"bottom": 0.0, "middle": 0.5, "top": 1.0}.get(note.yanchor, _third(note.y, note.yref)),
    )
    at = canvas.transFigure.inverted().transform(at)
    look = {"size": note.font.size or 13, "colour": note.font.color, "veil": bool(note.bgcolor)}
    place_words(canvas, tuple(at), note.text, align, **look)


def _third(value: Any, ref: str | None) -> float:
    if ref != "paper" or isinstance(value, str):
        return 0.5
    return 0.0 if value <= 1 / 3 else 1.0 if value >= 2 / 3 else 0.5
