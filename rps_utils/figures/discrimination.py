"""C-indices with their intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from rps_utils.evaluation.wording import interval_text
from rps_utils.figures.style import (
    GREY,
    KIND_NAMES,
    KIND_SYMBOLS,
    model_colours,
    new_figure,
    nothing_to_show,
    padded,
    side_text,
)


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
            side_text(figure, places[i], words)
        legend_marker = {"symbol": KIND_SYMBOLS[kind], "size": 9, "color": GREY}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=legend_marker, name=KIND_NAMES[kind])
    figure.add_vline(x=null, line={"color": GREY, "width": 1, "dash": "dash"})
    figure.update_xaxes(title=axis, range=padded(rows[["value", "ci_low", "ci_high"]].to_numpy(float), null))
    middles = places.groupby(rows["model"], sort=False).mean()
    figure.update_yaxes(
        tickvals=list(middles), ticktext=list(middles.index), range=[places.max() + 0.7, -0.7], showgrid=False, ticks=""
    )
    return figure.update_layout(margin={"r": 160})


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
