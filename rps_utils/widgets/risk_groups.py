"""Cut a score in two: Kaplan-Meier, log-rank p and numbers at risk of the groups."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rps_utils.evaluation.risk_groups import group_curves
from rps_utils.figures.risk_groups import kaplan_meier_plot
from rps_utils.survival.curves import logrank
from rps_utils.widgets.panel import View


def cut_view(patients: pd.DataFrame, percent_low: float, unit: str = "months") -> View:
    """Show the two groups of a score cut at one of its own percentiles.

    Parameters
    ----------
    patients : DataFrame
        ``time_months, event, risk``, one row a patient.
    percent_low : float
        Percent of the patients at or below the cut-off, 0 to 100. High risk is above it.
    unit : str
        Of the times.
    """
    cutoff = np.quantile(patients["risk"], percent_low / 100, method="inverted_cdf") if percent_low else -np.inf
    high = (patients["risk"] > cutoff).to_numpy()
    curves, at_risk = group_curves(patients.assign(group=np.where(high, "high", "low")))
    figure = kaplan_meier_plot(curves, at_risk, "Risk groups by a cut-off that you move", unit=unit)
    return View(figure, _sentence(patients, high, cutoff))


def _sentence(patients: pd.DataFrame, high: np.ndarray, cutoff: float) -> str:
    if high.all() or not high.any():
        return f"All {len(high)} patients lie on one side of the cut-off: there is nothing to compare."
    sizes = f"cut-off {cutoff:.2f}: {(~high).sum()} low, {high.sum()} high"
    if not patients["event"].any():
        return f"{sizes}; nobody recurred, so the curves cannot be compared."
    return f"{sizes}; log-rank p = {logrank(patients['time_months'], patients['event'], high).p:.4f}"
