"""Point estimates of how well a risk score or a predicted probability tells the patients apart.

A risk score is higher for an earlier recurrence. `lrfs` is the predicted probability of being free of local
recurrence at the horizon, `risk` of a decision curve is 1 - lrfs. Weights are counts of resamples, shape (B, n),
and give one value per resample; the censoring curve G is estimated anew in each. This module is the one door to the
statistics of curves.py, calibration.py and decision.py as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rps_utils.calibration import (
    CalibrationErrors,
    DCalibration,
    calibration_band,
    calibration_curve,
    calibration_errors,
    calibration_groups,
    calibration_slope,
    calibration_slope_interval,
    d_calibration,
    ici,
    ici_e50_e90,
    observed_expected,
    observed_expected_overall,
    spline_knots,
)
from rps_utils.curves import (
    Estimate,
    Steps,
    at_risk,
    censoring_curve,
    check_follow_up,
    check_numbers,
    check_weights,
    count_steps,
    cumulative_incidence,
    curve_at,
    horizon_note,
    incidence_curve,
    kaplan_meier,
    logrank,
    logrank_table,
    median_survival,
    one_or_all,
    pairwise_logrank,
    ratio,
    rmst,
    rmst_difference,
    survival_at,
    survival_from,
)
from rps_utils.decision import gain_over_all, net_benefit, net_benefit_at

__all__ = [
    "CalibrationErrors",
    "DCalibration",
    "Estimate",
    "PairCounts",
    "at_risk",
    "brier_score",
    "calibration_band",
    "calibration_curve",
    "calibration_errors",
    "calibration_groups",
    "calibration_slope",
    "calibration_slope_interval",
    "cumulative_incidence",
    "d_calibration",
    "event_pair_weights",
    "gain_over_all",
    "harrell_c",
    "horizon_note",
    "ici",
    "ici_e50_e90",
    "incidence_curve",
    "integrated_brier",
    "integrated_ipa",
    "integrated_null_brier",
    "integrated_td_auc",
    "ipa",
    "kaplan_meier",
    "logrank",
    "logrank_table",
    "median_survival",
    "net_benefit",
    "net_benefit_at",
    "null_brier",
    "observed_expected",
    "observed_expected_overall",
    "pair_counts",
    "pair_influence",
    "pairwise_logrank",
    "rmst",
    "rmst_difference",
    "roc_curve_at",
    "score_pairs",
    "spline_knots",
    "survival_at",
    "td_auc",
    "uno_c",
]

_BLOCK = 4_000_000  # cells of one block of the table of pairs (32 MB)


def score_pairs(risk_early: np.ndarray, risk_late: np.ndarray) -> np.ndarray:
    """Score pairs (early x late): 1 when the earlier patient has the higher risk, 1/2 when they tie, else 0."""
    early, late = risk_early[:, None], risk_late[None, :]
    return (early > late) + 0.5 * (early == late)


def _pair_blocks(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (rows with an event, usable pairs, won pairs); pairs have shape (rows, n)."""
    rows = np.flatnonzero(event)
    for block in np.array_split(rows, 1 + len(rows) * len(time) // _BLOCK):
        own = time[block, None]
        usable = ((time > own) | ((time == own) & ~event)).astype(float)
        yield block, usable, usable * score_pairs(risk[block], risk)


def _concordance(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, counts: np.ndarray, pair_weight: np.ndarray
) -> np.ndarray:
    """Return the share of won pairs per resample; `pair_weight` (B or 1, n) belongs to the earlier patient."""
    won, usable = np.zeros(len(counts)), np.zeros(len(counts))
    weight = counts * pair_weight
    for block, pairs, wins in _pair_blocks(time, event, risk):
        usable += np.sum(weight[:, block] * (counts @ pairs.T), axis=1)
        won += np.sum(weight[:, block] * (counts @ wins.T), axis=1)
    return ratio(won, usable)


def _before(curve: np.ndarray, steps: Steps) -> np.ndarray:
    """Return a curve just before every patient's own time, shape (B, n)."""
    return curve[:, steps.column]


def event_pair_weights(time: np.ndarray, event: np.ndarray, tau: float | None, counts: np.ndarray) -> np.ndarray:
    """Return the weight of a pair by its earlier patient: 1 (Harrell, `tau` None) or Uno's 1(T <= tau) / G(T-)^2."""
    if tau is None:
        return np.ones((1, len(time)))
    steps = count_steps(time, event, counts)
    before = _before(censoring_curve(steps), steps)
    return ratio((time <= tau).astype(float)[None, :], before**2, 0.0)


def harrell_c(time: Any, event: Any, risk: Any, weights: Any = None) -> Any:
    """Return Harrell's C: the share of usable pairs in which the earlier recurrence has the higher risk.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    risk : array_like, shape (n,)
        Higher = earlier recurrence. (lifelines' function wants the opposite sign.)
    weights : array_like, shape (B, n), optional
        Counts of resamples.

    Returns
    -------
    float or ndarray of shape (B,)
        A pair is usable when the earlier time is an event, or when an event and a censoring fall on the same
        time; two events at the same time are not used; tied risks count 1/2. NaN without any usable pair.

    References
    ----------
    Harrell, Lee & Mark, Stat Med 1996; the same conventions as R's ``survival::concordance``.
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("risk", risk, len(time))
    counts = check_weights(weights, len(time))
    return one_or_all(_concordance(time, event, risk, counts, np.ones((1, 1))), weights)


def uno_c(time: Any, event: Any, risk: Any, tau: float, weights: Any = None) -> Any:
    """Return Uno's C up to `tau` months: pairs are weighted by 1 / G(T-)^2 against unequal censoring.

    Parameters
    ----------
    time, event, risk, weights
        As in `harrell_c`.
    tau : float
        Months, fixed before looking at the data: without it one late event can dominate.

    Returns
    -------
    float or ndarray of shape (B,)
        NaN without a usable pair up to tau. scikit-survival and torchsurv take G(T) and T < tau instead, which
        differs at ties of events and censorings.

    References
    ----------
    Uno et al., Stat Med 2011 (as R's ``concordance(timewt = "n/G2", ymax = tau)``).
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("risk", risk, len(time))
    counts = check_weights(weights, len(time))
    pair_weight = event_pair_weights(time, event, float(tau), counts)
    return one_or_all(_concordance(time, event, risk, counts, pair_weight), weights)


class PairCounts(NamedTuple):
    """Pairs of patients by their fate in Harrell's C (`tied_time`: two events at once, never used)."""

    concordant: int
    discordant: int
    tied_risk: int
    tied_time: int


def pair_counts(time: Any, event: Any, risk: Any) -> PairCounts:
    """Count the pairs behind Harrell's C = (concordant + tied_risk / 2) / all usable pairs."""
    time, event = check_follow_up(time, event)
    risk = check_numbers("risk", risk, len(time))
    concordant = tied = usable = 0
    for _, pairs, wins in _pair_blocks(time, event, risk):
        concordant += int((wins == 1).sum())
        tied += int((wins == 0.5).sum())
        usable += int(pairs.sum())
    together = np.unique(time[event], return_counts=True)[1]
    tied_time = int((together * (together - 1) // 2).sum())
    return PairCounts(concordant, usable - concordant - tied, tied, tied_time)


def pair_influence(time: Any, event: Any, risk: Any, tau: float | None = None) -> tuple[float, np.ndarray]:
    """Return C (Harrell's, or Uno's when `tau` is given) and how much each patient moves it.

    Returns
    -------
    c : float
    influence : ndarray, shape (n,)
        Infinitesimal jackknife with G treated as known; its root sum of squares is the standard error of C, and
        that of the difference of two models' influences is the standard error of the paired difference.
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("risk", risk, len(time))
    weight = event_pair_weights(time, event, tau, np.ones((1, len(time))))[0]
    won, usable = np.zeros(len(time)), np.zeros(len(time))
    for block, pairs, wins in _pair_blocks(time, event, risk):
        for table, total in ((wins, won), (pairs, usable)):
            weighted = table * weight[block, None]
            total += weighted.sum(axis=0)
            total[block] += weighted.sum(axis=1)
    c = float(ratio(won.sum(), usable.sum()))
    return c, ratio(won - c * usable, usable.sum() / 2)


def _cases_controls(time: np.ndarray, event: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(event & (time <= horizon)), np.flatnonzero(time > horizon)


def _case_weights(time: np.ndarray, event: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return counts / G(T-), shape (B, n); 0 where a patient was not drawn."""
    steps = count_steps(time, event, counts)
    return ratio(counts, _before(censoring_curve(steps), steps), 0.0)


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
    grid = _check_grid(grid, 1)
    steps = count_steps(time, event, check_weights(weights, len(time)))
    survival = np.array([np.ones(len(steps.events)), *(survival_from(steps, t) for t in grid)])
    fallen = -np.diff(survival, axis=0)
    areas = np.array([np.atleast_1d(td_auc(time, event, risk, t, weights)) for t in grid])
    weighted = np.where(fallen == 0, 0.0, areas * fallen).sum(axis=0)
    return one_or_all(ratio(weighted, 1 - survival[-1]), weights)


def _check_grid(grid: Any, fewest: int) -> np.ndarray:
    grid = np.asarray(grid, float)
    if grid.ndim != 1 or len(grid) < fewest or (np.diff(grid) <= 0).any():
        allowed = f"at least {fewest} increasing months; sort grid and columns"
        raise ValueError(f"grid is {grid.tolist()}; allowed: {allowed}")
    return grid


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


class _Graf(NamedTuple):
    """What the Brier scores of one table share: case weights counts / G(T-) (B, n), the curve G, the counts."""

    time: np.ndarray
    event: np.ndarray
    counts: np.ndarray
    steps: Steps
    censoring: np.ndarray
    case: np.ndarray


def _graf(time: np.ndarray, event: np.ndarray, counts: np.ndarray) -> _Graf:
    steps = count_steps(time, event, counts)
    censoring = censoring_curve(steps)
    return _Graf(time, event, counts, steps, censoring, ratio(counts, _before(censoring, steps), 0.0))


def _graf_parts(graf: _Graf, horizon: float, case_loss: Any, free_loss: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted means of both losses per resample; NaN where follow-up ends before the horizon."""
    case_loss = (graf.event & (graf.time <= horizon)) * case_loss
    free_loss = (graf.time > horizon) * free_loss
    n = graf.counts.sum(axis=1)
    followed = graf.counts @ (graf.time > horizon) > 0
    known = followed | (survival_from(graf.steps, horizon) == 0)
    at_horizon = np.where(followed, curve_at(graf.censoring, graf.steps, horizon), 1.0)
    return np.where(known, graf.case @ case_loss / n, np.nan), graf.counts @ free_loss / at_horizon / n


def _brier(graf: _Graf, lrfs: np.ndarray, horizon: float) -> np.ndarray:
    return np.add(*_graf_parts(graf, horizon, lrfs**2, (1 - lrfs) ** 2))


def _null_brier(graf: _Graf, horizon: float) -> np.ndarray:
    """Return the score of predicting Kaplan-Meier's probability for everybody."""
    survival = survival_from(graf.steps, horizon)
    case, free = _graf_parts(graf, horizon, 1.0, 1.0)
    return case * survival**2 + free * (1 - survival) ** 2


def brier_score(time: Any, event: Any, lrfs: Any, horizon: float, weights: Any = None) -> Any:
    """Return the Brier score at `horizon` with Graf's inverse-probability-of-censoring weights.

    Parameters
    ----------
    time, event, weights
        As in `harrell_c`.
    lrfs : array_like, shape (n,)
        Predicted probability of being free of recurrence at the horizon, within [0, 1] (not the risk).
    horizon : float
        Months.

    Returns
    -------
    float or ndarray of shape (B,)
        0 is perfect. Recurred patients weigh 1 / G(T-), patients beyond the horizon 1 / G(horizon); censored
        ones 0. NaN when nobody is followed beyond the horizon. scikit-survival takes G(T).

    References
    ----------
    Graf et al., Stat Med 1999.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    counts = check_weights(weights, len(time))
    return one_or_all(_brier(_graf(time, event, counts), lrfs, horizon), weights)


def ipa(time: Any, event: Any, lrfs: Any, horizon: float, weights: Any = None) -> Any:
    """Return the index of prediction accuracy, 1 - Brier / Brier of Kaplan-Meier; 0 = no better than nobody known.

    Parameters and errors as in `brier_score`. The Kaplan-Meier curve is estimated in the rows (and the resample)
    evaluated. NaN when the null score is 0 or undefined.

    References
    ----------
    Kattan & Gerds 2018.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    counts = check_weights(weights, len(time))
    graf = _graf(time, event, counts)
    return one_or_all(1 - ratio(_brier(graf, lrfs, horizon), _null_brier(graf, horizon)), weights)


def null_brier(time: Any, event: Any, horizon: float, weights: Any = None) -> Any:
    """Return the Brier score of Kaplan-Meier's probability for everybody, estimated in the rows (or the resample)."""
    time, event = check_follow_up(time, event)
    return one_or_all(_null_brier(_graf(time, event, check_weights(weights, len(time))), horizon), weights)


def integrated_brier(time: Any, event: Any, lrfs_matrix: Any, grid: Any, weights: Any = None) -> Any:
    """Return the Brier score averaged over `grid` months by the trapezoid rule.

    Parameters
    ----------
    time, event, weights
        As in `harrell_c`.
    lrfs_matrix : array_like, shape (n, len(grid))
        Predicted probability of being free of recurrence, one column per month of the grid, in its order.
    grid : array_like
        Months, at least two, increasing. (scikit-survival sorts them silently without moving the columns.)

    Returns
    -------
    float or ndarray of shape (B,)
        NaN when any month of the grid is undefined.
    """
    time, event = check_follow_up(time, event)
    grid, matrix = _check_grid(grid, 2), np.asarray(lrfs_matrix, float)
    if matrix.shape != (len(time), len(grid)):
        raise ValueError(f"lrfs_matrix has shape {matrix.shape}; allowed: {(len(time), len(grid))}; one column a month")
    counts = check_weights(weights, len(time))
    graf = _graf(time, event, counts)
    columns = [check_numbers(f"lrfs at {t:g} months", x, len(time), 0, 1) for t, x in zip(grid, matrix.T, strict=True)]
    scores = [_brier(graf, x, t) for t, x in zip(grid, columns, strict=True)]
    return one_or_all(_mean_over(scores, grid), weights)


def _mean_over(scores: list[np.ndarray], grid: np.ndarray) -> np.ndarray:
    return np.trapezoid(np.array(scores), grid, axis=0) / (grid[-1] - grid[0])


def integrated_null_brier(time: Any, event: Any, grid: Any, weights: Any = None) -> Any:
    """Return `null_brier` averaged over `grid` months by the trapezoid rule, to compare `integrated_brier` with."""
    time, event = check_follow_up(time, event)
    grid, graf = _check_grid(grid, 2), _graf(time, event, check_weights(weights, len(time)))
    return one_or_all(_mean_over([_null_brier(graf, t) for t in grid], grid), weights)


def integrated_ipa(time: Any, event: Any, lrfs_matrix: Any, grid: Any, weights: Any = None) -> Any:
    """Return 1 - `integrated_brier` / `integrated_null_brier`: the share of Kaplan-Meier's score that is saved."""
    own, null = (
        np.atleast_1d(score)
        for score in (
            integrated_brier(time, event, lrfs_matrix, grid, weights),
            integrated_null_brier(time, event, grid, weights),
        )
    )
    return one_or_all(1 - ratio(own, null), weights)
