"""Concordance of a risk score with the order of recurrences: Harrell's and Uno's C, and the pairs behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rps_utils.survival.curves import censoring_curve, count_steps, just_before
from rps_utils.survival.follow_up import check_follow_up, check_numbers, check_weights, one_or_all, ratio

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


def event_pair_weights(time: np.ndarray, event: np.ndarray, tau: float | None, counts: np.ndarray) -> np.ndarray:
    """Return the weight of a pair by its earlier patient: 1 (Harrell, `tau` None) or Uno's 1(T <= tau) / G(T-)^2."""
    if tau is None:
        return np.ones((1, len(time)))
    steps = count_steps(time, event, counts)
    before = just_before(censoring_curve(steps), steps)
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
