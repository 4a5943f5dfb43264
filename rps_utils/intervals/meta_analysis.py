"""Random-effects meta-analysis of a few estimates: their mean, how they differ, and where a next one lies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import chi2, norm, t

from rps_utils.survival.follow_up import check_numbers, refuse
from rps_utils.texts.counts import how_many

FEWEST_POOLED = 3  # estimates; with two there is no prediction interval, and tau2 is a guess


class Pooled(NamedTuple):
    """A random-effects mean with its interval, the prediction interval of a next estimate, and heterogeneity.

    `tau2` and `i2` (0 to 1) belong to the scale on which was pooled; `p_alike` is that of Cochran's Q.
    """

    value: float
    ci_low: float
    ci_high: float
    next_low: float
    next_high: float
    tau2: float
    i2: float
    p_alike: float


def reml_tau2(effects: np.ndarray, variances: np.ndarray) -> float:
    """Return the variance between true effects by restricted maximum likelihood, 0 where the slope at 0 falls.

    References
    ----------
    Viechtbauer, J Educ Behav Stat 2005.
    """

    def slope(tau2: float) -> float:
        weight = 1 / (variances + tau2)
        away = effects - np.average(effects, weights=weight)
        return float(np.sum(weight**2 * away**2) - weight.sum() + np.sum(weight**2) / weight.sum())

    if slope(0.0) <= 0:
        return 0.0
    high = float(np.var(effects))
    while slope(high) > 0:
        high *= 2
    return float(brentq(slope, 0.0, high, xtol=1e-14))


def alike_p(effects: np.ndarray, variances: np.ndarray) -> float:
    """Return p of Cochran's Q: whether estimates differ by more than their errors; NaN with fewer than two."""
    away = effects - np.average(effects, weights=1 / variances)
    return float(chi2.sf(np.sum(away**2 / variances), len(effects) - 1)) if len(effects) > 1 else np.nan


def pool_effects(effects: Any, variances: Any, *, tau2: float | None = None, level: float = 0.95) -> Pooled:
    """Pool estimates under the random-effects model.

    Parameters
    ----------
    effects, variances : array_like, shape (k,)
        Estimates on a scale where they are about normal, and their squared standard errors, taken as known; k >= 3.
    tau2 : float, optional
        Variance between true effects; default `reml_tau2`.
    level : float
        Coverage of both intervals.

    Returns
    -------
    Pooled
        Interval of the mean by Hartung and Knapp, Student's t with k - 1 degrees of freedom, never narrower than
        Wald's standard error with the same t. Prediction interval with k - 2. `i2` is tau2 over tau2 plus the
        typical variance.

    Raises
    ------
    ValueError
        Fewer than three estimates, one that is not finite, a variance that is not positive.

    References
    ----------
    Hartung & Knapp, Stat Med 2001; Roever, Knapp & Friede, BMC Med Res Methodol 2015 (never narrower); Higgins,
    Thompson & Spiegelhalter, J R Stat Soc A 2009 (prediction).
    """
    effects = np.asarray(effects, float)
    k = effects.size
    if k < FEWEST_POOLED:
        raise ValueError(f"{how_many(k, 'estimate')}; allowed: {FEWEST_POOLED} or more; show them one by one instead")
    effects, variances = check_numbers("effects", effects, k), check_numbers("variances", variances, k)
    refuse("variances", variances <= 0, variances, "above 0", "leave out an estimate without a standard error")
    tau2 = reml_tau2(effects, variances) if tau2 is None else tau2
    weight, plain = 1 / (variances + tau2), 1 / variances
    mean = float(np.average(effects, weights=weight))
    scale = float(np.sum(weight * (effects - mean) ** 2)) / (k - 1)
    error2 = max(1.0, scale) / float(weight.sum())
    margin = t.ppf(0.5 + level / 2, k - 1) * np.sqrt(error2)
    reach = t.ppf(0.5 + level / 2, k - 2) * np.sqrt(tau2 + error2)
    typical = (k - 1) * plain.sum() / (plain.sum() ** 2 - np.sum(plain**2))
    low, high, next_low, next_high = (float(mean + sign * half) for half in (margin, reach) for sign in (-1, 1))
    i2 = float(tau2 / (tau2 + typical))
    return Pooled(mean, low, high, next_low, next_high, tau2, i2, alike_p(effects, variances))


SCALES = {"logit": (logit, expit), "log": (np.log, np.exp)}


def on_scale(value: Any, ci_low: Any, ci_high: Any, scale: str, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates and their variances on a scale on which their intervals are symmetric.

    Parameters
    ----------
    value, ci_low, ci_high : array_like, shape (k,)
        On the natural scale; the standard errors are read off the width of the intervals.
    scale : str
        ``logit`` for concordance, ``log`` for observed / expected.
    level : float
        Coverage of the intervals.

    References
    ----------
    Snell et al., Stat Methods Med Res 2018 (which scale); Debray et al., BMJ 2017.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; allowed: {', '.join(SCALES)}; logit for C, log for O/E")
    forth = SCALES[scale][0]
    effects, low, high = (forth(np.asarray(each, float)) for each in (value, ci_low, ci_high))
    return effects, ((high - low) / (2 * norm.ppf(0.5 + level / 2))) ** 2


def pool_intervals(value: Any, ci_low: Any, ci_high: Any, *, scale: str, level: float = 0.95) -> Pooled:
    """Pool estimates given with their intervals, see `on_scale`; mean and limits come back on the natural scale."""
    pooled = pool_effects(*on_scale(value, ci_low, ci_high, scale, level), level=level)
    names = ("value", "ci_low", "ci_high", "next_low", "next_high")
    return pooled._replace(**{name: float(SCALES[scale][1](getattr(pooled, name))) for name in names})
