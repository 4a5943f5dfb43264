"""How often intervals of a log hazard ratio cover the truth where a covariate has gaps: three ways to treat them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from joblib import delayed

from rps_utils.lab.levels.coverage import covered
from rps_utils.learning.refits.imputation import WALD, blank_at_random, fillings, pooled_cox, single_fill
from rps_utils.machine.engines import work_on

TRUTH = {"size_cm": 0.5, "age": 0.5}  # log hazard for one SD
GAP_SHARE = 0.3  # of sizes that are not known


def patients_without_gaps(n: int, seed: list[int]) -> pd.DataFrame:
    """Draw training patients with `TRUTH`; age and size, in SD, have a correlation of 0.5; about half recur."""
    rng = np.random.default_rng(seed)
    age, own = rng.standard_normal((2, n))
    size = 0.5 * age + np.sqrt(0.75) * own
    hazard = np.exp(TRUTH["age"] * age + TRUTH["size_cm"] * size)
    recurs, leaves = rng.exponential(60 / hazard), rng.uniform(12, 90, n)
    outcome = {"time_months": np.minimum(recurs, leaves), "event": (recurs <= leaves).astype(int)}
    return pd.DataFrame({"patient_id": [f"P{i}" for i in range(n)], **outcome, "size_cm": size, "age": age})


def three_ways(patients: pd.DataFrame, m: int, seed: int) -> pd.DataFrame:
    """Return log hazard ratios with intervals, by way and term: complete cases, single fill, multiple imputation."""
    made = fillings(patients, patients.head(1), list(TRUTH), m=m, seed=seed)
    ways = {
        "complete cases": single_fill(patients.dropna(), list(TRUTH)),
        "single fill": single_fill(patients, list(TRUTH)),
        "multiple imputation": pooled_cox(patients, made)[WALD],
    }
    return pd.concat(ways, names=["way", "term"])


def _replicate(n: int, driver: str, m: int, seed: int, replicate: int) -> pd.DataFrame:
    whole = patients_without_gaps(n, [seed, n, replicate])
    gaps = blank_at_random(whole, "size_cm", driver, GAP_SHARE, seed=replicate)
    return pd.concat(
        [pd.concat({"no gaps": single_fill(whole, list(TRUTH))}, names=["way", "term"]), three_ways(gaps, m, replicate)]
    )


def imputation_table(replicates: int = 500, *, m: int = 10, seed: int = 7, n_jobs: int = 1) -> pd.DataFrame:
    """Return coverage of nominal 95 % intervals: ``n, driver, way, term, replicates, bias, width, covered, low, high``.

    ``driver``: what the chance of a gap rises with, age or the event. ``bias`` is the mean estimate less the truth,
    ``width`` the mean width of the intervals, ``low, high`` the exact 95 % interval of the share covered.
    """
    rows = []
    for n in (86, 300):
        for driver in ("age", "event"):
            found = work_on((delayed(_replicate)(n, driver, m, seed, i) for i in range(replicates)), n_jobs)
            for (way, term), each in pd.concat(found).groupby(level=["way", "term"], sort=False):
                *_, share, low, high, width = covered(term, way, n, each[["low", "high"]].to_numpy(), TRUTH[term])
                bias = each["estimate"].mean() - TRUTH[term]
                rows.append((n, driver, way, term, replicates, bias, width, share, low, high))
    names = ["n", "driver", "way", "term", "replicates", "bias", "width", "covered", "low", "high"]
    return pd.DataFrame(rows, columns=names)
