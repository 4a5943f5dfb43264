"""How good a predicted cumulative incidence is: every measure of it, with deaths as what they are.

A patient who dies without local recurrence is not lost: the state at the landmark is known, and it is "no recurrence".
So death ends nobody's observation here; only censoring does, and G, the Kaplan-Meier curve of the censoring, has deaths
among the events. Observed risks are those of Aalen and Johansen. Without deaths every value is that of `survival`.

Times are months; `event` is 1 for a recurrence, `died` 1 for a death without it, both 0 for a censored patient.
`predicted` is the probability of recurring by the horizon while others die, not 1 - LRFS, which is as if nobody died.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from rps_utils.survival.calibration import grouped_risks
from rps_utils.survival.curves import (
    censoring_curve,
    count_steps,
    cumulative_incidence,
    curve_at,
    event_curve,
    incidence_curve,
    just_before,
    survival_from,
)
from rps_utils.survival.decision import check_thresholds
from rps_utils.survival.follow_up import Estimate, check_follow_up, check_numbers, check_weights, one_or_all, ratio


class _States(NamedTuple):
    """Weights (B, n) of the patients seen to recur by the horizon, to die before, and to be free beyond it."""

    recurred: np.ndarray
    died: np.ndarray
    free: np.ndarray
    known: np.ndarray  # (B,): somebody is followed beyond the horizon, or everybody's state is known


def check_causes(time: Any, event: Any, died: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return checked times, recurrences and deaths.

    Raises
    ------
    ValueError
        As `check_follow_up`; a patient who has both a recurrence and a death without one.
    """
    time, event = check_follow_up(time, event)
    died = check_follow_up(time, died).event
    if (both := np.flatnonzero(event & died)).size:
        raise ValueError(f"row {both[0]}: recurred and died without recurrence; allowed: one of the two, or neither")
    return time, event, died


def _states(time: np.ndarray, event: np.ndarray, died: np.ndarray, horizon: float, counts: np.ndarray) -> _States:
    steps = count_steps(time, event | died, counts)
    curve, later = censoring_curve(steps), time > horizon
    by_then = ratio(counts, just_before(curve, steps), 0.0) * ~later
    followed = counts @ later > 0
    free = counts * later * ratio(np.ones(len(counts)), curve_at(curve, steps, horizon), 0.0)[:, None]
    return _States(by_then * event, by_then * died, free, followed | (survival_from(steps, horizon) == 0))


def incidence_at(time: Any, event: Any, died: Any, horizon: float, weights: Any = None) -> Any:
    """Return the Aalen-Johansen probability of having recurred by `horizon`; NaN beyond the last follow-up.

    Parameters
    ----------
    time, event, died : array_like, shape (n,)
    horizon : float
    weights : array_like, shape (B, n), optional
        Counts of resamples.

    Returns
    -------
    float or ndarray of shape (B,)
    """
    time, event, died = check_causes(time, event, died)
    return one_or_all(_incidence(time, event, died, horizon, check_weights(weights, len(time))), weights)


def _incidence(time: np.ndarray, event: np.ndarray, died: np.ndarray, horizon: float, counts: np.ndarray) -> np.ndarray:
    steps, own = count_steps(time, event | died, counts), count_steps(time, event, counts).events
    risen = event_curve(steps)[:, :-1] * ratio(own, steps.at_risk, 0.0)
    reached = risen[:, : np.searchsorted(steps.times, horizon, side="right")].sum(axis=1)
    return np.where(np.isnan(survival_from(steps, horizon)), np.nan, reached)


def incidence_auc(time: Any, event: Any, died: Any, risk: Any, horizon: float, weights: Any = None) -> Any:
    """Return the AUC at `horizon`: recurred by then against all others, who are free of recurrence or dead without it.

    Parameters
    ----------
    time, event, died : array_like, shape (n,)
    risk : array_like, shape (n,)
        Any score, higher = earlier recurrence.
    horizon : float
    weights : array_like, shape (B, n), optional

    Returns
    -------
    float or ndarray of shape (B,)
        Tied risks count 1/2. NaN without a case or without a control.

    References
    ----------
    Blanche, Dartigues & Jacqmin-Gadda, Stat Med 2013, second definition of controls.
    """
    time, event, died = check_causes(time, event, died)
    risk = check_numbers("risk", risk, len(time))
    return one_or_all(_auc(_states(time, event, died, horizon, check_weights(weights, len(time))), risk), weights)


def _auc(states: _States, risk: np.ndarray) -> np.ndarray:
    order = np.argsort(risk, kind="stable")
    starts = np.concatenate(([0], np.flatnonzero(np.diff(risk[order])) + 1))
    cases = np.add.reduceat(states.recurred[:, order], starts, axis=1)
    controls = np.add.reduceat((states.died + states.free)[:, order], starts, axis=1)
    won = (cases * (np.cumsum(controls, axis=1) - 0.5 * controls)).sum(axis=1)
    return np.where(states.known, ratio(won, cases.sum(axis=1) * controls.sum(axis=1)), np.nan)


