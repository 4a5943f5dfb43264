"""Cut-offs of a continuous score: learned in training, frozen, applied unchanged.

Searching for the best-looking cut makes its p-value too small and its effect too large; corrected p-values are given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import norm

from rps_utils.survival.curves import logrank
from rps_utils.survival.follow_up import check_follow_up, check_numbers


class Cutoff(NamedTuple):
    """A cut-off learned in training: high risk is risk > `value`."""

    value: float
    statistic: float = np.nan
    p_naive: float = np.nan
    p_corrected: float = np.nan
    p_corrected_94: float = np.nan
    candidates: int = 1


def median_cutoff(training_risk: Any) -> Cutoff:
    """Return the median of the training risks; carry it unchanged to the validation patients."""
    training_risk = np.asarray(training_risk, float)
    return Cutoff(float(np.median(check_numbers("training_risk", training_risk, len(training_risk)))))


def apply_cutoff(risk: Any, cutoff: Cutoff) -> np.ndarray:
    """Return True for high risk, risk > cut-off, with a cut-off learned in training and never moved."""
    risk = np.asarray(risk, float)
    return check_numbers("risk", risk, len(risk)) > cutoff.value


def _logrank_scores(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    # Hothorn & Lausen's scores: the hazard at a time divides by N - #(T <= t) + 1, also when times tie.
    ordered = np.sort(time)
    hazard = event / (len(time) - np.searchsorted(ordered, time, side="right") + 1)
    order = np.argsort(time, kind="stable")
    cumulative = np.cumsum(hazard[order])
    return event - cumulative[np.searchsorted(ordered, time, side="right") - 1]


def _lausen_92(b: float, low: float, high: float) -> float:
    if b < 1e-6:
        return 1.0
    density = norm.pdf(b)
    spread = np.log(high * (1 - low) / ((1 - high) * low))
    return float(min(max(4 * density / b + density * (b - 1 / b) * spread, 0), 1))


def _lausen_94(b: float, n: int, sizes: np.ndarray) -> float:
    left, right = sizes[:-1], sizes[1:]
    t = np.sqrt(1 - left * (n - right) / ((n - left) * right))
    steps = np.sum(np.exp(-(b**2) / 2) / np.pi * (t - (b**2 / 4 - 1) * t**3 / 6))
    return float(min(max(2 * norm.sf(b) + steps, 0), 1))


def maxstat_cutoff(time: Any, event: Any, marker: Any, *, low: float = 0.1, high: float = 0.9) -> Cutoff:
    """Return the cut-off with the largest standardised log-rank score statistic, and its corrected p-values.

    Parameters
    ----------
    time, event, marker : array_like, shape (n,)
        Training patients only: searched in validation data the naive p is below .05 in up to 39 % of null scores.
    low, high : float
        Shares of patients at or below the cut between which is searched.

    Returns
    -------
    Cutoff
        `p_naive` ignores the search; `p_corrected` is Lausen & Schumacher 1992, `p_corrected_94` their improved
        bound of 1994. All NaN when no cut leaves the wanted shares.

    References
    ----------
    Hothorn & Lausen 2003 (R's maxstat); the statistic is not the log-rank chi-square.
    """
    time, event = check_follow_up(time, event)
    marker, n = check_numbers("marker", marker, len(time)), len(time)
    scores = _logrank_scores(time, event)
    cuts = np.unique(marker)[:-1]
    below = marker[None, :] <= cuts[:, None]
    sizes = below.sum(axis=1)
    kept = (sizes >= np.floor(n * low)) & (sizes <= np.floor(n * high)) & (sizes > 0)
    cuts, below, sizes = cuts[kept], below[kept], sizes[kept]
    spread = n * np.sum(scores**2) - np.sum(scores) ** 2
    if not len(cuts) or not spread > 0:
        return Cutoff(np.nan, candidates=len(cuts))
    variance = sizes * (n - sizes) / (n**2 * (n - 1)) * spread
    standardised = np.abs(below @ scores - sizes * scores.mean()) / np.sqrt(variance)
    best = int(np.argmax(standardised))
    b = float(standardised[best])
    p_values = (float(2 * norm.sf(b)), _lausen_92(b, low, high), _lausen_94(b, n, sizes))
    return Cutoff(float(cuts[best]), b, *p_values, len(cuts))


def logrank_scan(time: Any, event: Any, marker: Any, *, minimum_share: float = 0.1) -> Cutoff:
    """Return the cut-off with the largest log-rank chi-square: the common practice, with its naive p-value.

    `p_corrected` is Miller & Siegmund's; `statistic` the chi-square. Both groups hold `minimum_share` of patients.
    """
    time, event = check_follow_up(time, event)
    marker = check_numbers("marker", marker, len(time))
    cuts = [c for c in np.unique(marker)[:-1] if minimum_share <= np.mean(marker <= c) <= 1 - minimum_share]
    tests = [logrank(time, event, marker > c).chi2 for c in cuts]
    if not cuts or np.isnan(tests).all():
        return Cutoff(np.nan, candidates=len(cuts))
    best = int(np.nanargmax(tests))
    corrected = _lausen_92(np.sqrt(tests[best]), minimum_share, 1 - minimum_share)
    naive = float(chi2_distribution.sf(tests[best], 1))
    return Cutoff(float(cuts[best]), tests[best], naive, corrected, candidates=len(cuts))
