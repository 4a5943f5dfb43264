"""Standard errors of AUC(t) and Brier score without resampling, and the paired comparison of two AUCs.

Each patient's influence includes what he or she contributes to the estimated censoring curve. The results equal R's
riskRegression; bootstrap intervals (inference.py) remain the choice for small validation sets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from rps_utils.survival.curves import censoring_curve, count_steps, curve_at
from rps_utils.survival.follow_up import Estimate, check_follow_up, check_numbers, horizon_note, ratio


class _Censoring(NamedTuple):
    """1 / G just before each patient's time (n,), 1 / G(horizon), and what moves G."""

    own: np.ndarray
    horizon: float
    times: np.ndarray
    column: np.ndarray
    left: np.ndarray
    at_risk: np.ndarray
    hazard: np.ndarray

    def pull(self, later: np.ndarray) -> np.ndarray:
        """Return how each patient moves a sum of log G by way of the censorings, shape (n,).

        `later` (m,): what of the sum lies beyond each distinct time. A patient counts by the censoring that he or
        she is, less the hazard of those that he or she might have been.
        """
        step = later * len(self.column) / self.at_risk
        expected = np.cumsum(self.hazard * step)
        return self.left * step[self.column] - expected[self.column]

    def beyond(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of values (n,) of patients with a later time, for every distinct time."""
        total = np.bincount(self.column, values, minlength=len(self.times))
        return np.cumsum(total[::-1])[::-1] - total


def _censoring(time: np.ndarray, event: np.ndarray, horizon: float) -> _Censoring:
    steps = count_steps(time, event, np.ones((1, len(time))))
    curve = censoring_curve(steps)
    return _Censoring(
        1 / curve[0, steps.column],
        float(ratio(np.ones(1), curve_at(curve, steps, horizon))[0]),
        steps.times,
        steps.column,
        (~event).astype(float),
        steps.at_risk[0],
        steps.censored[0] / steps.at_risk[0],
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
    beaten = _share_above(risk, risk, control, below=True)
    beating = _share_above(risk, risk, case, below=False)
    won, cases, controls = np.mean(case * beaten), case.mean(), control.mean()
    auc = won / (cases * controls)
    n = len(time)
    pulled = censoring.pull(censoring.beyond(case * beaten)) / n
    numerator = case * beaten + control * beating - 2 * won + pulled
    shift = case - cases + censoring.pull(censoring.beyond(case)) / n
    return float(auc), (numerator - auc * (shift * controls + (control - controls) * cases)) / (cases * controls)


def _share_above(risk: np.ndarray, others: np.ndarray, weight: np.ndarray, *, below: bool) -> np.ndarray:
    """Return the weight of others with a lower (or higher) risk, ties one half, over their number."""
    order = np.argsort(others, kind="stable")
    summed = np.concatenate(([0.0], np.cumsum(weight[order])))
    lower, upto = (summed[np.searchsorted(others[order], risk, side=side)] for side in ("left", "right"))
    lower = (lower + upto) / 2
    return (lower if below else summed[-1] - lower) / len(others)


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
    upto = (censoring.times <= horizon).astype(float)
    shift = censoring.pull(censoring.beyond(case)) / len(time) + censoring.pull(upto) * free.mean()
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
