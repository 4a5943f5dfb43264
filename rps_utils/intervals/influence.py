"""Standard errors of AUC(t) and Brier score without resampling, and the paired comparison of two AUCs.

Each patient's influence includes what he or she contributes to the estimated censoring curve. The results equal R's
riskRegression; bootstrap intervals (inference.py) remain the choice for small validation sets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from rps_utils.survival.concordance import score_pairs
from rps_utils.survival.curves import censoring_curve, count_steps, curve_at
from rps_utils.survival.follow_up import Estimate, check_follow_up, check_numbers, horizon_note, ratio


class _Censoring(NamedTuple):
    """1 / G just before each patient's time (n,), 1 / G(horizon), and how patients move log G (patient x place)."""

    own: np.ndarray
    horizon: float
    pull_own: np.ndarray
    pull_horizon: np.ndarray


def _censoring(time: np.ndarray, event: np.ndarray, horizon: float) -> _Censoring:
    n = len(time)
    steps = count_steps(time, event, np.ones((1, n)))
    curve = censoring_curve(steps)
    hazard = steps.censored[0] / steps.at_risk[0]
    jumps = np.zeros((n, len(steps.times)))
    jumps[np.arange(n), steps.column] = ~event
    martingale = (jumps - (time[:, None] >= steps.times) * hazard) * n / steps.at_risk[0]
    pull = np.pad(np.cumsum(martingale, axis=1), ((0, 0), (1, 0)))
    return _Censoring(
        1 / curve[0, steps.column],
        float(ratio(np.ones(1), curve_at(curve, steps, horizon))[0]),
        pull[:, steps.column],
        pull[:, np.searchsorted(steps.times, horizon, side="right")],
    )


def _wald(value: float, influence: np.ndarray, level: float, note: str = "") -> Estimate:
    if not np.isfinite(value):
        return Estimate(np.nan, np.nan, np.nan, note or "not defined in these rows")
    margin = float(norm.ppf(0.5 + level / 2) * _standard_error(influence))
    return Estimate(value, value - margin, value + margin, note)


def _standard_error(influence: np.ndarray) -> float:
    return float(influence.std(ddof=1) / np.sqrt(len(influence)))


def _auc_influence(time: np.ndarray, event: np.ndarray, risk: np.ndarray, horizon: float) -> tuple[float, np.ndarray]:
    censoring = _censoring(time, event, horizon)
    case = (event & (time <= horizon)) * censoring.own
    control = (time > horizon).astype(float)
    if not case.any() or not control.any():
        return np.nan, np.full(len(time), np.nan)
    wins = score_pairs(risk, risk) * (case[:, None] > 0) * control
    beaten, beating = wins.mean(axis=1), case @ wins / len(time)
    won, cases, controls = np.mean(case * beaten), case.mean(), control.mean()
    auc = won / (cases * controls)
    numerator = case * beaten + beating - 2 * won + censoring.pull_own @ (case * beaten) / len(time)
    shift = case - cases + censoring.pull_own @ case / len(time)
    return float(auc), (numerator - auc * (shift * controls + (control - controls) * cases)) / (cases * controls)


def auc_estimate(time: Any, event: Any, risk: Any, horizon: float, *, level: float = 0.95) -> Estimate:
    """Return `td_auc` with its Wald interval from influence functions (Blanche et al. 2013).

    Parameters and conventions as in `metrics.td_auc`; undefined values are NaN with the reason in `note`. With
    fewer than about 100 patients use `inference.bootstrap_estimate` instead.
    """
    time, event = check_follow_up(time, event)
    auc, influence = _auc_influence(time, event, check_numbers("risk", risk, len(time)), horizon)
    return _wald(auc, influence, level, horizon_note(time, event, horizon, minimum_at_risk=0))


def brier_estimate(time: Any, event: Any, lrfs: Any, horizon: float, *, level: float = 0.95) -> Estimate:
    """Return `brier_score` with its Wald interval from influence functions.

    Parameters and conventions as in `metrics.brier_score`; NaN when nobody is followed beyond the horizon.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    censoring = _censoring(time, event, horizon)
    case = (event & (time <= horizon)) * lrfs**2 * censoring.own
    if not (time > horizon).any():
        return _wald(np.nan, case, level, f"nobody is followed beyond {horizon:g} months")
    free = (time > horizon) * (1 - lrfs) ** 2 * censoring.horizon
    score = float(np.mean(case + free))
    shift = censoring.pull_own @ case / len(time) + censoring.pull_horizon * free.mean()
    return _wald(score, case + free - score + shift, level)


class PairedAuc(NamedTuple):
    """AUC(a) - AUC(b) on the same patients, its standard error, z and two-sided p."""

    difference: float
    std_error: float
    z: float
    p: float


def compare_auc(time: Any, event: Any, risk_a: Any, risk_b: Any, horizon: float) -> PairedAuc:
    """Compare two models' AUC at `horizon` on the same patients (influence functions, two-sided).

    DeLong's test ignores censoring; torchsurv's comparison is one-sided. All NaN when the AUC is undefined; z and p
    also when the two scores order the patients alike.
    """
    time, event = check_follow_up(time, event)
    scores = [check_numbers("risk", risk, len(time)) for risk in (risk_a, risk_b)]
    (auc_a, moves_a), (auc_b, moves_b) = (_auc_influence(time, event, score, horizon) for score in scores)
    error = _standard_error(moves_a - moves_b)
    z = (auc_a - auc_b) / error if error > 0 else np.nan
    return PairedAuc(auc_a - auc_b, error, z, float(2 * norm.sf(abs(z))))
