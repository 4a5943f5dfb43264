"""Whether predicted probabilities come true: observed / expected, slope, groups, smooth curve, D-calibration.

`lrfs` is the predicted probability of being free of local recurrence at the horizon; the predicted risk is 1 - lrfs.
All predictions come from a model fitted elsewhere: nothing here is fitted but the description of its errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import norm

from rps_utils.survival.curves import censoring_curve, count_steps, kaplan_meier, survival_at
from rps_utils.survival.follow_up import (
    Estimate,
    check_follow_up,
    check_numbers,
    check_weights,
    horizon_note,
    one_or_all,
)
from rps_utils.survival.partial_likelihood import baseline_hazard, fit_partial_likelihood

CERTAIN = 1e-4  # how far from 0 and 1 a certain prediction is moved, where its log hazard is needed


def observed_expected(
    time: Any, event: Any, lrfs: Any, horizon: float, *, level: float = 0.95, interval: str = "greenwood"
) -> Estimate:
    """Return observed / expected recurrence risk at `horizon`; above 1 the model promised too little recurrence.

    Parameters
    ----------
    time, event, lrfs : array_like, shape (n,)
        Months, 0/1, predicted probability of being free of recurrence.
    horizon : float
        Months.
    level : float
        Coverage.
    interval : str
        ``greenwood``: exp(log(O/E) +- z SE(S) / O) with Greenwood's standard error of the Kaplan-Meier curve.
        ``poisson``: exp(log(O/E) +- z / sqrt(events)), which is wider than it need be: it takes the events for a
        Poisson count, though at most every patient can recur.

    Returns
    -------
    Estimate
        Observed = 1 - Kaplan-Meier, expected = mean predicted risk, taken as known. No event by the horizon gives
        O/E = 0 without an upper limit; where all have recurred, there is no Greenwood interval.

    References
    ----------
    McLernon et al., Ann Intern Med 2023 (Poisson); Greenwood's variance on the log scale by the delta method.
    """
    if interval not in ("greenwood", "poisson"):
        raise ValueError(f"interval is {interval!r}; allowed: greenwood, poisson; greenwood is this project's choice")
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    observed = float(1 - survival_at(time, event, horizon))
    value = observed / float(np.mean(1 - lrfs)) if lrfs.min() < 1 else np.nan
    events = int((event & (time <= horizon)).sum())
    if not np.isfinite(value) or events == 0:
        reason = horizon_note(time, event, horizon, minimum_at_risk=0) or "every predicted risk is 0"
        return Estimate(value, 0.0 if value == 0 else np.nan, np.nan, reason)
    error = 1 / np.sqrt(events) if interval == "poisson" else _log_risk_error(time, event, horizon)
    if not np.isfinite(error):
        return Estimate(value, np.nan, np.nan, f"all have recurred by {horizon:g} months: no interval")
    factor = np.exp(norm.ppf(0.5 + level / 2) * error)
    return Estimate(value, float(value / factor), float(value * factor))


def _log_risk_error(time: np.ndarray, event: np.ndarray, horizon: float) -> float:
    """Return Greenwood's standard error of log(1 - S) at a horizon that some event has reached."""
    last = kaplan_meier(time, event).query("time <= @horizon").iloc[-1]
    return float(last["std_error"] / (1 - last["survival"]))


def calibration_slope(time: Any, event: Any, linear_predictor: Any, *, weights: Any = None) -> Any:
    """Return the slope of a Cox model on the linear predictor: 1 is right, below 1 the predictions are too extreme.

    Parameters
    ----------
    time, event, linear_predictor : array_like, shape (n,)
        Months, 0/1, log relative hazard of the frozen model.
    weights : array_like, shape (B, n), optional
        Counts of resamples.

    Returns
    -------
    float or ndarray of shape (B,)
        NaN without events, with a constant predictor, or when the likelihood has no maximum.
    """
    n = len(np.asarray(time))
    fit = fit_partial_likelihood(time, event, check_numbers("linear_predictor", linear_predictor, n), weights)
    return one_or_all(fit.coefficients[:, 0], weights)


