"""Kaplan-Meier and cumulative incidence of risk groups, with the numbers at risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rps_utils.figures.style import (
    GROUP_COLOURS,
    figure_template,
    new_figure,
    nothing_to_show,
    translucent,
)


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
    _words_above(figure, words)
    _km_axes(figure, groups, sorted(at_risk["time"].unique()), curves["time"].max(), unit)
    figure.update_layout(template=figure_template(), title={"text": title}, showlegend=False)
    return figure


def _words_above(figure: go.Figure, words: Sequence[str]) -> None:
    """Write lines between title and axes, where no curve or band can lie; the figure grows by them."""
    space = 18 * len(words)
    text = {"text": "<br>".join(words), "align": "left", "font": {"size": 12}, "showarrow": False}
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 6}
    if words:
        figure.add_annotation(**text, **place)
    figure.update_layout(height=430 + space, margin={"b": 20, "t": 60 + space})


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
