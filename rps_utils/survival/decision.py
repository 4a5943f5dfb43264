"""Decision curves: whether acting on a predicted risk is better than treating everybody or nobody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rps_utils.survival.curves import survival_at
from rps_utils.survival.follow_up import check_follow_up, check_numbers, check_weights, one_or_all


def check_thresholds(thresholds: np.ndarray) -> None:
    """Raise ValueError unless all thresholds lie within (0, 1)."""
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise ValueError(f"thresholds are {thresholds.tolist()}; allowed: within (0, 1); leave the ends out")


def net_benefit(time: Any, event: Any, predicted_risk: Any, horizon: float, thresholds: Any) -> pd.DataFrame:
    """Return the net benefit of acting on risk >= threshold, with censoring handled by Kaplan-Meier.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    predicted_risk : array_like, shape (n,)
        Predicted probability of recurrence by the horizon, 1 - lrfs, from a model fitted elsewhere.
    horizon : float
        Months.
    thresholds : array_like
        Risks within (0, 1) at which one would act.

    Returns
    -------
    pandas.DataFrame
        threshold, n_positive, net_benefit, treat_all, treat_none, interventions_avoided (per patient). Nobody
        positive: 0. Where the last positive patient is censored before the horizon: NaN; if it is an event,
        their survival is 0 (dcurves says NaN to both, and turns scores into survival instead of risk).

    Raises
    ------
    ValueError
        A risk outside [0, 1], or a threshold outside (0, 1).

    References
    ----------
    Vickers et al., BMC Med Inform Decis Mak 2008.
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("predicted_risk", predicted_risk, len(time), 0, 1, "give 1 - lrfs, not a score")
    thresholds = np.atleast_1d(np.asarray(thresholds, float))
    check_thresholds(thresholds)
    positive = risk >= thresholds[:, None]
    benefit = _benefit(time, event, positive, horizon, thresholds, len(time))
    treat_all = _benefit(time, event, np.ones_like(positive), horizon, thresholds, len(time))
    odds = thresholds / (1 - thresholds)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "n_positive": positive.sum(axis=1),
            "net_benefit": benefit,
            "treat_all": treat_all,
            "treat_none": 0.0,
            "interventions_avoided": (benefit - treat_all) / odds,
        }
    )


def _benefit(
    time: np.ndarray, event: np.ndarray, acted: np.ndarray, horizon: float, thresholds: Any, patients: Any
) -> np.ndarray:
    """Return net benefits, one for each row of `acted` (how often each of `patients` drawn was acted on)."""
    survival = survival_at(time, event, horizon, acted)
    share = acted.sum(axis=1) / patients
    value = (1 - survival) * share - survival * share * thresholds / (1 - thresholds)
    return np.where(share > 0, value, 0.0)


def net_benefit_at(
    time: Any, event: Any, predicted_risk: Any, horizon: float, threshold: float, weights: Any = None
) -> Any:
    """Return the net benefit at one threshold; a predicted risk of 1 for everybody gives that of treating all.

    Parameters
    ----------
    time, event, predicted_risk, horizon
        As in `net_benefit`.
    threshold : float
        Risk within (0, 1).
    weights : array_like, shape (B, n), optional
        Counts of resamples; Kaplan-Meier and the share acted on are estimated anew in each.

    Returns
    -------
    float or ndarray of shape (B,)
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("predicted_risk", predicted_risk, len(time), 0, 1, "give 1 - lrfs, not a score")
    check_thresholds(np.array([threshold]))
    counts = check_weights(weights, len(time))
    return one_or_all(
        _benefit(time, event, counts * (risk >= threshold), horizon, threshold, counts.sum(axis=1)), weights
    )


def gain_over_all(
    time: Any, event: Any, predicted_risk: Any, horizon: float, threshold: float, weights: Any = None
) -> Any:
    """Return net benefit minus that of treating everybody, on the same patients; arguments as in `net_benefit_at`."""
    everybody = np.ones(len(np.asarray(time)))
    own, everyone = (
        net_benefit_at(time, event, risk, horizon, threshold, weights) for risk in (predicted_risk, everybody)
    )
    return own - everyone


def net_benefits(
    time: Any, event: Any, predicted_risk: Any, horizon: float, thresholds: Any, weights: Any = None
) -> np.ndarray:
    """Return the net benefit of acting on the model, of acting on everybody, and their difference.

    Parameters
    ----------
    time, event, predicted_risk, horizon, weights
        As in `net_benefit_at`.
    thresholds : array_like, shape (k,)

    Returns
    -------
    ndarray of shape (3 k,) or (3 k, B)
        The three at the first threshold, then at the next.
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("predicted_risk", predicted_risk, len(time), 0, 1, "give 1 - lrfs, not a score")
    thresholds = np.atleast_1d(np.asarray(thresholds, float))
    check_thresholds(thresholds)
    counts = check_weights(weights, len(time))
    drawn, survival = counts.sum(axis=1), np.atleast_1d(survival_at(time, event, horizon, counts))
    found = []
    for threshold in thresholds:
        own = _benefit(time, event, counts * (risk >= threshold), horizon, threshold, drawn)
        everybody = 1 - survival - survival * threshold / (1 - threshold)
        found += [own, everybody, own - everybody]
    values = np.array(found)
    return values[:, 0] if weights is None else values
