"""Bootstrap and jackknife intervals of any statistic, resampling patients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from rps_utils.survival.calibration import calibration_slope
from rps_utils.survival.concordance import harrell_c, pair_influence, uno_c
from rps_utils.survival.follow_up import Estimate, check_follow_up, check_numbers

Metric = Callable[..., Any]
CELLS = 1_000_000  # resamples x patients evaluated at once (8 MB an array)
MOST_LEFT_OUT = 500  # by the jackknife


def resample_counts(n: int, *, replicates: int = 2000, seed: int = 2026) -> np.ndarray:
    """Draw bootstrap samples of n patients and return how often each was drawn.

    Returns
    -------
    ndarray of int32, shape (replicates, n)
        Each row sums to n. The same seed gives the same samples for every model and metric. Read-only.
    """
    if n < 1 or replicates < 1:
        raise ValueError(
            f"n={n}, replicates={replicates} is not allowed; allowed: 1 or more; 2000 replicates are usual"
        )
    return _kept_counts(n, replicates, seed)


@lru_cache(maxsize=1)  # every model and metric of a table asks for the same resamples, one after another
def _kept_counts(n: int, replicates: int, seed: int) -> np.ndarray:
    rng, counts = np.random.default_rng(seed), np.empty((replicates, n), np.int32)
    for block in np.array_split(counts, 1 + counts.size // CELLS):
        block[:] = counts_of(rng.integers(0, n, size=block.shape), n)
    counts.flags.writeable = False
    return counts


def counts_of(rows: Any, n: int) -> np.ndarray:
    """Turn row numbers (B, anything), counted from 0, into counts of shape (B, n)."""
    rows = np.asarray(rows)
    shifted = rows + n * np.arange(len(rows))[:, None]
    return np.bincount(shifted.ravel(), minlength=n * len(rows)).reshape(len(rows), n).astype(np.int32)


def replicate(metric: Metric, counts: np.ndarray, *arguments: Any, **options: Any) -> np.ndarray:
    """Evaluate a metric at every row of counts, in blocks that bound the memory; return shape (..., B)."""
    blocks = np.array_split(counts, 1 + counts.size // CELLS)
    return _evaluate(metric, blocks, arguments, options)


def _evaluate(
    metric: Metric, blocks: Iterable[np.ndarray], arguments: Sequence[Any], options: Mapping[str, Any]
) -> np.ndarray:
    """Evaluate a metric in every block of counts, two at a time where there are several, and join the values."""
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda block: np.asarray(metric(*arguments, weights=block, **options)), blocks))
    return np.concatenate(found, axis=-1)


def jackknife(metric: Metric, n: int, *arguments: Any, **options: Any) -> np.ndarray:
    """Evaluate a metric without each patient in turn; return shape (..., n).

    Of more than `MOST_LEFT_OUT` patients groups of equal size are left out in turn, a remainder never: only the
    acceleration of the BCa interval is learned from the values. Among so many patients it is close to 0, and is known
    to about 0.001, which moves a limit by less than a hundredth of a standard error.

    References
    ----------
    Efron, JASA 1987.
    """
    together = -(-n // MOST_LEFT_OUT)
    number = n // together
    member = np.where(np.arange(n) < number * together, np.arange(n) % number, -1)
    size = max(1, CELLS // n)
    left_out = [np.arange(number)[i : i + size] for i in range(0, number, size)]

    def without(*given: Any, weights: np.ndarray, **kept: Any) -> Any:
        return metric(*given, weights=(member != weights[:, None]).astype(float), **kept)

    return _evaluate(without, left_out, arguments, options)


def bca_constants(values: np.ndarray, estimate: float, left_out: np.ndarray) -> tuple[float, float]:
    """Return the bias correction z0 (ties count one half) and the acceleration of the BCa interval."""
    share = (np.sum(values < estimate) + 0.5 * np.sum(values == estimate)) / len(values)
    pull = left_out.mean() - left_out
    return float(norm.ppf(share)), float(np.sum(pull**3) / (6 * np.sum(pull**2) ** 1.5))


def interval_from(
    values: np.ndarray, estimate: float, *, method: str = "bca", left_out: np.ndarray | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Return the limits of a bootstrap interval.

    Parameters
    ----------
    values : ndarray, shape (B,)
        Replicates; NaN are left out.
    estimate : float
        Value in the rows themselves.
    method : str
        ``bca`` (needs `left_out`, the jackknife values), ``logit`` (bootstrap standard error on the logit scale,
        for values within (0, 1)), ``percentile``, ``basic`` or ``normal``.

    Returns
    -------
    tuple of float
        NaN, NaN where the method is undefined: no finite replicate, all of them equal, a value of 0 or 1 on the
        logit scale.

    References
    ----------
    Efron & Tibshirani 1993; quantiles of type 7.
    """
    values = values[np.isfinite(values)]
    tails = np.array([0.5 - level / 2, 0.5 + level / 2])
    if method not in ("bca", "logit", "percentile", "basic", "normal"):
        raise ValueError(f"method is {method!r}; allowed: bca, logit, percentile, basic, normal; bca is the default")
    if len(values) < 2 or not np.isfinite(estimate) or np.ptp(values) < 1e-12:
        return np.nan, np.nan
    error = values.std(ddof=1)
    if method == "bca":
        limits = _bca_limits(values, estimate, left_out, tails)
    elif method == "logit":
        limits = _logit_limits(estimate, error, norm.ppf(tails))
    elif method == "normal":
        limits = estimate + norm.ppf(tails) * error
    else:
        limits = np.quantile(values, tails)
        limits = limits if method == "percentile" else 2 * estimate - limits[::-1]
    return float(limits[0]), float(limits[1])


