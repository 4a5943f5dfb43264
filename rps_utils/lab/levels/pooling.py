"""How often the mean over centres and the prediction interval of a next centre cover, where both are known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from rps_utils.intervals.meta_analysis import pool_intervals
from rps_utils.intervals.resampling import interval_from, replicate, resample_counts
from rps_utils.lab.levels.coverage import HORIZON
from rps_utils.survival.calibration import observed_expected
from rps_utils.survival.concordance import harrell_c
from rps_utils.survival.follow_up import Estimate

MEDIAN_MONTHS, SPREAD = 60.0, 0.8
MOVES = np.linspace(-2.5, 2.5, 21)  # of what moves a centre: log of the score's slope, or of the baseline hazard
MEAN = {"harrell_c": 0.9, "observed_expected": 0.0}  # on the scale of pooling; C 0.71, O/E 1
BETWEEN = {"harrell_c": 0.3, "observed_expected": 0.2}  # tau of centres that differ
SCALE = {"harrell_c": "logit", "observed_expected": "log"}


def follow(
    n: int, metric: str, moved: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw a centre: times, events, the score, and the probability of being free at the horizon that it promises."""
    score = rng.standard_normal(n)
    promised = np.exp(SPREAD * score) / MEDIAN_MONTHS
    slope, excess = (np.exp(moved), 1.0) if metric == "harrell_c" else (SPREAD, np.exp(moved))
    recurs, leaves = rng.exponential(MEDIAN_MONTHS / (excess * np.exp(slope * score))), rng.uniform(12, 90, n)
    return np.minimum(recurs, leaves), recurs <= leaves, score, np.exp(-promised * HORIZON)


@lru_cache
def truths(metric: str) -> np.ndarray:
    """Return the true value of a metric, on the scale of pooling, at each place of the grid."""
    found = []
    for moved in MOVES:
        time, event, score, lrfs = follow(20_000, metric, moved, np.random.default_rng(7))
        ordered = metric == "harrell_c"
        value = harrell_c(time, event, score) if ordered else observed_expected(time, event, lrfs, HORIZON).value
        found.append(logit(value) if ordered else np.log(value))
    return np.array(found)


def centre_estimate(n: int, metric: str, truth: float, rng: np.random.Generator) -> Estimate:
    """Return a metric of a centre whose true value is known, with the interval that the package gives it."""
    time, event, score, lrfs = follow(n, metric, float(np.interp(truth, truths(metric), MOVES)), rng)
    if metric == "observed_expected":
        return observed_expected(time, event, lrfs, HORIZON)
    value = harrell_c(time, event, score)
    values = replicate(harrell_c, resample_counts(n, replicates=300, seed=1), time, event, score)
    return Estimate(value, *interval_from(values, value, method="logit"))


POOLING_PLANS = [(m, k, n, tau) for m in MEAN for k in (3, 5, 10) for n in (40, 100) for tau in (0.0, BETWEEN[m])]


def pooling_table(
    replicates: int, plans: Sequence[tuple[str, int, int, float]] = POOLING_PLANS, *, seed: int = 4
) -> pd.DataFrame:
    """Return ``metric, centres, n, tau, replicates, mean_covered, next_covered, mean_width, next_width``.

    Parameters
    ----------
    replicates : int
        Cohorts in each row.
    plans : sequence of tuple
        Metric, centres, patients a centre, tau.
    seed : int

    Returns
    -------
    DataFrame
        ``n`` patients a centre; ``tau`` between the centres on the logit (C) or log (O/E) scale; widths are medians on
        the natural scale. `next_covered`: a further centre is drawn, and its true value looked for in the interval.
    """
    return pd.DataFrame([_row(*plan, replicates, seed) for plan in plans])


def _row(metric: str, centres: int, n: int, tau: float, replicates: int, seed: int) -> dict[str, object]:
    found, back = [], expit if metric == "harrell_c" else np.exp
    for i in range(replicates):
        rng = np.random.default_rng([seed, centres, n, tau > 0, i])
        *true, further = MEAN[metric] + tau * rng.standard_normal(centres + 1)
        given = np.array([centre_estimate(n, metric, each, rng)[:3] for each in true])
        given = given[np.isfinite(given).all(axis=1)]
        if len(given) >= 3:
            pooled = pool_intervals(*given.T, scale=SCALE[metric])
            mean, further = back(MEAN[metric]), back(further)
            hits = (pooled.ci_low <= mean <= pooled.ci_high, pooled.next_low <= further <= pooled.next_high)
            found.append((*hits, pooled.ci_high - pooled.ci_low, pooled.next_high - pooled.next_low))
    hit, width = np.mean(found, axis=0)[:2], np.median(found, axis=0)[2:]
    names = ["mean_covered", "next_covered", "mean_width", "next_width"]
    plan = {"metric": metric, "centres": centres, "n": n, "tau": tau, "replicates": len(found)}
    return plan | dict(zip(names, map(float, [*hit, *width]), strict=True))
