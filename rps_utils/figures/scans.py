"""CT views and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rps_utils.figures.style import figure_template, new_figure

PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}  # across, up, through
DIRECTIONS = [("left", "right"), ("posterior", "anterior"), ("inferior", "superior")]


def ct_view(
    volume: np.ndarray,
    mask: np.ndarray | None,
    spacing_mm: Sequence[float],
    slices: Sequence[int] | None = None,
    plane: str = "axial",
    window: tuple[float, float] = (-160, 240),
    title: str = "CT with tumour outline",
) -> go.Figure:
    """Show CT slices with the outline of the mask, the patient's right on the viewer's left.

    Parameters
    ----------
    volume : ndarray, shape (x, y, z)
        Hounsfield units, axes towards right, anterior, superior (RAS).
    mask : ndarray of the same shape, or None
        Above 0 inside the tumour.
    spacing_mm : sequence of three floats
        Voxel size (mm).
    slices : sequence of int, optional
        Indices along the third direction of the plane; several get a slider. Default: the largest outline.
    plane : str
        ``axial``, ``coronal`` or ``sagittal``.
    window : tuple
        HU shown as black and white.
    title : str
        Heading.
    """
    across, up, through = PLANES[plane]
    inside = np.zeros(volume.shape, bool) if mask is None else np.asarray(mask) > 0
    if slices is None:
        slices = [int(inside.sum(axis=(across, up)).argmax())]
    figure = new_figure(title, 560)
    for number, index in enumerate(slices):
        for trace in _slice_traces(volume, inside, spacing_mm, (across, up, through), index, window):
            figure.add_trace(trace.update(visible=number == len(slices) // 2))
    _orient(figure, across, up)
    if len(slices) > 1:
        names = [f"{index * spacing_mm[through]:.0f}" for index in slices]
        _add_slider(figure, names, f"{DIRECTIONS[through][1]} position (mm): ")
    return figure


def _slice_traces(
    volume: np.ndarray,
    inside: np.ndarray,
    spacing_mm: Sequence[float],
    axes: tuple[int, int, int],
    index: int,
    window: tuple[float, float],
) -> list[go.Heatmap | go.Contour]:
    across, up, through = axes
    shown = np.take(volume, index, axis=through).T.round().astype(np.int16)
    outline = np.take(inside, index, axis=through).T.astype(np.int8)
    grid = {"dx": float(spacing_mm[across]), "dy": float(spacing_mm[up]), "x0": 0, "y0": 0}
    grey = {"colorscale": "gray", "zmin": window[0], "zmax": window[1], "zsmooth": "best"}
    bar = {"title": {"text": "HU"}, "thickness": 12, "len": 0.6}
    line = {"start": 0.5, "end": 0.5, "size": 1, "coloring": "none"}
    where = "%{x:.0f}, %{y:.0f} mm: %{z} HU<extra></extra>"
    return [
        go.Heatmap(z=shown, colorbar=bar, hovertemplate=where, **grid, **grey),
        go.Contour(z=outline, contours=line, line={"color": "#E69F00", "width": 2}, hoverinfo="skip", **grid),
    ]


def _orient(figure: go.Figure, across: int, up: int) -> None:
    # Radiological view: the patient's right, or front, is on the viewer's left.
    low, high = DIRECTIONS[across]
    figure.update_xaxes(title=f"← {high}    (mm)    {low} →", autorange="reversed", constrain="domain", showgrid=False)
    low, high = DIRECTIONS[up]
    title = f"← {low}    (mm)    {high} →"
    figure.update_yaxes(title=title, scaleanchor="x", constrain="domain", showgrid=False)


def _add_slider(figure: go.Figure, names: Sequence[str], prefix: str) -> None:
    each = len(figure.data) // len(names)
    steps = [
        {
            "label": name,
            "method": "restyle",
            "args": [{"visible": [i // each == number for i in range(len(figure.data))]}],
        }
        for number, name in enumerate(names)
    ]
    slider = {"active": len(names) // 2, "steps": steps, "currentvalue": {"prefix": prefix}, "pad": {"t": 50}}
    figure.update_layout(sliders=[slider])


def map_panels(panels: Sequence[Mapping[str, Any]], title: str) -> go.Figure:
    """Show for each patient one axial slice of the patch: the CT, and beside it a signed map on its own scale.

    Parameters
    ----------
    panels : sequence of mapping
        ``name`` (heading), ``hu`` and ``mask`` (S, S, S), ``weight`` (S, S, S; above 0 raises the risk) and
        ``marked`` (S, S, S; share of the voxel that a reference map marks, or None). Axes as in
        `rps_utils.patches`. Shown is the slice ``at``, without it the one that holds most of the weight.
    title : str
        Heading.
    """
    names = [text for panel in panels for text in (panel["name"], "what moves the score")]
    gaps = {"horizontal_spacing": 0.04, "vertical_spacing": 0.14 / len(panels)}
    grid = make_subplots(len(panels), 2, subplot_titles=names, **gaps)
    for row, panel in enumerate(panels, start=1):
        at = int(panel.get("at", np.abs(panel["weight"]).sum(axis=(0, 1)).argmax()))
        weight = panel["weight"][:, :, at].T / max(np.abs(panel["weight"]).max(), 1e-12)
        grey = {"colorscale": "gray", "zmin": -160, "zmax": 240, "showscale": False}
        bar = {
            "title": {"text": "of the<br>largest"},
            "thickness": 12,
            "len": 1 / len(panels),
            "y": 1,
            "yanchor": "top",
        }
        scale = {"colorscale": "RdBu_r", "zmin": -1, "zmax": 1, "showscale": row == 1, "colorbar": bar}
        grid.add_heatmap(z=panel["hu"][:, :, at].T.round(), **grey, row=row, col=1)
        grid.add_heatmap(z=weight.round(4), **scale, row=row, col=2)
        for part, colour in ((panel["mask"], "#E69F00"), (panel["marked"], "#009E73")):
            for column in (1, 2) if part is not None else ():
                grid.add_trace(_outline(part[:, :, at].T, colour), row=row, col=column)
    grid.update_layout(template=figure_template(), title=title, height=90 + 330 * len(panels), showlegend=False)
    grid.update_xaxes(showticklabels=False, ticks="", constrain="domain", showgrid=False)
    grid.update_xaxes(title={"text": "← flank    midline →", "font": {"size": 12}}, row=len(panels))
    for number, axis in enumerate(grid.select_yaxes(), start=1):
        axis.update(scaleanchor=f"x{number if number > 1 else ''}", showticklabels=False, ticks="", showgrid=False)
    return grid.update_annotations(font={"size": 13})


def _outline(part: np.ndarray, colour: str) -> go.Contour:
    line = {"start": 0.5, "end": 0.5, "size": 1, "coloring": "none"}
    shares = np.asarray(part, float).round(3)
    return go.Contour(z=shares, contours=line, line={"color": colour, "width": 2}, hoverinfo="skip", showscale=False)
