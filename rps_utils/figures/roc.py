"""ROC curves, and values over time."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from rps_utils.figures.style import (
    GREY,
    interval_bars,
    model_colours,
    new_figure,
    nothing_to_show,
    panel_at,
    panel_words,
    panels,
    wrapped,
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
    figure = panels([f"{t:g} {unit}" for t in horizons], title)
    for place, horizon in enumerate(horizons, 1):
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash", "width": 1}, **panel_at(place)
        )
        here = areas[areas["horizon_months"] == horizon].dropna(subset="value")
        for model in here["model"]:
            rows = curves[(curves["horizon"] == horizon) & (curves["model"] == model)]
            line = {"color": colours[model], "width": 2}
            figure.add_scatter(x=rows["fpr"], y=rows["tpr"], mode="lines", line=line, name=model, **panel_at(place))
        words = [(f"{m} {v:.2f}", colours[m]) for m, v in zip(here["model"], here["value"], strict=True)]
        notes = areas.loc[areas["horizon_months"] == horizon, "note"].dropna()
        panel_words(figure, place, words or [("<br>".join(wrapped(notes.iloc[0])), "")], "lower right")
    figure.update_xaxes(title="1 − specificity", range=[-0.02, 1.02], dtick=0.25)
    figure.update_yaxes(title="sensitivity", range=[-0.02, 1.02], dtick=0.25, col=1)
    return figure.update_yaxes(range=[-0.02, 1.02])


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
            error_y=interval_bars(here),
            mode="markers",
            marker={"size": 9, "color": colours[model]},
            name=model,
        )
    figure.add_hline(y=null, line={"color": GREY, "width": 1, "dash": "dash"})
    figure.update_xaxes(
        title=f"landmark ({unit})", tickvals=list(range(len(horizons))), ticktext=[f"{t:g}" for t in horizons]
    )
    return figure.update_yaxes(title=axis)
