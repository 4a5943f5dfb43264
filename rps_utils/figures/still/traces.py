"""The traces of a figure on matplotlib's axes: lines, points, boxes, bars, grids and outlines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.patches import Patch

from rps_utils.figures.still.axes import AxisPair, values_of
from rps_utils.figures.still.text import written_lines

DASHES = {"solid": "-", "dot": ":", "dash": "--", "dashdot": "-."}
SYMBOLS = {"circle": "o", "square": "s", "diamond": "D", "cross": "P", "x": "X", "line-ns": "|", "line-ew": "_"}
SYMBOLS |= {"x-thin": "x", "cross-thin": "+", "triangle-up": "^", "triangle-down": "v", "star": "*"}
THIN = {"|", "_", "x", "+"}


@dataclass(frozen=True)
class Place:
    """Where a trace is drawn: the figure, matplotlib's axes, the trace's colour, and the trace before it there."""

    figure: go.Figure
    axes: Axes
    pair: AxisPair
    colour: str
    before: Any

    def along(self, side: str, values: Any) -> np.ndarray:
        """Return positions along ``x`` or ``y``, categories by their place in the list."""
        return np.array([self.pair.position(side, value) for value in values_of(values)], float)


def colour_of(colour: Any, otherwise: Any) -> Any:
    """Return plotly's colour as matplotlib takes it."""
    if colour is None:
        return otherwise
    parts = re.fullmatch(r"rgba?\(([^)]*)\)", str(colour).strip())
    if not parts:
        return to_rgba(colour)
    numbers = [float(part) for part in parts[1].split(",")]
    return (*(part / 255 for part in numbers[:3]), *numbers[3:])


def series_colours(figure: go.Figure) -> list[str]:
    """Return the colour that each trace has where it names none."""
    wheel = figure.layout.colorway or figure.layout.template.layout.colorway
    return [wheel[number % len(wheel)] for number in range(len(figure.data))]


def check_kinds(figure: go.Figure) -> None:
    """Refuse a figure with a trace of which there is no picture, by ValueError."""
    for trace in figure.data:
        if trace.type not in _DRAW:
            known = ", ".join(_DRAW)
            raise ValueError(f"a trace of type {trace.type!r} has no still picture; there is one of: {known}")


def draw_trace(trace: Any, place: Place) -> Any:
    """Draw a trace; return what stands for it in a legend, or None."""
    return _DRAW[trace.type](trace, place)


# ---------------------------------------------------------------- lines and points


def _scatter(trace: Any, place: Place) -> Any:
    x, y = (place.along(side, trace[side]) for side in "xy")
    x, y = _moved_in_its_group(trace, place, x, y)
    mode = trace.mode or ("lines+markers" if len(x) < 20 else "lines")
    line = colour_of(trace.line.color, colour_of(_one(trace.marker.color), place.colour))
    stepped = _steps(x, y) if trace.line.shape == "hv" else (x, y)
    handle = None
    if trace.fill in ("tonexty", "toself", "tozeroy"):
        handle = _fill(trace, place, *stepped)
    if "lines" in mode and trace.line.width != 0:
        width = 0.75 * (trace.line.width or 2)
        (handle,) = place.axes.plot(*stepped, color=line, lw=width, ls=DASHES.get(trace.line.dash or "solid", "--"))
    if trace.error_x.array is not None or trace.error_y.array is not None:
        _error_bars(trace, place, x, y)
    if "markers" in mode:
        marks = _markers(trace, place, x, y)
        handle = handle or marks
    if "text" in mode:
        _texts(trace, place, x, y)
    return handle


def _one(value: Any) -> Any:
    """Return a colour that holds for all points, or None where each has its own."""
    return value if value is None or isinstance(value, str) else None


def _steps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def _fill(trace: Any, place: Place, x: np.ndarray, y: np.ndarray) -> Any:
    if trace.fill == "tonexty" and place.before is not None:
        left, low = (place.along(side, place.before[side]) for side in "xy")
        bottom = _steps(left, low) if place.before.line.shape == "hv" else (left, low)
        x, y = (np.concatenate([up, low[::-1]]) for up, low in zip((x, y), bottom, strict=True))
    elif trace.fill == "tozeroy":
        x, y = np.concatenate([x, x[::-1]]), np.concatenate([y, np.zeros(len(y))])
    (area,) = place.axes.fill(x, y, facecolor=colour_of(trace.fillcolor, (*to_rgba(place.colour)[:3], 0.3)), lw=0)
    return area