def calibration_slope_interval(time: Any, event: Any, linear_predictor: Any, *, level: float = 0.95) -> Estimate:
    """Return the calibration slope with its Wald interval (van Houwelingen 2000)."""
    n = len(np.asarray(time))
    fit = fit_partial_likelihood(time, event, check_numbers("linear_predictor", linear_predictor, n))
    slope = float(fit.coefficients[0, 0])
    if not np.isfinite(slope):
        return Estimate(np.nan, np.nan, np.nan, "the partial likelihood has no maximum")
    margin = float(norm.ppf(0.5 + level / 2) * np.sqrt(fit.covariance[0, 0, 0]))
    return Estimate(slope, slope - margin, slope + margin)


def grouped_risks(risk: np.ndarray, groups: int, observed: Callable[[np.ndarray], Iterable[float]]) -> pd.DataFrame:
    """Compare predicted with observed risk in groups cut at quantiles of the predicted one.

    Parameters
    ----------
    risk : ndarray, shape (n,)
        Predicted.
    groups : int
        Right-closed; equal quantiles merge.
    observed : callable
        Gets who belongs to a group (bool, shape (n,)); returns the observed risk and its limits.

    Returns
    -------
    pandas.DataFrame
        group (1 = lowest risk), n, predicted (mean risk), observed, ci_low, ci_high.
    """
    inner = np.unique(np.quantile(risk, np.arange(1, groups) / groups))
    member = np.searchsorted(inner, risk, side="left")
    rows: list[tuple[float, ...]] = []
    for label in np.unique(member):
        own = member == label
        rows.append((len(rows) + 1, int(own.sum()), float(risk[own].mean()), *observed(own)))
    return pd.DataFrame(rows, columns=["group", "n", "predicted", "observed", "ci_low", "ci_high"])


def calibration_groups(time: Any, event: Any, lrfs: Any, horizon: float, *, groups: int = 4) -> pd.DataFrame:
    """Compare predicted with Kaplan-Meier risk in groups cut at quantiles of the predicted risk.

    Returns
    -------
    pandas.DataFrame
        group (1 = lowest risk), n, predicted (mean risk), observed, ci_low, ci_high (log-log). Groups are
        right-closed; equal quantiles merge. Observed is NaN where a group's follow-up ends before the horizon, the
        interval also while no event was seen (before anybody's last visit it is 0 to 0, as in R).
    """
    time, event = check_follow_up(time, event)
    risk = 1 - check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")

    def observed(own: np.ndarray) -> tuple[float, float, float]:
        seen = 1 - survival_at(time[own], event[own], horizon)
        limits = _risk_interval(time[own], event[own], horizon) if np.isfinite(seen) else (np.nan, np.nan)
        return seen, *limits

    return grouped_risks(risk, groups, observed)


def _risk_interval(time: np.ndarray, event: np.ndarray, horizon: float) -> tuple[float, float]:
    table = kaplan_meier(time, event)
    table = table[table["time"] <= horizon]
    return (1 - table["ci_high"].iloc[-1], 1 - table["ci_low"].iloc[-1]) if len(table) else (0.0, 0.0)


def spline_knots(x: np.ndarray) -> np.ndarray:
    """Return three knots at the 10, 50 and 90 % quantiles; under 100 values the outer are the 5th from each end.

    References
    ----------
    Hmisc's ``rcspline.eval``.
    """
    x = np.sort(np.asarray(x, float))
    knots = np.quantile(x, [0.1, 0.5, 0.9])
    if len(x) < 100:
        knots[[0, 2]] = x[[4, -5]] if len(x) >= 5 else x[[0, -1]]
    return knots