def _bca_limits(values: np.ndarray, estimate: float, left_out: np.ndarray | None, tails: np.ndarray) -> np.ndarray:
    if left_out is None:
        raise ValueError("left_out is missing; the BCa interval needs the jackknife values, see jackknife")
    left_out = left_out[np.isfinite(left_out)]
    if not len(left_out) or np.ptp(left_out) < 1e-12:
        return np.array([np.nan, np.nan])
    bias, acceleration = bca_constants(values, estimate, left_out)
    if not np.isfinite(bias):  # every resample on one side of the estimate
        return np.array([np.nan, np.nan])
    shifted = bias + norm.ppf(tails)
    return np.quantile(values, norm.cdf(bias + shifted / (1 - acceleration * shifted)))


def _logit_limits(estimate: float, error: float, z: np.ndarray) -> np.ndarray:
    if not 0 < estimate < 1:
        return np.array([np.nan, np.nan])
    centre, spread = np.log(estimate / (1 - estimate)), error / (estimate * (1 - estimate))
    return 1 / (1 + np.exp(-(centre + z * spread)))


def bootstrap_estimate(
    metric: Metric,
    time: Any,
    event: Any,
    *arguments: Any,
    counts: np.ndarray | None = None,
    method: str = "bca",
    level: float = 0.95,
    note: str = "",
    **options: Any,
) -> Estimate:
    """Return any weighted metric with a bootstrap interval over patients, the model frozen.

    Parameters
    ----------
    metric : callable
        ``metric(time, event, *arguments, weights=..., **options)`` returning a float for ``None`` and (B,) values
        for counts: harrell_c, uno_c, td_auc, brier_score, ipa, integrated_brier, ici, calibration_slope,
        survival_at.
    time, event : array_like, shape (n,)
        Months and 0/1.
    *arguments, **options
        The metric's further arguments, for example the risk and the horizon.
    counts : ndarray, shape (B, n), optional
        Resamples; default ``resample_counts(n)``. Give the same to all models.
    method, level
        See `interval_from`.
    note : str
        What is already known about this value (`horizon_note`); put first in the result's note. It does not stop
        the calculation.

    Returns
    -------
    Estimate
        Undefined value or interval: NaN, and the reason in `note`; undefined resamples are left out and counted.
    """
    given = (time, event, *arguments)
    return joint_estimates(metric, *given, counts=counts, method=method, level=level, note=note, **options)[0]


def joint_estimates(
    metric: Metric,
    time: Any,
    event: Any,
    *arguments: Any,
    counts: np.ndarray | None = None,
    method: str | Sequence[str] = "bca",
    level: float = 0.95,
    note: str | Sequence[str] = "",
    **options: Any,
) -> list[Estimate]:
    """Return several metrics that are computed together, shape (k,) or (k, B), each with its interval.

    Arguments as in `bootstrap_estimate`; `note` and `method` are one text for all, or one for each.
    """
    time, event = check_follow_up(time, event)
    value = np.atleast_1d(metric(time, event, *arguments, **options))
    notes = [note] * len(value) if isinstance(note, str) else list(note)
    if not np.isfinite(value).any():
        return [Estimate(np.nan, np.nan, np.nan, why or "not defined in these rows") for why in notes]
    counts = resample_counts(len(time)) if counts is None else counts
    values = np.atleast_2d(replicate(metric, counts, time, event, *arguments, **options))
    methods = [method] * len(value) if isinstance(method, str) else list(method)
    left_out = None
    if "bca" in methods:
        left_out = np.atleast_2d(jackknife(metric, len(time), time, event, *arguments, **options))
    pulls = [None] * len(value) if left_out is None else list(left_out)
    return [
        _estimate(float(value[k]), values[k], pulls[k], notes[k], methods[k], level=level) for k in range(len(value))
    ]