def _markers(trace: Any, place: Place, x: np.ndarray, y: np.ndarray) -> Any:
    marker, size = trace.marker, trace.marker.size
    sizes = np.broadcast_to(values_of(6 if size is None else size).astype(float), x.shape)
    colours = [colour_of(c, place.colour) for c in _each(marker.color, trace.line.color, len(x))]
    symbols = list(_each(marker.symbol, "circle", len(x)))
    opacity, drawn = marker.opacity if np.isscalar(marker.opacity) else None, None
    for symbol in dict.fromkeys(symbols):
        own = [k for k, other in enumerate(symbols) if other == symbol]
        hollow = str(symbol).endswith("-open")
        shape = SYMBOLS.get(str(symbol).removesuffix("-open"), "o")
        edge = [colours[k] for k in own]
        face = {"facecolors": "none", "edgecolors": edge} if hollow and shape not in THIN else {"c": edge}
        width = 0.75 * (marker.line.width or (1.5 if hollow or shape in THIN else 0))
        area = (0.72 * sizes[own]) ** 2
        drawn = place.axes.scatter(
            x[own], y[own], s=area, marker=shape, linewidths=width, alpha=opacity, zorder=3, clip_on=False, **face
        )
    return drawn


def _each(value: Any, otherwise: Any, count: int) -> Iterator[Any]:
    """Return a value for each point: the one that holds for all, or each its own."""
    several = value is not None and not isinstance(value, str)
    yield from (values_of(value) if several else [value if value is not None else otherwise] * count)


def _error_bars(trace: Any, place: Place, x: np.ndarray, y: np.ndarray) -> None:
    for number in range(len(x)):
        colour = list(_each(trace.marker.color, trace.line.color, len(x)))[number]
        bars = {}
        for side in "xy":
            error = trace[f"error_{side}"]
            if error.array is not None:
                ends = (error.array if error.arrayminus is None else error.arrayminus, error.array)
                bars[f"{side}err"] = [[abs(float(values_of(end)[number]))] for end in ends]
        style = {"ecolor": colour_of(colour, place.colour), "elinewidth": 1.1, "capsize": 2.5, "capthick": 1.1}
        place.axes.errorbar([x[number]], [y[number]], fmt="none", **bars, **style)


def _texts(trace: Any, place: Place, x: np.ndarray, y: np.ndarray) -> None:
    up, _, across = (trace.textposition if isinstance(trace.textposition, str) else "middle center").partition(" ")
    align = {
        "va": {"top": "bottom", "bottom": "top"}.get(up, "center"),
        "ha": {"left": "right", "right": "left"}.get(across, "center"),
    }
    shift = {"top": 5, "bottom": -5}.get(up, 0), {"left": -5, "right": 5}.get(across, 0)
    size = 0.72 * (trace.textfont.size or 12)
    texts = list(_each(trace.text, "", len(x)))
    for at, text, colour in zip(zip(x, y, strict=True), texts, _each(trace.textfont.color, None, len(x)), strict=True):
        look = {"fontsize": size, "color": colour_of(colour, "#1f2933"), "annotation_clip": False}
        words = "\n".join(written_lines(str(text)))
        place.axes.annotate(words, at, xytext=shift[::-1], textcoords="offset points", **align, **look)


