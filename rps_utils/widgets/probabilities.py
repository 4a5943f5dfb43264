"""What a predicted probability promises: decisions by a threshold, calibration under stretch, one patient's curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rps_utils.figures.calibration import calibration_plot
from rps_utils.figures.decision import decision_curves
from rps_utils.figures.style import INK, SPARE_COLOURS, new_figure
from rps_utils.learning.nomogram import Nomogram, read_points
from rps_utils.scores import lrfs_column
from rps_utils.survival.calibration import calibration_curve, calibration_groups, calibration_slope
from rps_utils.survival.concordance import harrell_c
from rps_utils.survival.curves import survival_at
from rps_utils.survival.decision import net_benefit
from rps_utils.widgets.panel import Choice, Slider, View


def decision_view(curve: pd.DataFrame, follow_up: tuple[Any, Any], risk: np.ndarray, threshold: float) -> View:
    """Show what acting at a threshold brings: hits, false alarms, and their balance.

    Parameters
    ----------
    curve : DataFrame
        ``model, horizon, threshold, net_benefit, treat_all``: the decision curve, computed once.
    follow_up : tuple
        Months and 0/1 of the patients.
    risk : ndarray
        Predicted risk of recurrence by the one ``horizon`` of the curve.
    threshold : float
        Risk from which on one acts, within (0, 1).
    """
    horizon, n = float(curve["horizon"].iloc[0]), len(risk)
    here = net_benefit(*follow_up, risk, horizon, [threshold]).iloc[0]
    figure = decision_curves(curve, "Decision curve, and the threshold that you move")
    figure.add_vline(x=threshold, line={"color": INK, "width": 2})
    if not here["n_positive"]:
        return View(figure, f"Nobody's risk reaches {threshold:.0%}: no hits, no false alarms, net benefit 0.")
    free = float(survival_at(*follow_up, horizon, (risk >= threshold)[None, :].astype(float))[0])
    hits, alarms = here["n_positive"] * (1 - free), here["n_positive"] * free
    sentence = (
        f"Acting at {threshold:.0%} on {here['n_positive']:.0f} of {n}: {hits:.1f} hits, {alarms:.1f} false alarms; "
        f"one hit is worth {(1 - threshold) / threshold:.1f} false alarms; "
        f"net benefit {here['net_benefit']:.3f}, of acting on all {here['treat_all']:.3f}"
    )
    return View(figure, sentence)


def stretch_view(
    follow_up: tuple[Any, Any], log_hazard: np.ndarray, at_mean: float, horizon: float, stretch: float
) -> View:
    """Show the calibration of a model whose log hazards are multiplied by one number.

    Parameters
    ----------
    follow_up : tuple
        Months and 0/1 of the patients.
    log_hazard : ndarray
        Of each patient, 0 for the average one.
    at_mean : float
        Cumulative hazard of the average patient at the horizon.
    horizon : float
        Months.
    stretch : float
        1 leaves the model as it is, more exaggerates. Above 0 the order, and so C, stays.
    """
    lrfs = np.exp(-at_mean * np.exp(stretch * log_hazard))
    given = (*follow_up, lrfs, horizon)
    groups, curve = (f(*given).assign(model="stretched") for f in (calibration_groups, calibration_curve))
    figure = calibration_plot(groups, curve, f"Log hazards times {stretch:g}", f"{horizon:g} months")
    figure.update_layout(width=520)
    distance = (curve["observed"] - curve["predicted"]).abs().mean()
    slope = calibration_slope(*follow_up, stretch * log_hazard)
    c = harrell_c(*follow_up, stretch * log_hazard)
    return View(
        figure, f"C = {c:.3f}, calibration slope {slope:.2f}, mean distance from the diagonal (ICI) {distance:.3f}"
    )


def finding_controls(
    nomogram: Nomogram, findings: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> dict[str, Slider | Choice]:
    """Return a control for each axis of a nomogram, at the findings of a patient.

    Parameters
    ----------
    nomogram : Nomogram
    findings : mapping
        Axis to value or level; a value beyond its axis starts at the axis' end.
    names : mapping, optional
        Axis to the words shown in its place.
    """
    controls: dict[str, Slider | Choice] = {}
    for axis, marks in nomogram.ticks.groupby("axis", sort=False):
        words, levels = (names or {}).get(axis, axis), list(marks["label"])
        low, high = marks["value"].min(), marks["value"].max()
        if not low < high:  # levels, or one value for all
            found = str(findings[axis])
            controls[axis] = Choice(words, levels, found if found in levels else levels[0])
        else:
            step = 10.0 ** np.floor(np.log10((high - low) / 20))
            start = np.clip(np.round(float(findings[axis]) / step) * step, low, high)
            controls[axis] = Slider(words, float(low), float(high), float(step), round(float(start), 9))
    return controls


def patient_view(nomogram: Nomogram, landmarks: Sequence[float], unit: str = "months", **findings: float | str) -> View:
    """Show the predicted LRFS of one patient over time.

    Parameters
    ----------
    nomogram : Nomogram
    landmarks : sequence of float
        Months told in the sentence; the curve ends at the last of them.
    unit : str
        Of the times.
    **findings : float or str
        Axis to value or level.
    """
    total = float(read_points(nomogram, findings)["points"].sum())
    months = sorted({*np.linspace(0, max(landmarks), 61).tolist(), *landmarks})
    curve = nomogram.lrfs([total], months).iloc[0].to_numpy(float)
    told = nomogram.lrfs([total], landmarks).iloc[0]
    figure = new_figure("Predicted LRFS of the patient entered", 400)
    look = {"shape": "hv", "color": SPARE_COLOURS[0]}
    figure.add_scatter(x=months, y=curve, mode="lines", line=look, showlegend=False)
    marks = {"mode": "markers", "marker": {"size": 10, "color": INK}, "showlegend": False}
    figure.add_scatter(x=list(landmarks), y=[told[lrfs_column(t)] for t in landmarks], **marks)
    figure.update_xaxes(title=f"time ({unit})").update_yaxes(title="LRFS", range=[0, 1.03], tickformat=".0%")
    read = [f"{told[lrfs_column(t)]:.1%} at {t:g}" for t in landmarks if np.isfinite(told[lrfs_column(t)])]
    return View(figure, f"{total:.1f} points; LRFS {', '.join(read) or 'unknown: beyond the follow-up in training'}")
