"""What difference of C validation sets of several sizes detect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import optimize

from rps_utils.lab.phantom.patients import draw_patients
from rps_utils.lab.studies.pool import POOL_SEED
from rps_utils.lab.studies.tables import short
from rps_utils.survival.concordance import harrell_c, pair_influence

POWER_PATIENTS, CALIBRATED_ON = 20_000, 4000  # many against a validation set; enough to fix C to .01


def power_table(
    sizes: Sequence[int] = (29, 60, 120, 250, 500),
    pairs: Sequence[tuple[float, float]] = ((0.73, 0.654), (0.749, 0.648), (0.73, 0.73)),
    *,
    draws: int = 500,
    seed: int = 2026,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Compare two frozen scores of known C in validation sets of several sizes.

    No image and no model is needed: a score of wanted C is the true log hazard of ``full`` plus noise. The noise of
    the two scores is independent, so they resemble each other only as far as both are right; scores that share
    more are told apart with fewer patients.

    Parameters
    ----------
    sizes : sequence of int
        Patients of a validation set.
    pairs : sequence of tuple of float
        True C of the two scores, below the oracle's.
    draws : int
        Validation sets of each size.
    seed : int
    n_jobs : int
        Processes.

    Returns
    -------
    DataFrame
        ``c_a, c_b`` (wanted), ``rank_correlation`` of the scores, ``patients, events`` (mean), ``reversed`` (share of
        sets in which the order of the two C is not the true one; ties count one half), ``power`` (share with
        two-sided p < .05, infinitesimal jackknife), ``draws``.
    """
    people = draw_patients(POWER_PATIENTS, POOL_SEED + seed)
    jobs = []
    for place, pair in enumerate(pairs):
        a, b = (noisy_score(people, c, [seed, place, i]) for i, c in enumerate(pair))
        jobs += [delayed(_compare_often)(people, a, b, [seed, place, n], n, draws) for n in sizes]
    found = Parallel(n_jobs=n_jobs)(jobs)
    wanted = [{"c_a": c_a, "c_b": c_b} for c_a, c_b in pairs for _ in sizes]
    return pd.DataFrame([{**a, **b} for a, b in zip(wanted, found, strict=True)])


def _compare_often(
    people: pd.DataFrame, a: np.ndarray, b: np.ndarray, seed: Sequence[int], size: int, draws: int
) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    found = pd.DataFrame([_compare(people, a, b, rng.choice(len(people), size, replace=False)) for _ in range(draws)])
    correlation = float(pd.Series(a).corr(pd.Series(b), "spearman"))
    means = {name: short(float(value)) for name, value in found.mean().items()}
    return {"rank_correlation": short(correlation), "patients": size, **means, "draws": draws}


def noisy_score(people: pd.DataFrame, c: float, seed: Sequence[int]) -> np.ndarray:
    """Return the true log hazard plus as much normal noise as brings Harrell's C down to `c`."""
    eta, noise = people["eta"].to_numpy(), np.random.default_rng(seed).standard_normal(len(people))
    some = people.iloc[:CALIBRATED_ON]

    def excess(spread: float) -> float:
        return harrell_c(some["time_months"], some["event"], (eta + spread * noise)[: len(some)]) - c

    return eta + optimize.brentq(excess, 0, 20, xtol=0.01) * noise


def _compare(people: pd.DataFrame, a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    time, event = people["time_months"].to_numpy()[rows], people["event"].to_numpy()[rows]
    (c_a, pull_a), (c_b, pull_b) = (pair_influence(time, event, score[rows]) for score in (a, b))
    error = np.sqrt(np.sum((pull_a - pull_b) ** 2))
    order = 0.5 if c_a == c_b else float(c_a < c_b)
    return {"events": event.sum(), "reversed": order, "power": float(abs(c_a - c_b) > 1.959964 * error)}