def restricted_cubic(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return x and its restricted cubic spline term (linear beyond the outer knots)."""
    low, middle, high = knots
    cubes = [np.maximum(x - k, 0) ** 3 for k in knots]
    bend = cubes[0] - cubes[1] * (high - low) / (high - middle) + cubes[2] * (middle - low) / (high - middle)
    return np.column_stack([x, bend / (high - low) ** 2])


def within_bounds(lrfs: np.ndarray) -> np.ndarray:
    """Return predictions with 0 and 1, which have no log hazard, moved to 0.0001 and 0.9999.

    Where others lie still further out, the certain ones are moved to the outermost of these, so that the order stays.

    References
    ----------
    The bounds in use in R: 0.9999 in the code of Austin, Harrell & van Klaveren (Stat Med 2020), 1e-4 in mlr3proba.
    """
    inside = lrfs[(lrfs > 0) & (lrfs < 1)]
    low, high = min(CERTAIN, inside.min(initial=1.0)), max(1 - CERTAIN, inside.max(initial=0.0))
    return np.where(lrfs <= 0, low, np.where(lrfs >= 1, high, lrfs))


def certain_note(lrfs: np.ndarray) -> str:
    """Say how many predictions of 0 or 1 `within_bounds` moves, or return an empty text."""
    certain = int(np.sum((lrfs <= 0) | (lrfs >= 1)))
    return f"{certain} predicted LRFS of 0 or 1 taken as {CERTAIN:g} or {1 - CERTAIN:g}" if certain else ""


def _smooth_observed(
    time: np.ndarray, event: np.ndarray, lrfs: np.ndarray, horizon: float, counts: np.ndarray | None, ties: str
) -> np.ndarray:
    """Return the smoothed observed risk of every patient, shape (B, n); NaN where no curve can be fitted."""
    rows = 1 if counts is None else len(counts)
    nothing = np.full((rows, len(time)), np.nan)
    if len(time) < 10 or np.isnan(survival_at(time, event, horizon)):
        return nothing
    x = np.log(-np.log(within_bounds(lrfs)))
    knots = spline_knots(x)
    if (np.diff(knots) <= 0).any():
        return nothing
    basis = restricted_cubic(x, knots)
    beta = fit_partial_likelihood(time, event, basis, counts).coefficients
    hazard = baseline_hazard(time, event, basis, beta, horizon, counts, ties)
    return -np.expm1(-hazard[:, None] * np.exp(beta @ basis.T))


def calibration_curve(time: Any, event: Any, lrfs: Any, horizon: float, baseline: str = "efron") -> pd.DataFrame:
    """Return the smooth calibration curve: predicted and observed risk at every patient's prediction.

    A Cox model on a restricted cubic spline (three knots) of log(-log(lrfs)) describes what was observed. lifelines'
    ``survival_probability_calibration`` fits another spline that does not converge for times in days.

    Predictions of exactly 0 or 1 enter the spline by `within_bounds`, and stay as they are on the axis.

    Returns
    -------
    pandas.DataFrame
        predicted (increasing), observed. Observed is NaN where the curve cannot be fitted: fewer than ten
        patients, predictions all alike, follow-up ending before the horizon.

    References
    ----------
    Austin, Harrell & van Klaveren, Stat Med 2020.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    observed = _smooth_observed(time, event, lrfs, horizon, None, baseline)[0]
    return pd.DataFrame({"predicted": 1 - lrfs, "observed": observed}).sort_values(
        "predicted", kind="stable", ignore_index=True
    )


class CalibrationErrors(NamedTuple):
    """Mean (ICI), median, 90th percentile and maximum of |observed - predicted| risk."""

    ici: Any
    e50: Any
    e90: Any
    emax: Any


def calibration_errors(time: Any, event: Any, lrfs: Any, horizon: float, baseline: str = "efron") -> CalibrationErrors:
    """Return ICI, E50, E90 and Emax: the distances of the smooth curve from the diagonal; all NaN without a curve."""
    curve = calibration_curve(time, event, lrfs, horizon, baseline)
    distance = (curve["observed"] - curve["predicted"]).abs().to_numpy()
    e50, e90 = (float(np.quantile(distance, q)) for q in (0.5, 0.9))
    return CalibrationErrors(float(distance.mean()), e50, e90, float(distance.max()))


def ici(time: Any, event: Any, lrfs: Any, horizon: float, weights: Any = None) -> Any:
    """Return the integrated calibration index, the mean distance of the smooth curve from the diagonal.

    Parameters
    ----------
    time, event, lrfs : array_like, shape (n,)
        Months, 0/1, predicted probability of being free of recurrence.
    horizon : float
        Months.
    weights : array_like, shape (B, n), optional
        Counts of resamples; the knots stay those of the rows given.

    Returns
    -------
    float or ndarray of shape (B,)
        0 is perfect; NaN as in `calibration_curve`.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    counts = check_weights(weights, len(time))
    distance = np.abs(_smooth_observed(time, event, lrfs, horizon, counts, "efron") - (1 - lrfs))
    return one_or_all(np.sum(distance * counts, axis=1) / counts.sum(axis=1), weights)


def ici_e50_e90(time: Any, event: Any, lrfs: Any, horizon: float, weights: Any = None) -> np.ndarray:
    """Return ICI, E50 and E90 together, so that each resample's curve is fitted once.

    Parameters
    ----------
    time, event, lrfs, horizon, weights
        As in `ici`.

    Returns
    -------
    ndarray of shape (3,) or (3, B)
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    counts = check_weights(weights, len(time))
    distance = np.abs(_smooth_observed(time, event, lrfs, horizon, counts, "efron") - (1 - lrfs))
    drawn = (np.repeat(row, own) for row, own in zip(distance, counts.astype(int), strict=True))
    errors = np.array([[each.mean(), *np.quantile(each, [0.5, 0.9])] for each in drawn]).T
    return errors[:, 0] if weights is None else errors


def errors_if_calibrated(
    time: Any, event: Any, lrfs: Any, horizon: float, *, draws: int = 100, seed: int = 2026
) -> np.ndarray:
    """Return ICI, E50 and E90 of outcomes drawn from the predictions themselves: what chance makes of a right model.

    The errors are distances, so they are above 0 also where every prediction is right, the more so the fewer
    patients; their bootstrap intervals never hold 0. These draws say what to compare them with.

    Parameters
    ----------
    time, event, lrfs, horizon
        As in `ici`; of the follow-up only the censoring is used.
    draws : int
        Cohorts drawn: the same patients, recurrences by a constant hazard that meets each prediction at the horizon,
        censored by draws from the Kaplan-Meier curve of the censoring.
    seed : int

    Returns
    -------
    ndarray, shape (3, draws)
        NaN for a draw without a curve.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    rng, hazard = np.random.default_rng(seed), -np.log(within_bounds(lrfs)) / horizon
    steps = count_steps(time, event, np.ones((1, len(time))))
    curve, ends = censoring_curve(steps)[0, 1:], np.append(steps.times, steps.times[-1])
    found = np.empty((3, draws))
    for draw in range(draws):
        recurs = rng.exponential(1 / hazard)
        leaves = ends[np.searchsorted(-curve, -rng.random(len(time)), side="left")]
        given = (np.minimum(recurs, leaves), recurs <= leaves, lrfs, horizon)
        found[:, draw] = ici_e50_e90(*given) if given[1].any() else np.nan
    return found


def calibration_band(
    time: Any, event: Any, lrfs: Any, horizon: float, counts: np.ndarray, *, level: float = 0.95
) -> pd.DataFrame:
    """Return `calibration_curve` with a pointwise percentile band over the resamples in `counts` (B, n).

    Returns
    -------
    pandas.DataFrame
        predicted (increasing), observed, ci_low, ci_high; the knots stay those of the rows given.
    """
    time, event = check_follow_up(time, event)
    lrfs = check_numbers("lrfs", lrfs, len(time), 0, 1, "give a probability, not a score")
    curves = _smooth_observed(time, event, lrfs, horizon, check_weights(counts, len(time)), "efron")
    curves = curves[np.isfinite(curves).all(axis=1)]
    tails = [0.5 - level / 2, 0.5 + level / 2]
    low, high = np.quantile(curves, tails, axis=0) if len(curves) else np.full((2, len(time)), np.nan)
    observed = _smooth_observed(time, event, lrfs, horizon, None, "efron")[0]
    table = pd.DataFrame({"predicted": 1 - lrfs, "observed": observed, "ci_low": low, "ci_high": high})
    return table.sort_values("predicted", kind="stable", ignore_index=True)


def observed_expected_overall(event: Any, lrfs_at_own_time: Any, *, level: float = 0.95) -> Estimate:
    """Return observed / expected recurrences over all of follow-up, with the interval of a Poisson model.

    Parameters
    ----------
    event : array_like, shape (n,)
        0/1.
    lrfs_at_own_time : array_like, shape (n,)
        Predicted probability of being free of recurrence at the patient's own last time, above 0.
    level : float
        Coverage.

    Returns
    -------
    Estimate
        Sum of events over the sum of -log(lrfs), interval exp(log(O/E) +- z / sqrt(events)). An event where the
        predicted hazard is still 0 counts; a Poisson regression on its logarithm would drop the patient.

    References
    ----------
    Crowson, Atkinson & Therneau, Stat Methods Med Res 2016.
    """
    survival = np.asarray(lrfs_at_own_time, float)
    _, event = check_follow_up(np.ones(len(survival)), event)
    survival = check_numbers("lrfs_at_own_time", survival, len(event), np.finfo(float).tiny, 1)
    events, expected = int(event.sum()), float(-np.log(survival).sum())
    if not events or not expected:
        return Estimate(0.0 if expected else np.nan, np.nan, np.nan, "no event" if not events else "every risk is 0")
    factor = np.exp(norm.ppf(0.5 + level / 2) / np.sqrt(events))
    return Estimate(events / expected, float(events / expected / factor), float(events / expected * factor))


class DCalibration(NamedTuple):
    """Chi-square, its degrees of freedom and p-value, and the share of patients in each bin (Haider's)."""

    chi2: float
    df: int
    p: float
    shares: np.ndarray


FEWEST_EXPECTED = 5.0  # recurrences in a bin, below which a chi-square approximation is not trusted


def d_calibration(event: Any, lrfs_at_own_time: Any, *, bins: int = 10) -> DCalibration:
    """Test whether predicted survival at the patients' own event times is spread evenly over [0, 1].

    Haider's chi-square spreads a censored patient evenly over the bins below, which makes the bins more alike than
    they are: under censoring it hardly ever rejects. Here each patient counts in a bin only as long as he or she is
    followed through it: observed recurrences against the hazard that the predictions promise there. Their differences
    are uncorrelated whatever the censoring, and the model is frozen, so the chi-square has one degree for each bin.

    Parameters
    ----------
    event : array_like, shape (n,)
        0/1.
    lrfs_at_own_time : array_like, shape (n,)
        Predicted probability of being free of recurrence at the patient's own last time; 0 and 1 by `within_bounds`.
    bins : int
        Equal bins of [0, 1]; neighbours are merged until 5 recurrences are expected in each.

    Returns
    -------
    DCalibration
        NaN where fewer than 5 recurrences are expected at all. `shares` are those of Haider et al., to look at.

    References
    ----------
    Haider et al., JMLR 2020 (question and shares); chi-square of observed and expected events in a simple
    hypothesis under censoring: Hjort, Int Stat Rev 1990; Hollander & Pena, JASA 1992.
    """
    survival = np.asarray(lrfs_at_own_time, float)
    _, event = check_follow_up(np.ones(len(survival)), event)
    survival = check_numbers("lrfs_at_own_time", survival, len(event), 0, 1)
    passed = -np.log(within_bounds(survival))[:, None]
    edges = -np.log(1 - np.arange(bins) / bins)
    ends = np.append(edges[1:], np.inf)
    expected = np.clip(np.minimum(passed, ends) - edges, 0, None).sum(axis=0)
    observed = (event[:, None] & (passed >= edges) & (passed < ends)).sum(axis=0)
    chi2, df = _merged_chi2(observed, expected)
    p = float(chi2_distribution.sf(chi2, df)) if df else np.nan
    return DCalibration(chi2, df, p, _shares(survival, event, bins))


def _merged_chi2(observed: np.ndarray, expected: np.ndarray) -> tuple[float, int]:
    """Merge neighbouring bins until enough events are expected in each; a rest joins the last."""
    member = np.zeros(len(expected), int)
    groups, held = 0, 0.0
    for k, size in enumerate(expected):
        member[k] = groups
        held += size
        if held >= FEWEST_EXPECTED:
            groups, held = groups + 1, 0.0
    if not groups:
        return np.nan, 0
    member = np.minimum(member, groups - 1)
    seen, due = np.bincount(member, observed), np.bincount(member, expected)
    return float(((seen - due) ** 2 / due).sum()), groups


def _shares(survival: np.ndarray, event: np.ndarray, bins: int) -> np.ndarray:
    """Return the share of patients in each bin, a censored one spread over the bins below."""
    edges = np.arange(bins) / bins
    certain = np.eye(bins)[np.minimum((survival * bins).astype(int), bins - 1)]
    below = np.clip(survival[:, None] - edges, 0, 1 / bins)
    spread = below / np.maximum(survival, 1e-300)[:, None]
    spread[survival == 0] = np.eye(bins)[0]
    return np.where(event[:, None], certain, spread).sum(axis=0) / len(event)
