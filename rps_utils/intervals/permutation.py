"""Outcomes dealt anew, given what the clinical columns say of them: the null distribution of a cross-fitted score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as t_distribution

from rps_utils.machine.compiled import compiled
from rps_utils.survival.follow_up import check_follow_up, check_numbers
from rps_utils.survival.partial_likelihood import fit_partial_likelihood

_STEPS = 12
_RIDGE = 1e-4  # of the number of events: a rare level without events must not run away


def shrunken_log_hazard(time: Any, event: Any, columns: np.ndarray) -> np.ndarray:
    """Return the linear predictor of a Cox model on columns, shrunk by what was overfitted: the world to deal from.

    Outcomes dealt by the coefficients as fitted would depend on the columns more than the observed ones do, the more
    so the more columns there are. All coefficients are multiplied by (W - q) / W, at least 0, where W is the Wald
    chi-square on q degrees of freedom.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    columns : ndarray, shape (n, q)
        Without any, the linear predictor is 0.

    Raises
    ------
    ValueError
        The partial likelihood has no maximum.

    References
    ----------
    Van Houwelingen & le Cessie, Stat Med 1990.
    """
    q = columns.shape[1]
    if not q:
        return np.zeros(len(columns))
    fit = fit_partial_likelihood(time, event, columns)
    beta = fit.coefficients[0]
    if not np.isfinite(beta).all():
        raise ValueError("the Cox model of the clinical columns has no maximum: hold fewer columns fixed")
    wald = float(beta @ np.linalg.solve(fit.covariance[0], beta))
    return columns @ beta * max(0.0, 1 - q / wald)


def deal_outcomes(time: Any, event: Any, log_hazard: Any, *, count: int, seed: int) -> np.ndarray:
    """Deal the observed outcomes to the patients anew, as if only `log_hazard` told who recurs when.

    The times, and which of them are events, stay. At each event one of the patients who have no outcome yet is drawn
    with probability proportional to exp(log_hazard), at each censoring with equal probability: under a Cox model
    these are the very factors of the partial likelihood, so no baseline hazard has to be estimated. A constant
    `log_hazard` gives plain permutations.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    log_hazard : array_like, shape (n,)
        Linear predictor of the columns that are held fixed; higher = earlier recurrence.
    count : int
        How often to deal.
    seed : int

    Returns
    -------
    ndarray of int, shape (count, n)
        Row whose outcome each patient receives. Assumes proportional hazards of the columns held fixed, and a
        censoring that does not depend on them.

    References
    ----------
    The conditional distribution is Cox's (Biometrika 1975); permutation of survival outcomes given covariates:
    Wang, Lagakos & Gray, Biometrics 2010.
    """
    time, event = check_follow_up(time, event)
    weight = check_numbers("log_hazard", log_hazard, len(time))
    weight = np.exp(weight - weight.max())
    rng, order = np.random.default_rng(seed), np.lexsort((~event, time))
    free, dealt = np.ones((count, len(time)), bool), np.empty((count, len(time)), int)
    for row in order:
        chance = np.cumsum(free * weight if event[row] else free, axis=1)
        drawn = (chance <= rng.random((count, 1)) * chance[:, -1:]).sum(axis=1)
        free[np.arange(count), drawn], dealt[np.arange(count), drawn] = False, row
    return dealt


def added_z(time: Any, event: Any, held: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the Cox score test of a score beside columns held fixed, signed, for many sets of outcomes at once.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1, in rising order of time.
    held : ndarray, shape (B, n, q)
        Columns held fixed, in the order of the outcomes; q may be 0.
    score : ndarray, shape (B, n)
        In the order of the outcomes.

    Returns
    -------
    ndarray, shape (B,)
        Above 0: a higher score recurs earlier. Standard normal for a score that was fixed beforehand and tells
        nothing more. Ties by Breslow. NaN for a score that the columns determine.
    """
    time, event = check_follow_up(time, event)
    if (np.diff(time) < 0).any():
        raise ValueError("time is not in rising order; sort the rows of time, event, columns and score first")
    held = np.concatenate([held, score[..., None]], axis=2)
    held = held - held.mean(axis=1, keepdims=True)
    spread = held.std(axis=1, keepdims=True)
    first, q = np.searchsorted(time, time), held.shape[2] - 1
    rows = np.ascontiguousarray(held / np.where(spread > 0, spread, 1.0))
    return _signed_scores(rows, event, first, q, _RIDGE * event.sum(), _STEPS)


