"""How often the intervals of a predicted cumulative incidence cover, where some die: cohorts whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from rps_utils.evaluation.competing.measures import accuracy, incidence_auc, incidence_ratio
from rps_utils.intervals.resampling import interval_from, jackknife, replicate, resample_counts
from rps_utils.lab.levels.coverage import HORIZON, MEDIAN, METHODS, covered, draw

DEATH_MEAN = 60.0  # months; by the horizon about a quarter dies without recurrence
THRESHOLD = 0.3
COMPARED = METHODS[:3]  # the normal one is for values that have no bounds
MEASURES = ("auc", "brier", "brier_aj", "ipa", "net_benefit", "net_benefit_all", "net_benefit_over_all")


class Mortal(NamedTuple):
    """Follow-up, deaths without recurrence, and the true log hazard of recurrence."""

    time: np.ndarray
    event: np.ndarray
    died: np.ndarray
    risk: np.ndarray

    @property
    def incidence(self) -> np.ndarray:
        """Return the true probability of recurring by the horizon while others die, both hazards constant."""
        recurs, dies = np.exp(self.risk) / MEDIAN, 1 / DEATH_MEAN
        return recurs / (recurs + dies) * -np.expm1(-(recurs + dies) * HORIZON)


def mortal(n: int, seed: list[int]) -> Mortal:
    """Draw a cohort as `coverage.draw` does, and let some of the patients die before anything else ends their time."""
    alive, dies = draw(n, seed), np.random.default_rng([*seed, 1]).exponential(DEATH_MEAN, n)
    time, event = np.minimum(alive.time, dies), alive.event & (alive.time <= dies)
    return Mortal(time, event, dies < alive.time, alive.risk)


def _values(cohort: Mortal, weights: np.ndarray | None = None) -> np.ndarray:
    given = (cohort.time, cohort.event, cohort.died)
    auc = incidence_auc(*given, cohort.risk, HORIZON, weights)
    return np.array([auc, *accuracy(*given, cohort.incidence, HORIZON, [THRESHOLD], weights)])


def competing_coverage(replicates: int = 500, *, resamples: int = 500, seed: int = 7) -> pd.DataFrame:
    """Return the coverage of 95 % intervals for a prediction that is right, in cohorts of 29, 86 and 500 patients.

    Returns
    -------
    DataFrame
        ``metric, method, n, replicates, coverage, low, high, width``; the truth is that of 200,000 patients.
    """
    truth = _values(mortal(200_000, [seed]))
    rows = [row for n in (29, 86, 500) for row in _covered_at(n, truth, replicates, resamples, seed)]
    return pd.DataFrame(rows, columns=["metric", "method", "n", "replicates", "coverage", "low", "high", "width"])


def _covered_at(n: int, truth: np.ndarray, replicates: int, resamples: int, seed: int) -> Iterator[tuple]:
    cohorts = [mortal(n, [seed, n, i]) for i in range(replicates)]
    counts = resample_counts(n, replicates=resamples, seed=seed)
    limits = np.full((len(COMPARED), len(MEASURES), replicates, 2), np.nan)
    for place, cohort in enumerate(cohorts):
        value, drawn = _values(cohort), replicate(_values, counts, cohort)
        left_out = jackknife(_values, n, cohort)
        for k in range(len(MEASURES)):
            for m, method in enumerate(COMPARED):
                limits[m, k, place] = interval_from(drawn[k], value[k], method=method, left_out=left_out[k])
    for k, name in enumerate(MEASURES):
        for m, method in enumerate(COMPARED):
            yield covered(f"incidence_{name}", method, n, limits[m, k], float(truth[k]))
    ratios = [incidence_ratio(c.time, c.event, c.died, c.incidence, HORIZON) for c in cohorts]
    yield covered("incidence_observed_expected", "delta", n, np.array([r[1:3] for r in ratios], float), 1.0)
