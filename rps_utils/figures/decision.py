"""Decision curves."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from rps_utils.figures.style import GREY, INK, band, model_colours, nothing_to_show, padded, panels


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
    figure = panels(models, title, height=330 if len(models) > 3 else 400)
    for place, model in enumerate(models, 1):
        rows, where = bands[bands["model"] == model], {"row": 1, "col": place}
        band(figure, rows, "threshold", colours[model], where)
        for column, colour, dash in (("treat_all", GREY, "dot"), ("net_benefit", colours[model], "solid")):
            line = {"color": colour, "dash": dash, "width": 2}
            figure.add_scatter(x=rows["threshold"], y=rows[column], mode="lines", line=line, name=column, **where)
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    figure.update_xaxes(title="threshold risk", tickformat=".0%", range=padded(bands["threshold"].to_numpy()))
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
    figure = panels([f"{t:g} {unit}" for t in horizons], title)
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
