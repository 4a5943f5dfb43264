"""Cox's partial likelihood for many resamples at once, and the score test of proportional hazards.

Hazard-ratio tables come from lifelines (cox.py). This module exists for what no library offers: Cox fits with
resampling counts (calibration inside a bootstrap) and the score test of R's ``cox.zph`` (survival >= 3.0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import rankdata

from rps_utils.machine.compiled import compiled
from rps_utils.survival.curves import count_steps, event_curve
from rps_utils.survival.follow_up import check_follow_up, check_weights
from rps_utils.texts.counts import how_many

_ITERATIONS = 40
_FAR = 300.0  # log hazards this far apart: the climb has no top, and their exponentials no sum
_STEP = 1e-7  # of a standard deviation of the covariate; what is left is about its square


class _Rows(NamedTuple):
    """Rows sorted by time: `x` (n, p), `counts` (B, n), where each event time begins, and the event rows."""

    times: np.ndarray
    x: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    event_rows: np.ndarray
    event_starts: np.ndarray


class _Terms(NamedTuple):
    """Contribution of every event time: log-likelihood (B, m), score, information, hazard increment (B, m)."""

    loglik: np.ndarray
    score: np.ndarray
    information: np.ndarray
    hazard: np.ndarray


class CoxFit(NamedTuple):
    """Fits per resample: coefficients (B, p), covariance (B, p, p), log-likelihood (B,)."""

    coefficients: np.ndarray
    covariance: np.ndarray
    loglik: np.ndarray


def _sort_rows(time: np.ndarray, event: np.ndarray, x: np.ndarray, counts: np.ndarray) -> _Rows:
    order = np.argsort(time, kind="stable")
    time, event = time[order], event[order]
    times = np.unique(time[event])
    rows = np.flatnonzero(event)
    return _Rows(
        times, x[order], counts[:, order], np.searchsorted(time, times), rows, np.searchsorted(time[rows], times)
    )


def _products(x: np.ndarray) -> np.ndarray:
    """Return 1, the covariates and their products, shape (1 + p + p * p, n)."""
    return np.vstack([np.ones(len(x)), x.T, (x[:, :, None] * x[:, None, :]).reshape(len(x), -1).T])


def _sums(rows: _Rows, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of values (B, q, n) over patients at risk and over events at every event time, (B, m, q)."""
    at_risk = np.cumsum(values[..., ::-1], axis=-1)[..., ::-1][..., rows.starts]
    events = np.add.reduceat(values[..., rows.event_rows], rows.event_starts, axis=-1)
    return np.swapaxes(at_risk, 1, 2), np.swapaxes(events, 1, 2)


def _terms(rows: _Rows, beta: np.ndarray, ties: str) -> _Terms:
    """Evaluate the partial likelihood at beta (B, p), term by term in time."""
    p = beta.shape[1]
    products, predictor = _products(rows.x), beta @ rows.x.T
    shift = predictor.max(axis=1, keepdims=True)
    at_risk, dying = _sums(rows, (rows.counts * np.exp(predictor - shift))[:, None, :] * products)
    # Events, summed covariates and summed predictors of the events themselves.
    own = _sums(rows, rows.counts[:, None, :] * products[: p + 1])[1]
    events, score = own[..., 0], own[..., 1:].copy()
    loglik = np.einsum("bmp,bp->bm", score, beta) - shift * events
    information, hazard = np.zeros((*events.shape, p * p)), np.zeros_like(events)
    for dead in range(int(events.max(initial=0))):
        # Efron: of d events at one time, the l-th sees the others reduced by the share l / d.
        at = np.nonzero(events > dead)
        part = (dead / events[at])[:, None] if ties == "efron" else 0.0
        sums = at_risk[at] - part * dying[at]
        sums[:, 1:] /= sums[:, :1]
        mean = sums[:, 1 : p + 1]
        loglik[at] -= np.log(sums[:, 0])
        score[at] -= mean
        information[at] += sums[:, p + 1 :] - (mean[:, :, None] * mean[:, None, :]).reshape(len(mean), -1)
        hazard[at] += 1 / sums[:, 0]
    return _Terms(loglik, score, information.reshape(*events.shape, p, p), hazard * np.exp(-shift))


def _totals(rows: _Rows, beta: np.ndarray, ties: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-likelihood (B,), score (B, p) and information (B, p, p) at beta (B, p)."""
    loglik, score, information, _ = _summed(rows, beta, ties, len(rows.times))
    return loglik, score, information


def _summed(rows: _Rows, beta: np.ndarray, ties: str, hazards: int) -> tuple[np.ndarray, ...]:
    """Return what `_terms` gives, summed over the event times, and the hazard of the first `hazards` of them (B,)."""
    dead = np.zeros(len(rows.x), bool)
    dead[rows.event_rows] = True
    x, counts = np.ascontiguousarray(rows.x), np.ascontiguousarray(rows.counts, dtype=float)
    return _sum_terms(x, counts, np.ascontiguousarray(beta), rows.starts, dead, ties == "efron", hazards)


@compiled
def _sum_terms(x, counts, beta, starts, dead, efron, hazards):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Walk through the event times from the last to the first; a row enters the risk set when its time is reached."""
    n, p = x.shape
    replicates, size = len(counts), 1 + p + p * p
    loglik, score = np.zeros(replicates), np.zeros((replicates, p))
    information, hazard = np.zeros((replicates, p, p)), np.zeros(replicates)
    predictor, sums, dying, own = np.empty(n), np.empty(size), np.empty(size), np.empty(p)
    for b in range(replicates):
        for i in range(n):
            predictor[i] = 0.0
            for j in range(p):
                predictor[i] += beta[b, j] * x[i, j]
        shift = predictor.max()
        sums[:] = 0.0
        entered = n
        for m in range(len(starts) - 1, -1, -1):
            upto = starts[m + 1] if m + 1 < len(starts) else n
            dying[:], own[:] = 0.0, 0.0
            events = 0.0
            while entered > starts[m]:
                entered -= 1
                if counts[b, entered] == 0:
                    continue
                lives = counts[b, entered] * np.exp(predictor[entered] - shift)
                fails = dead[entered] and entered < upto
                if fails:
                    events += counts[b, entered]
                    loglik[b] += counts[b, entered] * (predictor[entered] - shift)
                for part in range(2 if fails else 1):
                    into = sums if part == 0 else dying
                    into[0] += lives
                    for j in range(p):
                        moved = lives * x[entered, j]
                        into[1 + j] += moved
                        for k in range(j + 1):
                            into[1 + p + j * p + k] += moved * x[entered, k]
                if fails:
                    for j in range(p):
                        own[j] += counts[b, entered] * x[entered, j]
            for j in range(p):
                score[b, j] += own[j]
            done = 0
            while done < events:
                share = done / events if efron else 0.0
                total = sums[0] - share * dying[0]
                loglik[b] -= np.log(total)
                for j in range(p):
                    mean = (sums[1 + j] - share * dying[1 + j]) / total
                    score[b, j] -= mean
                    for k in range(j + 1):
                        other = (sums[1 + k] - share * dying[1 + k]) / total
                        square = sums[1 + p + j * p + k] - share * dying[1 + p + j * p + k]
                        information[b, j, k] += square / total - mean * other
                if m < hazards:
                    hazard[b] += np.exp(-shift) / total
                done += 1
        for j in range(p):
            for k in range(j):
                information[b, k, j] = information[b, j, k]
    return loglik, score, information, hazard


def _solve(information: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return Newton's step per resample; NaN where the information is singular."""
    diagonal = np.einsum("bii->bi", information)
    size = np.sqrt(np.where(diagonal > 1e-12, diagonal, 1.0))
    good = np.linalg.det(information / (size[:, :, None] * size[:, None, :])) > 1e-12
    good &= (diagonal > 1e-12).all(axis=1)
    safe = np.where(good[:, None, None], information, np.eye(information.shape[1]))
    return np.where(good[:, None], np.linalg.solve(safe, score[..., None])[..., 0], np.nan)


class _Climb(NamedTuple):
    """State of Newton's climbs: beta (B, p), log-likelihood (B,), information and the next step."""

    beta: np.ndarray
    loglik: np.ndarray
    information: np.ndarray
    step: np.ndarray


def _climb(rows: _Rows, at: np.ndarray, state: _Climb, ties: str) -> None:
    """Move the climbs numbered `at` by their step, or halve the step of those that would lose height."""
    proposal = state.beta[at] + state.step[at]
    away = np.ptp(proposal @ rows.x.T, axis=1) > _FAR
    state.step[at[away]] = np.nan
    at, proposal = at[~away], proposal[~away]
    loglik, score, information = _totals(rows._replace(counts=rows.counts[at]), proposal, ties)
    lost = ~(loglik >= state.loglik[at] - 1e-9 * np.abs(state.loglik[at]))
    up = at[~lost]
    state.beta[up], state.loglik[up], state.information[up] = proposal[~lost], loglik[~lost], information[~lost]
    state.step[up] = _solve(information[~lost], score[~lost])
    state.step[at[lost]] /= 2


def _newton(rows: _Rows, ties: str, start: np.ndarray) -> _Climb:
    """Climb from `start` (p,); beta is NaN where it did not settle."""
    beta = np.tile(start, (len(rows.counts), 1))
    loglik, score, information = _totals(rows, beta, ties)
    state = _Climb(beta, loglik, information, _solve(information, score))
    moving = np.arange(len(beta))
    for _ in range(_ITERATIONS):
        size = np.abs(state.step[moving]).max(axis=1)
        settled, stuck = moving[size < _STEP], moving[np.isnan(size)]
        state.beta[settled] += state.step[settled]
        state.beta[stuck] = np.nan
        moving = moving[size >= _STEP]
        if not len(moving):
            break
        _climb(rows, moving, state, ties)
    state.beta[moving] = np.nan
    return state


def fit_partial_likelihood(time: Any, event: Any, covariates: Any, weights: Any = None, ties: str = "efron") -> CoxFit:
    """Fit Cox models by Newton's method, one per resample, and never report one that did not settle.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    covariates : array_like, shape (n, p)
        Numbers; a constant column cannot be fitted.
    weights : array_like of int, shape (B, n), optional
        How often each resample drew a patient (a count of 2 equals two identical rows, also in the ties).
    ties : str
        ``efron`` or ``breslow``.

    Returns
    -------
    CoxFit
        NaN coefficients where the likelihood has no maximum (separation, no event, collinear columns).
    """
    time, event = check_follow_up(time, event)
    if ties not in ("efron", "breslow"):
        raise ValueError(f"ties is {ties!r}; allowed: 'efron', 'breslow'; Efron is this project's choice")
    x = check_matrix(covariates, len(time))
    counts = check_weights(weights, len(time))
    spread = x.std(axis=0)
    spread[spread == 0] = 1.0
    if not event.any():
        nothing = np.full((len(counts), x.shape[1]), np.nan)
        return CoxFit(nothing, np.full((*nothing.shape, x.shape[1]), np.nan), nothing[:, 0])
    rows = _sort_rows(time, event, (x - x.mean(axis=0)) / spread, counts)
    end = _newton(rows._replace(counts=np.ones((1, len(time)))), ties, np.zeros(x.shape[1]))
    if weights is not None:
        # The resamples' maxima lie near that of the rows themselves: two or three steps instead of six.
        end = _newton(rows, ties, np.nan_to_num(end.beta[0]))
    covariance = np.full_like(end.information, np.nan)
    settled = np.isfinite(end.beta).all(axis=1)
    covariance[settled] = np.linalg.inv(end.information[settled]) / np.outer(spread, spread)
    return CoxFit(end.beta / spread, covariance, end.loglik)


class FirthFit(NamedTuple):
    """Penalised coefficients (p,) with profile-likelihood limits and likelihood-ratio p-values."""

    coefficients: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    p: np.ndarray


def fit_firth(time: Any, event: Any, covariates: Any, level: float = 0.95) -> FirthFit:
    """Fit a Cox model (Efron's ties) by Firth's penalised likelihood, which has a maximum also under separation.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1, with one event at least.
    covariates : array_like, shape (n, p)
        Numbers that vary.
    level : float
        Coverage of the profile-likelihood intervals (Wald intervals fail exactly where Firth is needed).

    Returns
    -------
    FirthFit

    References
    ----------
    Firth 1993 (log-likelihood + log det I / 2); Heinze & Schemper, Biometrics 2001.
    """
    time, event = check_follow_up(time, event)
    x = check_matrix(covariates, len(time))
    spread = x.std(axis=0)
    rows = _sort_rows(time, event, (x - x.mean(axis=0)) / spread, np.ones((1, len(time))))

    def loss(beta: np.ndarray) -> float:
        loglik, _, information = _totals(rows, beta[None, :], "efron")
        return float(-loglik[0] - np.linalg.slogdet(information[0])[1] / 2)

    best = minimize(loss, np.zeros(x.shape[1]), method="BFGS", options={"gtol": 1e-7})
    found = [_profile(loss, best.x, place, float(chi2_distribution.ppf(level, 1))) for place in range(x.shape[1])]
    low, high, p = np.array(found).T
    return FirthFit(best.x / spread, low / spread, high / spread, p)


def _profile(
    loss: Callable[[np.ndarray], float], best: np.ndarray, place: int, allowed: float
) -> tuple[float, float, float]:
    """Return where twice the profile of one coefficient has risen by `allowed`, below and above, and its p at 0."""
    lowest, free = loss(best), np.arange(len(best)) != place
    near = [best[free]]  # where the last search ended: the next begins there

    def risen(value: float) -> float:
        def of_others(others: np.ndarray) -> float:
            return loss(np.insert(others, place, value))

        if not free.any():
            return 2 * (of_others(near[0]) - lowest)
        reached = minimize(of_others, near[0], method="BFGS")
        near[0] = reached.x
        return 2 * (float(reached.fun) - lowest)

    def limit(step: float) -> float:
        near[0] = best[free]
        while risen(best[place] + step) < allowed:
            step *= 2
            if abs(step) > _FAR:
                return np.nan
        return float(brentq(lambda value: risen(value) - allowed, best[place], best[place] + step, xtol=1e-6))

    return limit(-1.0), limit(1.0), float(chi2_distribution.sf(max(risen(0.0), 0.0), 1))


def score_test_at_zero(time: Any, event: Any, covariates: Any, ties: str = "efron") -> tuple[float, float]:
    """Return the log partial likelihood without covariates and the chi-square of the score test against it.

    For one column that numbers ordered groups this is the log-rank test for trend.
    """
    time, event = check_follow_up(time, event)
    x = check_matrix(covariates, len(time))
    rows = _sort_rows(time, event, x - x.mean(axis=0), np.ones((1, len(time))))
    loglik, score, information = _totals(rows, np.zeros((1, x.shape[1])), ties)
    return float(loglik[0]), float(score[0] @ _solve(information, score)[0])


def check_matrix(covariates: Any, n: int) -> np.ndarray:
    """Return covariates as finite floats of shape (n, p); a single column may be one-dimensional."""
    x = np.asarray(covariates, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or len(x) != n:
        raise ValueError(f"covariates has shape {x.shape}, but time has {how_many(n, 'row')}; give one row per patient")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"covariates column {column}, row {row}: {x[row, column]} is not allowed; allowed: finite numbers; "
            "fill the gap with a value learned in training or leave the patient out"
        )
    return x


def baseline_hazard(
    time: Any, event: Any, covariates: Any, coefficients: Any, horizon: float, weights: Any = None, ties: str = "efron"
) -> np.ndarray:
    """Return the cumulative baseline hazard at `horizon` for covariates of 0, one per resample.

    Parameters
    ----------
    coefficients : array_like, shape (p,) or (B, p)
        Of a model on the same covariates.
    ties : str
        ``efron`` is R's default after an Efron fit; ``breslow`` is what lifelines and scikit-survival use.
    """
    time, event = check_follow_up(time, event)
    x, counts = check_matrix(covariates, len(time)), check_weights(weights, len(time))
    beta = np.broadcast_to(np.atleast_2d(coefficients), (len(counts), x.shape[1]))
    if not event.any():
        return np.zeros(len(counts))
    centre = x.mean(axis=0)
    rows = _sort_rows(time, event, x - centre, counts)
    reached = int(np.searchsorted(rows.times, horizon, side="right"))
    return _summed(rows, np.nan_to_num(beta), ties, reached)[3] * np.exp(-(beta @ centre))


def _time_scale(time: np.ndarray, event: np.ndarray, transform: str) -> Callable[[np.ndarray], np.ndarray]:
    def before(t: np.ndarray) -> np.ndarray:
        steps = count_steps(time, event, np.ones((1, len(time))))
        return 1 - event_curve(steps)[0][np.searchsorted(steps.times, t)]

    def rank(t: np.ndarray) -> np.ndarray:
        return rankdata(time)[np.argsort(time, kind="stable")][np.searchsorted(np.sort(time), t)]

    scales: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "km": before,
        "rank": rank,
        "identity": np.asarray,
        "log": np.log,
    }
    if transform not in scales:
        raise ValueError(f"transform is {transform!r}; allowed: {', '.join(scales)}; km is R's default")
    return scales[transform]


def _score_chi2(score: np.ndarray, information: np.ndarray, tested: Sequence[int]) -> float:
    """Return the score chi-square of the `tested` time-dependent terms, given all p constant ones."""
    p = len(score)
    chosen = [*range(p), *(p + k for k in tested)]
    vector = np.concatenate([np.zeros(p), score[list(tested)]])
    return float(vector @ np.linalg.solve(information[np.ix_(chosen, chosen)], vector))


def ph_score_test(
    time: Any,
    event: Any,
    covariates: Any,
    coefficients: Any,
    transform: str = "km",
    names: Sequence[str] | None = None,
    ties: str = "efron",
) -> pd.DataFrame:
    """Test proportional hazards by adding covariate x g(time) to a fitted Cox model (score test).

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1 of the rows the model was fitted in.
    covariates : array_like, shape (n, p)
        Its design matrix; a DataFrame gives the names.
    coefficients : array_like, shape (p,)
        Its unpenalised coefficients.
    transform : str
        g: ``km`` (1 - S(t-), R's default), ``rank`` (among all times), ``identity`` or ``log``.
    names : sequence of str, optional
        Names of the covariates.
    ties : str
        As in the fit.

    Returns
    -------
    pandas.DataFrame
        covariate, chi2, df, p; the last row is GLOBAL with p degrees of freedom. lifelines tests by the
        approximation of 1994 without GLOBAL; its decision at .05 differs in about one case of six.

    Raises
    ------
    ValueError
        The coefficients do not maximise the partial likelihood of these rows (penalised, stopped early, other rows).

    References
    ----------
    Grambsch & Therneau 1994 in the exact form of R's survival >= 3.0.
    """
    names = list(names if names is not None else getattr(covariates, "columns", []))
    time, event = check_follow_up(time, event)
    x = check_matrix(covariates, len(time))
    names = names or [f"x{k + 1}" for k in range(x.shape[1])]
    score, information = _time_score(time, event, x, np.asarray(coefficients, float), transform, ties)
    tests = [(name, _score_chi2(score, information, [k]), 1) for k, name in enumerate(names)]
    tests.append(("GLOBAL", _score_chi2(score, information, range(len(names))), len(names)))
    table = pd.DataFrame(tests, columns=["covariate", "chi2", "df"])
    return table.assign(p=chi2_distribution.sf(table["chi2"], table["df"]))


def _time_score(
    time: np.ndarray, event: np.ndarray, x: np.ndarray, beta: np.ndarray, transform: str, ties: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of the p time-dependent terms and the information of all 2p terms."""
    scale = _time_scale(time, event, transform)
    spread = x.std(axis=0)
    rows = _sort_rows(time, event, (x - x.mean(axis=0)) / spread, np.ones((1, len(time))))
    terms = _terms(rows, (beta * spread)[None, :], ties)
    u, information = terms.score[0], terms.information[0]
    plain = information.sum(axis=0)
    distance = u.sum(axis=0) @ np.linalg.solve(plain, u.sum(axis=0))
    if not distance < 1e-3:
        raise ValueError(
            f"coefficients do not maximise the partial likelihood of these rows (score chi-square {distance:.3g}; "
            "allowed: below 0.001); refit without penalty, with fit_options={'precision': 1e-12} in lifelines"
        )
    # Neither origin nor unit of g matters at the maximum; both matter for rounding.
    g = scale(rows.times)
    g = (g - g.mean()) / (g.std() or 1.0)
    mixed, double = np.einsum("m,mij->ij", g, information), np.einsum("m,mij->ij", g**2, information)
    return g @ u, np.block([[plain, mixed], [mixed, double]])
