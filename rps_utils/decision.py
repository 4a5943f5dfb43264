"""Decision curves: whether acting on a predicted risk is better than treating everybody or nobody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rps_utils.curves import check_follow_up, check_numbers, survival_at


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
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise ValueError(f"thresholds are {thresholds.tolist()}; allowed: within (0, 1); leave the ends out")
    positive = risk >= thresholds[:, None]
    benefit = _benefit(time, event, positive, horizon, thresholds)
    treat_all = _benefit(time, event, np.ones_like(positive), horizon, thresholds)
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
    time: np.ndarray, event: np.ndarray, positive: np.ndarray, horizon: float, thresholds: np.ndarray
) -> np.ndarray:
    survival = survival_at(time, event, horizon, positive)
    share = positive.mean(axis=1)
    value = (1 - survival) * share - survival * share * thresholds / (1 - thresholds)
    return np.where(positive.any(axis=1), value, 0.0)
