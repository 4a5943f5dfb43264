"""Figures of the study: results in, plotly figure out; nothing is fitted here and no global style is set.

Every figure of a run is kept by `save_figure` as a page, as plotly JSON and with its numbers as CSV.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from rps_utils.evaluation import interval_text
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
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "colorway": SPARE_COLOURS,
            "hoverlabel": {"font": {"size": 12}, "namelength": -1},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
            "margin": {"l": 70, "r": 30, "t": 80, "b": 60},
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


def save_figure(
    figure: go.Figure, data: pd.DataFrame, run: str | Path, name: str, caption: str = "", withheld: str | None = None
) -> go.Figure:
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
    plotly.graph_objects.Figure
        The same figure. Written are ``name.html`` (works offline beside the shared ``plotly.min.js``),
        ``name.json`` and ``name.csv``. A figure without traces or numbers is not kept, and an older one of that
        name is taken away.

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
    folder = Path(run) / "figures"
    figure.update_layout(template=figure_template(), meta={"caption": caption})
    if data.empty or not figure.data:
        for suffix in (".html", ".json", ".csv"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
        return figure
    library = folder / "plotly.min.js"
    if not library.is_file():
        write_text(get_plotlyjs(), library)
    # A fixed element id gives the same bytes in every run.
    page = figure.to_html(include_plotlyjs=library.name, div_id=name, config={"displaylogo": False})
    write_text(page, folder / f"{name}.html")
    write_text(figure.to_json(), folder / f"{name}.json")
    write_csv(data, folder / f"{name}.csv")
    return figure


def file_name(*parts: str) -> str:
    """Join words to a plain file name: ``11_km_Cox_age_`` from ``11_km`` and ``Cox (age)``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", "_".join(parts))


def nothing_to_show(title: str, why: str = "no value to show: the table of the run says why") -> go.Figure:
    """Return a figure that says in words that there is nothing to draw."""
    figure = new_figure(title, 180)
    text = "<br>".join(textwrap.wrap(why, 100))
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)


def _side_text(figure: go.Figure, y: float, text: str) -> None:
    figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=y, text=text, showarrow=False, font={"size": 12})


def _interval_bars(rows: pd.DataFrame) -> dict:
    value, low, high = (rows[c].to_numpy(float) for c in ("value", "ci_low", "ci_high"))
    # A missing limit draws no bar.
    return {
        "array": np.nan_to_num(high - value),
        "arrayminus": np.nan_to_num(value - low),
        "thickness": 1.5,
        "width": 4,
    }


