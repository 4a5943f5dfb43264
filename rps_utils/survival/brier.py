"""Brier score, its integral, and the index of prediction accuracy against Kaplan-Meier."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rps_utils.survival.curves import Steps, censoring_curve, count_steps, curve_at, just_before, survival_from
from rps_utils.survival.follow_up import check_follow_up, check_grid, check_numbers, check_weights, one_or_all, ratio


class _Graf(NamedTuple):
    """What the Brier scores of one table share: case weights counts / G(T-) (B, n), the curve G, the counts."""

    time: np.ndarray
    event: np.ndarray
    counts: np.ndarray
    steps: Steps
    censoring: np.ndarray
    case: np.ndarray


def _graf(time: np.ndarray, event: np.ndarray, counts: np.ndarray) -> _Graf:
    steps = count_steps(time, event, counts)
    censoring = censoring_curve(steps)
    return _Graf(time, event, counts, steps, censoring, ratio(counts, just_before(censoring, steps), 0.0))


def _graf_parts(graf: _Graf, horizon: float, case_loss: Any, free_loss: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted means of both losses per resample; NaN where follow-up ends before the horizon."""
    case_loss = (graf.event & (graf.time <= horizon)) * case_loss
    free_loss = (graf.time > horizon) * free_loss
    n = graf.counts.sum(axis=1)
    followed = graf.counts @ (graf.time > horizon) > 0
    known = followed | (survival_from(graf.steps, horizon) == 0)
    at_horizon = np.where(followed, curve_at(graf.censoring, graf.steps, horizon), 1.0)
    return np.where(known, graf.case @ case_loss / n, np.nan), graf.counts @ free_loss / at_horizon / n


def _brier(graf: _Graf, lrfs: np.ndarray, horizon: float) -> np.ndarray:
    return np.add(*_graf_parts(graf, horizon, lrfs**2, (1 - lrfs) ** 2))


def _null_brier(graf: _Graf, horizon: float) -> np.ndarray:
    """Return the score of predicting Kaplan-Meier's probability for everybody."""
    survival = survival_from(graf.steps, horizon)
    case, free = _graf_parts(graf, horizon, 1.0, 1.0)
    return case * survival**2 + free * (1 - survival) ** 2


def brier_score(time: Any, event: Any, lrfs: Any, horizon: float, weights: Any = None) -> Any:
    """Return the Brier score at `horizon` with Graf's inverse-probability-of-censoring weights.

    Parameters
    ----------
    time, event, weights
        As in `harrell_c`.
    lrfs : array_like, shape (n,)
        Predicted probability of being free of recurrence at the horizon, within [0, 1] (not the risk).
    horizon : float
        Months.

    Returns
    -------
    float or ndarray of shape (B,)
        0 is perfect. Recurred patients weigh 1 / G(T-), patients beyond the horizon 1 / G(horizon); censored
        ones 0. NaN when nobody is followed beyond the horizon. scikit-survival takes G(T).

    References
    ----------
    Graf et al., Stat Med 1999.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    counts = check_weights(weights, len(time))
    return one_or_all(_brier(_graf(time, event, counts), lrfs, horizon), weights)


def ipa(time: Any, event: Any, lrfs: Any, horizon: float, weights: Any = None) -> Any:
    """Return the index of prediction accuracy, 1 - Brier / Brier of Kaplan-Meier; 0 = no better than nobody known.

    Parameters and errors as in `brier_score`. The Kaplan-Meier curve is estimated in the rows (and the resample)
    evaluated. NaN when the null score is 0 or undefined.

    References
    ----------
    Kattan & Gerds 2018.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    counts = check_weights(weights, len(time))
    graf = _graf(time, event, counts)
    return one_or_all(1 - ratio(_brier(graf, lrfs, horizon), _null_brier(graf, horizon)), weights)


def null_brier(time: Any, event: Any, horizon: float, weights: Any = None) -> Any:
    """Return the Brier score of Kaplan-Meier's probability for everybody, estimated in the rows (or the resample)."""
    time, event = check_follow_up(time, event)
    return one_or_all(_null_brier(_graf(time, event, check_weights(weights, len(time))), horizon), weights)


