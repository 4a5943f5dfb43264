"""Calibration curves and groups."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from rps_utils.figures.style import GREY, band, interval_bars, model_colours, nothing_to_show, panels


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
    figure = panels(models, title, height=330 if len(models) > 3 else 400)
    for place, model in enumerate(models, 1):
        where = {"row": 1, "col": place}
        figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash", "width": 1}, **where)
        curve = curves[curves["model"] == model]
        band(figure, curve, "predicted", colours[model], where)
        figure.add_scatter(
            x=curve["predicted"], y=curve["observed"], mode="lines", line={"color": colours[model]}, **where
        )
        rows = groups[groups["model"] == model].rename(columns={"observed": "value"})
        figure.add_scatter(
            x=rows["predicted"],
            y=rows["value"],
            error_y=interval_bars(rows),
            mode="markers",
            marker={"size": 9, "color": colours[model]},
            text=rows["n"].astype(int).astype(str) + " patients",
            **where,
        )
    axes = {"range": [-0.03, 1.03], "dtick": 0.5 if len(models) > 3 else 0.25}
    figure.update_xaxes(title="predicted risk", **axes)
    figure.update_yaxes(title=f"observed risk at {horizon_text}", col=1)
    return figure.update_yaxes(**axes)
