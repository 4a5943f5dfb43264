"""Concordance of a risk score with the order of recurrences: Harrell's and Uno's C, and the pairs behind them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rps_utils.machine.compiled import compiled
from rps_utils.survival.curves import censoring_curve, count_steps, just_before
from rps_utils.survival.follow_up import check_follow_up, check_numbers, check_weights, one_or_all, ratio

_LANES = 8  # resamples counted side by side: one line of the cache for every node of the tree


class _Order(NamedTuple):
    """Rows from the latest time to the earliest, at one time the censored first; where each time ends; risk ranks."""

    rows: np.ndarray
    ends: np.ndarray
    event: np.ndarray
    rank: np.ndarray
    ranks: int


def _ordered(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> _Order:
    rows = np.lexsort((event, -time))
    ends = np.append(np.flatnonzero(np.diff(time[rows])) + 1, len(time))
    values, rank = np.unique(risk, return_inverse=True)
    return _Order(rows, ends, event[rows], rank[rows], len(values))


@compiled
def _count_won(counts, weight, ends, event, rank, ranks):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return won and usable pairs of resamples side by side: counts (n, lanes), weight of the earlier one (n, lanes).

    Patients enter a binary indexed tree over the risk ranks from the latest to the earliest. An event asks it, before
    the events of its own time enter, how many who are free for longer have a lower risk.
    """
    lanes = counts.shape[1]
    tree, at = np.zeros((ranks + 1, lanes)), np.zeros((ranks, lanes))
    total, won, usable = np.zeros(lanes), np.zeros(lanes), np.zeros(lanes)
    below, start = np.zeros(lanes), 0
    for end in ends:
        first = start
        while first < end and not event[first]:
            first += 1
        for stage in range(3):  # the censored enter, the events ask, the events enter
            for i in range(start if stage == 0 else first, first if stage == 0 else end):
                if stage == 1:
                    below[:] = 0.0
                    node = rank[i]
                    while node > 0:
                        for b in range(lanes):
                            below[b] += tree[node, b]
                        node -= node & -node
                    for b in range(lanes):
                        pairs = weight[i, b] * counts[i, b]
                        won[b] += pairs * (below[b] + 0.5 * at[rank[i], b])
                        usable[b] += pairs * total[b]
                    continue
                node = rank[i] + 1
                while node <= ranks:
                    for b in range(lanes):
                        tree[node, b] += counts[i, b]
                    node += node & -node
                for b in range(lanes):
                    at[rank[i], b] += counts[i, b]
                    total[b] += counts[i, b]
        start = end
    return won, usable


def _concordance(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, counts: np.ndarray, pair_weight: np.ndarray
) -> np.ndarray:
    """Return the share of won pairs per resample; `pair_weight` (B or 1, n) belongs to the earlier patient."""
    order = _ordered(time, event, risk)
    weight = np.broadcast_to(pair_weight, (len(pair_weight), len(time)))
    won, usable = np.empty(len(counts)), np.empty(len(counts))
    for first in range(0, len(counts), _LANES):
        block = slice(first, first + _LANES)
        lanes = np.ascontiguousarray(counts[block][:, order.rows].T)
        own = weight[block] if len(weight) > 1 else np.broadcast_to(weight, (lanes.shape[1], len(time)))
        own = np.ascontiguousarray(own[:, order.rows].T)
        won[block], usable[block] = _count_won(lanes, own, order.ends, order.event, order.rank, order.ranks)
    return ratio(won, usable)


@compiled
def _enter(tree, at, rank, weight):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Enter a weight at a rank of a binary indexed tree, and beside it."""
    at[rank] += weight
    node = rank + 1
    while node < len(tree):
        tree[node] += weight
        node += node & -node


@compiled
def _below(tree, rank):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the weight entered at lower ranks."""
    total = tree[0] * 0
    while rank > 0:
        total += tree[rank]
        rank -= rank & -rank
    return total


