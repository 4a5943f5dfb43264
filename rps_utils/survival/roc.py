"""Time-dependent ROC: cumulative cases against dynamic controls, weighted by the probability of being uncensored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rps_utils.survival.concordance import score_pairs
from rps_utils.survival.curves import censoring_curve, count_steps, just_before, survival_from
from rps_utils.survival.follow_up import check_follow_up, check_grid, check_numbers, check_weights, one_or_all, ratio


def _cases_controls(time: np.ndarray, event: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(event & (time <= horizon)), np.flatnonzero(time > horizon)


def _case_weights(time: np.ndarray, event: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return counts / G(T-), shape (B, n); 0 where a patient was not drawn."""
    steps = count_steps(time, event, counts)
    return ratio(counts, just_before(censoring_curve(steps), steps), 0.0)


def td_auc(time: Any, event: Any, risk: Any, horizon: float, weights: Any = None) -> Any:
    """Return the cumulative/dynamic AUC at `horizon`: recurred by then against still free of recurrence.

    Parameters
    ----------
    time, event, risk, weights
        As in `harrell_c`.
    horizon : float
        Months. Cases: T <= horizon with an event, weighted by 1 / G(T-); controls: T > horizon.

    Returns
    -------
    float or ndarray of shape (B,)
        Tied risks count 1/2. NaN without a case or without a control. scikit-survival weights by 1 / G(T) and
        refuses horizons outside the follow-up.

    References
    ----------
    Uno et al. 2007; Hung & Chiang 2010; Blanche et al. 2013 (equals R's timeROC and riskRegression).
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("risk", risk, len(time))
    counts = check_weights(weights, len(time))
    cases, controls = _cases_controls(time, event, horizon)
    case, control = _case_weights(time, event, counts)[:, cases], counts[:, controls]
    won = np.sum(case * (control @ score_pairs(risk[cases], risk[controls]).T), axis=1)
    return one_or_all(ratio(won, case.sum(axis=1) * control.sum(axis=1)), weights)


def integrated_td_auc(time: Any, event: Any, risk: Any, grid: Any, weights: Any = None) -> Any:
    """Return the mean of `td_auc` over `grid` months, each weighted by the recurrences since the month before.

    Parameters
    ----------
    time, event, risk, weights
        As in `harrell_c`.
    grid : array_like
        Months, increasing. The weight of month t_k is S(t_{k-1}) - S(t_k) by Kaplan-Meier, with S(t_0) = 1.

    Returns
    -------
    float or ndarray of shape (B,)
        NaN when the AUC is undefined at a month that has weight. scikit-survival has the same mean, of its own AUC.
    """
    time, event = check_follow_up(time, event)
    grid = check_grid(grid, 1)
    steps = count_steps(time, event, check_weights(weights, len(time)))
    survival = np.array([np.ones(len(steps.events)), *(survival_from(steps, t) for t in grid)])
    fallen = -np.diff(survival, axis=0)
    areas = np.array([np.atleast_1d(td_auc(time, event, risk, t, weights)) for t in grid])
    weighted = np.where(fallen == 0, 0.0, areas * fallen).sum(axis=0)
    return one_or_all(ratio(weighted, 1 - survival[-1]), weights)


def roc_curve_at(time: Any, event: Any, risk: Any, horizon: float) -> pd.DataFrame:
    """Return the ROC curve at `horizon` by the weights of `td_auc`; its trapezoid area is that AUC.

    Returns
    -------
    pandas.DataFrame
        threshold (called positive: risk >= threshold; first row infinite), fpr, tpr; both NaN when undefined.
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("risk", risk, len(time))
    cases, controls = _cases_controls(time, event, horizon)
    case = _case_weights(time, event, np.ones((1, len(time))))[0, cases]
    thresholds = np.concatenate(([np.inf], np.unique(risk)[::-1]))
    tpr = np.minimum(ratio((risk[cases] >= thresholds[:, None]) @ case, case.sum()), 1)  # rounding
    fpr = ratio((risk[controls] >= thresholds[:, None]).sum(axis=1), len(controls))
    return pd.DataFrame({"threshold": thresholds, "fpr": fpr, "tpr": tpr})
