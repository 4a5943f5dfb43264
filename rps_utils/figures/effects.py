"""Effects of predictors: selected features, forest plots, the nomogram, scores by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rps_utils.evaluation.wording import interval_text
from rps_utils.figures.style import (
    GREY,
    GROUP_COLOURS,
    INK,
    PAPER,
    SPARE_COLOURS,
    figure_template,
    interval_bars,
    model_colours,
    new_figure,
    nothing_to_show,
    side_text,
)
from rps_utils.learning.nomogram import Nomogram, nomogram_table, total_range


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
        dots = {"x": part["value"], "y": part[place], "error_x": interval_bars(part)}
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
    rows = table.reindex(table["coefficient"].abs().sort_values(kind="stable").index)
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
            error_x=interval_bars(rows.loc[[i]]),
            mode="markers",
            marker={"symbol": "square", "size": 9, "color": colours[i]},
            name=row["term"],
            showlegend=False,
        )
        missing = row.get("note") or "not estimable"
        words = interval_text(*row[["value", "ci_low", "ci_high"]].astype(float))
        side_text(figure, i, words if words != "–" else missing)
    figure.add_vline(x=1, line={"color": GREY, "width": 1, "dash": "dash"})
    figure.update_xaxes(type="log", title=axis, dtick="D2", tickformat="~g")
    figure.update_yaxes(
        tickvals=list(rows.index), ticktext=list(rows["term"]), range=[len(rows) - 0.5, -0.5], showgrid=False, ticks=""
    )
    return figure.update_layout(margin={"r": 190})


LETTER_SPACE = 1.3  # percent of the width that a letter of a label needs


def draw_nomogram(
    nomogram: Nomogram,
    landmarks: Sequence[float],
    title: str = "Nomogram",
    names: Mapping[str, str] | None = None,
    patient: pd.DataFrame | None = None,
) -> go.Figure:
    """Draw a nomogram.

    Parameters
    ----------
    nomogram : Nomogram
    landmarks : sequence of float
        Months, one probability axis each.
    title : str
    names : mapping, optional
        Axis to the words shown in its place.
    patient : DataFrame, optional
        From `read_points`: one patient, marked on every axis.

    Returns
    -------
    plotly.graph_objects.Figure
        The upper axes share the scale of points; those below, that of total points.
    """
    table = nomogram_table(nomogram, landmarks)
    scale = np.arange(0.0, 101.0, 10.0)
    points = pd.DataFrame({"axis": "points", "label": [f"{p:g}" for p in scale], "value": scale, "points": scale})
    full = total_range(nomogram)[-1]
    below = ~table["axis"].isin(nomogram.ticks["axis"])
    table = pd.concat([points, table.assign(points=table["points"].where(~below, table["points"] * 100 / full))])
    rows = list(table["axis"].unique())
    figure = new_figure(title, 110 + 52 * len(rows))
    for y, name in enumerate(rows):
        _draw_axis(figure, table[table["axis"] == name].sort_values("points", kind="stable"), y)
    if patient is not None:
        _mark_patient(figure, patient, rows, full)
    words = [(names or {}).get(name, name) for name in rows]
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=words, range=[len(rows) - 0.4, -0.7], ticks="")
    figure.update_yaxes(showgrid=False, showline=False)
    return figure.update_xaxes(visible=False, range=[-3, 103]).update_layout(showlegend=False)


SIDES = ("bottom center", "top center")


def place_labels(labels: Sequence[str], points: Sequence[float], needed: Sequence[bool]) -> tuple[list[str], list[str]]:
    """Return the label of each mark of an axis and its side of the line, so that no two labels collide.

    Labels stand below the line. One that finds no room there is left out, or, if it is `needed`, stands above; where
    that is taken too, it is joined to the label there. `points` rise, in percent of the width.
    """
    shown, sides, last = [""] * len(labels), ["bottom center"] * len(labels), dict[str, int]()
    for i, label in enumerate(labels):
        room = [side for side in SIDES if _has_room(side, label, points[i], shown, points, last)]
        if room[:1] == ["bottom center"] or (room and needed[i]):
            shown[i], sides[i], last[room[0]] = label, room[0], i
        elif needed[i]:
            shown[last["top center"]] += f", {label}"
    return shown, sides


def _has_room(
    side: str, label: str, at: float, shown: Sequence[str], points: Sequence[float], last: Mapping[str, int]
) -> bool:
    if side not in last:
        return True
    letters = (len(label) + len(shown[last[side]])) / 2 + 1
    return at - points[last[side]] >= LETTER_SPACE * letters


def _draw_axis(figure: go.Figure, marks: pd.DataFrame, y: int) -> None:
    levels, labels = marks["value"].isna().all(), list(marks["label"])
    needed = [bool(levels) or i == len(labels) - 1 for i in range(len(labels))]
    shown, sides = place_labels(labels, list(marks["points"]), needed)
    figure.add_scatter(
        x=marks["points"],
        y=[y] * len(marks),
        mode="lines+markers+text",
        text=shown,
        textposition=sides,
        textfont={"size": 11},
        line={"color": GREY, "width": 1.5},
        marker={"symbol": "line-ns", "size": 8, "line": {"width": 1.5, "color": INK}},
        customdata=marks["label"],
        hovertemplate="%{customdata}: %{x:.1f}<extra></extra>",
        cliponaxis=False,
    )


def _mark_patient(figure: go.Figure, patient: pd.DataFrame, rows: list[str], full: float) -> None:
    at = [rows.index(name) for name in patient["axis"]]
    total = patient["points"].sum()
    below = list(range(rows.index("total points"), len(rows)))
    figure.add_scatter(
        x=[*patient["points"], *[total * 100 / full] * len(below)],
        y=[*at, *below],
        mode="markers",
        marker={"size": 11, "color": SPARE_COLOURS[1], "symbol": "diamond", "line": {"color": PAPER, "width": 1}},
        text=[*(f"{p:.1f} points" for p in patient["points"]), *[f"total {total:.1f}"] * len(below)],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )
