"""Kaplan-Meier curves, numbers at risk, restricted means, log-rank tests, and the checks of follow-up data.

Times are months, an event is a local recurrence (1 = yes), and a weight is how often a resample drew a patient:
an array of counts with shape (B, n) gives one value per resample, ``None`` gives one number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import norm

from rps_utils.machine.compiled import compiled
from rps_utils.survival.follow_up import Estimate, check_follow_up, check_weights, one_or_all, ratio, refuse
from rps_utils.texts.counts import how_many

_SAME = np.finfo(float).eps ** 0.5  # R's tolerance for "the curve is exactly at one half"


class Steps(NamedTuple):
    """Counts at the distinct times: `times` (m,), `column` (n,) row -> time, the rest (B, m)."""

    times: np.ndarray
    column: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    censored: np.ndarray


def count_steps(time: np.ndarray, event: np.ndarray, weights: np.ndarray) -> Steps:
    """Count events, censorings and patients at risk (T >= t) at every distinct time of every resample."""
    times, column = np.unique(time, return_inverse=True)
    return Steps(
        times, column, *_counted(np.ascontiguousarray(weights, dtype=float), column, event.astype(bool), len(times))
    )


@compiled
def _counted(counts, column, event, size):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return patients at risk, events and censorings (B, size); `column` (n,) is each patient's time."""
    at_risk, events = np.zeros((len(counts), size)), np.zeros((len(counts), size))
    censored = np.zeros((len(counts), size))
    for b in range(len(counts)):
        for i in range(len(column)):
            if event[i]:
                events[b, column[i]] += counts[b, i]
            else:
                censored[b, column[i]] += counts[b, i]
        followed = 0.0
        for k in range(size - 1, -1, -1):
            followed += events[b, k] + censored[b, k]
            at_risk[b, k] = followed
    return at_risk, events, censored


def _curve(hazard: np.ndarray) -> np.ndarray:
    # A leading 1 makes column k the value just before the k-th time and k + 1 the value at it.
    return np.pad(np.cumprod(1 - hazard, axis=1), ((0, 0), (1, 0)), constant_values=1.0)


def event_curve(steps: Steps) -> np.ndarray:
    """Return the Kaplan-Meier curve S, shape (B, m + 1), beginning with S = 1 before the first time."""
    return _curve(ratio(steps.events, steps.at_risk, 0.0))


def censoring_curve(steps: Steps) -> np.ndarray:
    """Return the Kaplan-Meier curve G of the censoring, shape (B, m + 1), beginning with 1.

    At a tie events come before censorings, so a patient with an event at t is no longer at risk of being
    censored at t. lifelines, fitted to flipped events, keeps such patients at risk and differs at ties.
    """
    return _curve(ratio(steps.censored, steps.at_risk - steps.events, 0.0))


def curve_at(curve: np.ndarray, steps: Steps, t: float) -> np.ndarray:
    """Return the right-continuous value of a curve at t, one per resample."""
    return curve[:, np.searchsorted(steps.times, t, side="right")]


def survival_from(steps: Steps, horizon: float) -> np.ndarray:
    """Return S(horizon) per resample; NaN where the last follow-up is a censoring before the horizon."""
    survival = curve_at(event_curve(steps), steps, horizon)
    reached = steps.at_risk[:, np.searchsorted(steps.times, horizon) :].sum(axis=1) > 0
    return np.where(reached | (survival == 0), survival, np.nan)


def survival_at(time: Any, event: Any, horizon: float, weights: Any = None) -> Any:
    """Return the Kaplan-Meier probability of being free of recurrence at `horizon` months.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    horizon : float
        Months.
    weights : array_like, shape (B, n), optional
        Counts of resamples.

    Returns
    -------
    float or ndarray of shape (B,)
        NaN beyond the last follow-up unless the curve has reached 0; R and lifelines carry the last value on.
    """
    time, event = check_follow_up(time, event)
    steps = count_steps(time, event, check_weights(weights, len(time)))
    return one_or_all(survival_from(steps, horizon), weights)


