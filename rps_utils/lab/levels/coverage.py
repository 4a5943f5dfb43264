"""How often intervals cover and a test of calibration rings, in cohorts whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from scipy.stats import chi2 as chi2_distribution

from rps_utils.intervals.resampling import Metric, interval_from, jackknife, replicate, resample_counts
from rps_utils.survival.brier import brier_score, ipa, null_brier
from rps_utils.survival.calibration import d_calibration, observed_expected
from rps_utils.survival.decision import gain_over_all, net_benefit_at
from rps_utils.survival.roc import td_auc

HORIZON, MEDIAN = 36.0, 40.0
METHODS = ("bca", "percentile", "basic", "normal")


class Cohort(NamedTuple):
    """Follow-up, the true log hazard, and a noisier score of it."""

    time: np.ndarray
    event: np.ndarray
    risk: np.ndarray
    other: np.ndarray

    @property
    def lrfs(self) -> np.ndarray:
        """Return the true probability of being free at the horizon."""
        return np.exp(-np.exp(self.risk) * HORIZON / MEDIAN)

    @property
    def other_lrfs(self) -> np.ndarray:
        """Return what the noisier score predicts, shrunk by what its noise is worth."""
        return np.exp(-np.exp(0.64 / 1.64 * self.other) * HORIZON / MEDIAN)


def draw(n: int, seed: list[int], *, excess: float = 1.0, censored: tuple[float, float] = (12.0, 90.0)) -> Cohort:
    """Draw exponential follow-up; the hazard is `excess` times the one that the risk promises."""
    rng = np.random.default_rng(seed)
    risk, leaves = 0.8 * rng.standard_normal(n), rng.uniform(*censored, n)
    recurs = rng.exponential(MEDIAN / (excess * np.exp(risk)))
    other = risk + rng.standard_normal(n)
    return Cohort(np.minimum(recurs, leaves), recurs <= leaves, risk, other)


def ratio_coverage(replicates: int, *, seed: int = 1) -> Iterator[tuple]:
    """Yield how often the intervals of O/E cover 1, and their mean width, for a model that is right."""
    for n in (29, 86, 500):
        cohorts = [draw(n, [seed, n, i]) for i in range(replicates)]
        for kind in ("greenwood", "poisson"):
            found = [observed_expected(c.time, c.event, c.lrfs, HORIZON, interval=kind) for c in cohorts]
            limits = np.array([e[1:3] for e in found])
            yield covered("observed_expected", kind, n, limits, 1.0)


def covered(metric: str, method: str, n: int, limits: np.ndarray, truth: float) -> tuple:
    """Return how often finite limits hold the truth, with an exact interval, and their mean width."""
    limits = limits[np.isfinite(limits).all(axis=1)]
    hits = int(np.sum((limits[:, 0] <= truth) & (truth <= limits[:, 1])))
    exact = binomtest(hits, len(limits)).proportion_ci()
    width = float(np.ptp(limits, axis=1).mean())
    return metric, method, n, len(limits), hits / len(limits), float(exact.low), float(exact.high), width


def bootstrap_coverage(replicates: int, *, resamples: int = 500, seed: int = 2) -> Iterator[tuple]:
    """Yield the coverage of bootstrap intervals of a net benefit, its gain over treating all, and differences."""
    many = draw(20_000, [seed])
    plans: dict[str, Metric] = {
        "td_auc_difference": lambda c, w: (
            td_auc(c.time, c.event, c.risk, HORIZON, w) - td_auc(c.time, c.event, c.other, HORIZON, w)
        ),
        "net_benefit": lambda c, w: net_benefit_at(c.time, c.event, 1 - c.lrfs, HORIZON, 0.4, w),
        "net_benefit_over_all": lambda c, w: gain_over_all(c.time, c.event, 1 - c.lrfs, HORIZON, 0.4, w),
        "brier_km": lambda c, w: null_brier(c.time, c.event, HORIZON, w),
        "brier_difference": partial(_difference, lambda c, lrfs, w: brier_score(c.time, c.event, lrfs, HORIZON, w)),
        "ipa_difference": partial(_difference, lambda c, lrfs, w: ipa(c.time, c.event, lrfs, HORIZON, w)),
        "net_benefit_difference": partial(
            _difference, lambda c, lrfs, w: net_benefit_at(c.time, c.event, 1 - lrfs, HORIZON, 0.4, w)
        ),
    }
    for n in (29, 86):
        cohorts = [draw(n, [seed, n, i]) for i in range(replicates)]
        counts = resample_counts(n, replicates=resamples, seed=seed)
        for name, plan in plans.items():
            truth = float(plan(many, None))
            rows = [_limits(lambda c, weights, plan=plan: plan(c, weights), c, n, counts) for c in cohorts]
            for place, method in enumerate(METHODS):
                yield covered(name, method, n, np.array(rows)[:, place], truth)


def _difference(metric: Metric, cohort: Cohort, weights: np.ndarray | None) -> Any:
    return metric(cohort, cohort.lrfs, weights) - metric(cohort, cohort.other_lrfs, weights)


def _limits(metric: Metric, cohort: Cohort, n: int, counts: np.ndarray) -> list[tuple[float, float]]:
    value = float(metric(cohort, None))
    values, left_out = replicate(metric, counts, cohort), jackknife(metric, n, cohort)
    return [interval_from(values, value, method=m, left_out=left_out) for m in METHODS]


def calibration_tests(replicates: int, *, seed: int = 3) -> pd.DataFrame:
    """Return how often two tests of D-calibration ring at .05: `excess` 1 is their level, else their power."""
    rows = []
    for n in (29, 86, 500):
        for about, window in (("light", (60.0, 200.0)), ("heavy", (6.0, 60.0))):
            for excess in (1.0, 1.5):
                cohorts = [draw(n, [seed, n, i], excess=excess, censored=window) for i in range(replicates)]
                found = [tests_of_calibration(c) for c in cohorts]
                for place, test in enumerate(("spread evenly", "followed through")):
                    p = np.array(found)[:, place]
                    p = p[np.isfinite(p)]
                    rang = int((p <= 0.05).sum())
                    exact = binomtest(rang, len(p)).proportion_ci()
                    rows.append((test, n, about, excess, len(p), rang / len(p), exact.low, exact.high))
    columns = ["test", "n", "censoring", "excess", "replicates", "share", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def tests_of_calibration(cohort: Cohort) -> tuple[float, float]:
    """Return p of Haider's chi-square and of the one that follows each patient through the bins."""
    own = np.exp(-np.exp(cohort.risk) * cohort.time / MEDIAN)
    found = d_calibration(cohort.event, own)
    evenly = len(own) * 10 * float(((found.shares - 0.1) ** 2).sum())
    return float(chi2_distribution.sf(evenly, 9)), found.p


def coverage_table(replicates: int = 1000) -> pd.DataFrame:
    """Return the coverage of all intervals: ``metric, method, n, replicates, coverage, low, high, width``."""
    columns = ["metric", "method", "n", "replicates", "coverage", "low", "high", "width"]
    return pd.DataFrame([*ratio_coverage(replicates), *bootstrap_coverage(replicates)], columns=columns)
