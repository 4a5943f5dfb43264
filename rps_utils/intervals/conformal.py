"""A time that a new patient outlasts with a stated probability, whatever the model is worth.

A Cox model turns a patient's last time T into a residual, the predicted cumulative hazard at T: small if the
recurrence came earlier than predicted. Patients whom the model had not seen show how small residuals become. The
smallest share of them gives a limit; the time at which a new patient's own predicted hazard reaches that limit is
the bound. A poor model gives low and equal bounds, not wrong ones.

Censoring hides some recurrences. Each one that was seen stands for 1/G(T-) patients, G being the Kaplan-Meier curve
of the censoring.

What is assumed: the patients of the calibration and the new one are exchangeable; censoring depends neither on the
recurrence nor on what the model sees; G is well estimated where recurrences are early. Calibrating on cross-fitted
scores adds that networks or models of different folds err alike. The guarantee is on average over patients: it
does not hold for each kind of patient.

References
----------
Candes, Lei & Ren, J R Stat Soc B 2023 (lower predictive bounds under censoring); Sesia & Svetnik, arXiv 2412.09729,
for general right censoring; Robins & Rotnitzky 1992 for the weights; Vovk, Gammerman & Shafer 2005 for the rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rps_utils.survival.curves import censoring_curve, count_steps
from rps_utils.survival.follow_up import check_follow_up, check_numbers, check_weights, one_or_all, ratio


def _seen_before_censoring(time: np.ndarray, event: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return G(T-) of every patient in every resample, shape (B, n)."""
    steps = count_steps(time, event, counts)
    return censoring_curve(steps)[:, steps.column]


def calibrate(time: Any, event: Any, lrfs_own: Any, *, level: float = 0.9) -> float:
    """Return the residual below which at most a share 1 - `level` of new patients recur.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months, 0/1, of patients whom the models that predicted `lrfs_own` had not seen.
    lrfs_own : array_like, shape (n,)
        Predicted LRFS probability of each patient at the patient's own last time.
    level : float
        Wanted probability of outlasting the bound, between 0 and 1.

    Returns
    -------
    float
        Cumulative hazard, 0 or more; 0 where there are too few patients for any bound above 0 months.
        With nobody censored it is the k-th smallest residual, k = floor((1 - level)(n + 1)).
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level}; allowed: between 0 and 1, for example 0.9")
    time, event = check_follow_up(time, event)
    residual = -np.log(check_numbers("lrfs_own", lrfs_own, len(time), np.finfo(float).tiny, 1))
    weight = event / _seen_before_censoring(time, event, check_weights(None, len(time)))[0]
    order = np.argsort(residual, kind="stable")
    residual, weight, event = residual[order], weight[order], event[order]
    sums = np.concatenate([[0.0], np.cumsum(weight)])
    below = sums[np.searchsorted(residual, residual, side="left")]
    # The new patient counts too, with the largest weight met so far: the worst case.
    own = np.maximum.accumulate(np.maximum(weight, 1))
    possible = event & ((below + own) / (len(time) + 1) <= 1 - level + 1e-12)
    return float(residual[possible].max(initial=0.0))


def bound_column(level: float) -> str:
    """Name the column of a bound in a score table, for example ``lower_90``."""
    return f"lower_{100 * level:g}"


def lower_bound(times: Sequence[float], cumulative_hazard: Sequence[float], *, log_hazard: Any, residual: float) -> Any:
    """Return the months that patients outlast with the probability for which `residual` was calibrated.

    Parameters
    ----------
    times, cumulative_hazard : sequence of float
        Baseline of the Cox model, see `rps_utils.cox.CoxModel`.
    log_hazard : array_like, shape (n,)
        Linear predictor of the patients under this model.
    residual : float
        From `calibrate`.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Months; not beyond the last of `times`, where nothing was observed.
    """
    wanted = residual * np.exp(-np.asarray(log_hazard, float))
    place = np.searchsorted(cumulative_hazard, wanted, side="left")
    return np.where(wanted > 0, np.asarray(times, float)[np.minimum(place, len(times) - 1)], 0.0)


def share_outlasting(time: Any, event: Any, bound: Any, *, weights: Any = None) -> Any:
    """Return the share of patients who are free of recurrence until their bound, weighted for censoring.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months, 0/1.
    bound : array_like, shape (n,)
        Months, from `lower_bound`.
    weights : array_like, shape (B, n), optional
        Counts of resamples.

    Returns
    -------
    float or numpy.ndarray of shape (B,)
    """
    time, event = check_follow_up(time, event)
    counts = check_weights(weights, len(time))
    early = event & (time < check_numbers("bound", bound, len(time), 0))
    missed = ratio(counts * early, _seen_before_censoring(time, event, counts), 0.0)
    return one_or_all(1 - missed.sum(axis=1) / counts.sum(axis=1), weights)