def _bounds(kind: str, survival: np.ndarray, error: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Return both limits; `error` is the Greenwood standard error of log S."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "log-log":
            # 1 ** NaN is 1 in numpy: a curve still at 1 needs its missing interval from the base as well.
            base = np.where(survival < 1, survival, np.nan)
            spread = z * error / np.log(base)
            return base ** np.exp(-spread), base ** np.exp(spread)
        if kind == "log":
            return survival * np.exp(-z * error), np.minimum(survival * np.exp(z * error), 1)
        if kind == "plain":
            step = z * error * survival
            return np.maximum(survival - step, 0), np.minimum(survival + step, 1)
    raise ValueError(f"interval is {kind!r}; allowed: 'log-log', 'log', 'plain'; log-log is this project's choice")


def kaplan_meier(time: Any, event: Any, interval: str = "log-log", level: float = 0.95) -> pd.DataFrame:
    """Return the Kaplan-Meier table, one row per distinct time.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    interval : str
        ``log-log`` (default), ``log`` (R's default, which lifelines does not offer) or ``plain``.
    level : float
        Coverage of the interval.

    Returns
    -------
    pandas.DataFrame
        time, at_risk (T >= t), events, censored, survival, std_error (Greenwood), ci_low, ci_high. Once the
        curve is 0 its standard error and interval are NaN.
    """
    time, event = check_follow_up(time, event)
    steps = count_steps(time, event, np.ones((1, len(time))))
    risk, events, survival = steps.at_risk[0], steps.events[0], event_curve(steps)[0, 1:]
    error = np.sqrt(np.cumsum(ratio(events, risk * (risk - events), np.inf)))
    error[survival == 0] = np.nan
    low, high = _bounds(interval, survival, error, norm.ppf(0.5 + level / 2))
    return pd.DataFrame(
        {
            "time": steps.times,
            "at_risk": risk.astype(int),
            "events": events.astype(int),
            "censored": steps.censored[0].astype(int),
            "survival": survival,
            "std_error": survival * error,
            "ci_low": low,
            "ci_high": high,
        }
    )


def _crossing(times: np.ndarray, curve: np.ndarray, level: float) -> float:
    # R's rule: the first time at or below the level, and the middle of the flat stretch lying exactly on it.
    below = np.flatnonzero(curve < level + _SAME)
    if not len(below):
        return np.nan
    first = below[0]
    further = below[curve[below] < level - _SAME]
    flat = abs(curve[first] - level) < _SAME and len(further)
    return float((times[first] + times[further[0]]) / 2 if flat else times[first])


def median_survival(time: Any, event: Any, interval: str = "log-log", level: float = 0.95) -> Estimate:
    """Return the median time to recurrence in months with the interval read off the curve's limits.

    When the curve is exactly 0.5 over a stretch, its middle is taken as in R; lifelines takes its beginning.
    A median (or limit) that the curve does not reach is NaN. Flipped events give the median follow-up.
    """
    table = kaplan_meier(time, event, interval, level)
    times = table["time"].to_numpy()
    median, low, high = (_crossing(times, table[c].to_numpy(), 0.5) for c in ("survival", "ci_low", "ci_high"))
    return Estimate(median, low, high, "" if np.isfinite(median) else "the curve does not fall to 0.5")


def rmst(time: Any, event: Any, tau: float, *, level: float = 0.95) -> Estimate:
    """Return the restricted mean time free of recurrence up to `tau` months, with a Wald interval.

    The standard error is Greenwood's, (ci_high - ci_low) / (2 z); lifelines returns the variance of min(T, tau)
    instead, up to 25 times too large. Beyond the last follow-up (a censoring) the value is NaN.
    """
    table = kaplan_meier(time, event)
    if tau > table["time"].max() and table["survival"].iloc[-1] > 0:
        return Estimate(np.nan, np.nan, np.nan, f"{tau:g} months lies beyond the last follow-up")
    table = table[table["time"] < tau]
    edges = np.concatenate(([0.0], table["time"], [tau]))
    areas = np.diff(edges) * np.concatenate(([1.0], table["survival"]))
    risk, events = table["at_risk"].to_numpy(float), table["events"].to_numpy(float)
    remaining = np.cumsum(areas[::-1])[::-1][1:]
    variance = np.sum(remaining**2 * ratio(events, risk * (risk - events), 0.0))
    margin = norm.ppf(0.5 + level / 2) * np.sqrt(variance)
    return Estimate(float(areas.sum()), float(areas.sum() - margin), float(areas.sum() + margin))


def rmst_difference(time: Any, event: Any, group: Any, tau: float, *, level: float = 0.95) -> Estimate:
    """Return how many months up to `tau` the patients with `group` False stay free longer than those with True.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    group : array_like of bool, shape (n,)
        True for high risk.
    tau, level : float
        As in `rmst`.

    Returns
    -------
    Estimate
        Difference of the restricted means with its Wald interval (the two variances add up); needs no proportional
        hazards. NaN where a group's follow-up ends before tau, or a group is empty.
    """
    time, event = check_follow_up(time, event)
    group = np.asarray(group, bool)
    if group.all() or not group.any():
        return Estimate(np.nan, np.nan, np.nan, "one of the groups is empty")
    low, high = (rmst(time[g], event[g], tau, level=level) for g in (~group, group))
    value = low.value - high.value
    margin = float(np.hypot(low.ci_high - low.value, high.ci_high - high.value))
    return Estimate(value, value - margin, value + margin, low.note or high.note)


class LogRank(NamedTuple):
    """Chi-square on (groups - 1) degrees of freedom and its two-sided p-value."""

    chi2: float
    p: float


def _log_rank_parts(
    time: np.ndarray, event: np.ndarray, group: np.ndarray, rho: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, observed, expected (unweighted) and the chi-square's ingredients summed over times."""
    labels, member = np.unique(group, return_inverse=True)
    steps = count_steps(time, event, np.vstack([np.ones(len(time)), np.eye(len(labels))[:, member]]))
    n, d = steps.at_risk[0], steps.events[0]
    share = steps.at_risk[1:] / n
    excess = steps.events[1:] - d * share
    weight = event_curve(steps)[0, :-1] ** rho
    spread = weight**2 * d * ratio(n - d, n - 1, 0.0)
    covariance = np.diag((share * spread).sum(axis=1)) - (share * spread) @ share.T
    observed_expected = np.vstack([steps.events[1:].sum(axis=1), (d * share).sum(axis=1)])
    return labels, observed_expected, (excess * weight).sum(axis=1), covariance


def _check_groups(time: np.ndarray, group: Any) -> np.ndarray:
    group = np.asarray(group)
    if group.shape != time.shape:
        raise ValueError(
            f"group has shape {group.shape}, but time has {how_many(len(time), 'row')}; give one label per patient"
        )
    refuse("group", pd.isna(group), group, "a label for every patient", "name the missing group or leave it out")
    return group


def logrank(time: Any, event: Any, group: Any, rho: float = 0.0) -> LogRank:
    """Compare the curves of two or more groups by the log-rank test.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1.
    group : array_like, shape (n,)
        Labels.
    rho : float
        0 is the log-rank test, 1 weights early times by S(t-) (Peto-Peto, Prentice; lifelines' "peto" is
        another statistic).

    Returns
    -------
    LogRank
        chi2, p. Both NaN with fewer than two groups or without any event.
    """
    time, event = check_follow_up(time, event)
    group = _check_groups(time, group)
    labels, _, excess, covariance = _log_rank_parts(time, event, group, rho)
    if len(labels) < 2 or np.linalg.matrix_rank(covariance) < len(labels) - 1:
        return LogRank(np.nan, np.nan)
    chi2 = float(excess[1:] @ np.linalg.solve(covariance[1:, 1:], excess[1:]))
    return LogRank(chi2, float(chi2_distribution.sf(chi2, len(labels) - 1)))


def logrank_table(time: Any, event: Any, group: Any) -> pd.DataFrame:
    """Return group, n, observed and expected events of the log-rank test."""
    time, event = check_follow_up(time, event)
    group = _check_groups(time, group)
    labels, (observed, expected), _, _ = _log_rank_parts(time, event, group, 0.0)
    n = [int((group == label).sum()) for label in labels]
    return pd.DataFrame({"group": labels, "n": n, "observed": observed.astype(int), "expected": expected})


def incidence_curve(time: Any, cause: Any, level: float = 0.95) -> pd.DataFrame:
    """Return the Aalen-Johansen cumulative incidence of cause 1 with its interval, one row per distinct time.

    Parameters
    ----------
    time : array_like, shape (n,)
        Months.
    cause : array_like, shape (n,)
        0 = censored, 1 = local recurrence, 2 = death without it.
    level : float
        Coverage.

    Returns
    -------
    pandas.DataFrame
        time, incidence, std_error (delta method, as in lifelines and SAS), ci_low, ci_high. The interval is
        complementary log-log in 1 - incidence: without deaths it is that of `kaplan_meier`, turned over. (lifelines
        takes log-log of the incidence itself and moves tied times apart by a random draw.)

    References
    ----------
    Aalen & Johansen 1978; variance as in Marubini & Valsecchi 1995.
    """
    steps, curves = _incidences(time, cause)
    incidence, n, d, own = curves[0], steps.at_risk[0], steps.events[0], steps.events[1]
    before = event_curve(steps)[0, :-1]
    # The squared distances from every earlier time to every time, summed, written out: no table of times by times.
    lost, met = ratio(d, n * (n - d), 0.0), before * own / n**2
    squared = incidence**2 * np.cumsum(lost) - 2 * incidence * np.cumsum(incidence * lost)
    squared += np.cumsum(incidence**2 * lost)
    crossed = incidence * np.cumsum(met) - np.cumsum(incidence * met)
    moved = squared - 2 * crossed + np.cumsum(before**2 * own * (n - own) / n**3)
    error = np.sqrt(np.maximum(moved, 0))
    free = np.where(incidence > 1 - 1e-12, 0.0, 1 - incidence)  # all recurred, up to rounding
    low, high = _bounds("log-log", free, ratio(error, free, np.nan), norm.ppf(0.5 + level / 2))
    columns = {"time": steps.times, "incidence": incidence, "std_error": error, "ci_low": 1 - high, "ci_high": 1 - low}
    return pd.DataFrame(columns)


def _incidences(time: Any, cause: Any) -> tuple[Steps, np.ndarray]:
    """Return counts (all, cause 1, cause 2) at the distinct times, and the two incidences (2, m)."""
    cause = np.asarray(cause)
    refuse("cause", ~np.isin(cause, (0, 1, 2)), cause, "0, 1 or 2", "code 0 censored, 1 recurrence, 2 death")
    time, any_event = check_follow_up(time, cause > 0)
    steps = count_steps(time, any_event, np.vstack([np.ones(len(time)), cause == 1, cause == 2]))
    before = event_curve(steps)[0, :-1]
    return steps, np.cumsum(before * steps.events[1:] / steps.at_risk[0], axis=1)


def cumulative_incidence(time: Any, cause: Any, horizons: Any) -> pd.DataFrame:
    """Return Aalen-Johansen cumulative incidences: recurrence (cause 1) with death before it (cause 2).

    Parameters
    ----------
    time, cause
        As in `incidence_curve`.
    horizons : array_like
        Months at which to read the curves; NaN beyond the last follow-up of patients still free of both.

    Returns
    -------
    pandas.DataFrame
        horizon, recurrence, ci_low, ci_high, competing, one_minus_km. The last column censors deaths and is never
        smaller than `recurrence`: it answers another question ("if nobody died"). No interval before the first
        recurrence.
    """
    steps, (_, competing) = _incidences(time, cause)
    curve = incidence_curve(time, cause)
    rows = []
    for t in np.atleast_1d(horizons):
        place = int(np.searchsorted(steps.times, t, side="right"))
        if np.isnan(survival_at(time, np.asarray(cause) > 0, t)):
            read = [np.nan] * 4
        elif place == 0:
            read = [0.0, np.nan, np.nan, 0.0]
        else:
            read = [*curve.loc[place - 1, ["incidence", "ci_low", "ci_high"]], competing[place - 1]]
        rows.append((float(t), *read, 1 - survival_at(time, np.asarray(cause) == 1, t)))
    return pd.DataFrame(rows, columns=["horizon", "recurrence", "ci_low", "ci_high", "competing", "one_minus_km"])


def just_before(curve: np.ndarray, steps: Steps) -> np.ndarray:
    """Return a curve just before every patient's own time, shape (B, n)."""
    return curve[:, steps.column]
