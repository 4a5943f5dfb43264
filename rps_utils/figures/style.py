"""The look of all figures: template, colours, files, and what several figures share."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from rps_utils.figures.still.picture import png
from rps_utils.figures.still.words import describe
from rps_utils.files import write_csv, write_text
from rps_utils.pages import render_page
from rps_utils.run_folder import RunFolder

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
KIND_SYMBOLS = {
    "paper_training": "x-thin-open",
    "apparent": "circle-open",
    "cross_fitted": "circle",
    "paper_validation": "cross-thin-open",
    "validation": "diamond",
}
KIND_NAMES = {
    "paper_training": "paper, training",
    "paper_validation": "paper, validation",
    "apparent": "training, apparent",
    "cross_fitted": "training, cross-fitted",
    "validation": "validation",
}
TITLE_HEIGHT = 36  # pixels that a title takes inside a figure; on a page it stands above, as text that wraps
PAPER, VEIL = "#ffffff", "rgba(255,255,255,0.7)"
# What a page on a dark screen draws in place of each colour: same hue, more light.
DARK_COLOURS = {
    PAPER: "#14181d",
    VEIL: "rgba(20,24,29,0.7)",
    INK: "#e4e7eb",
    GREY: "#93a1b0",
    GRID: "#38424d",
    "#000000": "#f5f7fa",
    "#0072B2": "#4DA3DB",
    "#D55E00": "#F08036",
    "#009E73": "#2DBE93",
    "#7B3294": "#BD8FE3",
    "#8C6D31": "#C9A45C",
    "#525F7F": "#9AA8CC",
}
# What a notebook draws, whose screen is not known: no ground of its own, colours that stand out on white and on black.
EITHER_COLOURS = {
    PAPER: "rgba(0,0,0,0)",
    VEIL: "rgba(0,0,0,0)",
    INK: "#767676",
    GRID: "rgba(127,127,127,0.25)",
    "#000000": "#767676",
    "#7B3294": "#9e5db5",
    "#525F7F": "#6b7aa0",
}
PLOTLY = "application/vnd.plotly.v1+json"
GREY_VALUES = ("heatmap", "image", "surface", "volume", "isosurface")  # traces that may hold a patient's voxels


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
            # Pinned to the top edge: a legend above the axes then never meets the title.
            "title": {
                **{"font": {"size": 15}, "x": 0, "xref": "paper", "xanchor": "left"},
                **{"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 14}},
            },
            "paper_bgcolor": PAPER,
            "plot_bgcolor": PAPER,
            # Upright at the right edge, where it covers no title.
            "modebar": {"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": GREY},
            "colorway": SPARE_COLOURS,
            "hoverlabel": {"font": {"size": 12}, "namelength": -1},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
            "margin": {"l": 70, "r": 30, "t": 80, "b": 60},
            "shapedefaults": {"line": {"color": GREY}},
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


class NotebookFigure(go.Figure):
    """A figure as notebooks show it: interactive where scripts run, and beside that as a picture and in words."""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        words = describe(self)
        data, about = {PLOTLY: on_any_screen(self), "text/plain": words}, {}
        with suppress(ValueError):  # a trace of a reader's own for which there is no picture
            data["image/png"] = base64.b64encode(png(self)).decode()
            about = {"image/png": {"alt": words}}
        display(data, metadata=about, raw=True)


def on_any_screen(figure: go.Figure) -> dict[str, Any]:
    """Return plotly's JSON of a figure in colours that are seen on a light and on a dark page."""
    either = {before.lower(): after for before, after in EITHER_COLOURS.items()}
    colour = re.compile(r"#[0-9a-f]{6}\b|rgba\([^)]*\)", re.IGNORECASE)
    return json.loads(colour.sub(lambda found: either.get(found[0].lower(), found[0]), figure.to_json()))


def save_figure(
    figure: go.Figure, data: pd.DataFrame, run: str | Path, name: str, caption: str = "", withheld: str | None = None
) -> NotebookFigure:
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
    withheld : str, optional
        From `manifest.why_withheld`; to be given with every figure that holds grey values. If it is not empty, nothing
        is kept, and the figure returned holds these words and no grey value.

    Returns
    -------
    NotebookFigure
        The same figure, ready for a notebook. Written are ``name.html`` (works offline beside the shared
        ``plotly.min.js``), ``name.json`` and ``name.csv``. A figure without traces or numbers is not kept, and an
        older one of that name is taken away.

    Raises
    ------
    ValueError
        `name` is no plain file name, or the figure holds grey values and nobody has said whether they may be shown.
    """
    if Path(name).name != name or "." in name:
        raise ValueError(f"name is {name!r}; allowed: a plain file name without extension, such as 07_c_index")
    if withheld is None and any(trace.type in GREY_VALUES for trace in figure.data):
        raise ValueError(f"{name} holds grey values: pass withheld=manifest.why_withheld(cohort, show_pixels)")
    if withheld:
        figure, data = nothing_to_show(figure.layout.title.text, withheld), data.iloc[:0]
    folder = RunFolder(run).figures
    figure.update_layout(template=figure_template(), meta={"caption": caption})
    if data.empty or not figure.data:
        for suffix in (".html", ".json", ".csv"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
        return NotebookFigure(figure)
    library = folder / "plotly.min.js"
    if not library.is_file():
        write_text(get_plotlyjs(), library)
    text = figure.to_json()
    page = render_page("figure.html", figure=figure_on_page(name, text), library=library.name, **PAGE_COLOURS)
    write_text(page, folder / f"{name}.html")
    write_text(text, folder / f"{name}.json")
    write_csv(data, folder / f"{name}.csv")
    return NotebookFigure(figure)


PAGE_COLOURS = {"dark_colours": DARK_COLOURS, "title_height": TITLE_HEIGHT}  # for every page that shows figures


def figure_on_page(name: str, text: str) -> dict[str, Any]:
    """Return what a page needs to show a kept figure: name, title, caption, height, and plotly's JSON, made safe."""
    layout = json.loads(text)["layout"]
    return {
        "name": name,
        "title": layout.get("title", {}).get("text", name),
        "caption": (layout.get("meta") or {}).get("caption", ""),
        "height": layout.get("height", 450) - TITLE_HEIGHT,
        # A closing tag inside a text would end the script element.
        "json": text.replace("</", "<\\/"),
    }


