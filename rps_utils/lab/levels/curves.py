"""How often a curve is preferred to a line where the truth is a line, and where it is a curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from rps_utils.learning.refits.curves import curve_tests

BENT = {"line": 0.0, "curve": 0.3}  # log hazard of the squared age, for one SD


def patients_with_a_bend(n: int, bend: float, seed: list[int]) -> pd.DataFrame:
    """Draw training patients: a line in size, in age a line and a bend; about half of them recur."""
    rng = np.random.default_rng(seed)
    age, size, grade = rng.standard_normal((3, n))
    hazard = 0.4 * age + 0.4 * size + 0.4 * (grade > 0) + bend * (age**2 - 1)
    recurs, leaves = rng.exponential(60 / np.exp(hazard)), rng.uniform(12, 90, n)
    clinical = {"age": age, "size_cm": size, "grade": np.where(grade > 0, "G3", "G2")}
    outcome = {"time_months": np.minimum(recurs, leaves), "event": (recurs <= leaves).astype(int)}
    return pd.DataFrame({"patient_id": [f"P{i}" for i in range(n)], "fold": np.arange(n) % 5, **outcome, **clinical})


def curve_table(replicates: int = 200, *, n: int = 86, seed: int = 6) -> pd.DataFrame:
    """Return how often a curve is preferred: ``truth, n, rule, replicates, share, low, high``.

    ``rule``: p of the likelihood ratio below .05, a gain in cross-validated likelihood, or both. The ridge of the
    cross-validated fits is 0.1, that of the clinical model.
    """
    rows = []
    for truth, bend in BENT.items():
        cohorts = (patients_with_a_bend(n, bend, [seed, n, i]) for i in range(replicates))
        tests = [curve_tests(c, ["age", "size_cm", "grade"], 0.1).iloc[0] for c in cohorts]
        small, gained = np.array([[t["p"] < 0.05, t["gain"] > 0] for t in tests]).T
        for rule, preferred in (("p", small), ("gain", gained), ("both", small & gained)):
            exact = binomtest(int(preferred.sum()), replicates).proportion_ci()
            rows.append((truth, n, rule, replicates, preferred.mean(), exact.low, exact.high))
    return pd.DataFrame(rows, columns=["truth", "n", "rule", "replicates", "share", "low", "high"])