def _moved_in_its_group(trace: Any, place: Place, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points beside those of the other series of their category, where the figure groups them."""
    layout = place.figure.layout
    grouped = layout.scattermode if trace.type == "scatter" else layout.boxmode
    if grouped != "group":
        return x, y
    shift = _share_of_category(trace, place)[0]
    return (x, y + shift) if trace.orientation == "h" else (x + shift, y)


def _share_of_category(trace: Any, place: Place) -> tuple[float, float]:
    """Return how far a series lies from the middle of its category, and how much of it is its own."""
    kin = [t for t in place.figure.data if t.type == trace.type and place.pair.holds(t) and t.visible in (None, True)]
    groups = list(dict.fromkeys(t.offsetgroup or number for number, t in enumerate(kin)))
    own = groups.index(trace.offsetgroup or next(n for n, t in enumerate(kin) if t is trace))
    share = 0.8 / len(groups)
    return share * (own - (len(groups) - 1) / 2), share


# ---------------------------------------------------------------- boxes and bars


def _box(trace: Any, place: Place) -> Any:
    flat = trace.orientation == "h" or (trace.y is None and trace.x is not None)
    side, other = ("x", "y") if flat else ("y", "x")
    values = values_of(trace[side]).astype(float)
    names = [trace.name] * len(values) if trace[other] is None else list(values_of(trace[other]))
    shift, share = _share_of_category(trace, place) if place.figure.layout.boxmode == "group" else (0.0, 0.8)
    middles = place.along(other, names)
    line = to_rgba(colour_of(trace.line.color, place.colour))
    face = colour_of(trace.fillcolor, (*to_rgba(place.colour)[:3], 0.4))
    for middle in np.unique(middles):
        own = values[(middles == middle) & np.isfinite(values)]
        centre = middle + shift
        if len(own) and line[3:] != (0.0,):
            _one_box(place.axes, own, centre, 0.6 * share, flat, line, face)
        if trace.boxpoints == "all":
            spread = np.random.default_rng(0).uniform(-1, 1, len(own)) * (trace.jitter or 0) * 0.3 * share
            beside = centre + spread + (trace.pointpos or 0) * 0.3 * share
            size, colour = (0.72 * (trace.marker.size or 6)) ** 2, colour_of(trace.marker.color, place.colour)
            at = (own, beside) if flat else (beside, own)
            place.axes.scatter(*at, s=size, c=[colour], alpha=trace.marker.opacity, linewidths=0, zorder=2.5)
    return Patch(facecolor=face, edgecolor=line)


def _one_box(axes: Axes, own: np.ndarray, at: float, width: float, flat: bool, line: Any, face: Any) -> None:
    edge = {"color": line, "linewidth": 1.2}
    parts = {f"{part}props": edge for part in ("median", "whisker", "cap")}
    axes.boxplot(
        [own],
        positions=[at],
        widths=width,
        orientation="horizontal" if flat else "vertical",
        patch_artist=True,
        manage_ticks=False,
        showfliers=False,
        boxprops={"facecolor": face, "edgecolor": line, "linewidth": 1.2},
        **parts,
    )


def _bar(trace: Any, place: Place) -> Any:
    flat = trace.orientation == "h"
    at = place.along("y" if flat else "x", trace["y" if flat else "x"])
    long = values_of(trace["x" if flat else "y"]).astype(float)
    colours = [colour_of(colour, place.colour) for colour in _each(trace.marker.color, None, len(at))]
    shift, share = _share_of_category(trace, place) if place.figure.layout.barmode in (None, "group") else (0.0, 0.8)
    (place.axes.barh if flat else place.axes.bar)(at + shift, long, share, color=colours)
    return Patch(facecolor=colours[0])


def _histogram(trace: Any, place: Place) -> Any:
    values, bins = values_of(trace.x).astype(float), trace.xbins
    edges = "auto" if bins.size is None else np.arange(bins.start, bins.end + bins.size / 2, bins.size)
    counts, edges = np.histogram(values[np.isfinite(values)], edges)
    beside = place.figure.layout.barmode in (None, "group")
    shift, share = _share_of_category(trace, place) if beside else (0.0, 0.9)
    wide, middle, colour = np.diff(edges), edges[:-1] + np.diff(edges) / 2, colour_of(trace.marker.color, place.colour)
    place.axes.bar(middle + shift * wide, counts, share * wide, color=colour, alpha=trace.opacity)
    return Patch(facecolor=colour)


# ---------------------------------------------------------------- grids and outlines


def _grid(trace: Any, place: Place) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values of a grid and the positions of its columns and rows."""
    z = values_of(trace.z).astype(float)
    found = []
    for side, count in (("x", z.shape[1]), ("y", z.shape[0])):
        given = trace[side]
        start, step = trace[f"{side}0"] or 0, trace[f"d{side}"] or 1
        found.append(start + step * np.arange(count) if given is None else place.along(side, given))
    return z, found[0], found[1]


def _heatmap(trace: Any, place: Place) -> None:
    z, x, y = _grid(trace, place)
    half = [(at[1] - at[0]) / 2 if len(at) > 1 else 0.5 for at in (x, y)]
    extent = (x[0] - half[0], x[-1] + half[0], y[0] - half[1], y[-1] + half[1])
    scale = LinearSegmentedColormap.from_list("own", [(at, colour_of(c, "")) for at, c in trace.colorscale])
    smooth = "bilinear" if trace.zsmooth in ("best", "fast") else "nearest"
    ends = {"vmin": trace.zmin, "vmax": trace.zmax, "cmap": scale}
    aspect = place.axes.get_aspect()
    image = place.axes.imshow(z, origin="lower", extent=extent, interpolation=smooth, zorder=0.6, **ends)
    place.axes.set_aspect(aspect)
    if trace.showscale is not False:
        bar = place.axes.inset_axes((1.03, 0.2, 0.02, 0.6))
        place.axes.figure.colorbar(image, cax=bar)
        bar.set_title("\n".join(written_lines(trace.colorbar.title.text)), fontsize=9, loc="left")
        bar.tick_params(labelsize=8.5)


def _contour(trace: Any, place: Place) -> None:
    z, x, y = _grid(trace, place)
    level = 0.5 if trace.contours.start is None else trace.contours.start
    if np.nanmin(z) < level <= np.nanmax(z):
        width = 0.75 * (trace.line.width or 2)
        place.axes.contour(x, y, z, [level], colors=[colour_of(trace.line.color, place.colour)], linewidths=width)


_DRAW = {"scatter": _scatter, "box": _box, "bar": _bar, "histogram": _histogram, "heatmap": _heatmap}
_DRAW["contour"] = _contour
