"""Pictures of what kept a patient out: slices with the outline, or the positions of the slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from rps_utils.figures.scans import ct_view
from rps_utils.figures.style import figure_template, new_figure
from rps_utils.files import write_text
from rps_utils.imaging.volumes import Volume
from rps_utils.ingest.series import Series

LIBRARY = "plotly.min.js"
PIXELS = 256  # a side; more would make megabytes a slice


def draw_slices(ct: Volume, mask: Volume | None, title: str, path: Path) -> None:
    """Write a page with axial slices and the outline of the mask; without a mask, slices from foot to head."""
    step = max(1, -(-max(ct.values.shape[:2]) // PIXELS))
    shown = ct.values[::step, ::step]
    inside = None if mask is None or mask.values.shape != ct.values.shape else mask.values[::step, ::step] != 0
    levels = np.arange(ct.values.shape[2])
    if inside is not None and inside.any():
        levels = np.flatnonzero(inside.any(axis=(0, 1)))
    slices = sorted(set(levels[np.linspace(0, len(levels) - 1, 5).astype(int)].tolist()))
    spacing = ct.spacing * (step, step, 1)
    _write(ct_view(shown, inside, spacing, slices, title=title), path)


def draw_positions(series: Series, title: str, path: Path) -> None:
    """Write a page with the place of each slice along the patient: gaps, doubles and two spacings show at once."""
    places = np.sort([_height(header) for header in series.headers])
    figure = new_figure(title)
    figure.add_trace(go.Scatter(x=np.arange(len(places)), y=places, mode="markers", hovertemplate="%{y:.2f} mm"))
    figure.update_xaxes(title="slice, from foot to head")
    figure.update_yaxes(title="position (mm)")
    _write(figure, path)


def _height(header: object) -> float:
    try:
        return float(header.ImagePositionPatient[2])  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError, IndexError):
        return float("nan")


def _write(figure: go.Figure, path: Path) -> None:
    figure.update_layout(template=figure_template())
    write_text(figure.to_html(include_plotlyjs=LIBRARY, div_id="picture"), path)


def put_plotly(folder: Path) -> None:
    """Put the drawing library beside the pictures, once, so that they open offline."""
    if folder.is_dir() and any(folder.glob("*.html")) and not (folder / LIBRARY).is_file():
        write_text(get_plotlyjs(), folder / LIBRARY)
