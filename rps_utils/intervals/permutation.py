"""Outcomes dealt anew, given what the clinical columns say of them: the null distribution of a cross-fitted score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as t_distribution

from rps_utils.survival.follow_up import check_follow_up, check_numbers
from rps_utils.survival.partial_likelihood import check_matrix

_STEPS = 12
_RIDGE = 1e-4  # of the number of events: a rare level without events must not run away


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
    held = held / np.where(spread > 0, spread, 1.0)
    first, q = np.searchsorted(time, time[event]), held.shape[2] - 1
    beta = np.zeros((len(held), q))
    for _ in range(_STEPS if q else 0):
        gradient, information = _breslow(held[..., :q], beta, event, first)
        penalty = _RIDGE * event.sum()
        step = np.linalg.solve(information + penalty * np.eye(q), (gradient - penalty * beta)[..., None])[..., 0]
        beta += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-6:
            break
    beta = np.concatenate([beta, np.zeros((len(held), 1))], axis=1)
    gradient, information = _breslow(held, beta, event, first)
    own = information[:, q, q]
    if q:
        inner = information[:, :q, :q] + _RIDGE * event.sum() * np.eye(q)
        cross = information[:, :q, q]
        own = own - np.einsum("bq,bq->b", cross, np.linalg.solve(inner, cross[..., None])[..., 0])
    return np.divide(gradient[:, q], np.sqrt(np.maximum(own, 0)), out=np.full(len(held), np.nan), where=own > 1e-9)


def _breslow(x: np.ndarray, beta: np.ndarray, event: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient (B, q) and information (B, q, q) of Breslow's partial likelihood; rows in order of time."""
    hazard = np.exp(np.einsum("bnq,bq->bn", x, beta))[..., None]
    products = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], -1)
    values = np.concatenate([hazard, hazard * x, hazard * products], axis=2)
    sums = np.cumsum(values[:, ::-1], axis=1)[:, ::-1][:, first]
    q = x.shape[2]
    mean = sums[..., 1 : q + 1] / sums[..., :1]
    second = (sums[..., q + 1 :] / sums[..., :1]).sum(axis=1).reshape(-1, q, q)
    return x[:, event].sum(axis=1) - mean.sum(axis=1), second - np.einsum("bmi,bmj->bij", mean, mean)


def exceedance_p(observed: float, dealt: Any) -> float:
    """Return the one-sided Monte Carlo p: the observed value counts as one of the draws, so p is never 0."""
    dealt = np.asarray(dealt, float)
    dealt = dealt[np.isfinite(dealt)]
    return float((1 + np.sum(dealt >= observed)) / (1 + len(dealt))) if np.isfinite(observed) else np.nan


def predictive_p(observed: float, dealt: Any) -> float:
    """Return the one-sided p of a value among few draws by Student's t: where would the next draw fall?

    Less granular than `exceedance_p` (whose least value is 1 / (1 + draws)), at the price of a normal shape.
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


def check_held(columns: Any, n: int) -> np.ndarray:
    """Return columns held fixed as (n, q) numbers; None or no column gives (n, 0)."""
    return np.zeros((n, 0)) if columns is None or not np.size(columns) else check_matrix(columns, n)