def _estimate(
    value: float, values: np.ndarray, left_out: np.ndarray | None, note: str, method: str, *, level: float
) -> Estimate:
    if not np.isfinite(value):
        return Estimate(np.nan, np.nan, np.nan, note or "not defined in these rows")
    low, high = interval_from(values, float(value), method=method, left_out=left_out, level=level)
    return Estimate(float(value), low, high, _join(note, _resample_note(values, low)))


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _resample_note(values: np.ndarray, low: float) -> str:
    failed = int(np.sum(~np.isfinite(values)))
    undefined = f"{failed} of {len(values)} resamples undefined and left out" if failed else ""
    return _join(undefined, "" if np.isfinite(low) else "no interval: the resamples do not vary around the value")


def c_interval(
    time: Any,
    event: Any,
    risk: Any,
    *,
    tau: float | None = None,
    counts: np.ndarray | None = None,
    method: str = "bca",
    level: float = 0.95,
) -> Estimate:
    """Return Harrell's C (or Uno's, when `tau` is given) with a bootstrap interval and everything odd about it.

    Parameters
    ----------
    time, event, risk : array_like, shape (n,)
        Months, 0/1, higher = earlier recurrence.
    tau : float, optional
        Months; Uno's C up to tau.
    counts : ndarray, shape (B, n), optional
        Resamples, the same for all models; default ``resample_counts(n)``.
    method : str
        ``bca`` (default) or ``logit``; with 29 patients both cover 95 %, Wald intervals 88 to 92 %.
    level : float
        Coverage.

    Returns
    -------
    Estimate
        The note names a constant score, no usable pair, a reversed score, undefined resamples.
    """
    (metric, rest), note = c_metric(tau), reversed_score_note(time, event, risk)
    return bootstrap_estimate(metric, time, event, risk, *rest, counts=counts, method=method, level=level, note=note)


def c_metric(tau: float | None) -> tuple[Metric, tuple[float, ...]]:
    """Return Uno's C and its last argument `tau` (months), or Harrell's C and no argument where tau is None."""
    return (harrell_c, ()) if tau is None else (uno_c, (tau,))


def c_standard_error(time: Any, event: Any, risk: Any, *, tau: float | None = None) -> tuple[float, float]:
    """Return C and its infinitesimal-jackknife standard error (Uno: G treated as known), as R's ``concordance``.

    torchsurv's "noether" standard error counts each pair in one direction only and is about twice too large.
    """
    c, influence = pair_influence(time, event, risk, tau)
    return c, float(np.sqrt(np.sum(influence**2)))


def reversed_score_note(time: Any, event: Any, risk: Any, *, level: float = 0.95) -> str:
    """Say what is wrong with a score's direction, or return an empty text.

    A score is called reversed when the whole logit interval of Harrell's C (infinitesimal jackknife) lies below
    0.5: such a score tells patients apart, with the wrong sign. A constant score and the absence of usable pairs
    are named too.
    """
    time, event = check_follow_up(time, event)
    risk = check_numbers("risk", risk, len(time))
    c, error = c_standard_error(time, event, risk)
    if not np.isfinite(c):
        return "no usable pair: no event comes before another patient's last visit"
    if np.ptp(risk) == 0:
        return "the score is the same for every patient: C is 0.5 because ties count one half"
    tails = np.array([0.5 - level / 2, 0.5 + level / 2])
    high = _logit_limits(c, error, norm.ppf(tails))[1] if 0 < c < 1 else c
    if high < 0.5:
        return f"reversed score: C = {c:.3f} is below 0.5; higher must mean earlier recurrence, check the score's sign"
    return ""


class Optimism(NamedTuple):
    """Harrell's optimism bootstrap of C: `corrected` = `apparent` - `optimism`; `slope` is a shrinkage factor."""

    apparent: float
    optimism: float
    corrected: float
    slope: float
    failed: int


def optimism_bootstrap(
    time: Any, event: Any, fit_and_score: Callable[[np.ndarray], Any], resamples: Iterable[np.ndarray]
) -> Optimism:
    """Estimate how much of the apparent C is optimism by repeating the whole fit in resamples.

    Parameters
    ----------
    time, event : array_like, shape (n,)
        Months and 0/1 of the training patients.
    fit_and_score : callable
        Takes row numbers (with repeats), fits everything that was learned, selection included, in these rows and
        returns the risk of all n patients; NaN when the fit failed.
    resamples : iterable of ndarray
        Row numbers of each resample, counted from 0.

    References
    ----------
    Harrell, Lee & Mark, Stat Med 1996.
    """
    time, event = check_follow_up(time, event)
    apparent = harrell_c(time, event, fit_and_score(np.arange(len(time))))
    gaps, slopes, failed = [], [], 0
    for rows in resamples:
        risk = np.asarray(fit_and_score(rows), float)
        if not np.isfinite(risk).all():
            failed += 1
            continue
        gaps.append(harrell_c(time[rows], event[rows], risk[rows]) - harrell_c(time, event, risk))
        slopes.append(calibration_slope(time, event, risk))
    optimism = float(np.mean(gaps)) if gaps else np.nan
    return Optimism(apparent, optimism, apparent - optimism, float(np.mean(slopes)) if slopes else np.nan, failed)
