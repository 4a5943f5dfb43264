"""The axes of a figure: where they lie, what they count, and how they are written."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from rps_utils.figures.still.text import written_lines


@dataclass(frozen=True)
class AxisPair:
    """An x axis and a y axis that belong together, by their names in the figure (``x2``, ``y2``)."""

    x: str
    y: str
    x_domain: tuple[float, float]
    y_domain: tuple[float, float]
    categories: dict[str, tuple[str, ...]] = field(hash=False, compare=False)  # of "x" and "y", where they count none

    def holds(self, trace: Any) -> bool:
        """Say whether a trace is drawn on these axes."""
        return (own_part(trace, "xaxis") or "x", own_part(trace, "yaxis") or "y") == (self.x, self.y)

    def position(self, side: str, value: Any) -> Any:
        """Return where a value lies along ``x`` or ``y``: a category at its place in the list."""
        names = self.categories[side]
        return names.index(value) if names and isinstance(value, str) else value


def values_of(given: Any) -> np.ndarray:
    """Return what a trace holds as an array; plotly keeps numbers that came as JSON packed."""
    if isinstance(given, dict):
        packed = np.frombuffer(base64.b64decode(given["bdata"]), dtype=given["dtype"])
        return packed.reshape([int(n) for n in str(given.get("shape", packed.size)).split(",")])
    return np.asarray(given, dtype=object)


def own_part(trace: Any, name: str) -> Any:
    """Return a part of a trace, or None where its kind has no such part."""
    return trace[name] if name in trace else None  # noqa: SIM401


def axis_of(figure: go.Figure, name: str) -> Any:
    """Return the axis called ``x2`` in the figure."""
    return figure.layout[f"{name[0]}axis{name[1:]}"]


def pairs_of(figure: go.Figure) -> list[AxisPair]:
    """Return the pairs of axes that traces are drawn on, in the order of mention."""
    names = list(dict.fromkeys((own_part(t, "xaxis") or "x", own_part(t, "yaxis") or "y") for t in figure.data)) or [
        ("x", "y")
    ]
    found = []
    for x, y in names:
        across, up = (tuple(axis_of(figure, name).domain or (0, 1)) for name in (x, y))
        lists = {side: _categories(figure, name, side) for side, name in (("x", x), ("y", y))}
        found.append(AxisPair(x, y, across, up, lists))
    return found


def _categories(figure: go.Figure, name: str, side: str) -> tuple[str, ...]:
    """Return the categories of an axis in the order of mention; nothing where it counts numbers."""
    side_of = {"x": "xaxis", "y": "yaxis"}[side]
    values: list[Any] = []
    for trace in figure.data:
        if (own_part(trace, side_of) or side) == name:
            values += _along(trace, side)
    told = axis_of(figure, name).type == "category"
    if told or any(isinstance(value, str) for value in values):
        return tuple(dict.fromkeys(str(value) for value in values))
    return ()


def _along(trace: Any, side: str) -> list[Any]:
    """Return what a trace says along one side; a box without positions stands at its name."""
    values = own_part(trace, side)
    if values is None and trace.type == "box":
        return [trace.name]
    return [] if values is None else list(values_of(values))


def set_axes(place: Axes, pair: AxisPair, figure: go.Figure) -> None:
    """Give matplotlib's axes the look, scale, range and ticks of the figure's."""
    for side, name in (("x", pair.x), ("y", pair.y)):
        _set_axis(place, side, axis_of(figure, name), pair, figure)
    place.spines[["top", "right"]].set_visible(False)
    place.set_axisbelow(True)
    if axis_of(figure, pair.y).scaleanchor or axis_of(figure, pair.x).scaleanchor:
        place.set_aspect("equal", adjustable="box")


def _set_axis(place: Axes, side: str, axis: Any, pair: AxisPair, figure: go.Figure) -> None:
    look = figure.layout.template.layout[f"{side}axis"]
    ours = place.xaxis if side == "x" else place.yaxis
    shown = axis.visible is not False
    spine = place.spines["bottom" if side == "x" else "left"]
    spine.set(color=look.linecolor, visible=shown and axis.showline is not False)
    if shown and axis.showgrid is not False and not pair.categories[side]:
        ours.grid(True, color=look.gridcolor, linewidth=0.75)
    words = "\n".join(written_lines(axis.title.text)) if shown else ""
    ours.set_label_text(words, fontsize=9.4, color=figure.layout.template.layout.font.color)
    if axis.type == "log":
        place.set(**{f"{side}scale": "log"})
    _set_ticks(ours, axis, pair.categories[side], shown)
    marks = shown and axis.ticks != ""
    tick = {"labelsize": 8.8, "color": look.tickcolor, "labelcolor": figure.layout.template.layout.font.color}
    place.tick_params(axis=side, which="major", length=3.5 if marks else 0, **tick)
    place.tick_params(axis=side, which="minor", length=0)


def _set_ticks(ours: Any, axis: Any, categories: Sequence[str], shown: bool) -> None:
    values = axis.tickvals
    if not shown or axis.showticklabels is False:
        ours.set_major_formatter(FuncFormatter(lambda value, place: ""))
        ours.set_minor_locator(NullLocator())
    if not shown:
        ours.set_major_locator(NullLocator())
    elif values is not None:
        at = [categories.index(v) if isinstance(v, str) and v in categories else v for v in values]
        ours.set_major_locator(FixedLocator(at))
        ours.set_minor_locator(NullLocator())
    elif categories:
        ours.set_major_locator(FixedLocator(range(len(categories))))
    elif axis.dtick is not None and axis.type != "log":
        ours.set_major_locator(MultipleLocator(float(axis.dtick)))
    if shown and axis.showticklabels is not False and (write := _writer(axis, categories)):
        ours.set_major_formatter(FuncFormatter(write))


def _writer(axis: Any, categories: Sequence[str]) -> Callable[[float, int], str] | None:
    """Return how a tick is written, or None for the usual way."""
    if axis.ticktext is not None:
        written = dict(zip(list(axis.tickvals), axis.ticktext, strict=True))
        named = (
            {(categories.index(k) if k in categories else k): v for k, v in written.items()} if categories else written
        )
        return lambda value, _: "\n".join(written_lines(str(named.get(_key(value, named), ""))))
    if categories:
        lines = ["\n".join(written_lines(name)) for name in categories]
        return lambda value, _: lines[round(value)] if 0 <= round(value) < len(lines) else ""
    if axis.tickformat:
        return lambda value, _: format(value, axis.tickformat.replace("~", ""))
    return (lambda value, _: f"{value:g}") if axis.type == "log" else None


def _key(value: float, named: dict) -> Any:
    return min((k for k in named if not isinstance(k, str)), key=lambda k: abs(k - value), default=None)


def set_ranges(place: Axes, pair: AxisPair, figure: go.Figure) -> None:
    """Set what the axes show, once the traces are drawn."""
    for side, name in (("x", pair.x), ("y", pair.y)):
        axis = axis_of(figure, name)
        followed = axis_of(figure, axis.matches) if axis.matches else axis
        ends = axis.range or followed.range
        if ends is not None:
            ends = [10 ** float(end) for end in ends] if axis.type == "log" else [float(end) for end in ends]
            place.set(**{f"{side}lim": ends})
        elif pair.categories[side]:
            place.set(**{f"{side}lim": (-0.5, len(pair.categories[side]) - 0.5)})
        reverse = axis.autorange == "reversed" or followed.autorange == "reversed"
        if reverse:
            (place.invert_xaxis if side == "x" else place.invert_yaxis)()