def c_of_ranks(time: np.ndarray, event: np.ndarray, ranks: np.ndarray, pair_weight: np.ndarray) -> np.ndarray:
    """Return C for many scores (R, n) of the same patients, given as whole numbers from 0; NaN without a pair.

    `pair_weight` (n,) or (1,) belongs to the earlier patient, see `event_pair_weights`.
    """
    order = _ordered(time, event, np.zeros(len(time)))
    weight = np.broadcast_to(pair_weight, time.shape)[order.rows]
    placed = np.ascontiguousarray(ranks[:, order.rows], dtype=np.int64)
    won, usable = _count_ranks(placed, weight, order.ends, order.event, int(placed.max(initial=0)) + 1)
    return ratio(won, usable)


@compiled
def _count_ranks(ranks, weight, ends, event, most):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return won and usable pairs of every row of ranks (R, n), each patient counted once."""
    won, usable = np.zeros(len(ranks)), np.zeros(len(ranks))
    tree, at = np.zeros(most + 1, np.int32), np.zeros(most, np.int32)
    for b in range(len(ranks)):
        tree[:], at[:] = 0, 0
        start, entered = 0, 0
        for end in ends:
            first = start
            while first < end and not event[first]:
                _enter(tree, at, ranks[b, first], 1)
                first += 1
            entered += first - start
            for i in range(first, end):
                won[b] += weight[i] * (_below(tree, ranks[b, i]) + 0.5 * at[ranks[b, i]])
                usable[b] += weight[i] * entered
            for i in range(first, end):
                _enter(tree, at, ranks[b, i], 1)
            entered += end - first
            start = end
    return won, usable


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
    order = _ordered(time, event, risk)
    concordant, tied, usable = (int(x.sum()) for x in _pairs_of_events(*order)[:3])
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
    order = _ordered(time, event, risk)
    weight = np.broadcast_to(event_pair_weights(time, event, tau, np.ones((1, len(time))))[0], time.shape)[order.rows]
    low, tied, partners = _pairs_of_events(*order)
    late_won, late_usable = _pairs_of_late(weight, *order)
    won, usable = np.empty(len(time)), np.empty(len(time))
    won[order.rows] = weight * (low + 0.5 * tied) + late_won
    usable[order.rows] = weight * partners + late_usable
    c = float(ratio(won.sum(), usable.sum()))
    return c, ratio(won - c * usable, usable.sum() / 2)


@compiled
def _pairs_of_events(rows, ends, event, rank, ranks):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return, for each row of an `_Order`, usable partners of lower risk, of equal risk, and all; 0 without event."""
    low, tied, partners = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    tree, at = np.zeros(ranks + 1), np.zeros(ranks)
    start, entered = 0, 0
    for end in ends:
        for i in range(start, end):
            if not event[i]:
                _enter(tree, at, rank[i], 1.0)
                entered += 1
        for i in range(start, end):
            if event[i]:
                low[i], tied[i], partners[i] = _below(tree, rank[i]), at[rank[i]], entered
        for i in range(start, end):
            if event[i]:
                _enter(tree, at, rank[i], 1.0)
                entered += 1
        start = end
    return low, tied, partners


@compiled
def _pairs_of_late(weight, rows, ends, event, rank, ranks):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return, for each row of an `_Order` as the later one, the weight of pairs won by the earlier one, and of all."""
    won, usable = np.zeros(len(rows)), np.zeros(len(rows))
    tree, at = np.zeros(ranks + 1), np.zeros(ranks)
    total = 0.0
    for block in range(len(ends) - 1, -1, -1):
        start, end = (ends[block - 1] if block else 0), ends[block]
        # Events of the same time are earlier than a censoring, but not than one another.
        for stage in range(3):
            for i in range(start, end):
                if stage == 1 and event[i]:
                    _enter(tree, at, rank[i], weight[i])
                    total += weight[i]
                elif stage != 1 and event[i] == (stage == 0):
                    won[i] = total - _below(tree, rank[i]) - 0.5 * at[rank[i]]
                    usable[i] = total
    return won, usable