def integrated_brier(time: Any, event: Any, lrfs_matrix: Any, grid: Any, weights: Any = None) -> Any:
    """Return the Brier score averaged over `grid` months by the trapezoid rule.

    Parameters
    ----------
    time, event, weights
        As in `harrell_c`.
    lrfs_matrix : array_like, shape (n, len(grid))
        Predicted probability of being free of recurrence, one column per month of the grid, in its order.
    grid : array_like
        Months, at least two, increasing. (scikit-survival sorts them silently without moving the columns.)

    Returns
    -------
    float or ndarray of shape (B,)
        NaN when any month of the grid is undefined.
    """
    time, event = check_follow_up(time, event)
    grid, matrix = check_grid(grid, 2), np.asarray(lrfs_matrix, float)
    if matrix.shape != (len(time), len(grid)):
        raise ValueError(f"lrfs_matrix has shape {matrix.shape}; allowed: {(len(time), len(grid))}; one column a month")
    counts = check_weights(weights, len(time))
    graf = _graf(time, event, counts)
    columns = [check_numbers(f"lrfs at {t:g} months", x, len(time), 0, 1) for t, x in zip(grid, matrix.T, strict=True)]
    scores = [_brier(graf, x, t) for t, x in zip(grid, columns, strict=True)]
    return one_or_all(_mean_over(scores, grid), weights)


def _mean_over(scores: list[np.ndarray], grid: np.ndarray) -> np.ndarray:
    return np.trapezoid(np.array(scores), grid, axis=0) / (grid[-1] - grid[0])


def integrated_null_brier(time: Any, event: Any, grid: Any, weights: Any = None) -> Any:
    """Return `null_brier` averaged over `grid` months by the trapezoid rule, to compare `integrated_brier` with."""
    time, event = check_follow_up(time, event)
    grid, graf = check_grid(grid, 2), _graf(time, event, check_weights(weights, len(time)))
    return one_or_all(_mean_over([_null_brier(graf, t) for t in grid], grid), weights)


def integrated_ipa(time: Any, event: Any, lrfs_matrix: Any, grid: Any, weights: Any = None) -> Any:
    """Return 1 - `integrated_brier` / `integrated_null_brier`: the share of Kaplan-Meier's score that is saved."""
    own, null = (
        np.atleast_1d(score)
        for score in (
            integrated_brier(time, event, lrfs_matrix, grid, weights),
            integrated_null_brier(time, event, grid, weights),
        )
    )
    return one_or_all(1 - ratio(own, null), weights)


def brier_family(time: Any, event: Any, lrfs_matrix: Any, grid: Any, weights: Any = None) -> np.ndarray:
    """Return every score of this module at once: what they share of a resample is computed once.

    Parameters
    ----------
    time, event, lrfs_matrix, grid, weights
        As in `integrated_brier`; `grid` may hold one month.

    Returns
    -------
    ndarray of shape (3 k + 3,) or (3 k + 3, B)
        For k months `brier_score`, then `ipa`, then `null_brier`, each at all of them; then `integrated_brier`,
        `integrated_null_brier` and `integrated_ipa`, NaN for a single month.
    """
    time, event = check_follow_up(time, event)
    grid, matrix = check_grid(grid, 1), np.asarray(lrfs_matrix, float)
    graf = _graf(time, event, check_weights(weights, len(time)))
    columns = [check_numbers(f"lrfs at {t:g} months", x, len(time), 0, 1) for t, x in zip(grid, matrix.T, strict=True)]
    own = [_brier(graf, x, t) for t, x in zip(grid, columns, strict=True)]
    null = [_null_brier(graf, t) for t in grid]
    means = [_mean_over(x, grid) if len(grid) > 1 else np.full(len(graf.counts), np.nan) for x in (own, null)]
    gained = [1 - ratio(x, y) for x, y in zip([*own, means[0]], [*null, means[1]], strict=True)]
    found = np.array([*own, *gained[:-1], *null, *means, gained[-1]])
    return found[:, 0] if weights is None else found
