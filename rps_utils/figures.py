"""Figures of the study: results in, plotly figure out; nothing is fitted here and no global style is set.

Every figure of a run is kept by `save_figure` as a page, as plotly JSON and with its numbers as CSV.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from rps_utils.files import write_csv, write_text

INK, GREY, GRID = "#1f2933", "#7b8794", "#e4e7eb"
# Okabe & Ito's palette, told apart by colour-blind readers; its yellow is too faint on white and left out.
MODEL_COLOURS = {
    "DL": "#0072B2",
    "Rad": "#D55E00",
    "Clinical": "#009E73",
    "DLCM": "#7B3294",
    "RSCM": "#E69F00",
    "Oracle": "#000000",
}
SPARE_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#7B3294", "#E69F00", "#56B4E9", "#CC79A7", "#8C6D31", "#525F7F"]
GROUP_COLOURS = {"low": "#0072B2", "high": "#D55E00"}
KIND_SYMBOLS = {"apparent": "circle-open", "cross_fitted": "circle", "validation": "diamond"}
KIND_NAMES = {
    "apparent": "training, apparent",
    "cross_fitted": "training, cross-fitted",
    "validation": "validation",
}
WIDTH = 860  # pixels; one column of the report


def figure_template() -> go.layout.Template:
    """Return the look that all figures share, to be set on a figure and never registered globally."""
    axis = {
        "gridcolor": GRID,
        "linecolor": GREY,
        "showline": True,
        "ticks": "outside",
        "tickcolor": GREY,
        "zeroline": False,
        "title": {"standoff": 8},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": "Arial, Helvetica, sans-serif", "size": 13, "color": INK},
            "title": {"font": {"size": 15}, "x": 0, "xref": "paper", "xanchor": "left", "yanchor": "top"},
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "colorway": SPARE_COLOURS,
            "hoverlabel": {"font": {"size": 12}, "namelength": -1},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
            "margin": {"l": 70, "r": 30, "t": 70, "b": 60},
            "xaxis": axis,
            "yaxis": axis,
        }
    )


def new_figure(title: str, height: int = 420) -> go.Figure:
    """Return an empty figure in the shared look; `height` in pixels."""
    return go.Figure(layout={"template": figure_template(), "title": {"text": title}, "height": height})


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """Give every model its colour: fixed for the study's own, the next free one for others, in order of mention."""
    models = list(dict.fromkeys(models))
    taken = {MODEL_COLOURS[m] for m in models if m in MODEL_COLOURS}
    free = [c for c in SPARE_COLOURS if c not in taken] or SPARE_COLOURS
    others = [m for m in models if m not in MODEL_COLOURS]
    chosen = {m: free[i % len(free)] for i, m in enumerate(others)}
    return {m: MODEL_COLOURS.get(m) or chosen[m] for m in models}


def translucent(colour: str, opacity: float = 0.15) -> str:
    """Return ``#rrggbb`` as an rgba colour, for bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def save_figure(figure: go.Figure, data: pd.DataFrame, run: str | Path, name: str, caption: str = "") -> go.Figure:
    """Keep a figure and its numbers in ``RUN/figures`` and return it for display.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        It gets the shared look.
    data : DataFrame
        The numbers shown, in full precision.
    run : str or Path
        Run folder.
    name : str
        File name without extension; begin it with the notebook's number (``07_c_index``): the report sorts by it.
    caption : str
        What is seen and how to read it, one or two sentences; the report prints it below the figure.

    Returns
    -------
    plotly.graph_objects.Figure
        The same figure. Written are ``name.html`` (works offline beside the shared ``plotly.min.js``),
        ``name.json`` and ``name.csv``.

    Raises
    ------
    ValueError
        `name` is no plain file name.
    """
    if Path(name).name != name or "." in name:
        raise ValueError(f"name is {name!r}; allowed: a plain file name without extension, such as 07_c_index")
    folder = Path(run) / "figures"
    library = folder / "plotly.min.js"
    if not library.is_file():
        write_text(get_plotlyjs(), library)
    figure.update_layout(template=figure_template(), meta={"caption": caption})
    # A fixed element id gives the same bytes in every run.
    page = figure.to_html(include_plotlyjs=library.name, div_id=name, config={"displaylogo": False})
    write_text(page, folder / f"{name}.html")
    write_text(figure.to_json(), folder / f"{name}.json")
    write_csv(data, folder / f"{name}.csv")
    return figure