# ---------------------------------------------------------------- images

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
        `rps_utils.patches`. Shown is the slice that holds most of the weight.
    title : str
        Heading.
    """
    names = [text for panel in panels for text in (panel["name"], "what moves the score")]
    gaps = {"horizontal_spacing": 0.04, "vertical_spacing": 0.14 / len(panels)}
    grid = make_subplots(len(panels), 2, subplot_titles=names, **gaps)
    for row, panel in enumerate(panels, start=1):
        at = int(np.abs(panel["weight"]).sum(axis=(0, 1)).argmax())
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


# ---------------------------------------------------------------- scores and models


def score_distributions(
    scores: pd.DataFrame, title: str = "Distribution of the scores", colours: Mapping[str, str] | None = None
) -> go.Figure:
    """Show each model's risk scores, one dot a patient, those with a recurrence in colour.

    Parameters
    ----------
    scores : DataFrame
        ``model, kind, risk, event``; the scale of a model is its own.
    title : str
        Heading.
    colours : mapping, optional
        As in `c_index_plot`.
    """
    models = list(dict.fromkeys(scores["model"]))
    colours = colours or model_colours(models)
    columns = min(len(models), 3)
    grid = make_subplots(-(-len(models) // columns), columns, subplot_titles=models, horizontal_spacing=0.08)
    for place, model in enumerate(models):
        for event, colour in ((0, GREY), (1, colours[model])):
            rows = scores[(scores["model"] == model) & (scores["event"] == event)]
            trace = go.Box(
                x=rows["kind"].str.replace("_", "-"),
                y=rows["risk"],
                name="local recurrence" if event else "censored",
                line={"color": colour},
                fillcolor="rgba(0,0,0,0)",
                boxpoints="all",
                pointpos=0,
                jitter=0.5,
                marker={"size": 3.5, "opacity": 0.7},
                offsetgroup=str(event),
                showlegend=False,
            )
            grid.add_trace(trace, row=place // columns + 1, col=place % columns + 1)
    height = 120 + 280 * -(-len(models) // columns)
    grid.update_layout(template=figure_template(), title=title, height=height, boxmode="group")
    grid.update_yaxes(title="risk score", col=1)
    return grid.update_annotations(font={"size": 13})


def interval_dots(
    rows: pd.DataFrame, place: str, series: str, title: str, axis: str, *, null: float | None = None, height: int = 400
) -> go.Figure:
    """Show values with their intervals, one line a place and one colour a series.

    Parameters
    ----------
    rows : DataFrame
        ``value, ci_low, ci_high`` and the columns named by `place` and `series`; places from top to bottom.
    place, series : str
    title, axis : str
        Heading and axis title.
    null : float, optional
        Value without meaning, drawn as a dotted line.
    height : int
        Pixels.
    """
    figure, rows = new_figure(title, height), rows.dropna(subset="value")
    for name, part in rows.groupby(series, sort=False):
        dots = {"x": part["value"], "y": part[place], "error_x": _interval_bars(part)}
        figure.add_scatter(**dots, mode="markers", marker={"size": 8}, name=str(name), orientation="h")
    if rows.empty:
        return nothing_to_show(title)
    if null is not None:
        figure.add_vline(x=null, line={"dash": "dot", "color": GREY})
    figure.update_yaxes(autorange="reversed", type="category", title="").update_layout(scattermode="group")
    reach = [*rows[["value", "ci_low", "ci_high"]].to_numpy().ravel(), np.nan if null is None else null]
    low, high = np.nanmin(reach), np.nanmax(reach)  # horizontal dots would else begin at 0
    return figure.update_xaxes(title=axis, range=[low - 0.05 * (high - low), high + 0.05 * (high - low)])


def selected_features(table: pd.DataFrame, title: str = "Selected features") -> go.Figure:
    """Show coefficients as bars, the largest on top.

    Parameters
    ----------
    table : DataFrame
        ``feature, coefficient`` (for one standard deviation; positive = earlier recurrence).
    title : str
        Heading.
    """
    rows = table.reindex(table["coefficient"].abs().sort_values().index)
    figure = new_figure(title, 140 + 24 * max(len(rows), 3))
    colours = np.where(rows["coefficient"] > 0, GROUP_COLOURS["high"], GROUP_COLOURS["low"])
    figure.add_bar(x=rows["coefficient"], y=rows["feature"], orientation="h", marker={"color": colours})
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    figure.update_xaxes(title="coefficient (log hazard ratio for one standard deviation)")
    figure.update_yaxes(showgrid=False, ticks="")
    return figure


def forest_plot(table: pd.DataFrame, title: str, axis: str = "hazard ratio (log scale)") -> go.Figure:
    """Show hazard ratios with their intervals and in words.

    Parameters
    ----------
    table : DataFrame
        ``term, hazard_ratio, ci_low, ci_high``, from top to bottom; optionally ``colour`` and ``note``. A row
        without a value shows its note.
    title, axis : str
        Heading and axis title.
    """
    rows = table.reset_index(drop=True).rename(columns={"hazard_ratio": "value"})
    figure = new_figure(title, 150 + 30 * len(rows))
    colours = rows["colour"] if "colour" in rows else pd.Series(INK, index=rows.index)
    for i, row in rows.iterrows():
        figure.add_scatter(
            x=[row["value"]],
            y=[i],
            error_x=_interval_bars(rows.loc[[i]]),
            mode="markers",
            marker={"symbol": "square", "size": 9, "color": colours[i]},
            name=row["term"],
            showlegend=False,
        )
        missing = row.get("note") or "not estimable"
        words = interval_text(*row[["value", "ci_low", "ci_high"]].astype(float))
        _side_text(figure, i, words if words != "–" else missing)
    figure.add_vline(x=1, line={"color": GREY, "width": 1, "dash": "dash"})
    figure.update_xaxes(type="log", title=axis, dtick="D2", tickformat="~g")
    figure.update_yaxes(
        tickvals=list(rows.index), ticktext=list(rows["term"]), range=[len(rows) - 0.5, -0.5], showgrid=False, ticks=""
    )
    return figure.update_layout(margin={"r": 190})


# ---------------------------------------------------------------- discrimination


def c_index_plot(
    rows: pd.DataFrame,
    title: str,
    axis: str = "Harrell's C",
    null: float = 0.5,
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """Show one number a model and kind with its interval, and in words.

    Parameters
    ----------
    rows : DataFrame
        ``model, kind, value, ci_low, ci_high``, models from top to bottom.
    title, axis : str
        Heading and axis title.
    null : float
        Value of a score that knows nothing, drawn as a dashed line.
    colours : mapping, optional
        Model to colour, the same in all figures of a run: `model_colours` of all its models.
    """
    rows = _grouped_by_model(rows.dropna(subset="value"))
    if rows.empty:
        return nothing_to_show(title)
    colours = colours or model_colours(rows["model"])
    kinds = [k for k in KIND_SYMBOLS if k in set(rows["kind"])]
    figure = new_figure(title, 150 + 22 * len(rows) + 8 * rows["model"].nunique())
    places = _dodged_places(rows)
    for kind in kinds:
        here = rows[rows["kind"] == kind]
        marker = {"symbol": KIND_SYMBOLS[kind], "size": 9, "color": here["model"].map(colours)}
        figure.add_scatter(x=here["value"], y=places[here.index], mode="markers", marker=marker, showlegend=False)
        for i, row in here.iterrows():
            _interval_line(figure, row, places[i], colours[row["model"]])
            words = interval_text(row["value"], row["ci_low"], row["ci_high"])
            _side_text(figure, places[i], words)
        legend_marker = {"symbol": KIND_SYMBOLS[kind], "size": 9, "color": GREY}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=legend_marker, name=KIND_NAMES[kind])
    figure.add_vline(x=null, line={"color": GREY, "width": 1, "dash": "dash"})
    figure.update_xaxes(title=axis, range=_padded(rows[["value", "ci_low", "ci_high"]].to_numpy(float), null))
    middles = places.groupby(rows["model"], sort=False).mean()
    figure.update_yaxes(
        tickvals=list(middles), ticktext=list(middles.index), range=[places.max() + 0.7, -0.7], showgrid=False, ticks=""
    )
    return figure.update_layout(margin={"r": 160})


def _padded(values: np.ndarray, *also: float) -> list[float]:
    """Return the range of the numbers with 5 % more on both sides."""
    low, high = np.nanmin([np.nanmin(values), *also]), np.nanmax([np.nanmax(values), *also])
    return [float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))]


def _grouped_by_model(rows: pd.DataFrame) -> pd.DataFrame:
    order = {model: place for place, model in enumerate(dict.fromkeys(rows["model"]))}
    return rows.sort_values("model", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _dodged_places(rows: pd.DataFrame) -> pd.Series:
    """Put the rows of a model close together and leave a gap before the next model."""
    return pd.Series(np.arange(len(rows)) + 0.6 * (rows["model"] != rows["model"].shift()).cumsum() - 0.6)


def _interval_line(figure: go.Figure, row: pd.Series, y: float, colour: str) -> None:
    figure.add_scatter(
        x=[row["ci_low"], row["ci_high"]],
        y=[y, y],
        mode="lines",
        line={"color": colour, "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )


def _panels(titles: Sequence[str], title: str, height: int = 430, shared: bool = True) -> go.Figure:
    figure = make_subplots(1, len(titles), subplot_titles=titles, shared_yaxes=shared, horizontal_spacing=0.05)
    figure.update_layout(template=figure_template(), title={"text": title}, height=height, showlegend=False)
    return figure.update_annotations(font={"size": 13})


def _panel_words(figure: go.Figure, place: int, words: Sequence[tuple[str, str]], corner: str) -> None:
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
        bgcolor="rgba(255,255,255,0.7)",
    )


def roc_curves(
    curves: pd.DataFrame,
    areas: pd.DataFrame,
    title: str,
    unit: str = "months",
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """Show time-dependent ROC curves, one panel a landmark.

    Parameters
    ----------
    curves : DataFrame
        ``horizon, model, fpr, tpr``.
    areas : DataFrame
        ``horizon_months, model, value, note``: the direct labels; a landmark without a value shows its note.
    title, unit : str
        Heading and unit of time.
    colours : mapping, optional
        Model to colour, the same in all figures of a run: `model_colours` of all its models.
    """
    if areas.empty:
        return nothing_to_show(title)
    horizons = sorted(areas["horizon_months"].unique())
    colours = colours or model_colours(areas["model"])
    figure = _panels([f"{t:g} {unit}" for t in horizons], title)
    for place, horizon in enumerate(horizons, 1):
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash", "width": 1}, row=1, col=place
        )
        here = areas[areas["horizon_months"] == horizon].dropna(subset="value")
        for model in here["model"]:
            rows = curves[(curves["horizon"] == horizon) & (curves["model"] == model)]
            line = {"color": colours[model], "width": 2}
            figure.add_scatter(x=rows["fpr"], y=rows["tpr"], mode="lines", line=line, name=model, row=1, col=place)
        words = [(f"{m} {v:.2f}", colours[m]) for m, v in zip(here["model"], here["value"], strict=True)]
        notes = areas.loc[areas["horizon_months"] == horizon, "note"].dropna()
        _panel_words(figure, place, words or [("<br>".join(_wrapped(notes.iloc[0])), "")], "lower right")
    figure.update_xaxes(title="1 − specificity", range=[-0.02, 1.02], dtick=0.25)
    figure.update_yaxes(title="sensitivity", range=[-0.02, 1.02], dtick=0.25, col=1)
    return figure.update_yaxes(range=[-0.02, 1.02])


def _wrapped(text: str, width: int = 28) -> list[str]:
    return textwrap.wrap(text, width)


def values_over_time(
    rows: pd.DataFrame,
    title: str,
    axis: str,
    null: float,
    unit: str = "months",
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """Show a metric at each landmark with its interval, one colour a model.

    Parameters
    ----------
    rows : DataFrame
        ``model, horizon_months, value, ci_low, ci_high``.
    title, axis, unit : str
        Heading, name of the metric, unit of time.
    null : float
        Value of a model that knows nothing.
    colours : mapping, optional
        Model to colour, the same in all figures of a run: `model_colours` of all its models.
    """
    rows = rows.dropna(subset="value")
    if rows.empty:
        return nothing_to_show(title)
    models = list(dict.fromkeys(rows["model"]))
    colours = colours or model_colours(models)
    horizons = sorted(rows["horizon_months"].unique())
    figure = new_figure(title, 420)
    for number, model in enumerate(models):
        here = rows[rows["model"] == model]
        aside = (number - (len(models) - 1) / 2) * 0.7 / len(models)
        x = here["horizon_months"].map({t: i + aside for i, t in enumerate(horizons)})
        figure.add_scatter(
            x=x,
            y=here["value"],
            error_y=_interval_bars(here),
            mode="markers",
            marker={"size": 9, "color": colours[model]},
            name=model,
        )
    figure.add_hline(y=null, line={"color": GREY, "width": 1, "dash": "dash"})
    figure.update_xaxes(
        title=f"landmark ({unit})", tickvals=list(range(len(horizons))), ticktext=[f"{t:g}" for t in horizons]
    )
    return figure.update_yaxes(title=axis)


# ---------------------------------------------------------------- calibration and use


def calibration_plot(
    groups: pd.DataFrame,
    curves: pd.DataFrame,
    title: str,
    horizon_text: str,
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """Show predicted against observed risk: groups by Kaplan-Meier with intervals, and a smooth curve.

    Parameters
    ----------
    groups : DataFrame
        ``model, n, predicted, observed, ci_low, ci_high`` (risks of recurrence by the landmark).
    curves : DataFrame
        ``model, predicted, observed``, and perhaps ``ci_low, ci_high`` of a band; may be empty.
    title, horizon_text : str
        Heading, and the landmark in words (``36 months``).
    colours : mapping, optional
        As in `c_index_plot`.
    """
    if groups.empty:
        return nothing_to_show(title)
    models = list(dict.fromkeys(groups["model"]))
    colours = colours or model_colours(models)
    figure = _panels(models, title, 330 if len(models) > 3 else 400)
    for place, model in enumerate(models, 1):
        where = {"row": 1, "col": place}
        figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash", "width": 1}, **where)
        curve = curves[curves["model"] == model]
        _band(figure, curve, "predicted", colours[model], where)
        figure.add_scatter(
            x=curve["predicted"], y=curve["observed"], mode="lines", line={"color": colours[model]}, **where
        )
        rows = groups[groups["model"] == model].rename(columns={"observed": "value"})
        figure.add_scatter(
            x=rows["predicted"],
            y=rows["value"],
            error_y=_interval_bars(rows),
            mode="markers",
            marker={"size": 9, "color": colours[model]},
            text=rows["n"].astype(int).astype(str) + " patients",
            **where,
        )
    axes = {"range": [-0.03, 1.03], "dtick": 0.5 if len(models) > 3 else 0.25}
    figure.update_xaxes(title="predicted risk", **axes)
    figure.update_yaxes(title=f"observed risk at {horizon_text}", col=1)
    return figure.update_yaxes(**axes)


def _band(figure: go.Figure, curve: pd.DataFrame, x: str, colour: str, where: Mapping) -> None:
    """Shade between ``ci_low`` and ``ci_high``, where the curve has them."""
    if "ci_low" not in curve:
        return
    hidden = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **where}
    band = curve.dropna(subset=["ci_low", "ci_high"])
    figure.add_scatter(x=band[x], y=band["ci_low"], **hidden)
    figure.add_scatter(x=band[x], y=band["ci_high"], fill="tonexty", fillcolor=translucent(colour), **hidden)


def decision_bands(bands: pd.DataFrame, title: str, colours: Mapping[str, str] | None = None) -> go.Figure:
    """Show each model's net benefit at one landmark with its band, one panel a model.

    Parameters
    ----------
    bands : DataFrame
        ``model, threshold, net_benefit, ci_low, ci_high, treat_all``.
    title : str
        Heading.
    colours : mapping, optional
        As in `c_index_plot`.
    """
    if bands.empty:
        return nothing_to_show(title)
    models = list(dict.fromkeys(bands["model"]))
    colours = colours or model_colours(models)
    figure = _panels(models, title, 330 if len(models) > 3 else 400)
    for place, model in enumerate(models, 1):
        rows, where = bands[bands["model"] == model], {"row": 1, "col": place}
        _band(figure, rows, "threshold", colours[model], where)
        for column, colour, dash in (("treat_all", GREY, "dot"), ("net_benefit", colours[model], "solid")):
            line = {"color": colour, "dash": dash, "width": 2}
            figure.add_scatter(x=rows["threshold"], y=rows[column], mode="lines", line=line, name=column, **where)
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    figure.update_xaxes(title="threshold risk", tickformat=".0%", range=_padded(bands["threshold"].to_numpy()))
    top = float(bands[["ci_high", "net_benefit", "treat_all"]].max(axis=None))
    figure.update_yaxes(range=[min(-0.1, float(bands["ci_low"].min())), 1.05 * max(top, 0.05)])
    return figure.update_yaxes(title="net benefit", col=1)


def decision_curves(
    table: pd.DataFrame, title: str, unit: str = "months", colours: Mapping[str, str] | None = None
) -> go.Figure:
    """Show net benefit against the threshold, one panel a landmark, with treat-all and treat-none.

    Parameters
    ----------
    table : DataFrame
        ``horizon, model, threshold, net_benefit, treat_all``.
    title, unit : str
        Heading and unit of time.
    colours : mapping, optional
        As in `c_index_plot`.
    """
    if table.empty:
        return nothing_to_show(title)
    horizons = sorted(table["horizon"].unique())
    colours = colours or model_colours(table["model"])
    figure = _panels([f"{t:g} {unit}" for t in horizons], title)
    for place, horizon in enumerate(horizons, 1):
        here = table[table["horizon"] == horizon]
        everybody = here.drop_duplicates("threshold")
        lines = [("treat all", everybody["threshold"], everybody["treat_all"], GREY, "dot")]
        for model, rows in here.groupby("model", sort=False):
            lines.append((model, rows["threshold"], rows["net_benefit"], colours[model], "solid"))
        for name, x, y, colour, dash in lines:
            line = {"color": colour, "dash": dash, "width": 2}
            figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, showlegend=place == 1, row=1, col=place)
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    figure.update_layout(showlegend=True, legend={"y": 1.1}, margin={"t": 100})
    top = max(table["net_benefit"].max(), table["treat_all"].max(), 0.05)
    figure.update_xaxes(title="threshold risk of recurrence", tickformat=".0%")
    figure.update_yaxes(range=[-0.12 * top - 0.03, 1.1 * top])
    return figure.update_yaxes(title="net benefit (true positives per patient)", col=1)


# ---------------------------------------------------------------- time to recurrence


def kaplan_meier_plot(
    curves: pd.DataFrame,
    at_risk: pd.DataFrame,
    title: str,
    words: Sequence[str] = (),
    colours: Mapping[str, str] = GROUP_COLOURS,
    unit: str = "months",
) -> go.Figure:
    """Show Kaplan-Meier curves with their bands and, below, the numbers at risk.

    Parameters
    ----------
    curves : DataFrame
        ``group, time, survival, ci_low, ci_high, censored``, one row a distinct time.
    at_risk : DataFrame
        ``group, time, at_risk``; its times become the ticks.
    title : str
        Heading.
    words : sequence of str
        Lines written into the figure, the log-rank p for example.
    colours : mapping
        Group to colour.
    unit : str
        Unit of time.
    """
    groups = list(dict.fromkeys(curves["group"]))
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.8, 0.2], vertical_spacing=0.13)
    for group in groups:
        _add_km_curve(figure, curves[curves["group"] == group], group, colours[group])
    for place, group in enumerate(groups):
        rows = at_risk[at_risk["group"] == group]
        figure.add_scatter(
            x=rows["time"],
            y=[place] * len(rows),
            mode="text",
            text=rows["at_risk"].astype(str),
            textfont={"color": colours[group], "size": 12},
            hoverinfo="skip",
            row=2,
            col=1,
        )
    if words:
        _panel_words(figure, 1, [(line, "") for line in words], "upper right")
    _km_axes(figure, groups, sorted(at_risk["time"].unique()), curves["time"].max(), unit)
    figure.update_layout(
        template=figure_template(), title={"text": title}, height=450, showlegend=False, margin={"b": 20}
    )
    return figure


def _add_km_curve(figure: go.Figure, table: pd.DataFrame, group: str, colour: str) -> None:
    start = pd.DataFrame({"time": [0.0], "survival": [1.0], "ci_low": [1.0], "ci_high": [1.0], "censored": [0]})
    table = pd.concat([start, table[start.columns]], ignore_index=True)
    steps = {"shape": "hv", "width": 0}
    hidden = {"mode": "lines", "hoverinfo": "skip", "row": 1, "col": 1}
    band = table.dropna(subset=["ci_low", "ci_high"])
    figure.add_scatter(x=band["time"], y=band["ci_low"], line=steps, **hidden)
    figure.add_scatter(
        x=band["time"], y=band["ci_high"], line=steps, fill="tonexty", fillcolor=translucent(colour), **hidden
    )
    line = {"shape": "hv", "color": colour, "width": 2}
    figure.add_scatter(x=table["time"], y=table["survival"], mode="lines", line=line, name=group, row=1, col=1)
    marks = table[table["censored"] > 0]
    tick = {"symbol": "line-ns-open", "size": 7, "color": colour}
    figure.add_scatter(
        x=marks["time"], y=marks["survival"], mode="markers", marker=tick, hoverinfo="skip", row=1, col=1
    )
    last = table.iloc[-1]
    figure.add_annotation(
        x=last["time"],
        y=last["survival"],
        text=f" {group}",
        xanchor="left",
        showarrow=False,
        font={"color": colour},
        row=1,
        col=1,
    )


def incidence_plot(
    curves: pd.DataFrame, title: str, unit: str = "months", colours: Mapping[str, str] = GROUP_COLOURS
) -> go.Figure:
    """Show cumulative incidences by group with their bands, and 1 - Kaplan-Meier as thin lines.

    Parameters
    ----------
    curves : DataFrame
        ``group, time, incidence, ci_low, ci_high, one_minus_km``; may be empty.
    title, unit : str
        Heading and unit of time.
    colours : mapping
        Group to colour.
    """
    if curves.empty:
        return nothing_to_show(title, "this table does not tell deaths without recurrence apart")
    figure = new_figure(title)
    for group, rows in curves.groupby("group", sort=False):
        step = {"shape": "hv", "color": colours[group]}
        band = rows.dropna(subset=["ci_low", "ci_high"])
        hidden = {"mode": "lines", "line": {"shape": "hv", "width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=band["time"], y=band["ci_low"], **hidden)
        figure.add_scatter(
            x=band["time"], y=band["ci_high"], fill="tonexty", fillcolor=translucent(colours[group]), **hidden
        )
        figure.add_scatter(x=rows["time"], y=rows["incidence"], name=f"{group} risk", mode="lines", line=step)
        thin = {**step, "width": 1, "dash": "dot"}
        name = f"{group} risk, 1 - Kaplan-Meier"
        figure.add_scatter(x=rows["time"], y=rows["one_minus_km"], name=name, mode="lines", line=thin)
    figure.update_xaxes(title=f"time ({unit})")
    return figure.update_yaxes(title="local recurrence", range=[0, 1.03], tickformat=".0%")


def _km_axes(figure: go.Figure, groups: Sequence[str], ticks: Sequence[float], last: float, unit: str) -> None:
    reach = [-0.03 * last, 1.08 * last]
    figure.update_yaxes(title="free of local recurrence", range=[0, 1.03], tickformat=".0%", row=1)
    names = [f"{group}" for group in groups]
    figure.update_yaxes(
        tickvals=list(range(len(groups))),
        ticktext=names,
        range=[len(groups) - 0.4, -0.6],
        showgrid=False,
        showline=False,
        ticks="",
        title="",
        row=2,
    )
    figure.update_xaxes(tickvals=list(ticks), range=reach)
    figure.update_xaxes(title=f"time ({unit})", showticklabels=True, row=1)
    figure.update_xaxes(showgrid=False, showline=False, showticklabels=False, ticks="", row=2)
    heading = {"text": "number at risk", "font": {"size": 12}, "showarrow": False}
    figure.add_annotation(x=0, xref="paper", xanchor="left", y=1, yref="y2 domain", yanchor="bottom", **heading)