@compiled
def _breslow(x, beta, event, first):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return gradient (p,) and information (p, p) of Breslow's partial likelihood; rows (n, p) in order of time."""
    n, p = x.shape
    gradient, information = np.zeros(p), np.zeros((p, p))
    total, sums, products = 0.0, np.zeros(p), np.zeros((p, p))
    entered = n
    for i in range(n - 1, -1, -1):
        if not event[i]:
            continue
        while entered > first[i]:
            entered -= 1
            hazard = np.exp(np.dot(x[entered], beta))
            total += hazard
            for j in range(p):
                sums[j] += hazard * x[entered, j]
                for k in range(j + 1):
                    products[j, k] += hazard * x[entered, j] * x[entered, k]
        for j in range(p):
            gradient[j] += x[i, j] - sums[j] / total
            for k in range(j + 1):
                information[j, k] += products[j, k] / total - sums[j] * sums[k] / total**2
    for j in range(p):
        for k in range(j):
            information[k, j] = information[j, k]
    return gradient, information


@compiled
def _signed_scores(rows, event, first, q, ridge, steps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return U / sqrt(V) of the last column of rows (B, n, q + 1) after Newton's steps on the first q."""
    z = np.full(len(rows), np.nan)
    for b in range(len(rows)):
        x, beta = rows[b], np.zeros(q + 1)
        for _ in range(steps if q else 0):
            gradient, information = _breslow(x, beta, event, first)
            inner = information[:q, :q].copy() + ridge * np.eye(q)
            step = np.minimum(np.maximum(np.linalg.solve(inner, gradient[:q] - ridge * beta[:q]), -1.0), 1.0)
            beta[:q] += step
            if np.abs(step).max() < 1e-6:
                break
        gradient, information = _breslow(x, beta, event, first)
        own = information[q, q]
        if q:
            inner, cross = information[:q, :q].copy() + ridge * np.eye(q), information[:q, q].copy()
            own -= np.dot(cross, np.linalg.solve(inner, cross))
        if own > 1e-9 * max(1.0, information[q, q]):
            z[b] = gradient[q] / np.sqrt(own)
    return z


def exceedance_p(observed: float, dealt: Any) -> float:
    """Return the one-sided Monte Carlo p: the observed value counts as one of the draws, so p is never 0."""
    dealt = np.asarray(dealt, float)
    dealt = dealt[np.isfinite(dealt)]
    return float((1 + np.sum(dealt >= observed)) / (1 + len(dealt))) if np.isfinite(observed) else np.nan


def predictive_p(observed: float, dealt: Any) -> float:
    """Return the one-sided p of a value among few draws by Student's t, as if it were the next draw.

    Less granular than `exceedance_p`, whose least value is 1 / (1 + draws), at the price of a normal shape.
    """
    dealt = np.asarray(dealt, float)
    dealt = dealt[np.isfinite(dealt)]
    if len(dealt) < 3 or not dealt.std() > 0:
        return np.nan
    spread = dealt.std(ddof=1) * np.sqrt(1 + 1 / len(dealt))
    return float(t_distribution.sf((observed - dealt.mean()) / spread, len(dealt) - 1))


def less_told(score: np.ndarray, nested: Sequence[np.ndarray], held: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return a cross-fitted score less what columns held fixed tell of it, learned outside each patient's fold.

    Where the image also tells the columns, a cross-fitted score leans against its own patients: the columns were
    fitted with them, the score without. A linear regression of the score on the columns, in the other folds, takes
    away the part that leans.

    Parameters
    ----------
    score : ndarray, shape (n,)
        Cross-fitted.
    nested : sequence of ndarray, shape (n,)
        For every fold, the scores of the patients outside it by models that saw neither; NaN inside it.
    held : ndarray, shape (n, q)
    fold : ndarray of int, shape (n,)
        Place in `nested`.

    References
    ----------
    The residual of a score given the covariates, learned on other patients: the generalised covariance measure of
    Shah & Peters, Ann Stat 2020.
    """
    design, left = np.column_stack([np.ones(len(score)), held]), np.empty(len(score))
    for k, made in enumerate(nested):
        own = fold == k
        left[own] = score[own] - design[own] @ np.linalg.lstsq(design[~own], made[~own], rcond=None)[0]
    return left