def incidence_brier(time: Any, event: Any, died: Any, predicted: Any, horizon: float, weights: Any = None) -> Any:
    """Return the Brier score of a predicted cumulative incidence at `horizon`.

    Parameters
    ----------
    time, event, died : array_like, shape (n,)
    predicted : array_like, shape (n,)
        Within [0, 1].
    horizon : float
    weights : array_like, shape (B, n), optional

    Returns
    -------
    float or ndarray of shape (B,)
        0 is perfect. Who recurred or died by then weighs 1 / G(T-), who is followed beyond it 1 / G(horizon). NaN when
        nobody is.

    References
    ----------
    Gerds & Schumacher, Biom J 2006; Schoop et al., Biom J 2011.
    """
    time, event, died = check_causes(time, event, died)
    predicted = _probability(predicted, len(time))
    counts = check_weights(weights, len(time))
    return one_or_all(_brier(_states(time, event, died, horizon, counts), predicted, counts), weights)


def _probability(predicted: Any, n: int) -> np.ndarray:
    return check_numbers("predicted", predicted, n, 0, 1, "give a probability of recurring, not a score")


def _brier(states: _States, predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    lost = states.recurred * (1 - predicted) ** 2 + (states.died + states.free) * predicted**2
    return np.where(states.known, lost.sum(axis=1) / counts.sum(axis=1), np.nan)


def _benefit(
    time: np.ndarray,
    event: np.ndarray,
    died: np.ndarray,
    positive: np.ndarray,
    horizon: float,
    threshold: float,
    counts: np.ndarray,
) -> np.ndarray:
    acted = counts * positive
    share = acted.sum(axis=1) / counts.sum(axis=1)
    recur = _incidence(time, event, died, horizon, acted)
    return np.where(share > 0, share * (recur - (1 - recur) * threshold / (1 - threshold)), 0.0)


def accuracy(
    time: Any,
    event: Any,
    died: Any,
    predicted: Any,
    horizon: float,
    thresholds: Sequence[float] = (),
    weights: Any = None,
) -> np.ndarray:
    """Return what a table needs of a prediction at one horizon, together.

    Returns
    -------
    ndarray of shape (3 + 3 k,) or (3 + 3 k, B)
        `incidence_brier`, that of the Aalen-Johansen curve for everybody, and the index of prediction accuracy,
        1 - the first / the second; then for each of k thresholds the net benefit of acting on predictions at or above
        it, hits counted by Aalen and Johansen, of acting on everybody, and their difference. Where nobody is acted on
        it is 0; where those acted on are not followed so far, NaN.

    Raises
    ------
    ValueError
        A prediction outside [0, 1], a threshold outside (0, 1), or as in `check_causes`.

    References
    ----------
    Kattan & Gerds 2018; Vickers et al., BMC Med Inform Decis Mak 2008, section on competing risks.
    """
    time, event, died = check_causes(time, event, died)
    check_thresholds(np.asarray(thresholds, float))
    predicted, counts = _probability(predicted, len(time)), check_weights(weights, len(time))
    states, seen = _states(time, event, died, horizon, counts), _incidence(time, event, died, horizon, counts)
    own, null = (_brier(states, risk, counts) for risk in (predicted, seen[:, None]))
    found = [own, null, 1 - ratio(own, null)]
    for threshold in thresholds:
        acted = _benefit(time, event, died, predicted >= threshold, horizon, threshold, counts)
        everybody = seen - (1 - seen) * threshold / (1 - threshold)
        found += [acted, everybody, acted - everybody]
    values = np.array(found)
    return values[:, 0] if weights is None else values


def incidence_ratio(
    time: Any, event: Any, died: Any, predicted: Any, horizon: float, *, level: float = 0.95
) -> Estimate:
    """Return observed / expected risk of recurring by `horizon`: Aalen-Johansen over the mean prediction.

    Parameters
    ----------
    time, event, died, predicted, horizon
        As in `incidence_brier`.
    level : float
        Coverage of the interval: exp(log(O/E) +- z SE(O) / O), the standard error by the delta method.

    Returns
    -------
    Estimate
        Above 1 the model promised too little recurrence. Without a recurrence by the horizon 0, without limits.
    """
    time, event, died = check_causes(time, event, died)
    expected = _probability(predicted, len(time)).mean()
    observed = incidence_at(time, event, died, horizon)
    if not np.isfinite(observed) or expected == 0:
        why = "every predicted risk is 0" if expected == 0 else f"{horizon:g} lies beyond the last follow-up"
        return Estimate(np.nan, np.nan, np.nan, why)
    if observed == 0:
        return Estimate(0.0, np.nan, np.nan, f"no event by {horizon:g}")
    curve = incidence_curve(time, event + 2 * died)
    error = float(curve.loc[curve["time"] <= horizon, "std_error"].iloc[-1])
    factor = np.exp(norm.ppf(0.5 + level / 2) * error / observed)
    value = observed / expected
    return Estimate(value, value / factor, value * factor)


def incidence_groups(
    time: Any, event: Any, died: Any, predicted: Any, horizon: float, *, groups: int = 4
) -> pd.DataFrame:
    """Compare the predicted with the Aalen-Johansen risk in groups cut at quantiles of the prediction.

    Returns
    -------
    DataFrame
        group (1 = lowest risk), n, predicted (mean), observed, ci_low, ci_high (log-log of 1 - incidence). Observed is
        NaN where a group's follow-up ends before the horizon; the interval also while nobody recurred.
    """
    time, event, died = check_causes(time, event, died)
    predicted = _probability(predicted, len(time))

    def observed(own: np.ndarray) -> Iterable[float]:
        seen = cumulative_incidence(time[own], (event + 2 * died)[own], [horizon]).iloc[0]
        return map(float, seen[["recurrence", "ci_low", "ci_high"]])

    return grouped_risks(predicted, groups, observed)