def file_name(*parts: str) -> str:
    """Join words to a plain file name, a different one for different words: no figure takes another's place.

    Parameters
    ----------
    *parts : str
        The first is the beginning of a figure's name, ``11_km``. Of the others the study's own words (``DLCM``,
        ``validation``) stay as they are; any other, a model of a user for example, becomes its ASCII letters and
        digits, shortened, and a hash of the whole: ``Cox-age-1f0c53a2`` of ``Cox (age)``.

    Returns
    -------
    str
        At most 60 letters a part. Names that differ in capitals only differ in the hash too, as some file systems
        take capitals for small letters.
    """
    own = {*MODEL_COLOURS, *KIND_NAMES, "training"}
    begins = bool(re.fullmatch(r"\d\d(_[a-z0-9]+)+", parts[0])) and len(parts[0]) <= 60
    return "_".join(part if part in own or (begins and k == 0) else _hashed(part) for k, part in enumerate(parts))


def _hashed(text: str) -> str:
    readable = re.sub("[^A-Za-z0-9]+", "-", text).strip("-")[:50].strip("-")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def nothing_to_show(title: str, why: str = "no value to show: the table of the run says why") -> go.Figure:
    """Return a figure that says in words that there is nothing to draw."""
    figure = new_figure(title, 180)
    text = "<br>".join(textwrap.wrap(why, 100))
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)


def side_text(figure: go.Figure, y: float, text: str) -> None:
    """Write a line to the right of a figure at the height `y`."""
    figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=y, text=text, showarrow=False, font={"size": 12})


def interval_bars(rows: pd.DataFrame) -> dict:
    """Return plotly's error bars from ``value, ci_low, ci_high``."""
    value, low, high = (rows[c].to_numpy(float) for c in ("value", "ci_low", "ci_high"))
    # A missing limit draws no bar.
    return {
        "array": np.nan_to_num(high - value),
        "arrayminus": np.nan_to_num(value - low),
        "thickness": 1.5,
        "width": 4,
    }


def padded(values: np.ndarray, *also: float) -> list[float]:
    """Return the range of the numbers with 5 % more on both sides."""
    low, high = np.nanmin([np.nanmin(values), *also]), np.nanmax([np.nanmax(values), *also])
    return [float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))]


PANEL_COLUMNS = 3


def panels(titles: Sequence[str], title: str, *, height: int = 430) -> go.Figure:
    """Return a figure with one panel a title, at most three side by side; `height` is that of a row of panels."""
    columns = min(len(titles), PANEL_COLUMNS)
    rows = -(-len(titles) // columns)
    spacing = {"horizontal_spacing": 0.05, "vertical_spacing": 0.32 / rows}
    figure = make_subplots(rows, columns, subplot_titles=titles, shared_yaxes=True, **spacing)
    total = height + (rows - 1) * (height - 60)
    figure.update_layout(template=figure_template(), title={"text": title}, height=total, showlegend=False)
    return figure.update_annotations(font={"size": 13})


def panel_at(place: int) -> dict[str, int]:
    """Return row and column of a panel of `panels`, counted from 1."""
    return {"row": (place - 1) // PANEL_COLUMNS + 1, "col": (place - 1) % PANEL_COLUMNS + 1}


def panel_words(figure: go.Figure, place: int, words: Sequence[tuple[str, str]], corner: str) -> None:
    """Write lines into a corner of a panel, each behind a stroke in its colour (or none): the direct labels."""
    # The words stay dark: several line colours are too faint to read on white.
    strokes = [f'<span style="color:{colour}">━</span> ' if colour else "" for _, colour in words]
    text = "<br>".join(stroke + line for stroke, (line, _) in zip(strokes, words, strict=True))
    x, y = {"lower right": (0.98, 0.03), "upper right": (0.98, 0.98), "upper left": (0.03, 0.98)}[corner]
    axis = "" if place == 1 else str(place)
    figure.add_annotation(
        text=text,
        xref=f"x{axis} domain",
        yref=f"y{axis} domain",
        x=x,
        y=y,
        xanchor="right" if x > 0.5 else "left",
        yanchor="top" if y > 0.5 else "bottom",
        align="right" if x > 0.5 else "left",
        showarrow=False,
        font={"size": 12},
        bgcolor=VEIL,
    )


def wrapped(text: str, width: int = 28) -> list[str]:
    """Return a text in lines of at most `width` letters."""
    return textwrap.wrap(text, width)


def band(figure: go.Figure, curve: pd.DataFrame, x: str, colour: str, where: Mapping) -> None:
    """Shade between ``ci_low`` and ``ci_high``, where the curve has them."""
    if "ci_low" not in curve:
        return
    hidden = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **where}
    band = curve.dropna(subset=["ci_low", "ci_high"])
    figure.add_scatter(x=band[x], y=band["ci_low"], **hidden)
    figure.add_scatter(x=band[x], y=band["ci_high"], fill="tonexty", fillcolor=translucent(colour), **hidden)
