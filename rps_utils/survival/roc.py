"""Time-dependent ROC: cumulative cases against dynamic controls, weighted by the probability of being uncensored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rps_utils.machine.compiled import compiled
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
    return one_or_all(_areas(time, event, risk, [horizon], weights)[0], weights)


def td_aucs(time: Any, event: Any, risk: Any, grid: Any, weights: Any = None) -> np.ndarray:
    """Return `td_auc` at every month of `grid`, shape (k,) or (k, B); what they share is counted once a resample."""
    areas = _areas(time, event, risk, grid, weights)
    return areas[:, 0] if weights is None else areas


def _areas(time: Any, event: Any, risk: Any, grid: Any, weights: Any) -> np.ndarray:
    """Return the AUC at every month, shape (k, B)."""
    time, event = check_follow_up(time, event)
    risk = check_numbers("risk", risk, len(time))
    counts, horizons = check_weights(weights, len(time)), np.asarray(grid, float)
    order = np.argsort(risk, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(risk[order])) + 1, len(risk))
    # For each patient the first horizon that finds a case, and how many find a control.
    case_from = np.where(event, np.searchsorted(np.sort(horizons), time), len(horizons))
    control_upto = np.searchsorted(np.sort(horizons), time)
    found = _beaten(_case_weights(time, event, counts), counts, case_from, control_upto, order, ends, len(horizons))
    won, cases, controls = found
    return ratio(won, cases * controls)[np.argsort(np.argsort(horizons))]


@compiled
def _beaten(weight, counts, case_from, control_upto, order, ends, horizons):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return, by horizon and resample, the weight of pairs whose case has the higher risk, of cases and of controls."""
    won, cases = np.zeros((horizons, len(counts))), np.zeros((horizons, len(counts)))
    controls = np.zeros((horizons, len(counts)))
    own, met = np.zeros(horizons), np.zeros(horizons)
    for b in range(len(counts)):
        start = 0
        for end in ends:
            own[:], met[:] = 0.0, 0.0
            for k in range(start, end):
                i = order[k]
                for h in range(control_upto[i]):
                    met[h] += counts[b, i]
                for h in range(case_from[i], horizons):
                    own[h] += weight[b, i]
            for h in range(horizons):
                won[h, b] += own[h] * (controls[h, b] + 0.5 * met[h])
                cases[h, b] += own[h]
                controls[h, b] += met[h]
            start = end
    return won, cases, controls


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
    areas = np.reshape(td_aucs(time, event, risk, grid, weights), (len(grid), -1))
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
    tpr = np.minimum(ratio(_weight_above(risk[cases], case, thresholds), case.sum()), 1)  # rounding
    fpr = ratio(_weight_above(risk[controls], np.ones(len(controls)), thresholds), len(controls))
    return pd.DataFrame({"threshold": thresholds, "fpr": fpr, "tpr": tpr})


def _weight_above(risk: np.ndarray, weight: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the summed weight of risks at or above each threshold."""
    order = np.argsort(-risk, kind="stable")
    summed = np.concatenate(([0.0], np.cumsum(weight[order])))
    return summed[np.searchsorted(-risk[order], -thresholds, side="right")]
