"""Calibration curves and groups, and how far the promises of other samples scatter."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from rps_utils.figures.style import (
    GREY,
    INK,
    band,
    interval_bars,
    model_colours,
    new_figure,
    nothing_to_show,
    panel_at,
    panels,
)


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
    figure = panels(models, title, height=380)
    for place, model in enumerate(models, 1):
        where = panel_at(place)
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
    axes = {"range": [-0.03, 1.03], "dtick": 0.25}
    figure.update_xaxes(title="predicted risk", **axes)
    figure.update_yaxes(title=f"observed risk at {horizon_text}", col=1)
    return figure.update_yaxes(**axes)


def instability_plot(table: pd.DataFrame, title: str, horizon_text: str) -> go.Figure:
    """Show what models of resamples promise each patient, against what the model itself promises.

    Parameters
    ----------
    table : DataFrame
        ``predicted, middle, low, high``, one row a patient: risks of recurrence by the landmark.
    title, horizon_text : str
        Heading, and the landmark in words (``36 months``).

    References
    ----------
    Riley & Collins, Biometrical Journal 2023, with a bar a patient in place of a dot a resample.
    """
    rows = table.dropna().rename(columns={"middle": "value", "low": "ci_low", "high": "ci_high"})
    if rows.empty:
        return nothing_to_show(title)
    figure = new_figure(title, 480)
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash", "width": 1})
    bars = interval_bars(rows) | {"width": 0, "color": GREY}
    marker = {"size": 6, "color": INK}
    figure.add_scatter(x=rows["predicted"], y=rows["value"], error_y=bars, mode="markers", marker=marker)
    figure.update_xaxes(title=f"risk at {horizon_text}, promised by the model", range=[-0.03, 1.03], dtick=0.25)
    figure.update_yaxes(title="the same by models of resamples", range=[-0.03, 1.03], dtick=0.25)
    return figure.update_layout(showlegend=False)
